//! The events of a role: signals for sequence diagrams, milestones, and drops with their reasons.

use std::fmt;
use std::net::SocketAddr;

use crate::header::{HEADER_LEN, TAG_LEN};
use crate::message::{ErrorCode, Framing, Message, NetworkReport, Want};
use crate::name::{Fqdn, Party, Virtual};
use crate::paths::strategy::Handover;
use crate::route::optimal::Considered;
use crate::route::{Choice, Location, Pattern};
use crate::signaling::Signaling;
use crate::trouble::NoTcp;
use crate::version::Versions;

/// An event of a role, for a user, a log, a diagram or a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A signaling message was sent, or a handshake finished. The ordered list of these is the sequence diagram.
    Signal(Box<Signal>),
    /// The node is logged in and registered.
    Registered {
        /// Its virtual addresses.
        addresses: Virtual,
        /// Whether the NMS found a NAT in front of it.
        nat: bool,
    },
    /// The node lost its registration and is trying again.
    Unregistered {
        /// Why.
        reason: Failure,
    },
    /// The node began to ask for a route to a peer.
    RouteRequested {
        /// The peer, by name or virtual address.
        peer: String,
    },
    /// A tunnel is ready for packets.
    TunnelUp(TunnelUp),
    /// The NMS chose a route.
    RouteChosen(Box<RouteChosen>),
    /// The node has learnt how its network treats it, and reported it.
    Surveyed(NetworkReport),
    /// A direct attempt beside the relay failed, or could not be made.
    StillRelayed {
        /// The other node.
        peer: String,
        /// Why.
        reason: Failure,
    },
    /// A tunnel is gone, or could not be built.
    TunnelDown {
        /// The other node, by name or (where the name was never learnt) virtual address.
        peer: String,
        /// Why.
        reason: Failure,
    },
    /// A tunnel goes by another path now.
    PathSwitched {
        /// The other node.
        peer: Fqdn,
        /// The address that packets are sent to now.
        remote: SocketAddr,
        /// The signaling pattern that such a path belongs to: 3 if it leads through a TRS.
        pattern: Pattern,
    },
    /// The node's network lets no UDP out. From now on the node reaches the services by TCP.
    UdpBlocked {
        /// The service that was reached first.
        service: Fqdn,
    },
    /// UDP gets through, in a network that blocked it before.
    UdpWorks,
    /// A service is silent by UDP, and no TCP connection to it could be made.
    NoTcp(Box<NoTcp>),
    /// The peer of a tunnel that is not up yet is authenticated, and packets are sent to it ahead (`signaling =
    /// "fast"`).
    TunnelReady {
        /// The peer's name.
        peer: String,
    },
    /// The NMS's database has other virtual addresses for a node than the node's certificate. Those of the certificate
    /// count.
    AddressesDiffer {
        /// The node.
        name: Fqdn,
        /// The addresses in the certificate.
        shown: Virtual,
        /// The addresses in the database.
        stored: Virtual,
    },
    /// Two machines use the name and key of one node. One of them is registered, and the NMS refused the other one.
    OtherMachine {
        /// The node.
        name: Fqdn,
        /// Where the NMS sees the machine that is registered.
        served: SocketAddr,
        /// Where it sees the other one.
        refused: SocketAddr,
    },
    /// Received data were dropped.
    Dropped(DropReason),
}

impl Event {
    /// The peer to which packets go by another path from now on, and the pattern of that path.
    pub fn path(&self) -> Option<(&Fqdn, Pattern)> {
        match self {
            Self::TunnelUp(up) => Some((&up.peer, up.pattern)),
            Self::PathSwitched { peer, pattern, .. } => Some((peer, *pattern)),
            _ => None,
        }
    }
}

/// A decision of the NMS: the ways it considered, and its choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChosen {
    /// The initiator.
    pub initiator: Fqdn,
    /// The responder.
    pub responder: Fqdn,
    /// The kind of route that the initiator wants.
    pub want: Want,
    /// The basis of the choice.
    pub basis: Basis,
    /// The choice; `None` if there is no way.
    pub choice: Option<Choice>,
}

/// The basis of a choice of route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Table 1 of the paper, for these locations of initiator and responder; `None` if one of them has no location.
    Table1(Option<(Location, Location)>),
    /// Every direct way that there is, best first (`policy = "optimal"`).
    Ways(Vec<Considered>),
}

