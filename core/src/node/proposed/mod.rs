//! The proposed method's carriage (paper §3): everything over QUIC.
//!
//! One endpoint carries the links to AS, NMS and TRS and all direct tunnels, as client and as server, on one port. A
//! tunnel through a blind TRS has an endpoint of its own, because its connection IDs must begin with this node's leg to
//! the TRS; datagrams are told apart by that prefix.

mod ahead;
mod carrier;
mod dialing;
mod end;
mod expected;
mod granted;
mod inbound;
mod legs;
mod moving;
mod overtaken;
mod pathed;
mod relayed;
mod services;
mod standby;
mod tunnel;
mod vouched;
mod waking;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::RngCore;

use self::end::End;
use self::expected::Expected;
use self::granted::Held;
use self::inbound::Inbound;
use self::overtaken::Overtaken;
use self::pathed::{More, Pathed, end_of};
use self::services::NmsLinks;
use self::standby::Standby;
use self::tunnel::{EndToEnd, Path, Tunnel, TunnelState};
use super::carriage::{Carriage, CarriageOutput, Kept, SendRefused};
use super::part::{Asked, TunnelId};
use super::places::Places;
use super::status::TunnelStatus;
use super::{NodeConfig, Services};
use crate::event::{DropReason, Failure, Protection};
use crate::header::{Flags, Header, Kind};
use crate::machine::{Output, StreamId, StreamInput, Tables};
use crate::message::{Credential, Framing, LoginRequest, LoginResponse, Message, RelayGrant, RouteDirection};
use crate::name::{Fqdn, NodeId, Party, RelayCid, Virtual};
use crate::paths::budget::SilentTargets;
use crate::paths::candidates::Way;
use crate::paths::probe::tag_of;
use crate::paths::strategy::Handover;
use crate::probe::{is_not_quic, is_punch};
use crate::quic::{CidScheme, LinkClosed, LinkId, LinkOutput, Links, Load, QuicConfig, destination_prefix};
use crate::time::Instant;
use crate::timers::Timers;
use crate::timing::{Due, Timer, earliest};
use crate::tls::{self, Identity, Roots, TlsError};

pub(super) struct Proposed {
    name: Fqdn,
    id: NodeId,
    places: Places,
    services: Services,
    framing: Framing,
    quic: QuicConfig,
    rng: ChaCha20Rng,
    links: Links,
    owners: BTreeMap<LinkId, Owner>,
    /// Links with [`Owner::Inbound`], and when they are closed if the NMS does not announce their peer.
    inbound: BTreeSet<LinkId>,
    inbound_timers: Timers<LinkId>,
    /// The link to the NMS that is in use.
    nms: Option<LinkId>,
    nms_links: NmsLinks,
    slow: bool,
    tunnels: BTreeMap<TunnelId, Tunnel>,
    /// The peers that will dial, and those to which a path ended while its MTU was searched for. There is no further
    /// search on paths to these, as long as the node is in this network: some NATs end a mapping on the Packet Too Big
    /// that a probe causes, which RFC 5508 REQ-7 forbids.
    expected: Expected,
    /// Tunnels through a blind TRS, by our leg.
    by_leg: BTreeMap<RelayCid, TunnelId>,
    /// The tunnels through a blind TRS that [`Carriage::finish`] has to drive.
    blind_touched: BTreeSet<TunnelId>,
    /// When to check whether the search for the MTU of a tunnel's path has ended the path.
    searches: Timers<TunnelId>,
    timers: Timers<TunnelId>,
    /// What this node wants to do when one of two nodes moves.
    handover: Handover,
    /// How long a connection to a peer carries packets before another one replaces it.
    tunnel_lifetime: Duration,
    /// The endpoint of all direct tunnels, if their packets travel on paths.
    shared: Option<Links>,
    /// Whether [`Carriage::finish`] has to drive the shared endpoint.
    shared_touched: bool,
    /// Connections with paths beneath them.
    pathed: BTreeMap<End, Pathed>,
    /// The ends that are closing.
    closing: BTreeSet<End>,
    /// The ends by our tag of probes, and by our leg.
    by_probe: BTreeMap<RelayCid, End>,
    by_bound: BTreeMap<RelayCid, End>,
    silent: SilentTargets,
    /// Datagrams of this instant that the paths have not been told of yet.
    more: Option<More>,
    /// When the NMS was asked for a sign, because paths do not work.
    asked_nms: Option<Instant>,
    path_timers: Timers<End>,
    grants: Held,
    standby: Standby,
    overtaken: Overtaken,
    out: VecDeque<CarriageOutput>,
}

