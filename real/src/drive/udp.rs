//! The UDP sockets of a role: one for each port and family, or with `listen` one for each port and address.
//!
//! Several datagrams to one destination leave with one system call (GSO), and several arrive with one (GRO and
//! recvmmsg). The kernel tells each datagram's destination address (pktinfo), and is told each datagram's source
//! address.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use bytes::BytesMut;
use cyphonic_core::machine::Transmit;
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use super::wait_writable;
use crate::error::{Code, Failure};

/// Bytes of one receive buffer: the most that GRO joins.
const RECEIVE_BYTES: usize = 65_535;
/// How many datagrams, or joined ones (GRO), one system call receives.
const MESSAGES: usize = 8;
/// Most system calls that one turn spends on a socket, so that other sources do not starve.
const CALLS: usize = 4;
/// Most bytes, roughly, that one turn takes from a socket, for the same reason.
const TURN_BYTES: usize = 256 << 10;
/// Most bytes of one send, all segments together: below the 65,507 of a UDP datagram over IPv4.
const SEND_BYTES: usize = 65_000;
/// Most sockets for ports that the role opened by sending from them, as a survey does with its Probes. A new one
/// replaces the oldest.
const EXTRA_SOCKETS: usize = 16;
/// Most buffers of sent batches that are kept to be used again.
const OPEN_BATCHES: usize = 16;
/// Size of the kernel's buffers, bytes, if it grants them: the packets of 3 ms at 10 Gbit/s.
const KERNEL_BUFFER: usize = 4 << 20;

/// The use of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortUse {
    /// QUIC, whose datagrams must never be fragmented (RFC 9000 §14).
    Quic,
    /// The conventional method. It has no path MTU discovery, so the network may fragment.
    Conventional,
}

struct Socket {
    io: RawSocket,
    state: UdpSocketState,
    /// The address that it is bound to; unspecified for every address of the family.
    bound: SocketAddr,
}

impl Socket {
    /// Whether datagrams from this local address leave by this socket.
    fn is_for(&self, local: SocketAddr) -> bool {
        let every = self.bound.ip().is_unspecified() && self.bound.is_ipv6() == local.is_ipv6();
        self.bound.port() == local.port() && (every || self.bound.ip() == local.ip())
    }
}

