//! One endpoint and its links.

mod closed;
mod counts;
mod incoming;
mod lifespan;
mod link;
mod pathed;
mod reflexive;
mod resets;
mod search;
mod views;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use quinn_proto::{Connection, ConnectionHandle, Endpoint, SendDatagramError, StreamId, VarInt};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use ring::hmac;

pub use self::closed::LinkClosed;
use self::counts::{Rebound, asking, heard};
pub use self::incoming::MAX_HALF_OPEN;
use self::lifespan::Lifespan;
pub use self::pathed::is_initial;
use self::reflexive::Answers;
use self::resets::Resets;
use super::cid::{CidScheme, Minted, initial_destination};
use super::config::{self, DATAGRAM_BUFFER, Load, QuicConfig};
use super::{from_std, to_std};
use crate::event::DropReason;
use crate::header::Header;
use crate::machine::Transmit;
use crate::message::FrameReader;
use crate::name::{Fqdn, RelayCid};
use crate::paths::recent::Datagrams;
use crate::shares::Shares;
use crate::time::Instant;
use crate::timing::{Due, Timer};
use crate::tls::{Judge, TlsError};
use crate::version::Spoken;

/// Bytes of messages and packets that may wait for a link's stream.
pub const MAX_STREAM_BACKLOG: usize = 512 * 1024;
/// Most links of one endpoint.
const MAX_LINKS: usize = 100_000;

/// Application error code 0 (RFC 9000 §10.2): the link is closed in order.
const IN_ORDER: VarInt = VarInt::from_u32(0);
/// Application error code 2: the peer broke the protocol on its stream. Code 1 is taken: parts of version 1 send it for
/// a message that they do not know ([`LinkClosed::Outdated`]).
const BROKEN: VarInt = VarInt::from_u32(2);
/// Application error code 3: the node of this link has registered on another one. A node that is still there learns so
/// that another machine has its name and key ([`LinkClosed::Displaced`]).
const DISPLACED: VarInt = VarInt::from_u32(3);

/// Unreadable messages in a row after which a link is closed. A peer of a later version sends far fewer: it learns from
/// our answer which version to speak.
pub const MOST_UNREAD: u32 = 64;

/// Names a link of one [`Links`]; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(test, derive(Default))]
pub struct LinkId(u64);

impl LinkId {
    /// Whether the link is one of an endpoint whose packets travel on paths ([`Links::on_paths`]).
    pub fn is_pathed(self) -> bool {
        self.0 >= FIRST_PATHED
    }
}

/// The first number of a link whose packets travel on paths.
const FIRST_PATHED: u64 = 1 << 63;

/// An output of [`Links`].
#[derive(Debug)]
pub enum LinkOutput {
    /// Send a UDP datagram.
    Transmit(Box<Transmit>),
    /// Send a UDP datagram that the peer does not answer, an acknowledgement for example ([`Links::tell_bare`]).
    Bare(Box<Transmit>),
    /// Send datagrams of this link on its path in use ([`Links::on_paths`]).
    Pathed(LinkId, Datagrams),
    /// After [`Links::rebind`]: the peer has seen the new address, and has sent a PATH_CHALLENGE to it. What is sent on
    /// the link from now on follows the PATH_RESPONSE.
    Followed(LinkId),
    /// A handshake is finished; both certificates are good.
    Connected {
        /// The link.
        link: LinkId,
        /// Whether we opened it.
        client: bool,
        /// The names in the peer's certificate.
        peer: Vec<Fqdn>,
    },
    /// A message arrived on the stream.
    Frame(LinkId, Header, Bytes),
    /// DATAGRAM frames arrived. There is at least one. Many come together, and one output for all of them costs less.
    Datagrams(LinkId, Vec<Bytes>),
    /// The link is gone.
    Closed(LinkId, LinkClosed),
    /// Something was dropped.
    Dropped(DropReason),
}