/// The purpose of a link of the main endpoint.
enum Owner {
    As {
        transaction: u32,
    },
    Nms,
    Leg(TunnelId),
    /// A leg that no tunnel uses yet.
    Standby,
    Direct(TunnelId),
    Inbound(Inbound),
}

impl Proposed {
    pub(super) fn new(config: &NodeConfig, rng: &mut ChaCha20Rng) -> Result<Self, TlsError> {
        let identity = config.identity.clone().ok_or(TlsError::NoIdentity)?;
        let has_paths = config.handover == Handover::Seamless;
        let mut quic = QuicConfig {
            tls: config.tls.clone(),
            roots: config.roots.clone(),
            identity,
            alpn: config.alpn.clone(),
            options: config.quic.clone(),
        };
        let mut rng = super::part::fork(rng);
        quic.options.reopens = has_paths;
        let links = Links::new(quic.clone(), CidScheme::Direct, !has_paths, &mut rng)?.tell_bare();
        let shared = has_paths
            .then(|| Links::new(quic.clone(), CidScheme::Marked, true, &mut rng).map(Links::on_paths))
            .transpose()?;
        Ok(Self {
            handover: config.handover,
            tunnel_lifetime: config.tunnel_lifetime,
            shared,
            shared_touched: false,
            pathed: BTreeMap::new(),
            closing: BTreeSet::new(),
            by_probe: BTreeMap::new(),
            by_bound: BTreeMap::new(),
            silent: SilentTargets::default(),
            more: None,
            asked_nms: None,
            path_timers: Timers::default(),
            grants: Held::default(),
            standby: Standby::default(),
            overtaken: Overtaken::default(),
            name: config.name.clone(),
            id: NodeId::of(&config.name),
            places: Places::new(config),
            services: config.services.clone(),
            framing: config.framing,
            quic,
            rng,
            links,
            owners: BTreeMap::new(),
            inbound: BTreeSet::new(),
            inbound_timers: Timers::default(),
            nms: None,
            nms_links: NmsLinks::default(),
            slow: false,
            tunnels: BTreeMap::new(),
            expected: Expected::default(),
            by_leg: BTreeMap::new(),
            blind_touched: BTreeSet::new(),
            searches: Timers::default(),
            timers: Timers::default(),
            out: VecDeque::new(),
        })
    }

    fn me(&self) -> Party {
        Party::Node(self.name.clone())
    }

    fn dropped(&mut self, reason: DropReason) {
        self.out.push_back(CarriageOutput::dropped(reason));
    }

    /// Opens a link to the first of a service's addresses that we can reach. If tunnels have paths, the link may move
    /// along to another one.
    fn open(&mut self, now: Instant, remotes: &[SocketAddr], name: &Fqdn, load: Load) -> Result<LinkId, Failure> {
        let way = self.places.first(remotes).ok_or(Failure::NoAddress)?;
        let places = if self.shared.is_some() { remotes } else { &[] };
        self.links.connect_service(now, way, places, name, load).ok_or(Failure::Protocol)
    }

    fn connect(
        &mut self,
        now: Instant,
        (local, remote): (SocketAddr, SocketAddr),
        name: &Fqdn,
        load: Load,
    ) -> Option<LinkId> {
        self.links.connect(now, local, remote, name, None, load)
    }

    /// Closes a link that is not needed any more.
    fn close(&mut self, now: Instant, link: LinkId) {
        if let Some(Owner::Inbound(inbound)) = self.owners.remove(&link) {
            self.lose_ahead(&inbound.ahead);
        }
        self.no_longer_inbound(link);
        self.of_mut(link).close(now, link);
        if link.is_pathed() {
            self.shared_touched = true;
            self.close_end(End::Shared(link));
        }
    }

    /// Carries out all outputs of the main endpoint, then those of the endpoints of blind tunnels that follow from
    /// them.
    fn drain_links(&mut self, now: Instant) {
        self.drain_main(now);
        while !self.blind_touched.is_empty() || self.shared_touched {
            if let Some(shared) = &mut self.shared {
                shared.finish(now);
            }
            self.finish_blind(now);
            self.drain_main(now);
        }
        if !self.closing.is_empty() {
            self.bury();
        }
    }

