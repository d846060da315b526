//! The Node Management Service.
//!
//! The NMS knows the addresses of every node, and gives each its virtual addresses (`registry`). On a Direction Request
//! it chooses the route, and tells both nodes (`routing`). In the conventional method it also makes the tunnel key and
//! the temporary key (paper §2.2.2). In the proposed method it tells addresses but no keys (paper §3.3.2). Under
//! `policy = "optimal"` it also helps nodes to learn how their networks treat packets (`survey`).
//!
//! A node's identity comes from its session: in the conventional method from its common key, in the proposed method
//! from its certificate. No field of a message's body can change it.

mod access;
mod certified;
mod fleet;
mod grants;
mod inside;
mod lapses;
mod proof;
mod rates;
mod registry;
mod routing;
mod rules;
mod survey;
mod voids;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use self::access::Access;
use self::certified::Certified;
use self::grants::PathGrants;
use self::inside::InsideTold;
use self::lapses::Lapses;
use self::proof::Tokens;
use self::rates::Rates;
use self::registry::{Registration, Session};
use self::routing::{Pending, PendingId};
use self::voids::Voids;
use crate::conventional::keys::Direction;
use crate::conventional::session::Session as SealedSession;
use crate::epoch::Epochs;
use crate::event::{DropReason, Event, Protection, Signal};
use crate::grant::Grants;
use crate::header::{Flags, Header, Kind};
use crate::key::Key128;
use crate::machine::{Input, Machine, Output, ServiceCommand, Tables, Transmit};
use crate::message::{ErrorCode, Message, RelayLeg, RelayMode};
use crate::name::{Fqdn, NodeId, Party};
use crate::probe::is_probe;
use crate::quic::{CidScheme, LinkId, LinkOutput, Links, QuicConfig};
use crate::route::Policy;
use crate::rules::Rules;
use crate::store::Store;
use crate::time::Instant;
use crate::timers::Timers;
use crate::timing::{Due, Timer, earliest};
use crate::tls::{TlsError, WallClock};
use crate::version::Versions;

pub use access::{MAX_HOLDERS, MAX_UNTOLD};
pub use fleet::Registered;
pub use inside::MAX_INSIDE;
pub use registry::MAX_NODES;
pub use routing::{MAX_PENDING, MAX_PENDING_PER_NODE};

/// The configuration of the NMS.
#[derive(Clone)]
pub struct NmsConfig {
    /// Its identity, and its QUIC settings.
    pub quic: QuicConfig,
    /// The port of the conventional method; datagrams to other ports are QUIC.
    pub conventional_port: u16,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// The database it shares with the AS.
    pub store: Arc<dyn Store>,
    /// The relay, if there is one.
    pub relay: Option<RelayConfig>,
    /// How the NMS chooses routes.
    pub policy: Policy,
    /// Which nodes may talk to which.
    pub rules: Rules,
    /// The time of a grant, for which two nodes may use the TRS. `None`: the NMS makes no grants, and the TRS has to
    /// relay without them.
    pub grants: Option<Duration>,
    /// A second port, from which it answers Probes of nodes. Unused under [`Policy::Paper`].
    pub probe_port: u16,
    /// The seed of all of its randomness.
    pub seed: [u8; 32],
}

/// What the NMS knows of the TRS.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// The TRS's name.
    pub name: Fqdn,
    /// The addresses of the TRS in the conventional method, both families.
    pub conventional: Vec<SocketAddr>,
    /// The addresses of the TRS in the proposed method, both families.
    pub proposed: Vec<SocketAddr>,
    /// The key that NMS and TRS share (conventional method).
    pub service_key: Key128,
    /// How the TRS relays (proposed method).
    pub mode: RelayMode,
}

