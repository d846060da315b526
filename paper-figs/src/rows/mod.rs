//! The rows of every results file that a figure is drawn from.
//!
//! The words are those of the simulator's files. A column of a sweep that a figure needs (the method, the framing, the
//! kinds of sites) is part of the row here; every other one is in [`crate::input::Line::run`].

mod beyond;
mod blocked;
mod paper;
mod real;

use serde::{Deserialize, Deserializer, de};

pub use self::beyond::{LossySetup, Scale};
pub use self::blocked::{BlockedEcho, BlockedTransfer};
pub use self::paper::{PaperComposition, PaperPattern, PaperRtt, Statistic};
pub use self::real::{Bench, Ping};
use crate::input::Row;

/// The columns of what came of a pair of nodes.
const OUTCOME: &[&str] = &[
    "initiator",
    "responder",
    "pattern",
    "dialer",
    "echo_sent",
    "echo_received",
    "tcp_bytes",
    "tcp_ok",
    "tcp_ms",
    "tcp_over",
    "tcp_failed",
];
/// The columns of an echo.
const ECHO: &[&str] = &["step", "initiator", "responder", "probe", "rtt_ms"];
/// The columns of a phase of a set-up.
const SETUP: &[&str] = &[
    "phase",
    "pattern",
    "ms",
    "round_trips",
    "packets",
    "bytes",
    "search_packets",
    "search_bytes",
    "service_packets",
    "service_bytes",
    "trs_packets",
    "trs_bytes",
];

/// Which of the two methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// CYPHONIC's own protocol on UDP port 4501.
    Conventional,
    /// CYPHONIC over QUIC.
    Proposed,
}

impl Method {
    /// Both, in the paper's order.
    pub const ALL: [Self; 2] = [Self::Conventional, Self::Proposed];

    /// As a figure names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conventional => "Conventional",
            Self::Proposed => "Proposed",
        }
    }
}

/// A signaling pattern (paper §2.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Pattern {
    /// Pattern 1.
    #[serde(rename = "1")]
    Direct,
    /// Pattern 2.
    #[serde(rename = "2")]
    OneNat,
    /// Pattern 3.
    #[serde(rename = "3")]
    Relayed,
}

impl Pattern {
    /// All, by number.
    pub const ALL: [Self; 3] = [Self::Direct, Self::OneNat, Self::Relayed];

    /// The paper's number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Direct => 1,
            Self::OneNat => 2,
            Self::Relayed => 3,
        }
    }

    /// What it is, in a few words.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::OneNat => "one node behind a NAT, which dials",
            Self::Relayed => "relayed by the TRS",
        }
    }
}

/// What kind of network a site has (paper Table 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Kind {
    /// IPv6 only.
    #[serde(rename = "ipv6", alias = "IPv6")]
    Ipv6,
    /// A global IPv4 address.
    #[serde(rename = "ipv4-global", alias = "IPv4-G")]
    Ipv4Global,
    /// A private IPv4 address behind a NAT.
    #[serde(rename = "ipv4-private", alias = "IPv4-P")]
    Ipv4Private,
}

impl Kind {
    /// All, in the paper's order.
    pub const ALL: [Self; 3] = [Self::Ipv6, Self::Ipv4Global, Self::Ipv4Private];

    /// As the paper names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv6 => "IPv6",
            Self::Ipv4Global => "IPv4-G",
            Self::Ipv4Private => "IPv4-P",
        }
    }
}

/// The node that sent the first packet of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialer {
    /// The node that began.
    Initiator,
    /// The other one.
    Responder,
}

/// A row of `sim/table1.csv`: the result of one pair of nodes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Outcome {
    /// In which framing, and so under which method.
    pub framing: Framing,
    /// The initiator's network.
    pub a_kind: Kind,
    /// The responder's network.
    pub b_kind: Kind,
    /// The signaling pattern of the tunnel; none if there was none.
    pub pattern: Option<Pattern>,
    /// Its dialer.
    pub dialer: Option<Dialer>,
    /// Echo requests sent.
    pub echo_sent: u32,
    /// Echo replies that came back.
    pub echo_received: u32,
    /// Bytes that arrived over TCP.
    pub tcp_bytes: u64,
    /// Whether all of them did, with the right hash.
    pub tcp_ok: bool,
    /// How long that took, milliseconds.
    #[serde(deserialize_with = "optional_amount")]
    pub tcp_ms: Option<f64>,
}

