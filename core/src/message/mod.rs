//! Every signaling message of both methods, as types in which nonsense cannot be said.
//!
//! A message is a 32-byte [`Header`](crate::header::Header) and a body; [`codec`] has the body's bytes. The methods
//! differ in which optional fields are there (keys only in the conventional one, a relay CID only in the proposed
//! one) and in how the bytes are carried: see [`crate::conventional`] and [`crate::quic`].

pub mod codec;
mod describe;
mod frame;

use std::net::{IpAddr, SocketAddr};

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::header::Kind;
use crate::key::Key128;
use crate::name::{Fqdn, NodeId, PathId, RelayCid, Virtual};
use crate::route::Pattern;
use crate::route::optimal::Behaviour;

pub use codec::{DecodeError, MAX_ADDRESSES, MAX_BODY, MAX_PASSWORD};
pub use frame::FrameReader;

/// A signaling message, without its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Node → AS (Figs. 2, 6).
    LoginRequest(LoginRequest),
    /// AS → node (Figs. 2, 6).
    LoginResponse(LoginResponse),
    /// Node → NMS (Figs. 2, 6).
    RegistrationRequest(RegistrationRequest),
    /// NMS → node (Figs. 2, 6).
    RegistrationResponse(RegistrationResponse),
    /// Keeps NAT mappings and sessions alive.
    KeepAlive,
    /// The answer to [`Self::KeepAlive`].
    KeepAliveAck,
    /// Initiator → NMS (Figs. 3–5, 7–9).
    DirectionRequest(DirectionRequest),
    /// NMS → initiator.
    RouteDirectionInitiator(RouteDirection),
    /// NMS → responder.
    RouteDirectionResponder(RouteDirection),
    /// Responder → NMS: ready; with its leg to the TRS in the proposed pattern 3 (Fig. 9).
    RouteConfirmation(Option<RelayCid>),
    /// NMS → TRS (Fig. 5).
    RelayRequest(RelayRequest),
    /// TRS → NMS (Fig. 5): whether it will relay.
    RelayResponse {
        /// False when the TRS is full.
        accepted: bool,
    },
    /// TRS → NMS, in place of an answer: the request's epoch was not above this one.
    RelayEpoch {
        /// The least that is too old.
        last: u64,
    },
    /// Responder → TRS (Fig. 5); the header's id is the path.
    HolePunching,
    /// Dialer → the other node (Figs. 3–5, 7–9).
    TunnelRequest(TunnelRequest),
    /// The answer to it.
    TunnelResponse,
    /// Node → NMS or TRS: where do you see me?
    Probe(Answer),
    /// The answer.
    ProbeReply {
        /// Where the Probe came from.
        seen: SocketAddr,
    },
    /// NMS → TRS.
    ProbeRequest(ProbeRequest),
    /// Node → NMS; a Keep Alive Ack answers it.
    NetworkReport(NetworkReport),
    /// What was asked (the header repeats its transaction id) cannot be done.
    Error(ErrorCode),
}

impl Message {
    /// The header's type for this message.
    pub fn kind(&self) -> Kind {
        match self {
            Self::LoginRequest(_) => Kind::LoginRequest,
            Self::LoginResponse(_) => Kind::LoginResponse,
            Self::RegistrationRequest(_) => Kind::RegistrationRequest,
            Self::RegistrationResponse(_) => Kind::RegistrationResponse,
            Self::KeepAlive => Kind::KeepAlive,
            Self::KeepAliveAck => Kind::KeepAliveAck,
            Self::DirectionRequest(_) => Kind::DirectionRequest,
            Self::RouteDirectionInitiator(_) => Kind::RouteDirectionInitiator,
            Self::RouteDirectionResponder(_) => Kind::RouteDirectionResponder,
            Self::RouteConfirmation(_) => Kind::RouteConfirmation,
            Self::RelayRequest(_) => Kind::RelayRequest,
            Self::RelayResponse { .. } => Kind::RelayResponse,
            Self::RelayEpoch { .. } => Kind::RelayEpoch,
            Self::HolePunching => Kind::HolePunching,
            Self::TunnelRequest(_) => Kind::TunnelRequest,
            Self::TunnelResponse => Kind::TunnelResponse,
            Self::Probe(_) => Kind::Probe,
            Self::ProbeReply { .. } => Kind::ProbeReply,
            Self::ProbeRequest(_) => Kind::ProbeRequest,
            Self::NetworkReport(_) => Kind::NetworkReport,
            Self::Error(_) => Kind::Error,
        }
    }
}