/// The NMS. It answers both methods, which it distinguishes by port.
pub struct Nms {
    conventional_port: u16,
    addresses: Vec<IpAddr>,
    store: Arc<dyn Store>,
    relay: Option<RelayConfig>,
    policy: Policy,
    rules: Rules,
    /// The serial number of the present rules. `None` while no rules are set.
    rules_serial: Option<u64>,
    grants: Option<(Grants, u16)>,
    probe_port: u16,
    trs: Option<SealedSession>,
    /// Gives out the epochs of Relay Requests and Probe Requests.
    epochs: Epochs,
    /// The transactions of the newest requests to the TRS since its last Relay Epoch, at most `MAX_ASKED`.
    asked_trs: VecDeque<u32>,
    versions: Versions,
    /// The clock with which epochs of registrations are compared.
    clock: Arc<dyn WallClock>,
    rng: ChaCha20Rng,
    links: Links,
    /// The names in the certificate of a link's peer, after the certificate was verified.
    link_nodes: BTreeMap<LinkId, Vec<(NodeId, Fqdn)>>,
    /// The links that have not registered yet, by the first name of the certificate.
    waiting: BTreeMap<Fqdn, VecDeque<LinkId>>,
    nodes: BTreeMap<NodeId, Registration>,
    /// When the registration of a silent node ends (conventional method).
    expiry: Timers<NodeId>,
    pending: BTreeMap<PendingId, Pending>,
    /// The constructions by the initiator and its transaction.
    asked: BTreeMap<(NodeId, u32), PendingId>,
    /// The constructions by each of their two nodes.
    concerned: BTreeSet<(NodeId, PendingId)>,
    pending_timers: Timers<PendingId>,
    access: Access,
    certified: Certified,
    /// The ends of logins (conventional method).
    lapses: Lapses,
    tokens: Tokens,
    inside_told: InsideTold,
    rates: Rates,
    voids: Voids,
    path_grants: PathGrants,
    out: VecDeque<Output>,
}

impl Nms {
    /// An NMS without registered nodes.
    pub fn new(mut config: NmsConfig) -> Result<Self, TlsError> {
        config.quic.options.remembers = true;
        let mut rng = ChaCha20Rng::from_seed(config.seed);
        let tokens = Tokens::new(&config.seed);
        let versions = config.quic.options.versions;
        let seconds = config.grants.map(|time| u16::try_from(time.as_secs()).unwrap_or(u16::MAX));
        let grants = config.relay.as_ref().zip(seconds).map(|(relay, time)| (Grants::new(&relay.service_key), time));
        let trs_session = |r: &RelayConfig| SealedSession::new(&r.service_key, Direction::FromInitiator);
        let mut trs = config.relay.as_ref().map(|r| trs_session(r).speaking(versions));
        if let Some(relay) = &config.relay {
            config.quic.tls.log_service_key(NodeId::of(&relay.name), &relay.service_key);
        }
        if let Some(session) = &mut trs {
            // The service key stays the same over restarts. A random start makes it unlikely that a sequence number,
            // and so a nonce, is used again.
            session.count_from(rng.next_u32() / 2);
        }
        Ok(Self {
            conventional_port: config.conventional_port,
            addresses: config.addresses,
            store: config.store,
            relay: config.relay,
            policy: config.policy,
            rules: config.rules,
            rules_serial: None,
            grants,
            probe_port: config.probe_port,
            trs,
            epochs: Epochs::new(config.quic.tls.clock.clone()),
            asked_trs: VecDeque::new(),
            versions,
            clock: config.quic.tls.clock.clone(),
            links: Links::new(config.quic, CidScheme::Direct, true, &mut rng)?,
            rng,
            link_nodes: BTreeMap::new(),
            waiting: BTreeMap::new(),
            nodes: BTreeMap::new(),
            expiry: Timers::default(),
            pending: BTreeMap::new(),
            asked: BTreeMap::new(),
            concerned: BTreeSet::new(),
            pending_timers: Timers::default(),
            access: Access::default(),
            certified: Certified::default(),
            lapses: Lapses::default(),
            tokens,
            inside_told: InsideTold::default(),
            rates: Rates::default(),
            voids: Voids::default(),
            path_grants: PathGrants::default(),
            out: VecDeque::new(),
        })
    }

