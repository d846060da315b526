//! Every signaling message of both methods: one table.
//!
//! A message is a 32-byte [`Header`](crate::header::Header) and a body. The table below is the only list of messages.
//! From it come [`Kind`], [`Message`], the struct of each body, the codec, the fields that a sequence diagram shows,
//! the layout in `PROTOCOL.md` (a test holds it), and the messages that property tests make. To add a message, add a
//! row here, and the code that handles it. The types cannot represent an invalid message.
//!
//! The methods differ in their optional fields: keys are only in the conventional method, and a relay CID is only in
//! the proposed one. They also differ in how the bytes are carried: see [`crate::conventional`] and [`crate::quic`].

#[macro_use]
mod table;

#[cfg(test)]
mod arbitrary;
pub mod codec;
mod describe;
mod field;
mod frame;
pub mod header;
mod layout;
#[cfg(test)]
mod tests;
mod values;

use std::net::{IpAddr, SocketAddr};

use self::field::Field;
use crate::key::Key128;
use crate::name::{Fqdn, NodeId, PathId, RelayCid, Virtual};
use crate::route::Pattern;
use crate::route::optimal::{Behaviour, Filtering, Mapping};
use crate::rules::{Permission, Permissions, Protocol, Service};
use crate::version::Versions;

pub use field::{DecodeError, MAX_ADDRESSES, MAX_BODY, MAX_PASSWORD};
pub use frame::{FrameReader, Unread, WhyUnread, readable};
pub use layout::layout;
pub use values::{
    AddressProof, Answer, AtEnd, Credential, Der, Framing, Granted, Padding, PeerRef, Relay, RelayMode, SurveyPlan,
    TunnelKeys, Want, WrappedKey,
};

