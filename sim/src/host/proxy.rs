//! An HTTP proxy on the core, as a box: hosts ask it to CONNECT (RFC 9110 §9.3.6), and it passes bytes on.
//!
//! ```text
//! client ══ TCP 3128: CONNECT HOST:PORT ══▶ Proxy ══ TCP ══▶ HOST:PORT
//!        ◀══ 200, then the bytes of both ══       ◀════════
//! ```
//!
//! The proxy shares no code with the node's end of such a connection. Bytes that one side does not take yet wait in the
//! socket of the other side. So TCP slows the sender down, as at a real proxy.

use std::any::Any;
use std::net::SocketAddr;

use cyphonic_core::time::Instant;
use cyphonic_scenarios::PROXY_PORT;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use smoltcp::time::Duration;

use super::count::{Losses, count};
use super::stack::{InitialWindow, TcpStack};
use super::underlay::{Arrival, Interface, Underlay, all_but_port_4501};
use crate::host::Loss;
use crate::net::packet::Ip;
use crate::net::{BoxInput, BoxOutput, NetBox};

/// Most connections of clients. Further ones are refused.
pub const CLIENT_LIMIT: usize = 256;
/// Most bytes of a request.
const MAX_HEAD: usize = 8 * 1024;
/// Most half-open connections.
const BACKLOG: usize = 16;
/// Bytes of TCP buffer in each direction, as those of the hosts at both ends.
const BUFFER: usize = 256 * 1024;
/// Local ports of connections to targets.
const EPHEMERAL: std::ops::Range<u16> = 49_152..65_535;
/// How long a handshake with the target may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a peer may be silent while data are not acknowledged.
const UNANSWERED: Duration = Duration::from_secs(30);
/// Idle timeout, tinyproxy's default.
const IDLE: Duration = Duration::from_secs(600);

/// A proxy.
pub struct ProxyBox {
    underlay: Underlay,
    stack: TcpStack,
    backlog: Vec<SocketHandle>,
    tunnels: Vec<Tunnel>,
    next_port: u16,
    losses: Losses,
    deadline: Option<Instant>,
}

/// The connection of a client, and that to its target.
struct Tunnel {
    client: SocketHandle,
    server: Option<SocketHandle>,
    /// The bytes of the request, then those that came right behind it.
    head: Vec<u8>,
    is_open: bool,
    /// The initial window of the client's connection.
    client_window: InitialWindow,
    /// The initial window of the connection to the target; none before there is that connection.
    server_window: InitialWindow,
}

impl ProxyBox {
    /// A proxy with one interface. `seed` determines sequence numbers.
    pub fn new(interface: Interface, seed: u64) -> Self {
        let mut stack = TcpStack::new(seed, interface.mtu);
        let underlay = Underlay::new(vec![interface], &[], all_but_port_4501, false);
        stack.set_addresses(underlay.addresses());
        let (backlog, tunnels, next_port) = (Vec::new(), Vec::new(), EPHEMERAL.start);
        let mut proxy = Self { underlay, stack, backlog, tunnels, next_port, losses: Losses::new(), deadline: None };
        proxy.listen();
        proxy
    }

    fn listen(&mut self) {
        while self.backlog.len() < BACKLOG && self.backlog.len() + self.tunnels.len() < CLIENT_LIMIT {
            let handle = self.stack.listen(PROXY_PORT, BUFFER).expect("a new socket can listen on this port");
            self.stack.socket(handle).set_timeout(Some(CONNECT));
            self.backlog.push(handle);
        }
    }

    fn receive(&mut self, now: Instant, iface: usize, packet: Vec<u8>) {
        let Some(arrival) = self.underlay.receive(now, iface, packet, &mut self.losses) else { return };
        let lost = match arrival {
            Arrival::Tcp(packet) => (!self.stack.receive(packet)).then_some(Loss::QueueFull),
            Arrival::Datagram { .. } => Some(Loss::UnboundPort),
        };
        if let Some(lost) = lost {
            count(&mut self.losses, lost);
        }
    }