    /// Whether a node is registered.
    #[must_use]
    pub fn is_registered(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    fn on_command(&mut self, now: Instant, command: ServiceCommand) {
        match command {
            ServiceCommand::Trust(roots) => {
                if self.links.trust(now, roots).is_err() {
                    self.dropped(DropReason::BadTrust);
                }
            }
            ServiceCommand::Identity(identity) => {
                if self.links.renew(now, *identity).is_err() {
                    self.dropped(DropReason::BadTrust);
                }
            }
            ServiceCommand::Revoked(names) => {
                for name in names {
                    self.end_access(now, &name);
                }
            }
            ServiceCommand::Rules(rules) => self.change_rules(now, rules),
            ServiceCommand::Stop => {
                let sealed: Vec<NodeId> = self.nodes.iter().filter(|(_, n)| n.is_sealed()).map(|(&id, _)| id).collect();
                for node in sealed {
                    self.send(now, node, 0, 0, &Message::Error(ErrorCode::NotRegistered));
                }
                self.links.close_all(now);
            }
        }
    }

    fn dropped(&mut self, reason: DropReason) {
        self.out.push_back(Output::from(Event::Dropped(reason)));
    }

    fn signal(&mut self, to: Party, message: &Message, protection: Protection, count: u8) {
        let signal = Signal::message(Party::Nms, to, message, protection, count);
        self.out.push_back(Output::from(Event::Signal(Box::new(signal))));
    }

    /// Sends a message to a registered node. False if the node is not registered, or the message cannot be sent.
    fn send(&mut self, now: Instant, node: NodeId, transaction: u32, count: u8, message: &Message) -> bool {
        self.send_flagged(now, node, (transaction, count, Flags(0)), message)
    }

    /// As [`Self::send`], with header flags.
    fn send_flagged(
        &mut self,
        now: Instant,
        node: NodeId,
        (transaction, count, flags): (u32, u8, Flags),
        message: &Message,
    ) -> bool {
        let Some(registration) = self.nodes.get_mut(&node) else { return false };
        let name = registration.name.clone();
        let protection = match &mut registration.session {
            Session::Conventional(sealed) => {
                let Some(payload) = sealed.session.seal_flagged(transaction, flags, count, node.0, message) else {
                    return false;
                };
                if !sealed.proof.take(payload.len()) {
                    return false;
                }
                let (local, remote) = (sealed.local, sealed.remote);
                self.out.push_back(Output::from(Transmit::new(local, remote, payload)));
                Protection::CommonKey(name.clone())
            }
            Session::Proposed { link } => {
                let flags = Flags(flags.0 | Flags::FROM_RESPONDER);
                let frame = message.to_bytes(transaction, flags, count, 0, node.0);
                let link = *link;
                if !self.links.send_frame(now, link, frame.into()) {
                    return false;
                }
                Protection::Quic
            }
        };
        if !matches!(message, Message::KeepAliveAck) {
            self.signal(Party::Node(name), message, protection, count);
        }
        true
    }

    fn on_conventional(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, mut payload: BytesMut) {
        let Some(header) = Header::<u8>::read(&payload) else { return self.dropped(DropReason::BadHeader) };
        let trs = self.relay.as_ref().map(|r| NodeId::of(&r.name));
        if trs == Some(NodeId(header.id)) {
            return self.on_trs_datagram(now, (local, remote), payload);
        }
        let node = NodeId(header.id);
        let Ok(header) = header.known() else {
            self.refuse_unknown(node, local, remote, &mut payload);
            return self.dropped(DropReason::UnknownType);
        };
        let asked = header.transaction;
        let opened = self.open_sealed(now, node, (header.kind, asked, remote), &mut payload);
        if opened.is_ok() {
            self.rates.was_good(now, remote.ip());
        }
        match opened {
            Ok((header, _)) if header.kind != Kind::RegistrationRequest && self.has_lapsed(node) => {
                self.lapse(now, node);
                self.dropped(DropReason::UnknownId);
            }
            Ok((header, message)) => {
                if header.kind != Kind::RegistrationRequest && self.seen_at(now, node, &header, (local, remote)) {
                    return;
                }
                self.on_message(now, node, &header, message, Place::Conventional { local, remote });
            }
            Err(DropReason::Busy) => {
                self.challenge_stranger(now, (local, remote), asked, payload.len());
                self.dropped(DropReason::Busy);
            }
            Err(DropReason::BadHmac) if self.tell_displaced(now, node, header.kind, (local, remote), &mut payload) => {}
            Err(reason) => {
                if reason == DropReason::UnknownId && !self.nodes.contains_key(&node) {
                    self.tell_forgotten(now, node, (local, remote), &mut payload);
                }
                self.dropped(reason);
            }
        }
    }

    fn drain_links(&mut self, now: Instant) {
        while let Some(output) = self.links.poll() {
            match output {
                LinkOutput::Transmit(transmit) | LinkOutput::Bare(transmit) => {
                    self.out.push_back(Output::from(transmit));
                }
                LinkOutput::Connected { link, peer, .. } => self.on_link(now, link, &peer),
                LinkOutput::Frame(link, header, body) => self.on_frame(now, link, &header, &body),
                LinkOutput::Datagrams(_, frames) => frames.iter().for_each(|_| self.dropped(DropReason::Unexpected)),
                LinkOutput::Closed(link, reason) => self.on_link_closed(now, link, reason),
                LinkOutput::Dropped(reason) => self.dropped(reason),
                // Only nodes have paths, and only a client moves.
                LinkOutput::Pathed(..) | LinkOutput::Followed(_) => {}
            }
        }
    }

    fn on_frame(&mut self, now: Instant, link: LinkId, header: &Header, body: &[u8]) {
        let Some(names) = self.link_nodes.get(&link) else { return };
        let node = NodeId(header.id);
        if !names.iter().any(|&(id, _)| id == node) {
            return self.dropped(DropReason::WrongIdentity);
        }
        let Ok(message) = Message::decode_body(header.kind, body) else {
            if header.kind != Kind::Error {
                self.refuse_on(now, link, header, ErrorCode::Malformed(header.kind as u8));
            }
            return self.dropped(DropReason::BadBody);
        };
        if header.kind != Kind::RegistrationRequest && !self.is_on(node, link) {
            self.refuse_on(now, link, header, ErrorCode::NotRegistered);
            return self.dropped(DropReason::UnknownId);
        }
        self.on_message(now, node, header, message, Place::Proposed { link });
    }

    fn on_message(&mut self, now: Instant, node: NodeId, header: &Header, message: Message, place: Place) {
        if let Some(registration) = self.nodes.get_mut(&node) {
            registration.slow = header.flags.is_slow();
        }
        match message {
            Message::RegistrationRequest(request) => self.on_registration(now, node, header, &request, place),
            Message::KeepAlive => self.on_keep_alive(now, node, header.transaction),
            Message::DirectionRequest(request) => self.on_direction_request(now, node, header, &request),
            Message::NetworkReport(report) => self.on_network_report(now, node, header.transaction, &report),
            Message::RouteConfirmation(m) => self.on_confirmation(now, node, header.transaction, m.leg),
            Message::GrantRequest(request) => self.on_grant_request(now, node, header.transaction, &request),
            Message::RelayLeg(RelayLeg { leg }) => {
                if let Some(registration) = self.nodes.get_mut(&node) {
                    registration.leg = leg;
                }
            }
            Message::PeerReport(report) => self.on_peer_report(now, node, header.transaction, &report.peers),
            Message::KeepAliveAck if self.on_told(node, header.transaction) => {}
            _ => self.dropped(DropReason::Unexpected),
        }
    }
}

/// The address or link from which a message came.
#[derive(Clone, Copy)]
enum Place {
    Conventional { local: SocketAddr, remote: SocketAddr },
    Proposed { link: LinkId },
}

impl Machine for Nms {
    type Command = ServiceCommand;