/// Why a DATAGRAM frame was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatagramRefused {
    /// These data are longer than the path or the peer takes now; the limit in bytes.
    TooLarge(usize, Bytes),
    /// The send buffer is full.
    Full,
    /// No such link, or it is not up.
    Closed,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Link {
    connection: Connection,
    handle: ConnectionHandle,
    /// Our address for packets to the peer's present address.
    local: SocketAddr,
    /// The peer's address before the present one, and ours for packets to it.
    before: Option<(SocketAddr, SocketAddr)>,
    /// Where packets to a service go, and come from, if that is another address of it than the one that quinn knows.
    reached_at: Option<SocketAddr>,
    connected: bool,
    closed: bool,
    /// When the handshake of a half-open incoming link must be finished.
    half_open: Option<Instant>,
    /// The peer broke the protocol on its stream.
    broken: bool,
    /// Messages in a row that could not be read.
    unread: u32,
    /// The versions that the peer named last.
    theirs: Option<Spoken>,
    send_stream: Option<StreamId>,
    readers: BTreeMap<StreamId, FrameReader>,
    backlog: VecDeque<Bytes>,
    backlog_bytes: usize,
    deadline: Option<Instant>,
    /// How many frames the peer sent in packets that were authentic and new, and when the last one came.
    heard: u64,
    heard_at: Instant,
    /// The same count at the last [`Links::hear_datagram`].
    pathed: u64,
    /// After [`Links::rebind`], until the peer has seen where we are now.
    rebound: Option<Rebound>,
    /// The number of PATH_RESPONSE frames received.
    responses: u64,
    /// Datagrams that were taken since [`Self::hear`] looked, and their bytes.
    taken: (usize, usize),
    /// Whether datagrams were taken or queued since the link was last driven.
    touched: bool,
    /// The peer's validated address. quinn uses a new address at once, and validates it afterwards.
    proved: SocketAddr,
    /// We dialed it for messages.
    is_signaling: bool,
    /// The addresses that a dialed peer's listener answers from.
    answers: Option<Answers>,
    /// Of an incoming link whose handshake is not finished: the bytes that came from there and that went there. quinn
    /// itself sends up to one datagram more than it may.
    unproved: Option<(usize, usize)>,
    lifespan: Lifespan,
}

/// One quinn-proto endpoint and its connections.
pub struct Links {
    config: QuicConfig,
    /// Judges the certificates by which peers renew theirs.
    judge: Judge,
    endpoint: Endpoint,
    client: quinn_proto::ClientConfig,
    server: Option<Arc<quinn_proto::ServerConfig>>,
    /// For incoming connections without path MTU discovery, if new ones have none now.
    unprobed: Option<Arc<quinn_proto::ServerConfig>>,
    dcid_rng: Arc<Mutex<ChaCha20Rng>>,
    /// The key of a server's address-validation tokens.
    tokens: Option<[u8; 32]>,
    links: BTreeMap<LinkId, Link>,
    minted: Minted,
    /// The key of [`CidScheme::Marked`].
    marks: Option<hmac::Key>,
    resets: Resets,
    /// Our own connection IDs on links with [`Answers`].
    ids: BTreeMap<RelayCid, LinkId>,
    by_handle: BTreeMap<usize, LinkId>,
    deadlines: BTreeSet<(Instant, LinkId)>,
    next_id: u64,
    half_open: Shares<LinkId>,
    /// Links that [`Self::finish`] has to move.
    touched: Vec<LinkId>,
    /// The packets of its links travel on [`crate::paths`].
    on_paths: bool,
    /// Whether [`LinkOutput::Bare`] is told apart.
    tells_bare: bool,
    out: VecDeque<LinkOutput>,
}

impl Links {
    /// An endpoint. With `accept`, it is a server as well as a client. All of its randomness comes from `rng`.
    pub fn new(config: QuicConfig, scheme: CidScheme, accept: bool, rng: &mut ChaCha20Rng) -> Result<Self, TlsError> {
        let mut seed = || {
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            seed
        };
        // One endpoint of a part has each of these keys: a live connection of one is never reset by another.
        let memory = match scheme {
            CidScheme::Marked => Some(config.identity.derive(b"cyphonic tunnels")),
            _ => config.options.remembers.then(|| config.identity.derive(b"cyphonic quic")),
        };
        let marks = memory.as_ref().filter(|_| scheme == CidScheme::Marked).map(config::mark_key);
        let minted = Minted::default();
        let endpoint_config = config::endpoint(scheme, seed(), &seed(), seed(), memory.as_ref(), &minted);
        let tokens = accept.then(&mut seed);
        let server = tokens.map(|key| config.server(&key)).transpose()?.map(Arc::new);
        let client = config.client()?;
        Ok(Self {
            judge: config.roots.judge(&config.tls)?,
            endpoint: Endpoint::new(Arc::new(endpoint_config), server.clone(), true, None),
            client,
            server,
            unprobed: None,
            dcid_rng: Arc::new(Mutex::new(ChaCha20Rng::from_seed(seed()))),
            tokens,
            config,
            links: BTreeMap::new(),
            minted,
            marks,
            resets: Resets::default(),
            ids: BTreeMap::new(),
            by_handle: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next_id: 0,
            half_open: Shares::default(),
            touched: Vec::new(),
            on_paths: false,
            tells_bare: false,
            out: VecDeque::new(),
        })
    }

