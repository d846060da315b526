//! A service's end. TCP connections come in, and datagrams go to the service's own UDP port and to no other one.
//!
//! [`Served`] puts a door in front of any service. A client without a certificate gets the answers of a plain web
//! server. A client with a certificate of this system may ask for UDP to the service's own port.
//!
//! | limit | what happens at it |
//! |---|---|
//! | [`MAX_HALF_OPEN`] connections that have not asked yet | the oldest of the source with most of them is closed |
//! | [`MAX_GUESTS`] connections that carry datagrams | the new one is refused (503) |
//! | [`MAX_GUESTS_OF_ONE`] of one certificate | its oldest is closed |
//! | [`UPGRADE_TIMEOUT`], [`GUEST_IDLE`] | the connection is closed |

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::Acceptor;

use super::http::{self, ALPN, BadHead, Request};
use super::pipe::Pipe;
use super::{guest, is_guest};
use crate::event::{DropReason, Event};
use crate::machine::{Input, Machine, Output, ServiceCommand, StreamId, StreamInput, StreamOutput, Tables, Transmit};
use crate::name::Fqdn;
use crate::shares::Shares;
use crate::time::Instant;
use crate::timers::Timers;
use crate::timing::proxied::{GUEST_IDLE, UPGRADE_TIMEOUT};
use crate::timing::{Due, Timer, earliest};
use crate::tls::channel::TlsChannel;
use crate::tls::{self, ClientAuth, Environment, Identity, Roots, TlsError};

/// Most connections that have not asked for UDP yet.
pub const MAX_HALF_OPEN: usize = 512;
/// Most connections that carry datagrams.
pub const MAX_GUESTS: usize = 4096;
/// Most connections with datagrams of one certificate. A node needs one, and one more while it moves.
pub const MAX_GUESTS_OF_ONE: usize = 4;
/// Most bytes of a ClientHello that are read.
const MAX_HELLO: usize = 16 * 1024;

/// The settings of a door.
#[derive(Clone, Debug)]
pub struct DoorConfig {
    /// Cryptography and clock.
    pub tls: Environment,
    /// The CAs whose certificates a client may show.
    pub roots: Roots,
    /// The service's identity.
    pub identity: Identity,
    /// Its UDP port.
    pub port: u16,
    /// Its addresses. A client may also name it.
    pub addresses: Vec<IpAddr>,
    /// The addresses of the NMS in the proposed method, if this is the AS.
    pub nms: Vec<SocketAddr>,
    /// Whether the service takes TCP connections itself: those whose ClientHello does not offer HTTP.
    pub has_logins: bool,
}

/// A service, and the door in front of it if it has one.
pub struct Served<M> {
    service: M,
    door: Option<Door>,
    now: Instant,
}

impl<M> Deref for Served<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.service
    }
}

impl<M> Served<M> {
    /// A service behind a door. Without a configuration there is no door, and TCP goes to the service.
    pub fn new(service: M, door: Option<DoorConfig>) -> Result<Self, TlsError> {
        Ok(Self { service, door: door.map(Door::new).transpose()?, now: Instant::ZERO })
    }
}

impl<M: Machine<Command = ServiceCommand>> Machine for Served<M> {
    type Command = ServiceCommand;

    fn feed(&mut self, now: Instant, input: Input<ServiceCommand>) {
        self.now = now;
        let Some(door) = &mut self.door else { return self.service.feed(now, input) };
        match input {
            // No packet comes from such an address, so the source is spoofed.
            Input::Datagram { remote, .. } if is_guest(remote.ip()) => door.dropped(DropReason::Unexpected),
            Input::Stream(id, event) => {
                for input in door.on_stream(now, id, event) {
                    self.service.feed(now, input);
                }
            }
            Input::Timeout => {
                door.handle_timeout(now);
                self.service.feed(now, Input::Timeout);
            }
            Input::Command(command) => {
                door.on_command(&command);
                self.service.feed(now, Input::Command(command));
            }
            input => self.service.feed(now, input),
        }
    }

    fn deliver(&mut self, now: Instant) {
        self.service.deliver(now);
    }

    fn finish(&mut self, now: Instant) {
        self.service.finish(now);
    }

    fn poll_output(&mut self) -> Output {
        let Some(door) = &mut self.door else { return self.service.poll_output() };
        loop {
            match self.service.poll_output() {
                Output::Transmit(transmit) if is_guest(transmit.remote.ip()) => door.transmit(self.now, &transmit),
                Output::Wait(wait) => {
                    door.flush(self.now);
                    return door.out.pop_front().unwrap_or_else(|| Output::Wait(earliest([wait, door.next_timer()])));
                }
                output => return output,
            }
        }
    }

    fn next_timer(&self) -> Option<Due> {
        earliest([self.service.next_timer(), self.door.as_ref().and_then(Door::next_timer)])
    }