    fn feed(&mut self, now: Instant, input: Input<ServiceCommand>) {
        self.epochs.begin(now);
        match input {
            Input::Datagram { local, remote, payload } if local.port() == self.probe_port || is_probe(&payload) => {
                self.on_probe(now, local, remote, payload);
            }
            Input::Datagram { local, remote, payload } if local.port() == self.conventional_port => {
                self.on_conventional(now, local, remote, payload);
            }
            Input::Datagram { local, remote, payload } => self.links.handle_datagram(now, local, remote, payload),
            Input::Stream(..) | Input::Packet(_) => self.dropped(DropReason::Unexpected),
            Input::Timeout => {
                self.links.handle_timeout(now);
                self.expire(now);
                self.end_lapsed(now);
                self.pending_timeout(now);
                self.tell_again(now);
                self.void_again(now);
            }
            Input::Command(command) => self.on_command(now, command),
        }
        self.drain_links(now);
    }

    fn poll_output(&mut self) -> Output {
        self.out.pop_front().unwrap_or_else(|| Output::Wait(self.next_timer()))
    }

    fn next_timer(&self) -> Option<Due> {
        let silent = self.expiry.next().map(|at| Timer::SilentNode.at(at));
        let access = [self.access.next_timer(), self.voids.next_timer(), self.lapses.next_timer()];
        earliest([self.links.next_timer(), silent, self.next_pending_timer()].into_iter().chain(access))
    }

    fn tables(&self) -> Tables {
        vec![
            ("connections", self.links.count()),
            ("connections whose owner is known", self.link_nodes.len().max(self.waiting.len())),
            ("registrations", self.nodes.len().max(self.expiry.count())),
            ("route constructions", self.pending.len().max(self.asked.len()).max(self.concerned.len() / 2)),
            ("timers", self.pending_timers.count()),
            ("access", self.access.count()),
            ("addresses in certificates", self.certified.count()),
            ("logins that end", self.lapses.count()),
            ("inside addresses told", self.inside_told.count()),
            ("rates of nodes and sources", self.rates.count()),
            ("paths to be taken away", self.voids.count()),
            ("paths to be granted anew", self.path_grants.count()),
        ]
    }
}