    /// Opens a link to `remote`, whose certificate must name `name`. With `via`, the first packets carry that relay
    /// prefix. `None` if quinn refuses the address or name.
    pub fn connect(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        name: &Fqdn,
        via: Option<RelayCid>,
        load: Load,
    ) -> Option<LinkId> {
        self.dial(now, (local, remote), name, via, load, &[])
    }

    /// `places`: the addresses of a service.
    fn dial(
        &mut self,
        now: Instant,
        (local, remote): (SocketAddr, SocketAddr),
        name: &Fqdn,
        via: Option<RelayCid>,
        load: Load,
        places: &[SocketAddr],
    ) -> Option<LinkId> {
        if self.links.len() >= MAX_LINKS {
            return None;
        }
        let mut client = self.client.clone();
        client.transport_config(self.config.client_transport(load)).initial_dst_cid_provider(initial_destination(
            &self.dcid_rng,
            via,
            self.on_paths,
        ));
        let (handle, connection) = self.endpoint.connect(to_std(now), client, remote, name.as_str()).ok()?;
        let id = self.insert(now, handle, connection, local, None);
        if let Some(link) = self.links.get_mut(&id) {
            link.is_signaling = load == Load::Signaling;
        }
        if !places.is_empty() {
            self.expect_at(id, remote, places);
        } else if via.is_none() && load != Load::Signaling && !self.on_paths {
            self.expect_elsewhere(id, remote);
        } else {
            self.note_ids(id);
        }
        self.drive(now, id);
        Some(id)
    }

    fn insert(
        &mut self,
        now: Instant,
        handle: ConnectionHandle,
        connection: Connection,
        local: SocketAddr,
        unproved: Option<(usize, usize)>,
    ) -> LinkId {
        let id = LinkId(self.next_id);
        self.next_id += 1;
        self.by_handle.insert(handle.0, id);
        let (heard, proved) = (heard(&connection), connection.remote_address());
        let link = Link {
            connection,
            handle,
            local,
            before: None,
            reached_at: None,
            connected: false,
            closed: false,
            half_open: None,
            broken: false,
            unread: 0,
            theirs: None,
            send_stream: None,
            readers: BTreeMap::new(),
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            deadline: None,
            heard,
            heard_at: now,
            pathed: 0,
            rebound: None,
            responses: 0,
            taken: (0, 0),
            touched: false,
            proved,
            is_signaling: false,
            answers: None,
            unproved,
            lifespan: Lifespan::default(),
        };
        self.links.insert(id, link);
        id
    }

    /// Makes [`Self::poll`] give what arrived on established links, before [`Self::finish`] answers it.
    pub fn deliver(&mut self) {
        let time = self.config.tls.judging();
        for &id in &self.touched {
            let Some(link) = self.links.get_mut(&id).filter(|link| link.delivers(time)) else { continue };
            link.take_events(id, self.config.options.versions, &mut self.out);
        }
    }

    /// Completes what [`Self::take_datagram`] and [`Self::queue_datagram`] began. Afterwards [`Self::poll`] gives every
    /// output.
    pub fn finish(&mut self, now: Instant) {
        while let Some(id) = self.touched.pop() {
            self.move_on(now, id);
        }
    }

    /// Moves a link on after datagrams were taken or queued.
    fn move_on(&mut self, now: Instant, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.touched = false;
        let strange = link.hear(now);
        let followed = link.follow();
        self.out.extend(std::iter::repeat_with(|| LinkOutput::Dropped(DropReason::NotAuthentic)).take(strange));
        self.drive(now, id);
        if followed {
            self.out.push_back(LinkOutput::Followed(id));
        }
    }

