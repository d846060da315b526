//! The TCP connections of a role on the underlay.
//!
//! [`StreamOutput`]s go in, [`StreamInput`]s come out. A role gets [`StreamInput::Closed`] or
//! [`StreamInput::Unanswered`] once, and only if it did not close the connection itself. After its own
//! [`StreamOutput::Close`] it gets no more inputs of that connection. When the peer closes its half, bytes that the
//! role wrote before are still sent, and then our half is closed too. A connection whose local address goes away is
//! closed.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use cyphonic_core::machine::{StreamId, StreamInput, StreamOutput};
use cyphonic_core::proxied::TCP_PACKET;
use cyphonic_core::time::Instant;
use cyphonic_core::timing::proxied::TCP_UNACKNOWLEDGED;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::time::Duration;

use super::count::{Loss, Losses, count};
use super::stack::{InitialWindow, TcpStack, remote_of};
use super::underlay::Underlay;
use crate::net::packet::Ip;

/// Most connections of a role, including those that are closing.
pub const STREAM_LIMIT: usize = 1024;
/// Most bytes that wait for TCP. If a role writes more, the connection is aborted.
pub const STREAM_WRITE_LIMIT: usize = 1 << 20;
/// Most half-open connections.
pub const BACKLOG: usize = 16;
/// How long a handshake waits for its answer: a SYN and three retransmissions.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the peer may be silent while data are not acknowledged: four retransmissions. Connections that a role has
/// opened for UDP over TCP have [`TCP_UNACKNOWLEDGED`] in place of it.
const UNANSWERED: Duration = Duration::from_secs(30);
/// Idle timeout: how long the peer may be silent.
const IDLE: Duration = Duration::from_secs(60);
/// Ids of accepted connections start here ([`StreamInput::Accepted`]).
const FIRST_ACCEPTED: u64 = 1 << 32;
/// Local ports of connections that we open.
const EPHEMERAL: std::ops::Range<u16> = 49_152..65_535;

/// What a role uses TCP for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpUse {
    /// Logins of the conventional method: a few messages, by a TCP that nobody has tuned.
    Logins,
    /// UDP over TCP: [`cyphonic_core::proxied`].
    Datagrams,
}

impl TcpUse {
    /// Bytes of buffer of a connection in each direction. Datagrams: 20 Mbit/s at a round trip of 100 ms.
    fn buffer(self) -> usize {
        match self {
            Self::Logins => 16 * 1024,
            Self::Datagrams => 256 * 1024,
        }
    }

    /// The largest IP packet in bytes, where interfaces can have packets of `mtu` bytes.
    fn packet(self, mtu: usize) -> usize {
        match self {
            Self::Logins => mtu,
            Self::Datagrams => mtu.min(TCP_PACKET),
        }
    }

    /// How long the peer may be silent while data are not acknowledged, on a connection that took `connecting` to make.
    fn unanswered(self, connecting: std::time::Duration) -> Duration {
        match self {
            Self::Logins => UNANSWERED,
            Self::Datagrams => (connecting * 4).max(TCP_UNACKNOWLEDGED).into(),
        }
    }
}

pub(super) struct Streams {
    stack: TcpStack,
    connections: BTreeMap<StreamId, Connection>,
    backlog: Vec<SocketHandle>,
    listen: Option<u16>,
    tcp: TcpUse,
    next_accepted: u64,
    next_port: u16,
    events: VecDeque<(StreamId, StreamInput)>,
    dirty: bool,
    deadline: Option<Instant>,
}

struct Connection {
    handle: SocketHandle,
    state: StreamStage,
    unsent: VecDeque<u8>,
    /// When it began; known from its first turn on.
    began: Option<Instant>,
    /// How long the peer may be silent while data are not acknowledged.
    unanswered: Duration,
    window: InitialWindow,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamStage {
    /// Our SYN is not answered yet.
    Connecting,
    /// The connection is established.
    Open,
    /// The role closed it, or was told that it is closed. Unsent bytes are sent, and then our half is closed.
    Closing,
    /// Our half is closed.
    Closed,
}

impl Streams {
    /// `seed` determines sequence numbers and ports, `mtu` and `tcp` the MSS. With `listen`, connections to that port
    /// are accepted.
    pub(super) fn new(seed: u64, mtu: usize, listen: Option<u16>, tcp: TcpUse) -> Self {
        let span = u64::from(EPHEMERAL.end - EPHEMERAL.start);
        let mut streams = Self {
            stack: TcpStack::new(seed, tcp.packet(mtu)),
            connections: BTreeMap::new(),
            backlog: Vec::new(),
            listen,
            tcp,
            next_accepted: FIRST_ACCEPTED,
            next_port: EPHEMERAL.start + (seed % span) as u16,
            events: VecDeque::new(),
            dirty: false,
            deadline: None,
        };
        streams.refill_backlog();
        streams
    }