/// A tunnel that is ready for packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelUp {
    /// The other node.
    pub peer: Fqdn,
    /// The signaling pattern that was used.
    pub pattern: Pattern,
    /// Whether this node sent the Tunnel Request.
    pub dialed: bool,
    /// How packets are carried.
    pub framing: Framing,
    /// The address that packets are sent to: the peer's, or the TRS's.
    pub remote: SocketAddr,
    /// What the two nodes do when one of them moves.
    pub handover: Handover,
    /// Which messages the two nodes waited for while it came up.
    pub signaling: Signaling,
}

/// One arrow of a sequence diagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// The sender. Of a handshake, the client.
    pub from: Party,
    /// The receiver of this hop. Of a handshake, the server.
    pub to: Party,
    /// The message's name, or "QUIC handshake", or "TCP+TLS handshake".
    pub what: &'static str,
    /// The fields that a diagram shows, such as `{ peer: bob }`. Empty if there are none.
    pub detail: String,
    /// The message's protection.
    pub protection: Protection,
    /// Whether this is a retransmission. Diagrams leave retransmissions out.
    pub repeated: bool,
    /// The length of the message, bytes: header, body, and the HMAC of the conventional method's UDP messages. TLS,
    /// QUIC and UDP are not counted. `None` for a handshake.
    pub bytes: Option<usize>,
}

impl Signal {
    /// The signal of a message that is sent. `count` is the number of its earlier transmissions.
    pub fn message(from: Party, to: Party, message: &Message, protection: Protection, count: u8) -> Self {
        let (what, detail) = (message.kind().name(), message.describe(&from));
        let bytes = Some(HEADER_LEN + message.body_len() + protection.tag_len());
        Self { from, to, what, detail, protection, repeated: count > 0, bytes }
    }

    /// The signal of a finished handshake.
    pub fn handshake(client: Party, server: Party, what: &'static str) -> Self {
        let detail = String::new();
        let protection = Protection::Handshake;
        Self { from: client, to: server, what, detail, protection, repeated: false, bytes: None }
    }
}

/// What protects a signaling message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    /// TLS over TCP.
    Tls,
    /// QUIC.
    Quic,
    /// The common key of this node.
    CommonKey(Fqdn),
    /// The key shared by NMS and TRS.
    ServiceKey,
    /// The tunnel key.
    TunnelKey,
    /// A handshake, which has nothing to protect.
    Handshake,
}

impl Protection {
    /// The bytes that the protection adds to each message.
    const fn tag_len(&self) -> usize {
        match self {
            Self::CommonKey(_) | Self::ServiceKey | Self::TunnelKey => TAG_LEN,
            Self::Tls | Self::Quic | Self::Handshake => 0,
        }
    }
}

impl fmt::Display for Signal {
    /// `alice → nms  Direction Request { peer: bob } [CK_alice]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = if self.protection == Protection::Handshake { '⇄' } else { '→' };
        write!(f, "{:<5} {arrow} {:<5} {}", self.from, self.to, self.what)?;
        if !self.detail.is_empty() {
            write!(f, " {}", self.detail)?;
        }
        match &self.protection {
            Protection::Handshake => Ok(()),
            protection => write!(f, " [{protection}]"),
        }
    }
}

impl fmt::Display for Protection {
    /// The name in diagrams, such as `CK_alice`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls => f.write_str("TLS"),
            Self::Quic => f.write_str("QUIC"),
            Self::CommonKey(node) => write!(f, "CK_{}", node.short()),
            Self::ServiceKey => f.write_str("SK"),
            Self::TunnelKey => f.write_str("TK"),
            Self::Handshake => f.write_str("handshake"),
        }
    }
}

/// Why a registration or a tunnel failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No answer came in time.
    Timeout,
    /// The other side refused.
    Refused(ErrorCode),
    /// The certificate, name or password was not accepted. The peer does not say which of these, so that an attacker
    /// who guesses learns nothing.
    Authentication,
    /// A certificate, our own or the other side's, has expired or is not valid yet, by our clock or the other side's.
    CertificateDates,
    /// The connection that carried it was closed.
    ConnectionLost,
    /// A newer tunnel to the same peer took its place.
    Replaced,
    /// The node's own addresses changed.
    Moved,
    /// No address of this node and of the other side have a common family.
    NoAddress,
    /// The AS or the NMS sent an invalid message.
    Protocol,
    /// The other side speaks only versions that are older than all of ours: it has to be upgraded.
    Outdated,
    /// Under `policy = "paper"`: Table 1 says that two networks reach each other directly, so the TRS is not asked
    /// for, and no packet gets through.
    Stranded,
    /// The virtual addresses from the NMS differ from those in the certificate of the peer, or of this node.
    WrongAddresses,
    /// Another machine has registered with this node's name and key, so the registration of this one has ended.
    Displaced,
}