    /// Handles what has arrived, until nothing moves any more.
    fn serve(&mut self, now: Instant) {
        loop {
            self.stack.poll(now);
            let mut again = self.accept();
            for mut tunnel in std::mem::take(&mut self.tunnels) {
                again |= self.pass(&mut tunnel);
                self.set_timeouts(&tunnel);
                if self.is_over(&tunnel) {
                    self.end(&tunnel);
                } else {
                    self.tunnels.push(tunnel);
                }
            }
            self.listen();
            if !again {
                break;
            }
        }
        self.deadline = self.stack.deadline(now);
        while let Some(packet) = self.stack.sent() {
            let source = Ip::parse(&packet).expect("smoltcp makes IP packets").source;
            self.underlay.send(source, packet, &mut self.losses);
        }
    }

    /// Turns finished handshakes into tunnels.
    fn accept(&mut self) -> bool {
        let before = self.tunnels.len();
        for handle in std::mem::take(&mut self.backlog) {
            match self.stack.socket(handle).state() {
                State::Listen | State::SynReceived => self.backlog.push(handle),
                State::Closed => self.stack.retire(handle),
                _ => {
                    self.tunnels.push(Tunnel {
                        client: handle,
                        server: None,
                        head: Vec::new(),
                        is_open: false,
                        client_window: InitialWindow::of(self.stack.socket(handle)),
                        server_window: InitialWindow::none(),
                    });
                }
            }
        }
        self.tunnels.len() > before
    }

    /// Moves what can be moved of a tunnel; whether anything was.
    fn pass(&mut self, tunnel: &mut Tunnel) -> bool {
        let Some(server) = tunnel.server else { return self.ask(tunnel) };
        if !tunnel.is_open {
            if !self.stack.socket(server).may_send() {
                return false;
            }
            tunnel.is_open = true;
            self.write(tunnel.client, b"HTTP/1.1 200 Connection established\r\n\r\n");
            self.write(server, &std::mem::take(&mut tunnel.head));
        }
        let (up, down) = (self.pump(tunnel.client, server), self.pump(server, tunnel.client));
        tunnel.client_window.count(self.stack.socket(tunnel.client), down.unwrap_or(0));
        tunnel.server_window.count(self.stack.socket(server), up.unwrap_or(0));
        up.is_some() || down.is_some()
    }

