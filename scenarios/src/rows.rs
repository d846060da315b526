//! Result rows: one struct for each [`Measure`].
//!
//! Numbers are written with fixed decimals, so that equal runs give equal bytes: milliseconds with three, which are
//! microseconds; round trips with two.

use cyphonic_core::route::{Dialer, Pattern};
use serde::{Deserialize, Serialize};

use crate::words::{Measure, Over};

/// One row of results.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// See [`Outcome`].
    Outcome(Outcome),
    /// See [`Rtt`].
    Rtt(Rtt),
    /// See [`Flow`].
    Flow(Flow),
    /// See [`Composition`].
    Composition(Composition),
    /// See [`Setup`].
    Setup(Setup),
    /// See [`Handover`].
    Handover(Handover),
    /// See [`Traffic`].
    Traffic(Traffic),
}

/// [`Measure::Outcome`]: the outcome of a pair of nodes; one row for each pair that an echo or TCP step names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The node that began; its short name.
    pub initiator: String,
    /// The other one; its short name.
    pub responder: String,
    /// The signaling pattern of the tunnel in use at the end; none if there was none.
    #[serde(with = "pattern")]
    pub pattern: Option<Pattern>,
    /// The dialer of that tunnel.
    #[serde(with = "dialer")]
    pub dialer: Option<Dialer>,
    /// Echo requests that the scenario asked for, whether the node could send them or not.
    pub echo_sent: u32,
    /// Echo replies that came back.
    pub echo_received: u32,
    /// Bytes that the receiver got over TCP.
    pub tcp_bytes: u64,
    /// Whether every TCP transfer ended with all its bytes and the right hash; false if there was none.
    pub tcp_ok: bool,
    /// From the first SYN to the last byte at the receiver, milliseconds; none if no transfer was complete.
    #[serde(with = "millis")]
    pub tcp_ms: Option<Millis>,
    /// What the TCP transfers went over; none if there was none. Those without a tunnel have a row of their own.
    pub tcp_over: Option<Over>,
    /// Why the first transfer failed that did; none if there was none, or if none failed.
    pub tcp_failed: Option<TcpFailure>,
}

/// Why a TCP transfer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TcpFailure {
    /// The peer's name was not resolved: no node of that name is registered, or no tunnel to it came up.
    NoName,
    /// The sender has no address to send from: it is not registered, or, without a tunnel, the two nodes have no
    /// addresses of one family.
    NoAddress,
    /// No answer to the SYN came in 60 s.
    NoAnswer,
    /// The peer, or a firewall in its place, answered the SYN with a reset.
    Refused,
    /// The connection was made, and then reset, or the peer was silent for 60 s.
    Broken,
    /// Other bytes arrived than were sent.
    WrongHash,
    /// It was not over when the run ended.
    Unfinished,
}

impl TcpFailure {
    /// Every one.
    pub const ALL: [Self; 7] =
        [Self::NoName, Self::NoAddress, Self::NoAnswer, Self::Refused, Self::Broken, Self::WrongHash, Self::Unfinished];
}

/// [`Measure::Rtt`]: one echo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rtt {
    /// The number of the step, from 0.
    pub step: u32,
    /// The node that sent it; its short name.
    pub initiator: String,
    /// The node that answered; its short name.
    pub responder: String,
    /// The number of the echo in its step, from 1.
    pub probe: u32,
    /// From request to reply, milliseconds; none if it was lost.
    #[serde(with = "millis")]
    pub rtt_ms: Option<Millis>,
}

/// A datagram that takes longer than this is late: the longest one-way delay of a good conversation (ITU-T G.114).
pub const LATE: std::time::Duration = std::time::Duration::from_millis(150);