    fn tables(&self) -> Tables {
        let mut tables = self.service.tables();
        tables.extend(self.door.iter().flat_map(Door::tables));
        tables
    }
}

/// All connections of one service.
struct Door {
    config: DoorConfig,
    tls: Arc<ServerConfig>,
    /// The text of [`DoorConfig::nms`].
    nms: String,
    /// Connections without a whole ClientHello so far, if the service takes TCP connections itself.
    strangers: BTreeMap<StreamId, Stranger>,
    /// Connections that speak HTTP.
    guests: BTreeMap<StreamId, Guest>,
    /// The connections that have not asked yet, by their sources.
    waiting: Shares<StreamId>,
    /// The guests that carry datagrams, by the address that stands for each.
    open: BTreeMap<SocketAddr, StreamId>,
    timers: Timers<StreamId>,
    /// Connections with something to write.
    touched: BTreeSet<StreamId>,
    next_number: u64,
    out: VecDeque<Output>,
}

/// A connection whose ClientHello is not complete.
struct Stranger {
    from: SocketAddr,
    acceptor: Acceptor,
    bytes: Vec<u8>,
}

/// A connection that speaks HTTP.
struct Guest {
    pipe: Pipe,
    /// The beginning of its request.
    head: Vec<u8>,
    /// Its addresses as the service sees them, once it carries datagrams.
    place: Option<Place>,
    names: Vec<Fqdn>,
}

/// The addresses of a connection, as the service sees them.
#[derive(Clone, Copy)]
struct Place {
    local: SocketAddr,
    remote: SocketAddr,
}

impl Door {
    fn new(config: DoorConfig) -> Result<Self, TlsError> {
        let nms: Vec<String> = config.nms.iter().map(ToString::to_string).collect();
        Ok(Self {
            tls: http_tls(&config.tls, &config.roots, &config.identity)?,
            nms: nms.join(", "),
            config,
            strangers: BTreeMap::new(),
            guests: BTreeMap::new(),
            waiting: Shares::default(),
            open: BTreeMap::new(),
            timers: Timers::default(),
            touched: BTreeSet::new(),
            next_number: 1,
            out: VecDeque::new(),
        })
    }

    fn dropped(&mut self, reason: DropReason) {
        self.out.push_back(Output::from(Event::Dropped(reason)));
    }

    /// Takes an event of a connection. Returns the inputs for the service.
    fn on_stream(&mut self, now: Instant, id: StreamId, event: StreamInput) -> Vec<Input<ServiceCommand>> {
        match event {
            StreamInput::Accepted { remote } => {
                self.make_room();
                self.waiting.begin(id, remote.ip());
                self.timers.set(id, Some(now + UPGRADE_TIMEOUT));
                if self.config.has_logins {
                    let (acceptor, bytes) = (Acceptor::default(), Vec::new());
                    self.strangers.insert(id, Stranger { from: remote, acceptor, bytes });
                } else {
                    self.welcome(now, id);
                }
                Vec::new()
            }
            StreamInput::Data(bytes) if self.strangers.contains_key(&id) => self.on_hello(now, id, &bytes),
            StreamInput::Data(bytes) if self.guests.contains_key(&id) => self.on_bytes(now, id, &bytes),
            StreamInput::Written(bytes) if self.guests.contains_key(&id) => {
                self.written(id, bytes);
                Vec::new()
            }
            StreamInput::Closed | StreamInput::Unanswered if self.forget(id) => Vec::new(),
            event => vec![Input::Stream(id, event)],
        }
    }

    /// Closes a connection that has not asked yet, if there are too many: the oldest of the source with most of them.
    /// So strangers that open connections again and again do not keep out a node on a slow path.
    fn make_room(&mut self) {
        if self.waiting.count() < MAX_HALF_OPEN {
            return;
        }
        if let Some(oldest) = self.waiting.gives_way() {
            self.dropped(DropReason::Limit);
            self.close(oldest);
        }
    }

    fn welcome(&mut self, now: Instant, id: StreamId) {
        match TlsChannel::server(self.tls.clone()) {
            Ok(channel) => {
                let pipe = Pipe::new(now, channel);
                self.guests.insert(id, Guest { pipe, head: Vec::new(), place: None, names: Vec::new() });
            }
            Err(_) => self.close(id),
        }
    }

