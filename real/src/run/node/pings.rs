//! Pings under way: echoes of the node itself, for `cyphonic ping`.
//!
//! The node resolves the peer's name by its own DNS. The echo takes the way of an application's packet: through the
//! kernel's routing table and filters, into the virtual interface, and back. So a pong shows that ping(8) works too.
//!
//! * In: a question ([`Pings::begin`]), a packet for the virtual interface ([`Pings::takes`]), an echo reply
//!   ([`Pings::echoed`]), the end of a tunnel ([`Pings::tunnel_down`]).
//! * Out: echoes to be sent ([`Pings::due`], [`Pings::send`]), packets ([`Pings::follow_up`]), and the answer to each
//!   question.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cyphonic_core::dns;
use cyphonic_core::event::Failure as Reason;
use cyphonic_core::name::Fqdn;
use cyphonic_core::node::{Node, Overlay};
use cyphonic_core::packet;
use cyphonic_core::time::Instant;
use rustix::net::SendFlags;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;

use super::super::trouble::{self, Trouble};
use super::standing::Standing;
use super::{milliseconds, via};
use crate::control::{Answer, Pong, Reply};
use crate::error::Code;

/// The port from which the node itself asks for names. An application may use it too, so our query's number tells the
/// answers apart.
const ASK_PORT: u16 = 53;
/// Most pings under way.
const PINGS: usize = 256;
/// How long a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(14);
/// Marks our own echo requests, if they do not go through the kernel.
const ECHO_ID: u16 = 0xc1f0;
/// What an echo carries.
const ECHO_DATA: &[u8] = b"cyphonic ping";

/// Where a reply goes.
type To = oneshot::Sender<Reply>;

/// A ping under way, by its number.
struct Ping {
    name: Fqdn,
    /// This node's virtual address.
    from: Ipv4Addr,
    /// The peer's, once it is known.
    address: Option<Ipv4Addr>,
    /// When the query, then the echo request, went out.
    since: Instant,
    /// Why there is no tunnel, if the reason is known.
    reason: Option<Reason>,
    reply: To,
}

/// All pings under way.
pub(super) struct Pings {
    overlay: Overlay,
    /// A socket for echoes through the kernel, if this process may open one.
    echoes: Option<Arc<Echoes>>,
    /// (number, address) of the echoes to send.
    due: Vec<(u16, Ipv4Addr)>,
    under_way: BTreeMap<u16, Ping>,
    next: u16,
    outbox: Vec<Bytes>,
    /// (number, time) of pongs whose answer still needs facts from the machine.
    pongs: Vec<(u16, Instant)>,
    /// Pings to a peer without an address, until the reason is known.
    unreached: Vec<u16>,
}

impl Pings {
    pub(super) fn new(overlay: Overlay, echoes: Option<Arc<Echoes>>) -> Self {
        Self {
            overlay,
            echoes,
            due: Vec::new(),
            under_way: BTreeMap::new(),
            next: 0,
            outbox: Vec::new(),
            pongs: Vec::new(),
            unreached: Vec::new(),
        }
    }