/// [`Measure::Flow`]: one row of datagrams; one row for each `udp` step. A datagram that is under way when the run ends
/// counts as lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// The number of the step, from 0.
    pub step: u32,
    /// The node that sent; its short name.
    pub initiator: String,
    /// The node that received; its short name.
    pub responder: String,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that never arrived.
    pub lost: u64,
    /// Datagrams that arrived again.
    pub duplicated: u64,
    /// Datagrams that arrived after one that was sent later.
    pub reordered: u64,
    /// Datagrams that took longer than [`LATE`].
    pub late: u64,
    /// The longest time from one datagram's arrival to the next one's, milliseconds; none if fewer than two arrived.
    #[serde(with = "millis")]
    pub gap_ms: Option<Millis>,
    /// The median one-way delay, milliseconds; none if nothing arrived.
    #[serde(with = "millis")]
    pub delay_ms: Option<Millis>,
    /// The longest one-way delay, milliseconds; none if nothing arrived.
    #[serde(with = "millis")]
    pub worst_ms: Option<Millis>,
}

/// [`Measure::Composition`]: one field of the largest packet on the wire; one row for each field, then the total.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Composition {
    /// Which field.
    pub field: Field,
    /// How many bytes of it; 0 where the framing has no such field.
    pub bytes: u32,
}

/// [`Measure::Setup`]: what one phase of one pair's set-up cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// Which phase.
    pub phase: Phase,
    /// The signaling pattern; none before the tunnel.
    #[serde(with = "pattern")]
    pub pattern: Option<Pattern>,
    /// How long it took, milliseconds.
    #[serde(serialize_with = "fixed::<3, _>")]
    pub ms: f64,
    /// Half the number of flights of packets that it had to wait for one after another: counted, not computed from
    /// times.
    #[serde(serialize_with = "fixed::<2, _>")]
    pub round_trips: f64,
    /// IP packets for it that left a node. Login and registration are those of both nodes together.
    pub packets: u64,
    /// Their bytes, whole IP packets.
    pub bytes: u64,
    /// Those among them that searched for a path MTU: UDP datagrams of more than 1,200 bytes of payload (RFC 9000
    /// §14.3). Nothing else of a set-up is as long.
    pub search_packets: u64,
    /// Their bytes, whole IP packets.
    pub search_bytes: u64,
    /// IP packets for it that left the AS or the NMS.
    pub service_packets: u64,
    /// Their bytes.
    pub service_bytes: u64,
    /// IP packets for it that left the TRS: forwarded ones and its own.
    pub trs_packets: u64,
    /// Their bytes.
    pub trs_bytes: u64,
}

/// [`Measure::Handover`]: what a move cost numbered datagrams that were under way in both directions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// Which end of the tunnel moved.
    pub mover: Mover,
    /// The signaling pattern of the tunnel in use before the move; none if there was none.
    #[serde(with = "pattern")]
    pub pattern: Option<Pattern>,
    /// That of the tunnel in use at the end.
    #[serde(with = "pattern")]
    pub pattern_after: Option<Pattern>,
    /// How the tunnel followed; none if the first node changed over to no other path.
    pub used: Option<Used>,
    /// The longest time without a delivery from the first flow's sender to its receiver, milliseconds.
    #[serde(with = "whole_millis")]
    pub gap_ms: Millis,
    /// The same in the other direction.
    #[serde(with = "whole_millis")]
    pub gap_back_ms: Millis,
    /// The round trip of the path on which delivery began again, as the datagrams measured it; none if it did not.
    #[serde(with = "millis")]
    pub bound_ms: Option<Millis>,
    /// Datagrams of both flows.
    pub sent: u64,
    /// Those that never arrived.
    pub lost: u64,
    /// Those that arrived once more.
    pub duplicated: u64,
    /// Those that arrived after one that was sent later.
    pub reordered: u64,
    /// Packets that left a node from the move until both directions delivered again, without those that carry the
    /// flows.
    pub signaling_packets: u64,
    /// Their bytes, whole IP packets.
    pub signaling_bytes: u64,
}

/// [`Measure::Traffic`]: the IP packets of one host on the underlay during the last `wait` step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// The host: `as`, `nms`, `trs`, or the short name of a node.
    pub host: String,
    /// How long the step was, milliseconds.
    #[serde(with = "whole_millis")]
    pub span_ms: Millis,
    /// IP packets that left the host, those included that were lost later.
    pub sent_packets: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// IP packets that arrived at the host.
    pub received_packets: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Datagrams of `udp` steps that reached the host's application, each once.
    pub datagrams: u64,
}

/// Which end of a tunnel moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