// A row has the type's number in the header, the name in the paper and in diagrams, the variant of `Message` and
// `Kind`, and in parentheses the body. A body with braces is defined here: its fields are on the wire in this order.
// `shows` names the function that describes the message in a sequence diagram.
messages! {
    /// Node → AS: who I am, and how I prove it (Figs. 2, 6).
    1 "Login Request" LoginRequest(LoginRequest {
        /// The device, as the AS's database knows it.
        device: NodeId,
        /// How the device proves itself.
        credential: Credential,
    }) shows describe::login_request;

    /// AS → node: your name, and where the NMS is (Figs. 2, 6).
    2 "Login Response" LoginResponse(LoginResponse {
        /// The node's identifier in headers.
        node: NodeId,
        /// The node's name.
        fqdn: Fqdn,
        /// The common key, conventional method only.
        common_key: Option<Key128>,
        /// The addresses of the NMS, both families.
        nms: Vec<SocketAddr>,
    }) shows describe::login_response;

    /// Node → NMS: where I am (Figs. 2, 6).
    3 "Registration Request" RegistrationRequest(RegistrationRequest {
        /// A number that only grows, over restarts too. A request whose epoch is not above the last one is a replay.
        epoch: u64,
        /// The addresses of the node's interfaces.
        addresses: Vec<IpAddr>,
        /// The UDP port on which the node listens.
        port: u16,
    }) shows describe::words(&["real addresses", "port"]);

    /// NMS → node: whether a NAT is there, and your virtual addresses (Figs. 2, 6).
    4 "Registration Response" RegistrationResponse(RegistrationResponse {
        /// Whether the request came from an address that is not one of the node's own.
        nat: bool,
        /// The node's virtual addresses.
        addresses: Virtual,
        /// What the node needs to survey its network. Only under `policy = "optimal"`.
        survey: Option<SurveyPlan>,
    }) shows describe::registration_response;

    /// Any part → any part: keeps NAT mappings and sessions alive.
    5 "Keep Alive" KeepAlive shows describe::words(&[]);

    /// The answer to a Keep Alive, a Network Report, a Peer Report, and an Access Ended (conventional method).
    6 "Keep Alive Ack" KeepAliveAck shows describe::words(&[]);

    /// Initiator → NMS: find me a way to this peer (Figs. 3–5, 7–9).
    7 "Direction Request" DirectionRequest(DirectionRequest {
        /// The peer.
        peer: PeerRef,
        /// The kind of route.
        want: Want,
    }) shows describe::direction_request;

    /// NMS → initiator: all that one node needs to reach the other.
    8 "Route Direction" RouteDirectionInitiator(RouteDirection {
        /// The other node.
        peer: Fqdn,
        /// Its virtual addresses.
        virtual_addresses: Virtual,
        /// The signaling pattern.
        pattern: Pattern,
        /// Whether the receiver of this message sends the Tunnel Request.
        dial: bool,
        /// The addresses at which the other node can be reached directly, best first. Empty in pattern 3. Under `policy
        /// = "optimal"` a listener gets only those to which it has to punch.
        candidates: Vec<SocketAddr>,
        /// The keys of the tunnel. Conventional method only.
        keys: Option<TunnelKeys>,
        /// The TRS. Pattern 3 only.
        relay: Option<Relay>,
        /// The kind of route that was asked for; only under `policy = "optimal"`. If it is there, a listener punches,
        /// and a relayed tunnel may become a direct one.
        want: Option<Want>,
        /// What the two nodes may open to each other; only if there are access rules.
        permissions: AtEnd<Permissions>,
    }) shows describe::route_direction;

    /// NMS → responder: the same for the other side.
    9 "Route Direction" RouteDirectionResponder(RouteDirection) shows describe::route_direction;

    /// Responder → NMS: ready; with its leg to the TRS in the proposed pattern 3 (Fig. 9).
    10 "Route Direction Confirmation" RouteConfirmation(RouteConfirmation {
        /// The responder's leg.
        leg: Option<RelayCid>,
    }) shows describe::route_confirmation;

    /// NMS → TRS: relay between these two (Fig. 5; conventional method).
    11 "Relay Request" RelayRequest(RelayRequest {
        /// A number that only grows, over restarts of the NMS too. A request whose epoch is not above the last one is a
        /// replay.
        epoch: u64,
        /// The path from initiator to responder.
        forward: PathId,
        /// The path from responder to initiator.
        backward: PathId,
        /// TK. Never MK: it would give the TRS the end key.
        tunnel_key: Key128,
        /// For whom, and for how long. Without it the paths live for as long as they are used.
        granted: AtEnd<Granted>,
    }) shows describe::words(&["path id", "TK"]);

    /// TRS → NMS: whether it will relay (Fig. 5).
    12 "Relay Response" RelayResponse(RelayResponse {
        /// False when the TRS is full.
        accepted: bool,
    }) shows describe::relay_response;

    /// Responder → TRS: opens the NAT on the way; the header's id is the path (Fig. 5).
    13 "Hole Punching" HolePunching shows describe::words(&["path id"]);

    /// Dialer → the other node, perhaps through a TRS (Figs. 3–5, 7–9).
    14 "Tunnel Request" TunnelRequest(TunnelRequest {
        /// The dialer's name.
        from: Fqdn,
        /// The other node's name.
        to: Fqdn,
        /// EK wrapped by MK, conventional method only.
        wrapped_end_key: Option<WrappedKey>,
        /// The other node's leg. Only to the TRS, in pattern 3 of the proposed method.
        relay_cid: Option<RelayCid>,
        /// The framing of packets in this tunnel.
        framing: Framing,
    }) shows describe::tunnel_request;

    /// The answer to a Tunnel Request.
    15 "Tunnel Response" TunnelResponse shows describe::words(&[]);

    /// What was asked (the header repeats its transaction id) cannot be done.
    17 "Error" Error(ErrorCode) shows describe::error;

    /// Node → NMS or TRS: where do you see me? (`policy = "optimal"`)
    18 "Probe" Probe(Probe {
        /// Which service answers, and from where.
        answer: Answer,
        /// Makes the Probe as long as its longest answer.
        padding: Padding,
    }) shows describe::words(&[]);

    /// The answer to a Probe, perhaps from another address or port than the one that was asked.
    19 "Probe Reply" ProbeReply(ProbeReply {
        /// The source address of the Probe.
        seen: SocketAddr,
    }) shows describe::probe_reply;

    /// NMS → TRS: answer a Probe, from where you are. The header repeats the transaction of the node's Probe.
    20 "Probe Request" ProbeRequest(ProbeRequest {
        /// An epoch of the same sequence as that of a [`RelayRequest`].
        epoch: u64,
        /// The address that sent the Probe.
        to: SocketAddr,
        /// The answer's id.
        id: [u8; 16],
    }) shows describe::probe_request;

    /// Node → NMS: what its probes say of its network; a Keep Alive Ack answers it.
    21 "Network Report" NetworkReport(NetworkReport {
        /// Its behaviour for IPv6; `None` without IPv6.
        v6: Option<Behaviour>,
        /// Its behaviour for IPv4, perhaps through NAT64; `None` without IPv4.
        v4: Option<Behaviour>,
        /// Proves where it is by IPv6; `None` if no Probe Token came there.
        at_v6: Option<AddressProof>,
        /// The same by IPv4.
        at_v4: Option<AddressProof>,
    }) shows describe::network_report;

    /// TRS → NMS, in place of an answer: the epoch of a Relay Request or Probe Request was not above this one.
    22 "Relay Epoch" RelayEpoch(RelayEpoch {
        /// The last accepted epoch. This one and all below it are too old.
        last: u64,
    }) shows describe::words(&[]);

    /// NMS → node: the access of a peer has ended that you were directed to. A Keep Alive Ack answers it (conventional
    /// method).
    23 "Access Ended" AccessEnded(AccessEnded {
        /// The peer.
        peer: Fqdn,
        /// Why, if not because the peer has no access to the network any more.
        why: AtEnd<ErrorCode>,
    }) shows describe::access_ended;

    /// Node → NMS: I have tunnels with these, though I have just registered. A Keep Alive Ack answers it.
    24 "Peer Report" PeerReport(PeerReport {
        /// The peers.
        peers: Vec<Fqdn>,
    }) shows describe::words(&["peers"]);

    /// NMS → node: a peer that you were directed to has started anew, so it has none of its tunnels. A Keep Alive Ack
    /// answers it (conventional method).
    25 "Peer Restarted" PeerRestarted(PeerRestarted {
        /// The peer.
        peer: Fqdn,
    }) shows describe::peer_restarted;

    /// NMS → node: the answer to a Probe of the node's own port. With the token the node proves that it is there.
    26 "Probe Token" ProbeToken(AddressProof) shows describe::probe_token;

    /// NMS → initiator → TRS: relay between these two for so long (proposed method).
    27 "Relay Grant" RelayGrant(RelayGrant {
        /// The node that may be bound to the leg.
        from: Fqdn,
        /// The leg's node.
        to: Fqdn,
        /// The leg.
        leg: RelayCid,
        /// Only grows.
        serial: u64,
        /// For how long, from when the TRS sees this number first.
        seconds: u16,
        /// Of the NMS: see [`crate::grant`].
        mac: [u8; 16],
    }) shows describe::relay_grant;

    /// Initiator → NMS: our time at the TRS is running out. A Relay Grant answers it (proposed method), a Path Grant
    /// (conventional method), or an Error.
    28 "Grant Request" GrantRequest(GrantRequest {
        /// The peer.
        peer: Fqdn,
        /// Its leg. Proposed method only.
        leg: AtEnd<RelayCid>,
    }) shows describe::grant_request;

    /// Either end of a link → the other: here is my next certificate, for the same key (proposed method).
    30 "Certificate Renewed" CertificateRenewed(CertificateRenewed {
        /// The certificate.
        certificate: Der,
        /// The authorities between it and the root; none if the receiver knows them from the certificate before.
        issuers: Vec<Der>,
    }) shows describe::words(&["certificate"]);

    /// NMS → node: what you and a peer that you were directed to may open to each other from now on. A Keep Alive Ack
    /// answers it (conventional method).
    31 "Access Rules" AccessRules(AccessRules {
        /// The peer.
        peer: Fqdn,
        /// What is permitted.
        permissions: Permissions,
    }) shows describe::access_rules;

    /// NMS → node: keep a leg at this TRS, for the next relayed tunnel (proposed method, `signaling = "fast"`).
    32 "Relay Offer" RelayOffer(RelayOffer {
        /// Where the TRS is, both families.
        addresses: Vec<SocketAddr>,
    }) shows describe::words(&["TRS"]);

    /// Node → NMS: the leg that I keep for the next relayed tunnel; none if it is gone.
    33 "Relay Leg" RelayLeg(RelayLeg {
        /// The leg.
        leg: Option<RelayCid>,
    }) shows describe::relay_leg;

    /// NMS → TRS: relay on these paths for so long from now on; a Relay Response answers it. NMS → initiator: the TRS
    /// does so (conventional method).
    34 "Path Grant" PathGrant(PathGrant {
        /// An epoch of the same sequence as that of a [`RelayRequest`].
        epoch: u64,
        /// The path from initiator to responder.
        forward: PathId,
        /// For how long, from the arrival on.
        seconds: u16,
    }) shows describe::words(&["path id"]);

    packets:
    /// A tunnelled packet, node → node.
    16 "Capsule" Capsule;
}