/// Login Request {device id, password | certificate}.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRequest {
    /// The device, as the AS's database knows it.
    pub device: NodeId,
    /// How the device proves itself.
    pub credential: Credential,
}

/// How a device proves itself to the AS (paper §4.3: conventional has both, proposed demands the certificate).
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub enum Credential {
    /// The password itself; only ever inside TLS.
    Password(String),
    /// The certificate of the TLS session that carries this message.
    Certificate,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password(..)",
            Self::Certificate => "Certificate",
        })
    }
}

/// Login Response {node id, FQDN, CK, NMS address}.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginResponse {
    /// The node's identifier in headers.
    pub node: NodeId,
    /// The node's name.
    pub fqdn: Fqdn,
    /// The common key, conventional method only.
    pub common_key: Option<Key128>,
    /// Where the NMS is, both families.
    pub nms: Vec<SocketAddr>,
}

/// Registration Request {real addresses, port}.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationRequest {
    /// Only grows, over restarts too: an older one than the last is a replay.
    pub epoch: u64,
    /// The addresses of the node's interfaces.
    pub addresses: Vec<IpAddr>,
    /// The UDP port it listens on.
    pub port: u16,
}

/// Registration Response {NAT present?, virtual IPv4, virtual IPv6}.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationResponse {
    /// Whether the NMS saw the request come from an address that the node does not have.
    pub nat: bool,
    /// The node's virtual addresses.
    pub addresses: Virtual,
    /// How to survey its network; only where the NMS wants to know (`policy = "optimal"`).
    pub survey: Option<SurveyPlan>,
}

/// What a node needs to learn how its network treats it, in the manner of RFC 5780.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurveyPlan {
    /// Protects Probes between node and NMS.
    pub key: Key128,
    /// The NMS's second port.
    pub other_port: u16,
    /// Another host that answers Probes: the TRS, both families.
    pub others: Vec<SocketAddr>,
}

/// Who answers a Probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Who got it. The NMS also takes note: this is where the node is.
    Noted,
    /// Who got it.
    Here,
    /// The NMS, from its other port.
    OtherPort,
    /// The TRS, with this id in the answer's header.
    OtherAddress([u8; 16]),
}

/// Probe Request: NMS → TRS. The header repeats the transaction of the node's Probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRequest {
    /// As in a [`RelayRequest`], and counted with them.
    pub epoch: u64,
    /// Whom to answer.
    pub to: SocketAddr,
    /// The answer's id.
    pub id: [u8; 16],
}

/// Network Report: what a node has found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkReport {
    /// By IPv6, if it has any.
    pub v6: Option<Behaviour>,
    /// By IPv4, through NAT64 perhaps.
    pub v4: Option<Behaviour>,
}

/// Direction Request: a way to a peer is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectionRequest {
    /// To whom.
    pub peer: PeerRef,
    /// What kind of way.
    pub want: Want,
}

/// What kind of way is wanted. Only `policy = "optimal"` knows other than [`Self::Any`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// Any; whatever there was between the two is void.
    Any,
    /// Through the TRS: a direct attempt is under way and takes its time.
    Relayed,
    /// A direct one, while the relay carries; the number counts the attempts.
    Direct(u8),
}

impl Want {
    /// Whether who wants `other` gets it by what comes of this.
    pub fn covers(self, other: Self) -> bool {
        match self {
            Self::Any => true,
            Self::Relayed => other == Self::Relayed,
            Self::Direct(_) => matches!(other, Self::Direct(_)),
        }
    }
}

/// How a Direction Request names the peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerRef {
    /// By name: a DNS query or a handover was the trigger.
    Name(Fqdn),
    /// By virtual address: a packet was the trigger.
    Virtual(IpAddr),
}