    /// Tells a client that speaks HTTP from one that logs in, by its ClientHello.
    fn on_hello(&mut self, now: Instant, id: StreamId, bytes: &[u8]) -> Vec<Input<ServiceCommand>> {
        let Some(stranger) = self.strangers.get_mut(&id) else { return Vec::new() };
        stranger.bytes.extend_from_slice(bytes);
        let mut unread = bytes;
        let mut is_whole = false;
        let mut offers_http = false;
        while !unread.is_empty() && !is_whole {
            if stranger.acceptor.read_tls(&mut unread).is_err() {
                is_whole = true;
                break;
            }
            match stranger.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    is_whole = true;
                    let hello = accepted.client_hello();
                    offers_http = hello.alpn().is_some_and(|mut offers| offers.any(|offer| offer == ALPN));
                }
                // The service answers with the same alert.
                Err(_) => is_whole = true,
            }
        }
        if !is_whole && stranger.bytes.len() < MAX_HELLO {
            return Vec::new();
        }
        let Some(Stranger { from, bytes, .. }) = self.strangers.remove(&id) else { return Vec::new() };
        if offers_http {
            self.welcome(now, id);
            return self.on_bytes(now, id, &bytes);
        }
        self.timers.set(id, None);
        self.waiting.end(id);
        [StreamInput::Accepted { remote: from }, StreamInput::Data(bytes)].map(|event| Input::Stream(id, event)).into()
    }

    fn on_bytes(&mut self, now: Instant, id: StreamId, bytes: &[u8]) -> Vec<Input<ServiceCommand>> {
        self.touched.insert(id);
        let Some(guest) = self.guests.get_mut(&id) else { return Vec::new() };
        let mut is_good = guest.pipe.channel.receive(bytes).is_ok();
        let mut plaintext = guest.pipe.channel.read().unwrap_or_default();
        let mut datagrams = Vec::new();
        if guest.place.is_none() {
            guest.head.append(&mut plaintext);
            match self.on_head(now, id) {
                Ok(rest) => plaintext = rest,
                Err(answer) => {
                    is_good = false;
                    if let Some(guest) = self.guests.get_mut(&id) {
                        guest.pipe.channel.send(&answer);
                    }
                }
            }
        }
        let Some(guest) = self.guests.get_mut(&id) else { return Vec::new() };
        is_good &= guest.pipe.read(now, &plaintext, &mut datagrams);
        is_good &= !guest.pipe.channel.peer_closed();
        if let Some(place) = guest.place {
            self.timers.set(id, Some(guest.pipe.used + GUEST_IDLE));
            if !is_good {
                self.close(id);
            }
            return datagrams
                .into_iter()
                .map(|payload| Input::Datagram { local: place.local, remote: place.remote, payload })
                .collect();
        }
        if !is_good {
            self.close(id);
        }
        Vec::new()
    }

    /// Answers a request, once it is whole. Returns the capsules that came right behind it, or the answer after which
    /// the connection ends.
    fn on_head(&mut self, now: Instant, id: StreamId) -> Result<Vec<u8>, Vec<u8>> {
        let Some(guest) = self.guests.get_mut(&id) else { return Ok(Vec::new()) };
        let (request, length) = match http::request(&guest.head) {
            Ok(Some(read)) => read,
            Ok(None) => return Ok(Vec::new()),
            Err(BadHead::NotHttp) => return Err(http::refusal(400, false)),
            Err(BadHead::TooLong) => return Err(http::refusal(431, false)),
        };
        guest.names = guest.pipe.channel.peer_names();
        let Some(first) = guest.names.first().cloned() else {
            return Err(http::refusal(404, matches!(request, Request::Other { head: true })));
        };
        let local = match request {
            Request::Other { head } => return Err(http::refusal(404, head)),
            Request::BadTarget => return Err(http::refusal(400, false)),
            Request::Udp { host, port } => self.own(&host, port).ok_or_else(|| http::refusal(403, false))?,
        };
        if self.open.len() >= MAX_GUESTS {
            self.dropped(DropReason::Limit);
            return Err(http::refusal(503, false));
        }
        let is_theirs = |(_, guest): &(&StreamId, &Guest)| guest.place.is_some() && guest.names.contains(&first);
        if self.guests.iter().filter(is_theirs).count() >= MAX_GUESTS_OF_ONE
            && let Some(oldest) = self.guests.iter().find(is_theirs).map(|(&id, _)| id)
        {
            self.close(oldest);
        }
        let remote = guest_address(&mut self.next_number);
        let Some(guest) = self.guests.get_mut(&id) else { return Ok(Vec::new()) };
        let capsules = guest.head.split_off(length);
        guest.head = Vec::new();
        guest.place = Some(Place { local, remote });
        guest.pipe.channel.send(&http::upgraded(&self.nms));
        guest.pipe.begin(now);
        self.waiting.end(id);
        self.open.insert(remote, id);
        Ok(capsules)
    }

    /// The service's own address that a target names, if it names one.
    fn own(&self, host: &str, port: u16) -> Option<SocketAddr> {
        let by_name = host.trim_end_matches('.').eq_ignore_ascii_case(self.config.identity.name.as_str());
        let address: Option<IpAddr> = host.parse().ok();
        let is_own = by_name || address.is_some_and(|address| self.config.addresses.contains(&address));
        let ip = address.or_else(|| self.config.addresses.first().copied());
        (is_own && port == self.config.port).then(|| SocketAddr::new(ip.unwrap_or(IpAddr::V6(super::GUESTS.0)), port))
    }

    fn written(&mut self, id: StreamId, bytes: usize) {
        if let Some(guest) = self.guests.get_mut(&id) {
            guest.pipe.written(bytes);
            self.touched.insert(id);
        }
    }

    /// Sends datagrams of the service through a connection.
    fn transmit(&mut self, now: Instant, transmit: &Transmit) {
        let guest = self.open.get(&transmit.remote).and_then(|id| Some((*id, self.guests.get_mut(id)?)));
        let Some((id, guest)) = guest else { return self.dropped(DropReason::NoTunnel) };
        for datagram in transmit.datagrams() {
            guest.pipe.send(now, datagram);
        }
        self.timers.set(id, Some(now + GUEST_IDLE));
        self.touched.insert(id);
    }

    /// Writes the bytes that wait.
    fn flush(&mut self, now: Instant) {
        while let Some(id) = self.touched.pop_first() {
            let Some(guest) = self.guests.get_mut(&id) else { continue };
            let bytes = guest.pipe.flush(now, guest.place.is_some());
            let dropped = guest.pipe.take_dropped();
            if !bytes.is_empty() {
                self.out.push_back(Output::Stream(id, StreamOutput::Write(bytes)));
            }
            for _ in 0..dropped {
                self.dropped(DropReason::QueueFull);
            }
        }
    }

    /// Closes a connection, after its last bytes.
    fn close(&mut self, id: StreamId) {
        if let Some(guest) = self.guests.get_mut(&id) {
            guest.pipe.channel.close();
            let bytes = guest.pipe.flush(Instant::ZERO, false);
            if !bytes.is_empty() {
                self.out.push_back(Output::Stream(id, StreamOutput::Write(bytes)));
            }
        }
        self.forget(id);
        self.out.push_back(Output::Stream(id, StreamOutput::Close));
    }

    /// Whether the connection was one of the door's.
    fn forget(&mut self, id: StreamId) -> bool {
        self.timers.set(id, None);
        self.touched.remove(&id);
        self.waiting.end(id);
        let was_stranger = self.strangers.remove(&id).is_some();
        let Some(guest) = self.guests.remove(&id) else { return was_stranger };
        if let Some(place) = guest.place {
            self.open.remove(&place.remote);
        }
        true
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(id) = self.timers.pop_due(now) {
            self.close(id);
        }
    }

    fn on_command(&mut self, command: &ServiceCommand) {
        let over: Vec<StreamId> = match command {
            ServiceCommand::Trust(roots) => {
                let Ok(tls) = http_tls(&self.config.tls, roots, &self.config.identity) else { return };
                (self.tls, self.config.roots) = (tls, roots.clone());
                let Ok(judge) = roots.judge(&self.config.tls) else { return };
                let is_over = |guest: &Guest| judge.check(guest.pipe.channel.peer_chain()).is_err();
                self.guests.iter().filter(|(_, g)| g.place.is_some() && is_over(g)).map(|(&id, _)| id).collect()
            }
            // A connection may outlive its client's certificate: it carries datagrams to this service only, which
            // anybody may send, and the QUIC link in them ends with the certificate.
            ServiceCommand::Identity(identity) => {
                let Ok(tls) = http_tls(&self.config.tls, &self.config.roots, identity) else { return };
                self.tls = tls;
                self.config.identity.clone_from(identity);
                Vec::new()
            }
            ServiceCommand::Revoked(names) => {
                let is_over = |guest: &Guest| guest.names.iter().any(|name| names.contains(name));
                self.guests.iter().filter(|(_, guest)| is_over(guest)).map(|(&id, _)| id).collect()
            }
            ServiceCommand::Rules(_) | ServiceCommand::Stop => Vec::new(),
        };
        for id in over {
            self.close(id);
        }
    }

    fn next_timer(&self) -> Option<Due> {
        self.timers.next().map(|at| Timer::GuestIdle.at(at))
    }

    fn tables(&self) -> Tables {
        vec![
            ("connections over TCP", self.guests.len().max(self.open.len()).max(self.touched.len())),
            ("connections over TCP that have not asked", self.strangers.len()),
        ]
    }
}

/// The next address that stands for a connection.
fn guest_address(next_number: &mut u64) -> SocketAddr {
    let address = guest(*next_number);
    *next_number += 1;
    address
}

/// The TLS settings of a door.
fn http_tls(env: &Environment, roots: &Roots, identity: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
    tls::server_config(env, roots, identity, ClientAuth::Unnamed, ALPN).map(Arc::new)
}