/// How a tunnel follows a node that moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Used {
    /// Another tunnel was built, by the signaling of a first one.
    Rebuild,
    /// The QUIC client migrated (RFC 9000 §9).
    Migrate,
    /// The tunnel stood, and another path took over beneath it.
    Seamless,
}

/// A duration in whole microseconds, written as milliseconds with three decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis {
    /// Microseconds.
    pub micros: u64,
}

impl Millis {
    /// Rounds half up.
    pub fn new(duration: std::time::Duration) -> Self {
        let micros = (duration.as_nanos() + 500) / 1000;
        Self { micros: u64::try_from(micros).unwrap_or(u64::MAX) }
    }

    /// From milliseconds with three decimals.
    fn parse(text: &str) -> Option<Self> {
        let (whole, micros) = text.split_once('.')?;
        let whole: u64 = whole.parse().ok()?;
        let micros: u64 = (micros.len() == 3).then(|| micros.parse().ok())??;
        whole.checked_mul(1000)?.checked_add(micros).map(|micros| Self { micros })
    }

    /// Milliseconds with the fraction.
    pub fn as_f64(self) -> f64 {
        self.micros as f64 / 1000.0
    }
}

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.micros / 1000, self.micros % 1000)
    }
}

/// A field of a packet on the wire, outermost first (paper Table 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The underlay's IPv4 or IPv6 header.
    RealIpHeader,
    /// The UDP header.
    UdpHeader,
    /// First byte, connection ID and packet number.
    QuicShortHeader,
    /// Frame type, and stream id, offset and length where there are.
    QuicFrameHeader,
    /// The AEAD's tag.
    QuicTag,
    /// The 32-byte header.
    CyphonicHeader,
    /// The inner IPv4 or IPv6 header.
    VirtualIpHeader,
    /// The payload of the inner packet.
    IpPayload,
    /// The conventional method's HMAC.
    Hmac,
    /// The initialization vector of AES-CBC.
    Iv,
    /// The padding of AES-CBC.
    Padding,
    /// The whole packet on the wire.
    Total,
}

impl Field {
    /// The fields that every framing's rows have, in their order.
    pub const ALL: [Self; 10] = [
        Self::RealIpHeader,
        Self::UdpHeader,
        Self::QuicShortHeader,
        Self::QuicFrameHeader,
        Self::QuicTag,
        Self::CyphonicHeader,
        Self::VirtualIpHeader,
        Self::IpPayload,
        Self::Hmac,
        Self::Total,
    ];
    /// The fields that only AES-CBC has.
    pub const OF_CBC: [Self; 2] = [Self::Iv, Self::Padding];
}

/// A phase of set-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// From the first packet to the AS to the Login Response.
    Login,
    /// From there to the Registration Response.
    Registration,
    /// From the DNS query to the first echo's reply.
    Tunnel,
}