    fn drain_main(&mut self, now: Instant) {
        self.shared_touched = false;
        while let Some(output) = self.links.poll().or_else(|| self.shared.as_mut()?.poll()) {
            match output {
                LinkOutput::Pathed(link, datagrams) => self.send_pathed(now, End::Shared(link), datagrams),
                LinkOutput::Followed(link) => self.on_followed(now, link),
                LinkOutput::Transmit(transmit) => {
                    self.out.push_back(CarriageOutput::Pass(Output::from(transmit)));
                }
                LinkOutput::Bare(transmit) => self.out.push_back(CarriageOutput::Unasking(transmit)),
                LinkOutput::Connected { link, client, peer } => self.on_connected(now, link, client, peer),
                LinkOutput::Frame(link, header, body) => self.on_frame(now, link, &header, body),
                LinkOutput::Datagrams(link, frames) => self.on_datagram_frames(link, frames),
                LinkOutput::Closed(link, reason) => self.on_closed(now, link, reason),
                LinkOutput::Dropped(reason) => self.dropped(reason),
            }
        }
    }

    fn on_connected(&mut self, now: Instant, link: LinkId, client: bool, names: Vec<Fqdn>) {
        if !client {
            return self.on_inbound(now, link, names);
        }
        let to = match self.owners.get(&link) {
            Some(Owner::As { .. }) => Party::As,
            Some(Owner::Nms) => Party::Nms,
            Some(Owner::Leg(_) | Owner::Standby) => Party::Trs,
            Some(Owner::Direct(tunnel)) => Party::Node(self.tunnels[tunnel].name.clone()),
            Some(Owner::Inbound(_)) | None => return self.close(now, link),
        };
        self.out.push_back(CarriageOutput::handshake(self.me(), to, "QUIC handshake"));
        match self.owners[&link] {
            Owner::As { transaction } => {
                let request =
                    Message::LoginRequest(LoginRequest { device: self.id, credential: Credential::Certificate });
                self.send(now, link, Party::As, transaction, self.id.0, &request);
            }
            Owner::Nms => self.on_nms_connected(now, link),
            Owner::Leg(tunnel) => self.on_leg_open(now, tunnel, link),
            Owner::Standby => self.on_standby_open(now, link),
            Owner::Direct(tunnel) => self.request_tunnel(now, tunnel, link),
            Owner::Inbound(_) => {}
        }
    }

    /// Sends a message on a link of the main endpoint.
    fn send(&mut self, now: Instant, link: LinkId, to: Party, transaction: u32, id: [u8; 16], message: &Message) {
        self.send_flagged(now, link, to, (transaction, Flags(0)), id, message);
    }

    fn send_flagged(
        &mut self,
        now: Instant,
        link: LinkId,
        to: Party,
        (transaction, flags): (u32, Flags),
        id: [u8; 16],
        message: &Message,
    ) {
        let frame = message.to_bytes(transaction, flags, 0, 0, id);
        if self.of_mut(link).send_frame(now, link, frame.into()) {
            self.out.push_back(CarriageOutput::signal(self.me(), to, message, Protection::Quic, 0));
        } else {
            self.dropped(DropReason::QueueFull);
        }
    }

    fn on_frame(&mut self, now: Instant, link: LinkId, header: &Header, body: Bytes) {
        if header.kind == Kind::Capsule {
            return self.on_capsule_frame(link, body);
        }
        let Ok(message) = Message::decode_body(header.kind, &body) else { return self.dropped(DropReason::BadBody) };
        match self.owners.get(&link) {
            Some(Owner::As { transaction }) if *transaction == header.transaction => {
                self.keep_way(link);
                self.end_logins(now);
                self.out.push_back(match message {
                    Message::LoginResponse(response) => CarriageOutput::LoggedIn(Box::new(response)),
                    Message::Error(code) => CarriageOutput::LoginFailed(Failure::Refused(code)),
                    _ => CarriageOutput::LoginFailed(Failure::Protocol),
                });
            }
            Some(Owner::Nms) if self.nms == Some(link) => {
                self.out.push_back(CarriageOutput::FromNms(Box::new((*header, message))));
            }
            Some(Owner::Leg(tunnel)) => self.on_leg_message(now, *tunnel, link, header, &message),
            Some(Owner::Direct(tunnel)) => self.on_direct_message(now, *tunnel, link, header, &message),
            Some(Owner::Inbound(_)) => self.on_inbound_message(now, link, header, message),
            Some(Owner::Standby) => self.on_standby_message(header, message),
            Some(Owner::As { .. } | Owner::Nms) | None => self.dropped(DropReason::Unexpected),
        }
    }