impl Row for Outcome {
    const COLUMNS: &'static [&'static str] = &[
        "framing",
        "a_kind",
        "b_kind",
        "pattern",
        "dialer",
        "echo_sent",
        "echo_received",
        "tcp_bytes",
        "tcp_ok",
        "tcp_ms",
    ];
    const KIND: &'static [&'static str] = OUTCOME;
}

/// A row of `sim/table3.csv`: one field of the largest packet that crosses.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Composition {
    /// In which framing.
    pub framing: Framing,
    /// Which field.
    pub field: Field,
    /// How many bytes of it.
    pub bytes: u32,
}

impl Row for Composition {
    const COLUMNS: &'static [&'static str] = &["framing", "field", "bytes"];
}

/// How a tunnelled packet is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// The conventional method's own.
    Udp4501,
    /// QUIC STREAM frame and CYPHONIC header.
    Stream,
    /// QUIC DATAGRAM frame and CYPHONIC header.
    Datagram,
    /// QUIC DATAGRAM frame alone.
    Compact,
}

impl Framing {
    /// Those that every experiment runs: the conventional method; the proposed one as in the paper (its Fig. 12); ours.
    pub const SERIES: [Self; 3] = [Self::Udp4501, Self::Stream, Self::Compact];

    /// The method that it belongs to.
    pub const fn method(self) -> Method {
        match self {
            Self::Udp4501 => Method::Conventional,
            Self::Stream | Self::Datagram | Self::Compact => Method::Proposed,
        }
    }

    /// As a figure names its series.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Udp4501 => "Conventional",
            Self::Stream => "Proposed",
            Self::Datagram => "Datagram",
            Self::Compact => "Compact (ours)",
        }
    }

    /// As the files name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp4501 => "udp4501",
            Self::Stream => "stream",
            Self::Datagram => "datagram",
            Self::Compact => "compact",
        }
    }
}

/// A field of a packet on the wire. They are in the order of a packet's bytes, except the payload and the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The underlay's IP header.
    #[serde(alias = "real_ipv6_header")]
    RealIpHeader,
    /// The UDP header.
    UdpHeader,
    /// All of QUIC's header in one field. Only the paper's column has it; the paper does not list its parts.
    QuicHeader,
    /// QUIC's first byte, connection ID and packet number.
    QuicShortHeader,
    /// Frame type, and stream id, offset and length where there are.
    QuicFrameHeader,
    /// The 32-byte header.
    CyphonicHeader,
    /// The inner IP header.
    #[serde(alias = "virtual_ipv6_header")]
    VirtualIpHeader,
    /// What the inner packet carries.
    IpPayload,
    /// The AEAD's tag.
    QuicTag,
    /// The conventional method's HMAC.
    Hmac,
    /// The whole packet.
    Total,
}

/// A row of `sim/setup.csv`: what one phase of setting up one pair of nodes cost.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Setup {
    /// In which framing, and so under which method.
    pub framing: Framing,
    /// How pattern 3 is relayed, where the sweep says so.
    #[serde(default)]
    pub relay_mode: Option<RelayMode>,
    /// What was waited for, where the sweep says so.
    #[serde(default)]
    pub signaling: Option<String>,
    /// Which phase.
    pub phase: Phase,
    /// The signaling pattern; none before the tunnel.
    pub pattern: Option<Pattern>,
    /// Its duration, milliseconds.
    #[serde(deserialize_with = "amount")]
    pub ms: f64,
    /// The same in round trips.
    #[serde(deserialize_with = "amount")]
    pub round_trips: f64,
    /// Packets that left a node for it.
    #[serde(deserialize_with = "amount")]
    pub packets: f64,
    /// Their bytes, whole IP packets.
    #[serde(deserialize_with = "amount")]
    pub bytes: f64,
    /// Packets that left AS or NMS for it.
    #[serde(deserialize_with = "amount")]
    pub service_packets: f64,
    /// Their bytes.
    #[serde(deserialize_with = "amount")]
    pub service_bytes: f64,
    /// Packets that left the TRS for it, forwarded ones among them.
    #[serde(deserialize_with = "amount")]
    pub trs_packets: f64,
    /// Their bytes.
    #[serde(deserialize_with = "amount")]
    pub trs_bytes: f64,
}