impl Row {
    /// The columns of a measure's rows: the names of the struct's fields.
    pub const fn columns(measure: Measure) -> &'static [&'static str] {
        match measure {
            Measure::Outcome => &[
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
            ],
            Measure::Rtt => &["step", "initiator", "responder", "probe", "rtt_ms"],
            Measure::Flow => &[
                "step",
                "initiator",
                "responder",
                "sent",
                "lost",
                "duplicated",
                "reordered",
                "late",
                "gap_ms",
                "delay_ms",
                "worst_ms",
            ],
            Measure::Composition => &["field", "bytes"],
            Measure::Handover => &[
                "mover",
                "pattern",
                "pattern_after",
                "used",
                "gap_ms",
                "gap_back_ms",
                "bound_ms",
                "sent",
                "lost",
                "duplicated",
                "reordered",
                "signaling_packets",
                "signaling_bytes",
            ],
            Measure::Traffic => {
                &["host", "span_ms", "sent_packets", "sent_bytes", "received_packets", "received_bytes", "datagrams"]
            }
            Measure::Setup => &[
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
            ],
        }
    }

    /// Which measure it belongs to.
    pub const fn measure(&self) -> Measure {
        match self {
            Self::Outcome(_) => Measure::Outcome,
            Self::Rtt(_) => Measure::Rtt,
            Self::Flow(_) => Measure::Flow,
            Self::Composition(_) => Measure::Composition,
            Self::Setup(_) => Measure::Setup,
            Self::Handover(_) => Measure::Handover,
            Self::Traffic(_) => Measure::Traffic,
        }
    }

    /// Writes it, without labels, as one record.
    pub(crate) fn record(&self) -> Result<csv::StringRecord, csv::Error> {
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        match self {
            Self::Outcome(row) => writer.serialize(row)?,
            Self::Rtt(row) => writer.serialize(row)?,
            Self::Flow(row) => writer.serialize(row)?,
            Self::Composition(row) => writer.serialize(row)?,
            Self::Setup(row) => writer.serialize(row)?,
            Self::Handover(row) => writer.serialize(row)?,
            Self::Traffic(row) => writer.serialize(row)?,
        }
        let bytes = writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))?;
        let mut record = csv::StringRecord::new();
        csv::ReaderBuilder::new().has_headers(false).from_reader(bytes.as_slice()).read_record(&mut record)?;
        Ok(record)
    }

    /// Reads it from one record without labels.
    pub(crate) fn parse(measure: Measure, record: &csv::StringRecord) -> Result<Self, csv::Error> {
        let header = csv::StringRecord::from(Self::columns(measure));
        let header = Some(&header);
        Ok(match measure {
            Measure::Outcome => Self::Outcome(record.deserialize(header)?),
            Measure::Rtt => Self::Rtt(record.deserialize(header)?),
            Measure::Flow => Self::Flow(record.deserialize(header)?),
            Measure::Composition => Self::Composition(record.deserialize(header)?),
            Measure::Setup => Self::Setup(record.deserialize(header)?),
            Measure::Handover => Self::Handover(record.deserialize(header)?),
            Measure::Traffic => Self::Traffic(record.deserialize(header)?),
        })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's `serialize_with` calls it so")]
fn fixed<const DECIMALS: usize, S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:.DECIMALS$}"))
}

/// Optional fields are empty where there is nothing.
macro_rules! optional {
    ($(#[$doc:meta])* $module:ident, $type:ty, $write:expr, $read:expr, $expected:literal) => {
        $(#[$doc])*
        mod $module {
            use super::*;
            use serde::de::{Error, Unexpected};
            use serde::{Deserializer, Serializer};

            #[expect(clippy::ref_option, reason = "serde's `with` calls it so")]
            pub(super) fn serialize<S: Serializer>(value: &Option<$type>, serializer: S) -> Result<S::Ok, S::Error> {
                let write: fn($type) -> String = $write;
                serializer.serialize_str(&value.map(write).unwrap_or_default())
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<$type>, D::Error> {
                let text = String::deserialize(deserializer)?;
                let read: fn(&str) -> Option<$type> = $read;
                match text.as_str() {
                    "" => Ok(None),
                    text => read(text).map(Some).ok_or_else(|| Error::invalid_value(Unexpected::Str(text), &$expected)),
                }
            }
        }
    };
}

optional!(
    /// 1, 2 or 3.
    pattern,
    Pattern,
    |pattern| pattern.number().to_string(),
    |text| [Pattern::Direct, Pattern::OneNat, Pattern::Relayed].into_iter().find(|p| p.number().to_string() == text),
    "a pattern, 1 to 3"
);
optional!(
    /// By role.
    dialer,
    Dialer,
    |dialer| match dialer {
        Dialer::Initiator => "initiator".to_owned(),
        Dialer::Responder => "responder".to_owned(),
    },
    |text| match text {
        "initiator" => Some(Dialer::Initiator),
        "responder" => Some(Dialer::Responder),
        _ => None,
    },
    "initiator or responder"
);
/// Three decimals.
mod whole_millis {
    use super::{Deserialize, Millis};
    use serde::de::{Error, Unexpected};
    use serde::{Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's `with` calls it so")]
    pub(super) fn serialize<S: Serializer>(value: &Millis, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Millis, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = &"milliseconds with three decimals";
        Millis::parse(&text).ok_or_else(|| Error::invalid_value(Unexpected::Str(&text), expected))
    }
}

optional!(
    /// Three decimals.
    millis,
    Millis,
    |ms| ms.to_string(),
    Millis::parse,
    "milliseconds with three decimals"
);