    /// Begins a ping from this node. Without virtual addresses it fails at once.
    pub(super) fn begin(&mut self, machine: &Node, now: Instant, standing: &Standing, name: &str, reply: To) {
        self.under_way.retain(|_, ping| now < ping.since + PING_TIMEOUT);
        // A short name is in the overlay's zone.
        let full = if name.contains('.') { name.to_owned() } else { format!("{name}.{}", self.overlay.zone) };
        let Ok(name) = full.parse::<Fqdn>() else { return refuse(reply, "that is no name", "give a node's name") };
        let Some(own) = standing.own() else {
            let why = standing.trouble().map(|trouble| (format!(": {}", trouble.what), trouble.remedy.as_str()));
            let (why, remedy) = why.unwrap_or((String::new(), "wait a moment; `cyphonic status` says how it stands"));
            return refuse(reply, &format!("this node is not registered yet{why}"), remedy);
        };
        if name == *standing.name() {
            return refuse(reply, "that is this node itself", "give another node's name");
        }
        if self.under_way.len() >= PINGS {
            return refuse(reply, "too many pings are under way", "wait a little");
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let text = name.to_string();
        let known = machine.peers().into_iter().find(|peer| peer.peer == text && peer.tunnel.is_some());
        let address = known.and_then(|peer| peer.addresses).map(|addresses| addresses.v4);
        let reason = standing.is_stranded(name.as_str()).then_some(Reason::Stranded);
        let ping = Ping { name: name.clone(), from: own.v4, address: None, since: now, reason, reply };
        self.under_way.insert(number, ping);
        if let Some(address) = address {
            return self.send_echo(now, number, address);
        }
        let query = dns::query(number, &name, dns::QueryKind::A);
        let from = SocketAddr::new(own.v4.into(), ASK_PORT);
        let to = SocketAddr::new(self.overlay.dns_v4.into(), dns::PORT);
        self.outbox.extend(packet::build_udp(from, to, &query).map(Bytes::from));
    }

    /// Notes that the tunnel to a peer has ended, or did not come up.
    pub(super) fn tunnel_down(&mut self, peer: &str, reason: &Reason) {
        for (number, ping) in self.under_way.iter_mut().filter(|(_, ping)| ping.name.as_str() == peer) {
            ping.reason = Some(reason.clone());
            // The echo is lost, unless another tunnel takes the place of this one.
            if ping.address.is_some() && !matches!(reason, Reason::Moved | Reason::Replaced) {
                self.unreached.push(*number);
            }
        }
    }

    /// Notes that there is a tunnel to a peer.
    pub(super) fn tunnel_up(&mut self, peer: &str) {
        for ping in self.under_way.values_mut().filter(|ping| ping.name.as_str() == peer) {
            ping.reason = None;
        }
    }

    /// Whether a packet for the virtual interface answers a ping of ours.
    pub(super) fn takes(&mut self, now: Instant, packet: &Bytes) -> bool {
        if self.under_way.is_empty() {
            return false;
        }
        if self.echoes.is_none()
            && let Some(number) = echo_reply(packet)
        {
            return source_v4(packet).is_some_and(|from| self.echoed(now, number, from));
        }
        let Some(udp) = packet::udp(packet) else { return false };
        if udp.destination.port() != ASK_PORT || !self.overlay.is_dns(udp.source.ip()) {
            return false;
        }
        let Ok((number, _, address)) = dns::parse_answer(udp.payload) else { return false };
        if self.under_way.get(&number).is_none_or(|ping| ping.address.is_some()) {
            return false;
        }
        let is_stranded = self.under_way.get(&number).is_some_and(|ping| ping.reason == Some(Reason::Stranded));
        match address {
            // The answer comes without a tunnel, or the reason would be gone.
            Some(_) if is_stranded => self.unreached.push(number),
            Some(IpAddr::V4(address)) => self.send_echo(now, number, address),
            _ => self.unreached.push(number),
        }
        true
    }

    /// Takes an echo reply from this address. Returns whether it answers a ping of ours.
    pub(super) fn echoed(&mut self, now: Instant, number: u16, from: Ipv4Addr) -> bool {
        let ours = self.under_way.get(&number).is_some_and(|ping| ping.address == Some(from));
        if ours {
            self.pongs.push((number, now));
        }
        ours
    }

    /// The next echo to send, with its number. [`Self::send`] sends it.
    pub(super) fn due(&mut self) -> Option<(u16, Ipv4Addr)> {
        self.due.pop()
    }

    /// Sends an echo, unless packets to its address go elsewhere.
    pub(super) fn send(&mut self, number: u16, address: Ipv4Addr, elsewhere: Option<String>) {
        let Some(ping) = self.under_way.get(&number) else { return };
        let failed = if let Some(elsewhere) = elsewhere {
            Some(format!("packets to {address} {elsewhere}"))
        } else if let Some(echoes) = &self.echoes {
            let sent = echoes.send(ping.from, address, number);
            sent.err().map(|error| format!("the kernel does not send to {address}: {error}"))
        } else {
            self.inject(number, address);
            None
        };
        if let Some(what) = failed
            && let Some(ping) = self.under_way.remove(&number)
        {
            refuse(ping.reply, &what, &format!("`cyphonic status` names what is in the way; ip route get {address}"));
        }
    }

    /// Answers the pings that can be answered. Returns the next packet to go into the tunnels.
    pub(super) fn follow_up(&mut self, machine: &Node) -> Option<Bytes> {
        while let Some(number) = self.unreached.pop() {
            let Some(ping) = self.under_way.remove(&number) else { continue };
            let Trouble { what, remedy } = trouble::unreached(&ping.name, ping.reason.as_ref());
            refuse(ping.reply, &what, &remedy);
        }
        while let Some((number, at)) = self.pongs.pop() {
            let Some(ping) = self.under_way.remove(&number) else { continue };
            let Some(address) = ping.address else { continue };
            let peers = machine.peers();
            let tunnel = peers
                .iter()
                .find(|peer| peer.addresses.is_some_and(|known| known.v4 == address))
                .and_then(|peer| peer.tunnel.as_ref());
            let Some(tunnel) = tunnel else {
                refuse(ping.reply, "the tunnel is gone", "try again");
                continue;
            };
            let pong = Answer::Pong(Pong {
                peer: ping.name.to_string(),
                address: address.into(),
                via: via(tunnel.relayed).to_owned(),
                remote: tunnel.remote,
                rtt_ms: milliseconds(at - ping.since),
            });
            let _ = ping.reply.send(pong.into());
        }
        self.outbox.pop()
    }

    fn send_echo(&mut self, now: Instant, number: u16, address: Ipv4Addr) {
        let Some(ping) = self.under_way.get_mut(&number) else { return };
        ping.address = Some(address);
        ping.since = now;
        self.due.push((number, address));
    }

    /// Sends an echo into the tunnels as if it came from the virtual interface.
    fn inject(&mut self, number: u16, address: Ipv4Addr) {
        let Some(ping) = self.under_way.get(&number) else { return };
        let builder = etherparse::PacketBuilder::ipv4(ping.from.octets(), address.octets(), 64)
            .icmpv4_echo_request(ECHO_ID, number);
        let mut packet = Vec::with_capacity(64);
        if builder.write(&mut packet, ECHO_DATA).is_ok() {
            self.outbox.push(packet.into());
        }
    }
}

/// An ICMP socket for echoes. The runtime's type for datagram sockets fits ICMP too.
pub(super) struct Echoes(UdpSocket);

impl Echoes {
    /// Opens it. It needs no privileges if `net.ipv4.ping_group_range` has this user's group, and CAP_NET_RAW
    /// otherwise. None if neither is there.
    pub(super) fn open() -> Option<Arc<Self>> {
        let kinds = [Type::DGRAM, Type::RAW].map(Type::nonblocking);
        let open = |kind| Socket::new(Domain::IPV4, kind, Some(Protocol::ICMPV4)).ok();
        kinds
            .into_iter()
            .find_map(open)
            .and_then(|one| UdpSocket::from_std(one.into()).ok())
            .map(|one| Arc::new(Self(one)))
    }