    pub(super) fn set_addresses(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        self.stack.set_addresses(addresses);
        self.dirty = true;
    }

    /// The machine wakes up after a suspension.
    pub(super) fn wake(&mut self, lasted: std::time::Duration) {
        self.stack.stand_still(lasted);
        self.dirty = true;
    }

    /// Takes a TCP packet that is addressed to this host.
    pub(super) fn receive(&mut self, packet: Vec<u8>, losses: &mut Losses) {
        if !self.stack.receive(packet) {
            count(losses, Loss::QueueFull);
        }
        self.dirty = true;
    }

    /// Carries out an output of the role.
    pub(super) fn apply(&mut self, id: StreamId, output: StreamOutput, underlay: &Underlay, losses: &mut Losses) {
        self.dirty = true;
        match output {
            StreamOutput::Connect { remote } => {
                let failed = match underlay.source_for(remote.ip()) {
                    None => Some(Loss::NoInterface),
                    Some(source) => (!self.connect(id, remote, source)).then_some(Loss::StreamLimit),
                };
                if let Some(loss) = failed {
                    count(losses, loss);
                    self.events.push_back((id, StreamInput::Unanswered));
                }
            }
            StreamOutput::Write(data) => {
                let Some(connection) = self.connections.get_mut(&id) else { return };
                if !matches!(connection.state, StreamStage::Connecting | StreamStage::Open) {
                    return;
                }
                if connection.unsent.len() + data.len() > STREAM_WRITE_LIMIT {
                    count(losses, Loss::StreamLimit);
                    self.stack.socket(connection.handle).abort();
                } else {
                    connection.unsent.extend(data);
                }
            }
            StreamOutput::Close => {
                if let Some(connection) = self.connections.get_mut(&id)
                    && connection.state != StreamStage::Closed
                {
                    connection.state = StreamStage::Closing;
                }
            }
        }
    }

    /// The next input for the role.
    pub(super) fn next(&mut self, now: Instant) -> Option<(StreamId, StreamInput)> {
        if self.dirty || self.deadline.is_some_and(|at| at <= now) {
            self.dirty = false;
            loop {
                self.stack.poll(now);
                if !self.service(now) {
                    break;
                }
            }
            self.deadline = self.stack.deadline(now);
        }
        self.events.pop_front()
    }