    fn on_closed(&mut self, now: Instant, link: LinkId, reason: LinkClosed) {
        let failure = Failure::from(reason);
        self.no_longer_inbound(link);
        if link.is_pathed() {
            self.close_end(End::Shared(link));
        }
        match self.owners.remove(&link) {
            Some(Owner::As { .. }) => self.on_as_closed(failure),
            Some(Owner::Nms) => self.on_nms_closed(link, failure),
            Some(Owner::Standby) => self.on_standby_closed(now, link),
            Some(Owner::Leg(tunnel)) if self.leg_gone(now, tunnel, link) || self.opens_elsewhere(tunnel, link) => {}
            Some(Owner::Leg(tunnel)) => self.fail(now, tunnel, failure),
            Some(Owner::Direct(tunnel)) => self.on_direct_closed(now, tunnel, link, failure),
            Some(Owner::Inbound(inbound)) => self.lose_ahead(&inbound.ahead),
            None => {}
        }
    }

    fn random(&mut self) -> u32 {
        self.rng.next_u32()
    }

    /// Does something with every endpoint, and carries its outputs out.
    fn each_endpoint(
        &mut self,
        now: Instant,
        mut with: impl FnMut(&mut Links) -> Result<(), TlsError>,
    ) -> Result<(), TlsError> {
        with(&mut self.links)?;
        if let Some(shared) = &mut self.shared {
            with(shared)?;
        }
        self.drain_links(now);
        let blind: Vec<TunnelId> = self.by_leg.values().copied().collect();
        for id in blind {
            if let Some(links) = self.tunnels.get_mut(&id).and_then(|tunnel| tunnel.state.blind_links()) {
                with(links)?;
            }
            self.drain_blind(now, id);
        }
        self.drain_links(now);
        Ok(())
    }
}

/// The last datagrams of an endpoint that is being forgotten.
fn farewells(links: &mut Links) -> Vec<CarriageOutput> {
    let mut out = Vec::new();
    while let Some(output) = links.poll() {
        if let LinkOutput::Transmit(transmit) | LinkOutput::Bare(transmit) = output {
            out.push(CarriageOutput::Pass(Output::Transmit(transmit)));
        }
    }
    out
}

impl Carriage for Proposed {
    fn tables(&self) -> Tables {
        let blind = self.tunnels.values().filter_map(|tunnel| tunnel.state.links()).map(Links::count).sum::<usize>();
        let shared = self.shared.as_ref().map_or(0, Links::count);
        let tags = self.by_probe.len().max(self.by_bound.len());
        vec![
            ("connections", self.links.count() + blind + shared),
            ("connections on paths", self.pathed.len().max(self.path_timers.count()).max(self.closing.len()).max(tags)),
            ("owners of connections", self.owners.len().max(self.inbound.len()).max(self.inbound_timers.count())),
            ("tunnels", self.tunnels.len().max(self.timers.count()).max(self.searches.count())),
            ("tunnels that the peer dials", self.expected.counts().0),
            ("legs", self.by_leg.len()),
            ("grants", self.grants.count()),
            ("datagrams that overtook their announcement", self.overtaken.count()),
            ("peers whose path is not searched", self.expected.counts().1),
        ]
    }

    fn login(&mut self, now: Instant, attempt: usize) {
        self.start_login(now, attempt);
    }

    fn open_nms(&mut self, now: Instant, login: &LoginResponse) {
        self.start_nms(now, login);
    }

    fn registered(&mut self, now: Instant) {
        self.on_registered(now);
    }

    fn set_slow(&mut self, slow: bool) {
        self.slow = slow;
    }

    fn send_nms_flagged(&mut self, now: Instant, (transaction, flags): (u32, Flags), _count: u8, message: Message) {
        if let Some(link) = self.nms {
            let flags = flags.with_slow(self.slow);
            self.send_flagged(now, link, Party::Nms, (transaction, flags), self.id.0, &message);
            self.note_asked(now);
            self.drain_links(now);
        }
    }

    fn is_reliable(&self) -> bool {
        true
    }

    fn build(&mut self, now: Instant, tunnel: TunnelId, direction: RouteDirection, asked: Asked) {
        self.start_tunnel(now, tunnel, &direction, asked);
        self.drain_links(now);
    }

    fn granted(&mut self, now: Instant, grant: RelayGrant) {
        self.take_grant(now, grant);
    }