    /// Handles every timer that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.deadlines.first() {
            if at > now {
                break;
            }
            self.deadlines.pop_first();
            let link = self.links.get_mut(&id).expect("deadlines belong to links");
            link.deadline = None;
            let before = link.connection.remote_address();
            link.connection.handle_timeout(to_std(now));
            if link.connection.remote_address() != before {
                // The new path was not proved. What was in flight there keeps quinn's loss timer armed. When it fires,
                // quinn asserts that something is in flight on the path in use.
                link.return_from(before);
                link.connection.ping();
            }
            if link.half_open.is_some_and(|until| until <= now) && !link.closed {
                // No datagram is sent: the address was never validated, and may be another host's.
                link.unproved = Some((0, 0));
                link.end(now, IN_ORDER);
            }
            if link.silent_at(&self.config).is_some_and(|at| at <= now) {
                link.end(now, IN_ORDER);
                self.out.push_back(LinkOutput::Closed(id, LinkClosed::Timeout));
            }
            self.drive(now, id);
        }
    }

    /// When [`Self::handle_timeout`] has to be called, and for which timer.
    pub fn next_timer(&self) -> Option<Due> {
        let &(at, id) = self.deadlines.first()?;
        let link = &self.links[&id];
        let timer = match at {
            _ if link.half_open == Some(at) => Timer::LinkHandshake,
            _ if link.silent_at(&self.config) == Some(at) => Timer::LinkIdle,
            _ => Timer::Quic,
        };
        Some(timer.at(at))
    }

    /// How many connections there are, in any state.
    pub fn count(&self) -> usize {
        self.links.len().max(self.endpoint.open_connections())
    }

    /// The next output.
    pub fn poll(&mut self) -> Option<LinkOutput> {
        self.out.pop_front()
    }

    /// Queues a whole message (header and body) on the link's stream. False if the link is gone or its backlog full.
    pub fn send_frame(&mut self, now: Instant, id: LinkId, frame: Bytes) -> bool {
        let Some(link) = self.links.get_mut(&id).filter(|l| !l.closed) else { return false };
        if link.backlog_bytes + frame.len() > MAX_STREAM_BACKLOG {
            return false;
        }
        link.queue(self.config.options.versions, frame);
        self.drive(now, id);
        true
    }

    /// Sends a packet in a DATAGRAM frame.
    pub fn send_datagram(&mut self, now: Instant, id: LinkId, data: Bytes) -> Result<(), DatagramRefused> {
        let sent = self.queue_datagram(now, id, data);
        self.finish(now);
        sent
    }

    /// As [`Self::send_datagram`], for one of several; [`Self::finish`] has to follow the last one.
    pub fn queue_datagram(&mut self, now: Instant, id: LinkId, data: Bytes) -> Result<(), DatagramRefused> {
        let Some(link) = self.links.get_mut(&id).filter(|l| l.connected && !l.closed) else {
            return Err(DatagramRefused::Closed);
        };
        // quinn does not give back what is too large.
        let sent = match link.connection.datagrams().max_size() {
            Some(limit) if data.len() > limit => Err(DatagramRefused::TooLarge(limit, data)),
            _ => link.connection.datagrams().send(data, false).map_err(|error| match error {
                SendDatagramError::Blocked(_) => DatagramRefused::Full,
                SendDatagramError::TooLarge | SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled => {
                    DatagramRefused::Closed
                }
            }),
        };
        if link.connection.datagrams().send_buffer_space() < DATAGRAM_BUFFER / 2 {
            self.move_on(now, id);
        } else if !std::mem::replace(&mut link.touched, true) {
            self.touched.push(id);
        }
        sent
    }

    /// Closes a link in order; the peer is told. No [`LinkOutput::Closed`] follows.
    pub fn close(&mut self, now: Instant, id: LinkId) {
        self.close_by(now, id, IN_ORDER);
    }

    /// As [`Self::close`], because the node of this link has registered on another one.
    pub fn displace(&mut self, now: Instant, id: LinkId) {
        self.close_by(now, id, if defect!(DisplacedUntold) { IN_ORDER } else { DISPLACED });
    }

    fn close_by(&mut self, now: Instant, id: LinkId, code: VarInt) {
        if let Some(link) = self.links.get_mut(&id).filter(|l| !l.closed) {
            link.end(now, code);
            self.drive(now, id);
        }
    }

    /// Closes every link, in order of age.
    pub fn close_all(&mut self, now: Instant) {
        let open: Vec<_> = self.links.iter().filter(|(_, l)| !l.closed).map(|(&id, _)| id).collect();
        for id in open {
            self.close(now, id);
        }
    }

    /// Sends a frame that needs an acknowledgement, so that the peer learns our present address.
    pub fn ping(&mut self, now: Instant, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id).filter(|l| l.connected && !l.closed) {
            link.connection.ping();
            self.drive(now, id);
        }
    }

    /// Moves one link as far as it goes: events, stream, endpoint events, packets to send.
    fn drive(&mut self, now: Instant, id: LinkId) {
        let (at, time) = (to_std(now), self.config.tls.judging());
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.has_lapsed(time) {
            link.end(now, IN_ORDER);
            self.out.push_back(LinkOutput::Closed(id, LinkClosed::CertificateDates));
        }
        let (mut drained, mut minted) = (false, false);
        loop {
            let mut again = false;
            link.take_events(id, self.config.options.versions, &mut self.out);
            if let Some(offer) = link.lifespan.offered.take() {
                let taken = link.take_renewal(now, &offer, &self.judge);
                self.out.extend(taken.err().map(LinkOutput::Dropped));
            }
            link.flush(self.config.options.versions);
            if link.broken && !link.closed {
                link.end(now, BROKEN);
                self.out.push_back(LinkOutput::Closed(id, LinkClosed::Lost));
            }
            if (link.connected || link.closed) && link.half_open.take().is_some() {
                self.half_open.end(id);
            }
            while let Some(event) = link.connection.poll_endpoint_events() {
                again = true;
                drained |= event.is_drained();
                if let Some(event) = self.endpoint.handle_event(link.handle, event) {
                    link.connection.handle_event(event);
                    minted = true;
                }
            }
            let mut buf = Vec::new();
            // Counting costs a little for each datagram, so it is done where somebody needs it.
            let counts = self.on_paths || self.tells_bare && link.is_signaling;
            let mut asked = if counts { asking(&link.connection) } else { 0 };
            loop {
                let doubt = link.doubt();
                let sure = link.connected && doubt.is_none();
                let most = if sure { self.config.options.segments } else { 1 };
                let Some(transmit) = link.connection.poll_transmit(at, most, &mut buf) else { break };
                link.note_proof(doubt, transmit.destination);
                let payload = std::mem::take(&mut buf);
                debug_assert_eq!(payload.len(), transmit.size);
                if !link.may_send(payload.len()) {
                    continue;
                }
                let (local, remote) = link.way_to(transmit.destination);
                let segment = transmit.segment_size;
                let before = if counts { std::mem::replace(&mut asked, asking(&link.connection)) } else { 0 };
                let asks = !counts || asked > before;
                self.out.push_back(if self.on_paths {
                    LinkOutput::Pathed(id, Datagrams { payload, segment, asks })
                } else if asks {
                    LinkOutput::Transmit(Box::new(Transmit { local, remote, payload, segment }))
                } else {
                    LinkOutput::Bare(Box::new(Transmit { local, remote, payload, segment }))
                });
            }
            if !again {
                break;
            }
        }
        let quinn = link.connection.poll_timeout().map(|t| from_std(t).max(now));
        let timers = [quinn, link.half_open, link.silent_at(&self.config), link.lapses_at(now, time)];
        let next = if drained { None } else { timers.into_iter().flatten().min() };
        if next != link.deadline {
            if let Some(old) = link.deadline {
                self.deadlines.remove(&(old, id));
            }
            if let Some(new) = next {
                self.deadlines.insert((new, id));
            }
            link.deadline = next;
        }
        if drained {
            self.forget(id);
        } else if minted {
            self.note_ids(id);
        }
    }

    /// Takes a link out of every table.
    fn forget(&mut self, id: LinkId) -> Option<Link> {
        let mut link = self.links.remove(&id)?;
        self.by_handle.remove(&link.handle.0);
        if let Some(deadline) = link.deadline.take() {
            self.deadlines.remove(&(deadline, id));
        }
        self.half_open.end(id);
        self.forget_ids(link.answers.take());
        Some(link)
    }
}