impl Row for Setup {
    // `relay_mode` and `signaling` are not here: they are columns of the sweep, and distinguish runs.
    const COLUMNS: &'static [&'static str] = &[
        "framing",
        "phase",
        "pattern",
        "ms",
        "round_trips",
        "packets",
        "bytes",
        "service_packets",
        "service_bytes",
        "trs_packets",
        "trs_bytes",
    ];
    const KIND: &'static [&'static str] = SETUP;
    // A pattern may have several pairs of networks: pattern 2 has its NAT on either side.
    const POOLED: &'static [&'static str] = &["relay_mode", "signaling", "a_kind", "b_kind"];
}

/// A row of `sim/mobility.csv`: what a move cost datagrams that were under way in both directions.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Handover {
    /// In which framing, and so under which method.
    pub framing: Framing,
    /// What the nodes do when one of them moves.
    pub handover: Strategy,
    /// The delay of each link, milliseconds. Any two hosts are four links apart, there and back.
    #[serde(deserialize_with = "amount")]
    pub link_delay_ms: f64,
    /// Which end of the tunnel moved.
    pub mover: Mover,
    /// The longest time without a delivery in one direction, milliseconds.
    #[serde(deserialize_with = "amount")]
    pub gap_ms: f64,
    /// The same in the other direction.
    #[serde(deserialize_with = "amount")]
    pub gap_back_ms: f64,
    /// The round trip of the path on which delivery began again; none if it did not.
    #[serde(deserialize_with = "optional_amount")]
    pub bound_ms: Option<f64>,
}

impl Row for Handover {
    const COLUMNS: &'static [&'static str] =
        &["framing", "handover", "link_delay_ms", "mover", "gap_ms", "gap_back_ms", "bound_ms"];
    const KIND: &'static [&'static str] = &[
        "pattern",
        "pattern_after",
        "used",
        "sent",
        "lost",
        "duplicated",
        "reordered",
        "signaling_packets",
        "signaling_bytes",
    ];
    const POOLED: &'static [&'static str] =
        &["step_4_skip", "step_5_skip", "alice_site", "bob_site", "step_4_to", "step_5_to", "link_loss"];
}

/// What two nodes do when one of them moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Another tunnel is built.
    Rebuild,
    /// The QUIC client migrates (RFC 9000 §9).
    Migrate,
    /// Another path beneath the connection.
    Seamless,
}

impl Strategy {
    /// All.
    pub const ALL: [Self; 3] = [Self::Rebuild, Self::Migrate, Self::Seamless];

    /// As the files and a figure name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rebuild => "rebuild",
            Self::Migrate => "migrate",
            Self::Seamless => "seamless",
        }
    }
}

/// Which end of a tunnel moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mover {
    /// None.
    None,
    /// The end that dialed the tunnel.
    Client,
    /// The end that was dialed.
    Server,
    /// Both at once.
    Both,
}

/// What the TRS does in pattern 3 of the proposed method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayMode {
    /// Forwards one end-to-end connection by connection ID.
    Blind,
    /// Ends a connection with each node.
    Terminating,
}

/// A phase of set-up, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Up to the Login Response.
    Login,
    /// Up to the Registration Response.
    Registration,
    /// From the DNS query to the first echo's reply.
    Tunnel,
}

/// A row of `sim/table4.csv`: one echo.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Rtt {
    /// In which framing, and so under which method.
    pub framing: Framing,
    /// Milliseconds; none if it was lost.
    #[serde(deserialize_with = "optional_amount")]
    pub rtt_ms: Option<f64>,
}

impl Row for Rtt {
    const COLUMNS: &'static [&'static str] = &["framing", "rtt_ms"];
    const KIND: &'static [&'static str] = ECHO;
}

/// A row of `sim/handover.csv`: a transfer, with or without a move.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Move {
    /// In which framing.
    pub framing: Framing,
    /// Whether the move was skipped: the baseline.
    pub skip: bool,
    /// Where to the node moved.
    pub cafe_kind: Kind,
    /// How long the transfer took, milliseconds; none if it did not end.
    #[serde(deserialize_with = "optional_amount")]
    pub tcp_ms: Option<f64>,
}