    /// The next TCP packet to send, and its source.
    pub(super) fn sent(&mut self) -> Option<(IpAddr, Vec<u8>)> {
        let packet = self.stack.sent()?;
        let source = Ip::parse(&packet).expect("smoltcp makes IP packets").source;
        Some((source, packet))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn connect(&mut self, id: StreamId, remote: SocketAddr, local: IpAddr) -> bool {
        if self.connections.len() >= STREAM_LIMIT || self.connections.contains_key(&id) {
            return false;
        }
        let port = self.next_port;
        self.next_port = if port + 1 < EPHEMERAL.end { port + 1 } else { EPHEMERAL.start };
        let Ok(handle) = self.stack.connect(SocketAddr::new(local, port), remote, self.tcp.buffer()) else {
            return false;
        };
        self.stack.socket(handle).set_timeout(Some(CONNECT));
        let has_nagle = self.has_nagle();
        self.stack.socket(handle).set_nagle_enabled(has_nagle);
        let connection = self.begin(handle, StreamStage::Connecting);
        self.connections.insert(id, connection);
        true
    }

    /// Moves bytes and states between sockets and role; true if the stack must be polled again.
    fn service(&mut self, now: Instant) -> bool {
        let mut again = self.accept();
        let mut over = Vec::new();
        for (&id, connection) in &mut self.connections {
            let socket = self.stack.socket(connection.handle);
            again |= connection.service(now, self.tcp, id, socket, &mut self.events);
            if self.stack.remove_if_over(connection.handle) {
                let is_late = connection.began.is_some_and(|began| now >= began + CONNECT.into());
                match connection.state {
                    StreamStage::Connecting if is_late => self.events.push_back((id, StreamInput::Unanswered)),
                    StreamStage::Connecting | StreamStage::Open => self.events.push_back((id, StreamInput::Closed)),
                    _ => {}
                }
                over.push(id);
            }
        }
        for id in over {
            self.connections.remove(&id);
        }
        again
    }

    /// Turns finished handshakes into connections and listens again.
    fn accept(&mut self) -> bool {
        let mut accepted = false;
        let mut backlog = std::mem::take(&mut self.backlog);
        backlog.retain(|&handle| {
            let socket = self.stack.socket(handle);
            match socket.state() {
                State::Listen | State::SynReceived => true,
                State::Closed => !self.stack.remove_if_over(handle),
                _ => {
                    accepted = true;
                    let Some(remote) = remote_of(socket) else { return true };
                    let id = StreamId(self.next_accepted);
                    self.next_accepted += 1;
                    let connection = self.begin(handle, StreamStage::Open);
                    self.connections.insert(id, connection);
                    self.events.push_back((id, StreamInput::Accepted { remote }));
                    false
                }
            }
        });
        self.backlog = backlog;
        self.refill_backlog();
        accepted
    }

    /// A connection that has sent nothing yet. Its TCP begins with the initial window of RFC 6928, logins excepted,
    /// which keep that of smoltcp (2,048 bytes).
    fn begin(&mut self, handle: SocketHandle, state: StreamStage) -> Connection {
        let window = match self.tcp {
            TcpUse::Datagrams => InitialWindow::of(self.stack.socket(handle)),
            TcpUse::Logins => InitialWindow::none(),
        };
        Connection { handle, state, unsent: VecDeque::new(), began: None, unanswered: UNANSWERED, window }
    }

    /// Whether small segments wait for acknowledgements (RFC 9293 §3.7.4): those of logins only.
    fn has_nagle(&self) -> bool {
        self.tcp == TcpUse::Logins
    }

    fn refill_backlog(&mut self) {
        let Some(port) = self.listen else { return };
        while self.backlog.len() < BACKLOG && self.backlog.len() + self.connections.len() < STREAM_LIMIT {
            let handle =
                self.stack.listen(port, self.tcp.buffer()).expect("a new socket can listen on a port that is not zero");
            self.stack.socket(handle).set_timeout(Some(CONNECT));
            let has_nagle = self.has_nagle();
            self.stack.socket(handle).set_nagle_enabled(has_nagle);
            self.backlog.push(handle);
        }
    }
}

impl Connection {
    fn service(
        &mut self,
        now: Instant,
        tcp: TcpUse,
        id: StreamId,
        socket: &mut Socket<'_>,
        events: &mut VecDeque<(StreamId, StreamInput)>,
    ) -> bool {
        let began = *self.began.get_or_insert(now);
        if self.state == StreamStage::Connecting && socket.may_send() {
            self.state = StreamStage::Open;
            self.unanswered = tcp.unanswered(now - began);
            events.push_back((id, StreamInput::Connected));
        }
        let mut again = false;
        while socket.can_recv() {
            let data = socket.recv(|data| (data.len(), data.to_vec())).unwrap_or_default();
            if data.is_empty() {
                break;
            }
            again = true;
            if self.state == StreamStage::Open {
                events.push_back((id, StreamInput::Data(data)));
            }
        }
        if self.state == StreamStage::Open && matches!(socket.state(), State::CloseWait) {
            self.state = StreamStage::Closing;
            events.push_back((id, StreamInput::Closed));
        }
        let mut written = 0;
        while !self.unsent.is_empty() && socket.can_send() {
            let taken = socket.send_slice(self.unsent.as_slices().0).unwrap_or(0);
            self.unsent.drain(..taken);
            written += taken;
        }
        again |= written > 0;
        self.window.count(socket, written);
        if written > 0 && self.state == StreamStage::Open {
            events.push_back((id, StreamInput::Written(written)));
        }
        let shaking = matches!(socket.state(), State::SynSent | State::SynReceived);
        if self.state == StreamStage::Closing && (self.unsent.is_empty() || !(shaking || socket.may_send())) {
            self.state = StreamStage::Closed;
            socket.close();
            again = true;
        }
        // smoltcp has one timeout, which runs whenever the peer is silent. So it is set by the present state.
        let waiting = self.state == StreamStage::Closed || socket.send_queue() > 0;
        socket.set_timeout(match socket.state() {
            State::TimeWait => None,
            _ if self.state == StreamStage::Connecting => Some(CONNECT),
            _ if waiting => Some(self.unanswered),
            _ => Some(IDLE),
        });
        again
    }
}