/// The addresses to bind: these, or the unspecified ones of both families if the list is empty.
pub(super) fn places(listen: &[IpAddr]) -> Vec<IpAddr> {
    if listen.is_empty() {
        return vec![Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
    }
    let mut places = listen.to_vec();
    let mut seen = std::collections::BTreeSet::new();
    places.retain(|place| seen.insert(*place));
    places
}

/// Whether a bind failed only because this machine has no IPv6, and the address was not configured explicitly.
pub(super) fn is_lacking_family(place: IpAddr, error: &io::Error) -> bool {
    place == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        && error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

/// Datagrams of one size (the last may be shorter) from one address to another.
struct Batch {
    local: SocketAddr,
    remote: SocketAddr,
    segment: usize,
    closed: bool,
    bytes: Vec<u8>,
}

/// All UDP sockets of a role.
pub struct Udp {
    sockets: Vec<Socket>,
    places: Vec<IpAddr>,
    /// The number of sockets that were opened at the start. Later ones follow them.
    fixed: usize,
    buffers: [BytesMut; MESSAGES],
    metas: [RecvMeta; MESSAGES],
    arrived: VecDeque<(SocketAddr, SocketAddr, BytesMut)>,
    batches: VecDeque<Batch>,
    spare: Vec<Vec<u8>>,
    /// The number of batches that could not be sent. It is logged at each power of two.
    refused: u64,
}

impl Udp {
    /// Binds each port on each of these addresses. With an empty list it binds all addresses of both families, or of
    /// IPv4 alone on a machine without IPv6.
    pub fn bind(listen: &[IpAddr], ports: &[(u16, PortUse)]) -> Result<Self, Failure> {
        let places = places(listen);
        let mut sockets = Vec::new();
        for &(port, port_use) in ports {
            for &ip in &places {
                let place = SocketAddr::new(ip, port);
                match open(place, port_use) {
                    Ok(socket) => sockets.push(socket),
                    Err(error) if is_lacking_family(ip, &error) => {}
                    Err(error) => {
                        let conventional = port_use == PortUse::Conventional;
                        let key = if conventional { "port` or `conventional-port" } else { "port" };
                        return Err(refused("UDP", place, key, &error));
                    }
                }
            }
        }
        Ok(Self {
            fixed: sockets.len(),
            sockets,
            places,
            buffers: std::array::from_fn(|_| BytesMut::zeroed(RECEIVE_BYTES)),
            metas: [RecvMeta::default(); MESSAGES],
            arrived: VecDeque::new(),
            batches: VecDeque::new(),
            spare: Vec::new(),
            refused: 0,
        })
    }

    pub(super) fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// The sockets' handles, in order, for `poll`.
    pub(super) fn handles(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|socket| socket.io.as_fd())
    }

    /// Takes one batch from a socket, if it has one.
    pub(super) fn receive(&mut self, index: usize) {
        let mut bytes = 0;
        for _ in 0..CALLS {
            let (messages, received) = self.receive_some(index);
            bytes += received;
            if messages < MESSAGES || bytes >= TURN_BYTES {
                return;
            }
        }
    }

    /// Makes one system call. Returns the number of messages and their bytes.
    fn receive_some(&mut self, index: usize) -> (usize, usize) {
        let Socket { io, state, bound } = &self.sockets[index];
        let mut slices: [IoSliceMut<'_>; MESSAGES] = self.buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
        let got = state.recv(UdpSockRef::from(io), &mut slices, &mut self.metas);
        // An error here may be an ICMP error about an earlier datagram. It is ignored.
        let count = got.unwrap_or(0);
        let mut bytes = 0;
        for (buffer, meta) in self.buffers.iter_mut().zip(&self.metas).take(count) {
            bytes += meta.len;
            let local = SocketAddr::new(meta.dst_ip.unwrap_or(bound.ip()), bound.port());
            // For a large message, a new buffer is cheaper than a copy.
            let mut rest = if meta.len > RECEIVE_BYTES / 2 {
                std::mem::replace(buffer, BytesMut::zeroed(RECEIVE_BYTES)).split_to(meta.len)
            } else {
                BytesMut::from(&buffer[..meta.len])
            };
            while !rest.is_empty() {
                let datagram = rest.split_to(meta.stride.clamp(1, rest.len()));
                self.arrived.push_back((local, plain(meta.addr), datagram));
            }
        }
        (count, bytes)
    }

    /// The next datagram of the batch: its destination, source and payload.
    pub(super) fn next(&mut self) -> Option<(SocketAddr, SocketAddr, BytesMut)> {
        self.arrived.pop_front()
    }

    /// Queues what a role sends until [`Self::flush`].
    pub(super) fn push(&mut self, transmit: Transmit) {
        let Transmit { local, remote, payload, segment } = transmit;
        self.have(local);
        let most = self.segments(local);
        match segment {
            // The role has joined these datagrams already.
            Some(segment) if payload.len() <= (segment * most).min(SEND_BYTES) => {
                self.batches.push_back(Batch { local, remote, segment, closed: true, bytes: payload });
            }
            Some(segment) => payload.chunks(segment).for_each(|one| self.join(local, remote, most, one)),
            None => self.join(local, remote, most, &payload),
        }
    }

    /// Adds a datagram to the open batch of its addresses, up to `most` segments.
    fn join(&mut self, local: SocketAddr, remote: SocketAddr, most: usize, payload: &[u8]) {
        let open = self.batches.iter_mut().rev().find(|batch| batch.remote == remote && batch.local == local);
        if let Some(batch) = open
            && !batch.closed
            && payload.len() <= batch.segment
            && batch.bytes.len() + payload.len() <= SEND_BYTES
            && batch.bytes.len() < batch.segment * most
        {
            batch.bytes.extend_from_slice(payload);
            batch.closed = payload.len() < batch.segment;
            return;
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.extend_from_slice(payload);
        self.batches.push_back(Batch { local, remote, segment: payload.len(), closed: payload.is_empty(), bytes });
    }

    /// Opens a socket for a port from which the role sends for the first time, as a survey does.
    fn have(&mut self, local: SocketAddr) {
        if self.socket_for(local).is_some() {
            return;
        }
        let every = if local.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        let Some(&ip) = self.places.iter().find(|place| **place == every || **place == local.ip()) else {
            return tracing::debug!(%local, "is not an address to listen on, so nothing is sent from it");
        };
        match open(SocketAddr::new(ip, local.port()), PortUse::Quic) {
            Ok(socket) => {
                if self.sockets.len() >= self.fixed + EXTRA_SOCKETS {
                    self.sockets.remove(self.fixed);
                }
                self.sockets.push(socket);
            }
            Err(error) => tracing::debug!(port = local.port(), %error, "a port cannot be had"),
        }
    }

    fn segments(&self, local: SocketAddr) -> usize {
        self.socket_for(local).map_or(1, |socket| socket.state.max_gso_segments())
    }

    fn socket_for(&self, local: SocketAddr) -> Option<&Socket> {
        self.sockets.iter().find(|socket| socket.is_for(local))
    }

    /// Sends everything, waiting where the kernel's buffer is full.
    pub(super) fn flush(&mut self) {
        while let Some(batch) = self.batches.pop_front() {
            if let Err(error) = self.send(&batch) {
                self.refused += 1;
                if self.refused.is_power_of_two() {
                    let (remote, count) = (batch.remote, self.refused);
                    tracing::debug!(%remote, %error, count, "a datagram could not be sent");
                }
            }
            let mut bytes = batch.bytes;
            bytes.clear();
            if self.spare.len() < OPEN_BATCHES {
                self.spare.push(bytes);
            }
        }
    }

    fn send(&self, batch: &Batch) -> io::Result<()> {
        let socket = self.socket_for(batch.local).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let source = Some(batch.local.ip()).filter(|ip| !ip.is_unspecified());
        let transmit = quinn_udp::Transmit {
            destination: batch.remote,
            ecn: None,
            contents: &batch.bytes,
            segment_size: (batch.bytes.len() > batch.segment).then_some(batch.segment),
            src_ip: source,
        };
        loop {
            match socket.state.try_send(UdpSockRef::from(&socket.io), &transmit) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_writable(socket.io.as_fd())?,
                other => return other,
            }
        }
    }
}

/// Removes flow label and scope, which roles do not use.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

fn open(bound: SocketAddr, port_use: PortUse) -> io::Result<Socket> {
    let v6 = bound.is_ipv6();
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = RawSocket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if v6 {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    let _ = socket.set_recv_buffer_size(KERNEL_BUFFER);
    let _ = socket.set_send_buffer_size(KERNEL_BUFFER);
    socket.bind(&bound.into())?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    if port_use == PortUse::Conventional {
        if v6 {
            sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::WANT)?;
        } else {
            sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
        }
    }
    Ok(Socket { io: socket, state, bound })
}

/// The failure of a bind, for people. `key` is the setting of the port.
pub fn refused(what: &str, place: SocketAddr, key: &str, error: &io::Error) -> Failure {
    let port = place.port();
    let on = if place.ip().is_unspecified() { String::new() } else { format!(" of {}", place.ip()) };
    let what = format!("{what} port {port}{on}");
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let remedy = format!(
                "end the program that has it (`ss -lnp | grep :{port}` shows it), or set another `{key}`; services that share \
                 a machine need an address each (`listen`)"
            );
            Failure::new(Code::Address, format!("{what} is taken"), remedy)
        }
        io::ErrorKind::AddrNotAvailable => {
            let remedy = "set `listen` to addresses of this machine (`ip address` shows them)";
            Failure::new(Code::Address, format!("{what}: this machine has no such address"), remedy)
        }
        io::ErrorKind::PermissionDenied => {
            let remedy = format!("run as root, or give the program CAP_NET_BIND_SERVICE, or set a `{key}` above 1023");
            Failure::new(Code::Permission, format!("{what}: permission denied"), remedy)
        }
        _ => {
            Failure::new(Code::Address, format!("{what}: {error}"), format!("check `{key}` and this machine's network"))
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    /// Waits until a socket is readable, and receives.
    fn receive(role: &mut Udp) {
        let mut all: Vec<_> = role.handles().map(|io| PollFd::from_borrowed_fd(io, PollFlags::IN)).collect();
        poll(&mut all, None).unwrap();
        (0..role.sockets()).for_each(|socket| role.receive(socket));
    }

    /// A port that is most likely free in both families.
    fn free_port() -> u16 {
        std::net::UdpSocket::bind("[::1]:0").unwrap().local_addr().unwrap().port()
    }

    fn transmit(from: u16, to: u16, payload: Vec<u8>, host: &str) -> Transmit {
        let ip: IpAddr = host.parse().unwrap();
        Transmit::new(SocketAddr::new(ip, from), SocketAddr::new(ip, to), payload)
    }

    #[test]
    fn datagrams_arrive_as_they_were_sent_with_both_addresses_in_either_family() {
        let (a, b) = (free_port(), free_port());
        let mut sender = Udp::bind(&[], &[(a, PortUse::Quic)]).unwrap();
        let mut receiver = Udp::bind(&[], &[(b, PortUse::Quic)]).unwrap();
        for host in ["127.0.0.1", "::1"] {
            // Sizes that extend a batch, that end one, and that begin another.
            let sizes = [1200, 1200, 1200, 300, 1200, 1300, 1, 1];
            for (n, size) in sizes.iter().enumerate() {
                sender.push(transmit(a, b, vec![n as u8; *size], host));
            }
            sender.flush();
            let mut got = Vec::new();
            while got.len() < sizes.len() {
                receive(&mut receiver);
                got.extend(std::iter::from_fn(|| receiver.next()));
            }
            for (n, (local, remote, payload)) in got.iter().enumerate() {
                assert_eq!((local.port(), remote.port(), payload.len()), (b, a, sizes[n]));
                assert_eq!((local.ip().to_string().as_str(), remote.ip().to_string().as_str()), (host, host));
                assert!(payload.iter().all(|byte| usize::from(*byte) == n));
            }
        }
    }

    #[test]
    fn a_port_that_is_only_sent_from_receives_too_and_old_ones_make_room() {
        let (a, b) = (free_port(), free_port());
        let mut role = Udp::bind(&[], &[(a, PortUse::Quic)]).unwrap();
        let fixed = role.sockets();
        let echo = std::net::UdpSocket::bind(("127.0.0.1", b)).unwrap();
        let mut last = 0;
        for _ in 0..EXTRA_SOCKETS + 3 {
            last = free_port();
            role.push(transmit(last, b, vec![7; 9], "127.0.0.1"));
            role.flush();
            let mut buffer = [0; 16];
            let (size, from) = echo.recv_from(&mut buffer).unwrap();
            assert_eq!((size, from.port()), (9, last));
        }
        assert_eq!(role.sockets(), fixed + EXTRA_SOCKETS);
        echo.send_to(&[8; 5], ("127.0.0.1", last)).unwrap();
        receive(&mut role);
        let (local, remote, payload) = role.next().unwrap();
        assert_eq!((local.port(), remote.port(), &payload[..]), (last, b, &[8; 5][..]));
    }

    #[test]
    fn a_taken_port_is_called_so() {
        let port = free_port();
        let _first = Udp::bind(&[], &[(port, PortUse::Quic)]).unwrap();
        let failure = Udp::bind(&[], &[(port, PortUse::Quic)]).err().unwrap();
        assert_eq!((failure.code, failure.to_string()), (Code::Address, format!("UDP port {port} is taken")));
    }

    #[test]
    fn roles_share_a_port_on_different_addresses_and_each_hears_only_what_is_for_it() {
        let (a, b) = (free_port(), free_port());
        let at = |ip: &str| -> IpAddr { ip.parse().unwrap() };
        let mut roles = ["127.0.0.2", "127.0.0.3"]
            .map(|ip| Udp::bind(&[at(ip), at(ip), at("::1")][..2], &[(b, PortUse::Quic)]).unwrap());
        let mut sender = Udp::bind(&[at("127.0.0.1"), at("::1")], &[(a, PortUse::Quic)]).unwrap();
        for host in [2, 3] {
            let to = SocketAddr::new(at(&format!("127.0.0.{host}")), b);
            sender.push(Transmit::new(SocketAddr::new(at("127.0.0.1"), a), to, vec![host; 9]));
        }
        sender.flush();
        for (role, host) in roles.iter_mut().zip([2, 3]) {
            receive(role);
            let (local, remote, payload) = role.next().unwrap();
            assert_eq!((local.to_string(), remote.port()), (format!("127.0.0.{host}:{b}"), a));
            assert_eq!((&payload[..], role.next().is_none()), (&[host; 9][..], true));
            // It can send from its own address, and from no other one.
            role.push(Transmit::new(local, remote, vec![host; 3]));
            role.push(Transmit::new(SocketAddr::new(at("127.0.0.4"), free_port()), remote, vec![host; 4]));
            role.flush();
            receive(&mut sender);
            let (_, from, payload) = sender.next().unwrap();
            assert_eq!((from, payload.len(), sender.next().is_none()), (local, 3, true));
        }
        let failure = Udp::bind(&[at("127.0.0.2")], &[(b, PortUse::Quic)]).err().unwrap();
        assert_eq!(failure.to_string(), format!("UDP port {b} of 127.0.0.2 is taken"));
        assert!(failure.remedy().contains("`listen`"), "{}", failure.remedy());
        let failure = Udp::bind(&[at("192.0.2.77")], &[(b, PortUse::Quic)]).err().unwrap();
        assert_eq!(failure.code, Code::Address);
        assert!(failure.to_string().contains("no such address") && failure.remedy().contains("`listen`"));
    }
}
