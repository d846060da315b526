//! TCP by smoltcp, wrapped so that packets go in and come out as plain bytes.
//!
//! Both the underlay (the conventional login) and the virtual interface (applications) have one [`TcpStack`]. It gets
//! only TCP packets; the host handles all others. Congestion control is Reno, whose arithmetic is integer; smoltcp's
//! Cubic uses floating point and would not give the same bytes on every machine.
//!
//! smoltcp counts microseconds; the host's nanoseconds are rounded down. It ignores ICMP. Its MSS follows the MTU given
//! to [`TcpStack::new`]. Where the path is narrower, the host cuts its segments ([`super::path_mtu`]).

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use cyphonic_core::time::Instant;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{CongestionControl, ConnectError, ListenError, Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::segments::{Segments, asked_for};

/// Most IP addresses of one TCP stack (smoltcp's `iface-max-addr-count-8`).
pub const ADDRESS_LIMIT: usize = 8;

/// Most packets that wait on either side of a TCP stack. More are dropped, as on a full device queue.
pub const DEVICE_QUEUE_LIMIT: usize = 4096;

/// The initial window of a connection (RFC 6928): ten segments of 1,460 bytes.
const INITIAL_WINDOW: usize = 14_600;

/// If smoltcp's deadline is still "now" after a poll, it is polled again this much later.
const STUCK: Duration = Duration::from_millis(1);

/// A set of TCP sockets on a set of addresses.
pub(super) struct TcpStack {
    interface: Interface,
    device: Queues,
    sockets: SocketSet<'static>,
    retired: Vec<SocketHandle>,
    /// Listening sockets without buffers, and the size of the buffers that they get with their first packet. Most
    /// listeners never get one, and buffers are large.
    bare: Vec<(SocketHandle, usize)>,
    segments: Segments,
    /// For how long its clock has stood still.
    stood_still: Duration,
}

impl TcpStack {
    /// A stack without addresses. `mtu` is the largest IP packet in bytes; it determines the MSS (RFC 6691). `seed`
    /// determines the initial sequence numbers.
    pub(super) fn new(seed: u64, mtu: usize) -> Self {
        let mut device = Queues { received: VecDeque::new(), sent: VecDeque::new(), mtu };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, smoltcp::time::Instant::ZERO);
        // The gateway's address does not matter: a medium of IP packets has no neighbour discovery.
        let routes = interface.routes_mut();
        routes.add_default_ipv4_route(Ipv4Addr::new(192, 0, 2, 1)).expect("an empty table has room");
        routes.add_default_ipv6_route(Ipv6Addr::LOCALHOST).expect("an empty table has room");
        Self {
            interface,
            device,
            sockets: SocketSet::new(Vec::new()),
            retired: Vec::new(),
            bare: Vec::new(),
            segments: Segments::default(),
            stood_still: Duration::ZERO,
        }
    }

    /// Replaces the addresses. Connections on an address that is gone close at the next poll.
    ///
    /// # Panics
    /// With more than [`ADDRESS_LIMIT`] addresses, or one that is not unicast: scenarios refuse both.
    pub(super) fn set_addresses(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        self.interface.update_ip_addrs(|list| {
            list.clear();
            for address in addresses {
                let length = if address.is_ipv4() { 32 } else { 128 };
                list.push(IpCidr::new(address.into(), length)).expect("at most ADDRESS_LIMIT addresses on one host");
            }
        });
    }

    /// Gives it a packet; false if the queue was full and the packet is dropped.
    pub(super) fn receive(&mut self, mut packet: Vec<u8>) -> bool {
        if self.segments.is_repeated(&packet) {
            return true;
        }
        if asked_for(&packet).is_some_and(|(local, remote)| self.is_synchronized(local, remote)) {
            self.segments.challenge(&mut packet);
        }
        for (handle, buffer) in std::mem::take(&mut self.bare) {
            let bare = self.socket(handle);
            let mut socket = new_socket(buffer);
            socket.set_timeout(bare.timeout());
            socket.listen(bare.listen_endpoint()).expect("a new socket can listen where another did");
            *bare = socket;
        }
        let room = self.device.received.len() < DEVICE_QUEUE_LIMIT;
        if room {
            self.device.received.push_back(packet);
        }
        room
    }

    /// Whether there is a connection of these ends in a synchronized state (RFC 9293 §3.3.2).
    fn is_synchronized(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        let ends = (Some(local.into()), Some(remote.into()));
        self.sockets.iter().any(|(_, smoltcp::socket::Socket::Tcp(socket))| {
            let began = !matches!(socket.state(), State::Closed | State::Listen | State::SynSent | State::SynReceived);
            began && (socket.local_endpoint(), socket.remote_endpoint()) == ends
        })
    }

    /// Its clock has stood still for so long: the timers of a kernel's TCP do not run in a machine that is suspended.
    pub(super) fn stand_still(&mut self, lasted: Duration) {
        self.stood_still += lasted;
    }

    /// Handles arrived packets and due timers.
    pub(super) fn poll(&mut self, now: Instant) {
        self.interface.poll(micros(now - self.stood_still), &mut self.device, &mut self.sockets);
        let mut retired = std::mem::take(&mut self.retired);
        retired.retain(|&handle| {
            let socket = self.socket(handle);
            if socket.state() == State::TimeWait {
                socket.set_timeout(None);
            }
            !self.remove_if_over(handle)
        });
        self.retired = retired;
    }

    /// The next packet to send.
    pub(super) fn sent(&mut self) -> Option<Vec<u8>> {
        let mut packet = self.device.sent.pop_front()?;
        self.segments.send(&mut packet);
        Some(packet)
    }

    /// When it wants to be polled again; always after `now`.
    pub(super) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(micros(now - self.stood_still), &self.sockets)?;
        let at = Instant::from_nanos(u64::try_from(at.total_micros()).unwrap_or(0) * 1000) + self.stood_still;
        Some(if at > now { at } else { now + STUCK })
    }

    /// Opens a connection, with `buffer` bytes each way.
    pub(super) fn connect(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        buffer: usize,
    ) -> Result<SocketHandle, ConnectError> {
        let mut socket = new_socket(buffer);
        socket.connect(self.interface.context(), remote, local)?;
        Ok(self.sockets.add(socket))
    }

    /// Listens for one connection to `port` on any address. Until there is one, only the socket's timeout may be set.
    pub(super) fn listen(&mut self, port: u16, buffer: usize) -> Result<SocketHandle, ListenError> {
        let mut socket = new_socket(0);
        socket.listen(port)?;
        let handle = self.sockets.add(socket);
        self.bare.push((handle, buffer));
        Ok(handle)
    }

    /// The socket behind `handle`, which must not have been removed.
    pub(super) fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Closes the connection gracefully, and removes the socket when it is closed. The handle must not be used again.
    pub(super) fn retire(&mut self, handle: SocketHandle) {
        self.socket(handle).close();
        self.retired.push(handle);
    }

    /// Removes the socket if its connection is closed and nothing is left to send, a reset included.
    pub(super) fn remove_if_over(&mut self, handle: SocketHandle) -> bool {
        let socket = self.sockets.get::<Socket<'_>>(handle);
        let over = socket.state() == State::Closed && socket.remote_endpoint().is_none();
        if over {
            self.sockets.remove(handle);
        }
        over
    }
}