// Groups of fields inside a body, in the order in which they travel. The types are defined elsewhere.
parts! {
    "survey" SurveyPlan { key, other_port, others }
    "keys" TunnelKeys { tunnel, temporary }
    "relay" Relay { addresses, mode, cid }
    "proof" AddressProof { seen, token }
    "behaviour" Behaviour { mapping, filtering, hairpin, any_port }
    "versions" Versions { oldest, newest }
    "permissions" Permissions { serial, out, back }
    "granted" Granted { initiator, responder, seconds }
    "service" Service { protocol, first, last }
}

// Choices: one byte, and after it the data of that choice if it has any. The types are defined elsewhere.
choices! {
    "credential" Credential { 1 Password(String), 2 Certificate }
    "peer" PeerRef { 1 Name(Fqdn), 2 Virtual(IpAddr) }
    "want" Want { 1 Any, 2 Relayed, 3 Direct(u8) }
    "answer" Answer { 1 Noted, 2 Here, 3 OtherPort, 4 OtherAddress([u8; 16]) }
    "pattern" Pattern { 1 Direct, 2 OneNat, 3 Relayed }
    "mode" RelayMode { 1 Terminating, 2 Blind }
    "framing" Framing { 1 Udp4501, 2 Stream, 3 Datagram, 4 Compact }
    "mapping" Mapping { 1 Independent, 2 Port, 3 Address }
    "permission" Permission { 1 Nothing, 2 Everything, 3 Services(Vec<Service>) }
    "protocol" Protocol { 1 Tcp, 2 Udp, 3 Icmp }
    "filtering" Filtering { 1 Independent, 2 Address, 3 AddressAndPort }
}