    /// Reads the request, and opens the connection to its target.
    fn ask(&mut self, tunnel: &mut Tunnel) -> bool {
        let socket = self.stack.socket(tunnel.client);
        let bytes = socket.recv(|data| (data.len(), data.to_vec())).unwrap_or_default();
        if bytes.is_empty() {
            return false;
        }
        tunnel.head.extend(bytes);
        let Some(end) = tunnel.head.windows(4).position(|four| four == b"\r\n\r\n") else {
            if tunnel.head.len() > MAX_HEAD {
                self.write(tunnel.client, b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n");
                self.stack.socket(tunnel.client).close();
            }
            return true;
        };
        let target = target(&tunnel.head[..end]);
        tunnel.head.drain(..end + 4);
        let source = target.and_then(|target| self.underlay.source_for(target.ip()));
        let port = self.next_port;
        self.next_port = if port + 1 < EPHEMERAL.end { port + 1 } else { EPHEMERAL.start };
        let server = target
            .zip(source)
            .and_then(|(target, source)| self.stack.connect(SocketAddr::new(source, port), target, BUFFER).ok());
        if let Some(server) = server {
            self.stack.socket(server).set_timeout(Some(CONNECT));
            tunnel.server_window = InitialWindow::of(self.stack.socket(server));
            tunnel.server = Some(server);
        } else {
            self.write(tunnel.client, b"HTTP/1.1 400 Bad Request\r\n\r\n");
            self.stack.socket(tunnel.client).close();
        }
        true
    }

    /// Moves bytes from one socket to the other, and the end of the stream after the last of them. Returns how many
    /// bytes it moved, unless nothing changed.
    fn pump(&mut self, from: SocketHandle, to: SocketHandle) -> Option<usize> {
        let socket = self.stack.socket(to);
        let room = if socket.can_send() { socket.send_capacity() - socket.send_queue() } else { 0 };
        let socket = self.stack.socket(from);
        let mut bytes = Vec::new();
        if room > 0 && socket.can_recv() {
            let taken = socket.recv(|data| (data.len().min(room), data[..data.len().min(room)].to_vec()));
            bytes = taken.unwrap_or_default();
        }
        let is_ended = !socket.may_recv();
        self.write(to, &bytes);
        let socket = self.stack.socket(to);
        if is_ended && socket.may_send() {
            socket.close();
            return Some(bytes.len());
        }
        (!bytes.is_empty()).then_some(bytes.len())
    }

    /// Writes what there is room for.
    fn write(&mut self, to: SocketHandle, bytes: &[u8]) {
        if !bytes.is_empty() {
            let sent = self.stack.socket(to).send_slice(bytes);
            debug_assert!(sent.is_ok_and(|sent| sent == bytes.len()), "there was room");
        }
    }

    fn set_timeouts(&mut self, tunnel: &Tunnel) {
        for handle in [Some(tunnel.client), tunnel.server].into_iter().flatten() {
            let socket = self.stack.socket(handle);
            socket.set_timeout(match socket.state() {
                State::TimeWait => None,
                State::SynSent => Some(CONNECT),
                _ if socket.send_queue() > 0 => Some(UNANSWERED),
                _ => Some(IDLE),
            });
        }
    }

    /// Whether nothing more passes.
    fn is_over(&mut self, tunnel: &Tunnel) -> bool {
        let mut is_closed = |handle| matches!(self.stack.socket(handle).state(), State::Closed | State::TimeWait);
        match tunnel.server {
            Some(server) => is_closed(server) || is_closed(tunnel.client),
            None => !self.stack.socket(tunnel.client).may_recv() || !self.stack.socket(tunnel.client).may_send(),
        }
    }

    /// Closes what is left of a tunnel, after the bytes that were written. A client whose target was not reached is
    /// told so.
    fn end(&mut self, tunnel: &Tunnel) {
        if tunnel.server.is_some() && !tunnel.is_open && self.stack.socket(tunnel.client).can_send() {
            self.write(tunnel.client, b"HTTP/1.1 502 Bad Gateway\r\n\r\n");
        }
        for handle in [Some(tunnel.client), tunnel.server].into_iter().flatten() {
            self.stack.retire(handle);
        }
    }
}

/// The address that a request names: a request for anything else than CONNECT, or by name, has none.
fn target(head: &[u8]) -> Option<SocketAddr> {
    let line = std::str::from_utf8(head).ok()?.lines().next()?;
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    (method == "CONNECT" && version.starts_with("HTTP/1.") && words.next().is_none()).then_some(())?;
    target.parse().ok()
}

impl NetBox for ProxyBox {
    fn handle_input(&mut self, now: Instant, input: BoxInput) {
        if let BoxInput::Packet { iface, packet } = input {
            self.receive(now, iface, packet);
        }
        self.serve(now);
    }

    fn handle_packets(&mut self, now: Instant, packets: &mut Vec<(usize, Vec<u8>)>) {
        for (iface, packet) in packets.drain(..) {
            self.receive(now, iface, packet);
        }
        self.serve(now);
    }

    fn poll_output(&mut self) -> BoxOutput {
        match self.underlay.next_packet() {
            Some((iface, packet)) => BoxOutput::Send { iface, packet },
            None => BoxOutput::Wait(self.deadline),
        }
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_request_to_connect_to_an_address_has_a_target() {
        let v6 = target(b"CONNECT [2001:db8::2]:443 HTTP/1.1\r\nHost: [2001:db8::2]:443");
        assert_eq!(v6, Some("[2001:db8::2]:443".parse().unwrap()));
        assert_eq!(target(b"CONNECT 192.0.2.2:443 HTTP/1.1"), Some("192.0.2.2:443".parse().unwrap()));
        for other in ["GET / HTTP/1.1", "CONNECT as.cyphonic.test:443 HTTP/1.1", "CONNECT 192.0.2.2:443", "\u{16}\u{3}"]
        {
            assert_eq!(target(other.as_bytes()), None, "{other}");
        }
    }
}