impl Failure {
    /// Whether another machine with this node's name and key is registered in place of this one.
    pub const fn is_displacement(&self) -> bool {
        matches!(self, Self::Displaced | Self::Refused(ErrorCode::OtherMachine(_)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::Refused(ErrorCode::UnknownVersion(theirs)) => {
                let Versions { oldest, newest } = theirs;
                write!(
                    f,
                    "refused: the other side speaks the versions {oldest} to {newest}, this one {}",
                    Versions::OURS.newest
                )
            }
            Self::Refused(code @ ErrorCode::OtherMachine(at)) => write!(f, "refused: {} (at {at})", code.text()),
            Self::Refused(code) => write!(f, "refused: {}", code.text()),
            Self::Authentication => f.write_str("authentication failed"),
            Self::CertificateDates => f.write_str("a clock and a certificate's dates disagree"),
            Self::ConnectionLost => f.write_str("connection lost"),
            Self::Replaced => f.write_str("replaced by a newer tunnel"),
            Self::Moved => f.write_str("own address changed"),
            Self::NoAddress => f.write_str("no common address family"),
            Self::Protocol => f.write_str("protocol error"),
            Self::Outdated => f.write_str("the other side speaks an older version only: upgrade it"),
            Self::Stranded => f.write_str("these two networks cannot meet under Table 1: its direct way does not work"),
            Self::WrongAddresses => {
                f.write_str("the NMS says other virtual addresses than the certificate: look into its log and database")
            }
            Self::Displaced => f.write_str("another machine has registered with this name and key"),
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident $text:literal,)*) => {
        /// Why received data were dropped. Each reason is counted by its name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum DropReason { $($(#[$doc])* $name,)* }

        impl DropReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in counters and logs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// No header, or an invalid one.
    BadHeader "bad-header",
    /// The body does not decode.
    BadBody "bad-body",
    /// A message of a type that this version does not know. Its sender is told.
    UnknownType "unknown-type",
    /// A message in a version that is not spoken here: its sender, or this part, has to be upgraded.
    UnknownVersion "unknown-version",
    /// The message length does not fit the datagram.
    BadLength "bad-length",
    /// The HMAC is wrong: forged or damaged.
    BadHmac "bad-hmac",
    /// The sequence number was seen before, or is too old.
    Replayed "replayed",
    /// No key or session for this id.
    UnknownId "unknown-id",
    /// The message is not expected now, or not from this sender.
    Unexpected "unexpected",
    /// The sender's address is not proved yet, and is being challenged.
    Unproved "unproved",
    /// The sender's certificate does not carry the expected name.
    WrongIdentity "wrong-identity",
    /// The inner packet's source is not the virtual address of the peer that sent it.
    InnerSource "inner-source",
    /// The inner packet's destination is not one of ours.
    InnerDestination "inner-destination",
    /// The inner packet is an ICMP error about a packet that was not sent to this peer.
    ForeignError "foreign-error",
    /// No IP packet.
    BadPacket "bad-packet",
    /// An application's packet to an address outside the overlay, or to one of the node's own addresses.
    NotRoutable "not-routable",
    /// An application's packet with a source that is not our virtual address.
    OwnSource "own-source",
    /// The access rules do not permit the packet between these two nodes.
    NotPermitted "not-permitted",
    /// A queue was full.
    QueueFull "queue-full",
    /// The tunnel that the packet waited for did not come up.
    NoTunnel "no-tunnel",
    /// The packet does not fit the path; its sender was told.
    TooBig "too-big",
    /// Not a QUIC packet of any connection of ours.
    UnknownConnection "unknown-connection",
    /// A QUIC packet for a connection of ours that is damaged, forged, a repetition, or came before its keys.
    NotAuthentic "not-authentic",
    /// The TRS does not forward between these two nodes, or not from this source address.
    NotBound "not-bound",
    /// The TRS has no grant of the NMS for these two.
    NotGranted "not-granted",
    /// A node sent more through the TRS than it may.
    RelayLimit "relay-limit",
    /// A table or a count of half-open handshakes reached its limit.
    Limit "limit",
    /// A node asked, or datagrams that prove nothing came, more often than the NMS answers. The sender asks again.
    Busy "busy",
    /// A password that the AS did not check because too many were tried lately.
    TooManyPasswords "too-many-passwords",
    /// Roots or lists of revoked certificates that do not parse; the earlier ones stay in use.
    BadTrust "bad-trust",
    /// A DNS query that does not parse.
    BadDns "bad-dns",
}