// The code of an Error: its number, its text for people, and in parentheses what follows the number.
errors! {
    /// Device unknown, wrong password, or the certificate is not the device's.
    1 "unauthorized" Unauthorized;
    /// The node is not registered (any more): log in and register again.
    2 "not registered" NotRegistered;
    /// No node has that name or address.
    3 "unknown peer" UnknownPeer;
    /// The peer is known but not there now, or not any more where a Route Direction said.
    4 "peer offline" PeerOffline;
    /// No relay can be used.
    5 "no relay" NoRelay;
    /// The epoch of a registration is not newer than the last one, or too far ahead of the NMS's clock. The number is
    /// the least epoch that the NMS accepts now.
    6 "stale epoch" StaleEpoch(u64);
    /// There is no direct way, or none that could be tried.
    7 "no direct way" NoDirectWay;
    /// The service cannot do it now: its database fails, or no virtual address is left.
    8 "service unavailable" Unavailable;
    /// The receiver does not know messages of this type.
    9 "unknown message type" UnknownType(u8);
    /// The receiver does not speak the version of the message. It speaks these.
    10 "unknown version" UnknownVersion(Versions);
    /// The receiver knows messages of this type, and cannot read this one: perhaps a value of a later version.
    11 "malformed message" Malformed(u8);
    /// The access rules do not let the two nodes talk.
    12 "not permitted" NotPermitted;
    /// Another machine has registered with the node's name and key. The NMS sees it at this address; the unspecified
    /// address stands for one that the NMS does not know.
    13 "another machine has registered with this name and key" OtherMachine(SocketAddr);
}