/// Route Direction: all that one node needs to reach the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteDirection {
    /// The other node.
    pub peer: Fqdn,
    /// Its virtual addresses.
    pub virtual_addresses: Virtual,
    /// The signaling pattern.
    pub pattern: Pattern,
    /// Whether the receiver of this message sends the Tunnel Request.
    pub dial: bool,
    /// Where the other node can be reached directly, best first; empty in pattern 3. Under `policy = "optimal"` a listener is
    /// told only where it has to punch.
    pub candidates: Vec<SocketAddr>,
    /// Conventional method only.
    pub keys: Option<TunnelKeys>,
    /// Pattern 3 only.
    pub relay: Option<Relay>,
    /// What was asked for, under `policy = "optimal"`: then a listener punches, and a relayed tunnel may become a direct
    /// one.
    pub want: Option<Want>,
}

/// The keys that the NMS makes for one tunnel set-up (conventional method, paper §2.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelKeys {
    /// TK: protects Tunnel Request and Response.
    pub tunnel: Key128,
    /// MK: wraps the end key.
    pub temporary: Key128,
}

/// The relay that pattern 3 uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Where the TRS is, both families.
    pub addresses: Vec<SocketAddr>,
    /// Whether the TRS sees plaintext.
    pub mode: RelayMode,
    /// The responder's leg; to the initiator only, proposed method only.
    pub cid: Option<RelayCid>,
}

/// How the TRS relays in the proposed method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RelayMode {
    /// The paper's Fig. 9 taken literally: two QUIC connections end at the TRS, which sees the plaintext.
    Terminating,
    /// One QUIC connection end to end, forwarded by the prefix of its connection IDs; the TRS holds no key.
    Blind,
}

/// Relay Request {path ids, TK} (Fig. 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayRequest {
    /// Only grows, over restarts of the NMS too: an older one than the last is a replay.
    pub epoch: u64,
    /// The path from initiator to responder.
    pub forward: PathId,
    /// The path from responder to initiator.
    pub backward: PathId,
    /// TK. Never MK: it would give the TRS the end key.
    pub tunnel_key: Key128,
}

/// Tunnel Request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelRequest {
    /// Who asks.
    pub from: Fqdn,
    /// Whom.
    pub to: Fqdn,
    /// EK wrapped by MK, conventional method only.
    pub wrapped_end_key: Option<WrappedKey>,
    /// The other node's leg, to the TRS in the proposed pattern 3.
    pub relay_cid: Option<RelayCid>,
    /// How packets will be carried in this tunnel.
    pub framing: Framing,
}

/// An end key encrypted and authenticated by the temporary key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrappedKey(pub [u8; 32]);

/// How a tunnelled packet is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Framing {
    /// Header 32 ‖ AES-128-CTR(packet) ‖ HMAC 16, in UDP (paper, conventional).
    Udp4501,
    /// QUIC STREAM frame ‖ header 32 ‖ packet (paper, proposed; Fig. 12).
    Stream,
    /// QUIC DATAGRAM frame (RFC 9221) ‖ header 32 ‖ packet.
    Datagram,
    /// QUIC DATAGRAM frame ‖ packet.
    Compact,
}

impl Framing {
    /// The name in scenarios and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp4501 => "udp4501",
            Self::Stream => "stream",
            Self::Datagram => "datagram",
            Self::Compact => "compact",
        }
    }
}

/// Why something cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ErrorCode {
    /// Device unknown, wrong password, or the certificate is not the device's.
    Unauthorized = 1,
    /// The node is not registered (any more): log in and register again.
    NotRegistered = 2,
    /// No node has that name or address.
    UnknownPeer = 3,
    /// The peer is known but not there now, or not any more where a Route Direction said.
    PeerOffline = 4,
    /// No relay can be used.
    NoRelay = 5,
    /// The epoch of a registration is not newer than the last one.
    StaleEpoch = 6,
    /// There is no direct way, or none that could be tried.
    NoDirectWay = 7,
    /// The service cannot do it now: its database fails, or no virtual address is left.
    Unavailable = 8,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: &'static [Self] = &[
        Self::Unauthorized,
        Self::NotRegistered,
        Self::UnknownPeer,
        Self::PeerOffline,
        Self::NoRelay,
        Self::StaleEpoch,
        Self::NoDirectWay,
        Self::Unavailable,
    ];

    /// What it means, for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::NotRegistered => "not registered",
            Self::UnknownPeer => "unknown peer",
            Self::PeerOffline => "peer offline",
            Self::NoRelay => "no relay",
            Self::StaleEpoch => "stale epoch",
            Self::NoDirectWay => "no direct way",
            Self::Unavailable => "service unavailable",
        }
    }
}