/// The initial window of a connection: until [`INITIAL_WINDOW`] bytes were handed to TCP, no congestion control limits
/// the sender.
///
/// smoltcp's Reno begins with 2,048 bytes, and so small a window costs a handshake with certificates a round trip that
/// no kernel of today needs. So Reno takes over only after the first [`INITIAL_WINDOW`] bytes.
pub(super) struct InitialWindow {
    /// The bytes that were handed to TCP so far; `None` once they exceed the window.
    sent: Option<usize>,
}

impl InitialWindow {
    /// The initial window of a connection that has sent nothing yet.
    pub(super) fn of(socket: &mut Socket<'_>) -> Self {
        socket.set_congestion_control(CongestionControl::None);
        Self { sent: Some(0) }
    }

    /// No initial window: smoltcp's congestion control from the first byte on.
    pub(super) const fn none() -> Self {
        Self { sent: None }
    }

    /// Counts bytes that were handed to TCP. Congestion control begins when they exceed the window.
    pub(super) fn count(&mut self, socket: &mut Socket<'_>, bytes: usize) {
        let Some(sent) = &mut self.sent else { return };
        *sent += bytes;
        if *sent > INITIAL_WINDOW {
            socket.set_congestion_control(CongestionControl::Reno);
            self.sent = None;
        }
    }
}

/// The other end of an established connection, in std's type.
pub(super) fn remote_of(socket: &Socket<'_>) -> Option<SocketAddr> {
    socket.remote_endpoint().map(|end| SocketAddr::new(end.addr.into(), end.port))
}

fn new_socket(buffer: usize) -> Socket<'static> {
    let mut socket = Socket::new(SocketBuffer::new(vec![0; buffer]), SocketBuffer::new(vec![0; buffer]));
    socket.set_congestion_control(CongestionControl::Reno);
    socket.set_nagle_enabled(false);
    socket
}

fn micros(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros((now.as_nanos() / 1000).cast_signed())
}

/// A device for smoltcp: two bounded queues.
struct Queues {
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
    mtu: usize,
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sending<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Sending<'_>)> {
        let packet = self.received.pop_front()?;
        Some((Received(packet), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Sending<'_>> {
        (self.sent.len() < DEVICE_QUEUE_LIMIT).then_some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities.checksum = ChecksumCapabilities::default();
        capabilities
    }
}