    fn offered(&mut self, now: Instant, addresses: Vec<SocketAddr>) {
        self.take_offer(now, addresses);
        self.drain_links(now);
    }

    fn forget(&mut self, now: Instant, tunnel: TunnelId) {
        self.remove(now, tunnel);
        self.drain_links(now);
    }

    fn heard_at(&self, tunnel: TunnelId) -> Option<Instant> {
        match &self.tunnels.get(&tunnel)?.state {
            TunnelState::Up(Path::Direct(link) | Path::Terminated(link)) => self.of(*link).heard_at(*link),
            TunnelState::Up(Path::Blind { links, link, .. }) => links.heard_at(*link),
            _ => None,
        }
    }

    fn send_packet(&mut self, now: Instant, id: TunnelId, packet: Bytes) -> Result<(), SendRefused> {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return Err(SendRefused::NoTunnel) };
        let pathed = end_of(id, &tunnel.state).and_then(|end| self.pathed.get_mut(&end));
        if let Some(pathed) = pathed.filter(|pathed| pathed.has_to_hold()) {
            return pathed.hold(packet);
        }
        if !tunnel.takes_packets() {
            return Err(SendRefused::NoTunnel);
        }
        let (links, link) = match &mut tunnel.state {
            TunnelState::Up(Path::Direct(link) | Path::Terminated(link)) | TunnelState::Requested(link) => {
                (self.shared.as_mut().filter(|_| link.is_pathed()).unwrap_or(&mut self.links), *link)
            }
            TunnelState::Up(Path::Blind { links, link, .. })
            | TunnelState::EndToEnd(EndToEnd { links, link: Some(link), .. }) => {
                self.blind_touched.insert(id);
                (&mut **links, *link)
            }
            _ => return Err(SendRefused::NoTunnel),
        };
        tunnel.carrier.send(now, links, link, packet)
    }

    fn deliver(&mut self, now: Instant) {
        self.give_more();
        self.links.deliver();
        if let Some(shared) = &mut self.shared {
            shared.deliver();
        }
        self.drain_main(now);
        self.deliver_blind(now);
    }

    fn finish(&mut self, now: Instant) {
        self.give_more();
        self.links.finish(now);
        if let Some(shared) = &mut self.shared {
            shared.finish(now);
        }
        self.drain_links(now);
    }

    fn is_answer_due(&self, _tunnel: TunnelId) -> bool {
        // QUIC acknowledges every packet.
        true
    }

    fn nms_heard(&self) -> Option<(SocketAddr, Instant)> {
        let link = self.nms?;
        Some((self.links.remote(link)?, self.links.was_heard(link)?))
    }

    fn nms_rtt(&self) -> Option<Duration> {
        self.links.rtt(self.nms?)
    }

    fn leave(&mut self, now: Instant) {
        let tunnels: Vec<TunnelId> = self.tunnels.keys().copied().collect();
        for tunnel in tunnels {
            self.remove(now, tunnel);
        }
        self.owners.clear();
        self.standby.forget();
        self.inbound.clear();
        self.inbound_timers = Timers::default();
        self.nms = None;
        self.forget_nms_links();
        self.links.close_all(now);
        if let Some(shared) = &mut self.shared {
            shared.close_all(now);
        }
        self.drain_links(now);
    }

    fn trust(&mut self, now: Instant, roots: Roots) -> Result<(), TlsError> {
        self.quic.roots = roots.clone();
        self.each_endpoint(now, |links| links.trust(now, roots.clone()))
    }

    fn renew(&mut self, now: Instant, identity: Identity) -> Result<bool, TlsError> {
        self.quic.identity = identity.clone();
        self.each_endpoint(now, |links| links.renew(now, identity.clone()))?;
        Ok(false)
    }

    fn own_addresses(&self) -> Option<Virtual> {
        tls::addresses(self.quic.identity.chain.first()?)
    }

    fn status(&self, id: TunnelId) -> Option<TunnelStatus> {
        let tunnel = self.tunnels.get(&id)?;
        let TunnelState::Up(path) = &tunnel.state else { return None };
        let (links, link) = match path {
            Path::Direct(link) | Path::Terminated(link) => (self.of(*link), *link),
            Path::Blind { links, link, .. } => (&**links, *link),
        };
        let pathed = self.end_of(id).and_then(|end| self.pathed.get(&end));
        let used = pathed.and_then(|pathed| pathed.paths.used());
        let relayed = pathed.map_or(!matches!(path, Path::Direct(_)), Pathed::is_relayed);
        Some(TunnelStatus {
            handover: tunnel.agreed,
            signaling: tunnel.signaling,
            paths: pathed.map(|pathed| pathed.paths.status(pathed.paths.last_input())).unwrap_or_default(),
            pattern: self.pattern_of(id),
            dialed: tunnel.dialer,
            framing: tunnel.carrier.framing,
            relayed,
            local: used.map(|way| way.local).or(links.local(link))?,
            remote: used.map(|way| way.remote).or(links.remote(link))?,
            rtt: links.rtt(link),
        })
    }

    fn change_family(&mut self) {
        self.places.change();
    }

    fn places(&self) -> &Places {
        &self.places
    }

    fn rerouted(&mut self, now: Instant, service: SocketAddr) {
        self.on_rerouted(now, service);
    }

    fn move_to(&mut self, now: Instant, places: &Places) -> Kept {
        if self.handover != Handover::Rebuild {
            return self.move_along(now, places);
        }
        self.places = places.clone();
        self.forget_all();
        Kept::default()
    }

    fn check(&mut self, now: Instant) {
        self.check_links(now);
    }

    fn ask_nms(&mut self, now: Instant) {
        self.ping_nms(now);
    }

    fn start_anew(&mut self, _now: Instant, _places: &Places) {
        self.forget_all();
    }

    fn has_path_probe(&self, datagram: &[u8]) -> bool {
        tag_of(datagram).is_some_and(|tag| self.by_probe.contains_key(&tag) || self.by_bound.contains_key(&tag))
    }

    fn handle_datagram(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, payload: BytesMut) -> bool {
        let payload = match self.take_pathed(now, Way { local, remote }, payload) {
            Ok(heard) => return heard,
            Err(payload) => payload,
        };
        if is_not_quic(&payload) {
            // A punch only has to be sent, to open our NAT. Its arrival means nothing.
            if !is_punch(&payload) {
                self.dropped(DropReason::BadHeader);
            }
            return false;
        }
        let prefix = destination_prefix(&payload);
        if let Some(tunnel) = prefix.and_then(|leg| self.by_leg.get(&leg).copied()) {
            return self.on_blind_datagram(now, tunnel, local, remote, payload);
        }
        if let Some(leg) = prefix.filter(|&leg| self.has_overtaken(leg)) {
            self.hold_overtaken(now, leg, Way { local, remote }, payload);
            return false;
        }
        self.links.set_search(!self.expected.has_unsearched());
        self.links.hear_datagram(now, local, remote, payload).is_some()
    }

    fn handle_stream(&mut self, _now: Instant, _id: StreamId, _event: StreamInput) {
        self.dropped(DropReason::Unexpected);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.give_more();
        self.links.handle_timeout(now);
        if let Some(shared) = &mut self.shared {
            shared.handle_timeout(now);
        }
        self.drain_links(now);
        self.watch_nms(now);
        while let Some(end) = self.path_timers.pop_due(now) {
            self.path_timeout(now, end);
        }
        while let Some(tunnel) = self.timers.pop_due(now) {
            self.tunnel_timeout(now, tunnel);
        }
        while let Some(tunnel) = self.searches.pop_due(now) {
            self.search_timeout(now, tunnel);
        }
        while let Some(link) = self.inbound_timers.pop_due(now) {
            self.close(now, link);
        }
        self.renew_grants(now);
        self.standby_timeout(now);
        self.drain_links(now);
    }

    fn next_timer(&self) -> Option<Due> {
        let tunnel = self.timers.first().map(|(at, id)| {
            let due = self.tunnels.get(&id).and_then(Tunnel::next_timer);
            due.map_or(Timer::TunnelBuilding, |due| due.timer).at(at)
        });
        let search = self.searches.next().map(|at| Timer::MtuSearch.at(at));
        let early = self.inbound_timers.next().map(|at| Timer::EarlyLink.at(at));
        let path = self.path_timers.next().map(|at| Timer::Path.at(at));
        let shared = self.shared.as_ref().and_then(Links::next_timer);
        let standby = self.standby.next_timer();
        let grant = self.grants.next_timer();
        let watch = self.nms_links.watch.map(|at| Timer::OtherPath.at(at));
        earliest([tunnel, search, early, path, standby, grant, shared, watch, self.links.next_timer()])
    }

    fn poll(&mut self) -> Option<CarriageOutput> {
        self.out.pop_front()
    }
}