impl Row for Move {
    const COLUMNS: &'static [&'static str] = &["framing", "skip", "cafe_kind", "tcp_ms"];
    const KIND: &'static [&'static str] = OUTCOME;
}

/// A row of `sim/throughput.csv`: a transfer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Transfer {
    /// In which framing.
    pub framing: Framing,
    /// The congestion control of QUIC.
    pub congestion: String,
    /// One-way delay of a link, milliseconds.
    pub link_delay_ms: f64,
    /// Loss of a link, in each direction.
    pub link_loss: f64,
    /// Bytes that arrived.
    pub tcp_bytes: f64,
    /// How long that took, milliseconds; none if the transfer did not end.
    #[serde(deserialize_with = "optional_amount")]
    pub tcp_ms: Option<f64>,
}

impl Row for Transfer {
    const COLUMNS: &'static [&'static str] =
        &["framing", "congestion", "link_delay_ms", "link_loss", "tcp_bytes", "tcp_ms"];
    const KIND: &'static [&'static str] = OUTCOME;
}

/// A row of `sim/soak.csv`: a sum, or how often an event occurred at a kind of site, in a pattern, in a method.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Covered {
    /// The event, or what was summed.
    pub what: String,
    /// The kind of site; empty for a sum.
    pub kind: String,
    /// How often; of one sum, a digest.
    pub count: String,
}

impl Row for Covered {
    const COLUMNS: &'static [&'static str] = &["what", "kind", "count"];
    const KIND: &'static [&'static str] = &["pattern", "method"];
}

/// A row of `sim/matrix.csv`: the result of a pair of kinds of sites.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Meeting {
    /// The initiator's kind of site.
    pub initiator: String,
    /// The responder's kind of site.
    pub responder: String,
    /// Under which method.
    pub method: Method,
    /// Under which policy.
    pub policy: Policy,
    /// The signaling pattern of the tunnel used at the end; none if no packet got through.
    pub pattern: Option<Pattern>,
    /// Its dialer.
    pub dialer: Option<Dialer>,
    /// How packets went in the end.
    pub path: Course,
    /// From the first packet to the first tunnel, milliseconds.
    #[serde(deserialize_with = "optional_amount")]
    pub setup_ms: Option<f64>,
    /// From the first packet to the tunnel used at the end, milliseconds.
    #[serde(deserialize_with = "optional_amount")]
    pub settled_ms: Option<f64>,
    /// Echo requests sent.
    pub echo_sent: u32,
    /// Echo replies that came back.
    pub echo_received: u32,
    /// Whether the rules of the networks between the two leave a direct path.
    pub oracle: Oracle,
    /// The policy's verdict about the best direct way; `None` under the paper's policy, or if it was not asked.
    pub verdict: Option<Verdict>,
}

impl Row for Meeting {
    const COLUMNS: &'static [&'static str] = &[
        "initiator",
        "responder",
        "method",
        "policy",
        "pattern",
        "dialer",
        "path",
        "setup_ms",
        "settled_ms",
        "echo_sent",
        "echo_received",
        "oracle",
        "verdict",
    ];
}

/// The policy that chooses between a direct tunnel and the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// The paper's Table 1.
    Paper,
    /// A direct path wherever one can be found.
    Optimal,
}

impl Policy {
    /// Both, the paper's first.
    pub const ALL: [Self; 2] = [Self::Paper, Self::Optimal];

    /// As the files name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Optimal => "optimal",
        }
    }
}

/// How packets went between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Course {
    /// From one to the other.
    Direct,
    /// Through the TRS.
    Relayed,
    /// Not at all.
    None,
}

/// Whether a direct path exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Oracle {
    /// It does.
    Direct,
    /// There is none: only a relay can help.
    Relay,
}

/// A policy's verdict about a direct way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It works.
    Yes,
    /// It works unless a box behaves differently than observed.
    Likely,
    /// It may work.
    Perhaps,
    /// It cannot work.
    No,
}

fn amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    parse_amount(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

fn optional_amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "" => Ok(None),
        text => parse_amount(text).map(Some).map_err(de::Error::custom),
    }
}

fn parse_amount(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err(format!("`{text}` is not a finite number of at least 0")),
    }
}