    fn send(&self, from: Ipv4Addr, to: Ipv4Addr, number: u16) -> io::Result<()> {
        // A socket without privileges can be bound only once. Later the route chooses the source.
        let _ = rustix::net::bind(&self.0, &SocketAddrV4::new(from, 0));
        let header = etherparse::IcmpEchoHeader { id: ECHO_ID, seq: number };
        let header = etherparse::Icmpv4Header::with_checksum(etherparse::Icmpv4Type::EchoRequest(header), ECHO_DATA);
        let packet = [&header.to_bytes()[..], ECHO_DATA].concat();
        rustix::net::sendto(&self.0, &packet, SendFlags::empty(), &SocketAddrV4::new(to, 0))?;
        Ok(())
    }

    /// Waits for an echo reply. Returns its number and source.
    pub(super) async fn receive(&self) -> (u16, Ipv4Addr) {
        let mut buffer = [0; 1500];
        loop {
            // An error belongs to an earlier echo.
            if let Ok((length, SocketAddr::V4(from))) = self.0.recv_from(&mut buffer).await
                && let Some(number) = reply_number(&buffer[..length])
            {
                return (number, *from.ip());
            }
        }
    }
}

/// The number of our echo reply that a socket received. A raw socket gives the IP header too. Other sockets receive
/// only replies to their own requests.
fn reply_number(bytes: &[u8]) -> Option<u16> {
    if bytes.first()? >> 4 == 4 {
        return echo_reply(bytes);
    }
    match bytes {
        [0, 0, _, _, _, _, high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

fn refuse(reply: To, what: &str, remedy: &str) {
    let (code, what, remedy) = (Code::Unreachable, what.to_owned(), remedy.to_owned());
    let _ = reply.send(Answer::Error { code, what, remedy }.into());
}

/// The number of an ICMP echo reply to one of ours.
fn echo_reply(packet: &[u8]) -> Option<u16> {
    let headers = etherparse::SlicedPacket::from_ip(packet).ok()?;
    let etherparse::TransportSlice::Icmpv4(icmp) = headers.transport? else { return None };
    match icmp.icmp_type() {
        etherparse::Icmpv4Type::EchoReply(echo) if echo.id == ECHO_ID => Some(echo.seq),
        _ => None,
    }
}

fn source_v4(packet: &[u8]) -> Option<Ipv4Addr> {
    packet.get(12..16).map(|bytes| Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_reply_is_recognised_by_our_mark_only() {
        let build = |id| {
            let mut packet = Vec::new();
            etherparse::PacketBuilder::ipv4([198, 18, 0, 11], [198, 18, 0, 10], 64)
                .icmpv4_echo_reply(id, 7)
                .write(&mut packet, b"x")
                .unwrap();
            packet
        };
        assert_eq!(echo_reply(&build(ECHO_ID)), Some(7));
        assert_eq!(echo_reply(&build(1)), None);
        assert_eq!(echo_reply(b"junk"), None);
        assert_eq!(source_v4(&build(1)), Some(Ipv4Addr::new(198, 18, 0, 11)));
        // From a raw socket, and from another one.
        assert_eq!(reply_number(&build(ECHO_ID)), Some(7));
        assert_eq!(reply_number(&build(1)), None);
        assert_eq!(reply_number(&[0, 0, 1, 2, 3, 4, 0, 7]), Some(7));
        assert_eq!(reply_number(&[8, 0, 1, 2, 3, 4, 0, 7]), None, "a request");
    }
}
