//! The values inside messages: choices, and groups of fields.
//!
//! Their numbers and the order of their fields on the wire are in the table of [`super`].

use std::net::{IpAddr, SocketAddr};

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::key::Key128;
use crate::name::{Fqdn, NodeId, RelayCid};

/// How a device authenticates itself to the AS (paper §4.3). The conventional method has both, and the proposed method
/// needs the certificate.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub enum Credential {
    /// The password itself. It is sent inside TLS only.
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

/// Which service answers a Probe, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The receiver answers. The NMS answers by a Probe Token for the source address.
    Noted,
    /// The receiver.
    Here,
    /// The NMS answers from its other port.
    OtherPort,
    /// The TRS answers, with this id in the header.
    OtherAddress([u8; 16]),
}

/// Zeros that make a Probe as long as its longest answer, so that a Probe with a forged source draws no more bytes than
/// it has. The longest answer is a Probe Token: an IPv6 address with its port (19 bytes), and the token (8). A Probe
/// has one byte for its `answer`, and these 26.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding;

impl Padding {
    /// The number of zeros, bytes.
    pub const LEN: usize = 26;
}

/// The proof that a node receives packets at an address: the token that the NMS sent to that address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressProof {
    /// The address and port, as the NMS sees them.
    pub seen: SocketAddr,
    /// The token, which only the NMS can make.
    pub token: [u8; 8],
}

/// What a node needs for a survey, in which it tests how its network treats packets, as RFC 5780 does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurveyPlan {
    /// Protects Probes between node and NMS.
    pub key: Key128,
    /// The NMS's second port.
    pub other_port: u16,
    /// Another host that answers Probes: the TRS, both families.
    pub others: Vec<SocketAddr>,
}

/// The kind of route that a Direction Request asks for. Under `policy = "paper"` it is always [`Self::Any`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// Any route. It replaces every route between the two nodes.
    Any,
    /// A relayed route, while a direct attempt is under way and has not succeeded yet.
    Relayed,
    /// A direct route, while packets are relayed. The number counts the attempts.
    Direct(u8),
}

impl Want {
    /// Whether the answer to this request also answers a request for `other`.
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
    /// The addresses of the TRS, both families.
    pub addresses: Vec<SocketAddr>,
    /// Whether the TRS sees plaintext.
    pub mode: RelayMode,
    /// The responder's leg. Only in the Route Direction to the initiator, in the proposed method.
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

/// An end key encrypted and authenticated by the temporary key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrappedKey(pub [u8; 32]);

/// The last field of a message, which may be missing. Without it the message is as it was before the field was added to
/// the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtEnd<T>(pub Option<T>);

/// The two nodes for which a TRS relays, and for how long (conventional method).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The node that asked for the route. It pays for the bytes of the path to the responder.
    pub initiator: NodeId,
    /// The other node. It pays for the other path.
    pub responder: NodeId,
    /// From when the TRS gets the request.
    pub seconds: u16,
}

/// A certificate as bytes (DER, RFC 5280 §4.1). Decoding does not look into it; the receiver verifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Der(pub Vec<u8>);

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
