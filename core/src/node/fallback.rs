//! Where UDP is blocked: the services by TCP (see [`crate::proxied`]), and back.
//!
//! The fallback stands between the node's parts and the driver. Datagrams to services pass it. It is told of every UDP
//! datagram that QUIC found authentic and new. Other datagrams prove nothing: anybody can send one with a service's
//! address, or an old one again.
//!
//! ```text
//!            nothing heard by UDP, TCP opened
//!  Unknown ───────────────────────────────────▶ Blocked ──┐ UDP is tried, with back-off
//!     │                                            ▲  │ ◀─┘
//!     │ UDP heard          silence, TCP opened     │  │ an answer by UDP
//!     └──────────────────▶ Works ──────────────────┘  │
//!                            ▲────────────────────────┘
//! ```
//!
//! * **Racing** (RFC 8305). UDP begins. If a service is silent for [`HEAD_START`], or for [`SUSPICION`] where UDP has
//!   worked, a TCP connection to it is opened as well. What was sent meanwhile goes there too. UDP wins as soon as
//!   anything comes by UDP; TCP wins when the service has switched to datagrams.
//! * **Blocked.** No UDP leaves, but the first packet of a QUIC connection now and then, for each of which
//!   [`Fallback::status`] counts one. An answer to it proves that QUIC gets through, with this version, server name and
//!   application protocol.
//! * **A change is a handover.** The links migrate (RFC 9000 §9), the node registers again, and its peers are told
//!   other routes: a node that the NMS sees by TCP is relayed.
//! * If one service is silent by UDP while others answer, that service alone is reached by TCP. UDP is tried at once
//!   then, with each service in turn. It is blocked when everything has been silent for [`SUSPICION`].

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rustls::ClientConfig;

use super::NodeConfig;
use super::config::FallbackConfig;
use super::places::Places;
use crate::event::{DropReason, Event};
use crate::machine::{Output, StreamId, StreamInput, StreamOutput, Transmit};
use crate::name::{Fqdn, RelayCid};
use crate::proxied::conduit::{Conduit, Plan};
use crate::proxied::http::{self, ALPN};
use crate::quic::{CidScheme, LinkId, LinkOutput, Links, Load, QuicConfig, destination_prefix};
use crate::time::Instant;
use crate::timing::proxied::{
    FIRST_UDP_PROBE, HEAD_START, LINGER, LONGEST_UDP_PROBE, SUSPICION, TCP_PAUSE, UDP_PROBE_WAIT,
};
use crate::timing::{Due, Timer};
use crate::tls::{Identity, Roots, client_config_of};
use crate::trouble::Trouble;

/// Most services that are remembered: AS, NMS and TRS at a few addresses each.
const MAX_SERVICES: usize = 32;
/// Most datagrams to a silent service that are kept for its TCP connection.
const MAX_RECENT: usize = 8;
/// How many datagrams must go unanswered before a service, or UDP itself, is suspected, where UDP has worked.
const UNANSWERED: u32 = 3;

/// The number of its stream of randomness.
const STREAM: u64 = 443;
/// Its connections have ids from here on.
const FIRST_STREAM: u64 = 1 << 20;

/// What the network does with UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Udp {
    Unknown,
    Works,
    Blocked,
}

/// What the fallback wants to be done.
pub(super) enum FallbackOutput {
    /// For the driver.
    Pass(Output),
    /// A datagram of a service came by TCP.
    Datagram { local: SocketAddr, remote: SocketAddr, payload: BytesMut },
    /// The AS has named the NMS.
    Nms(Vec<SocketAddr>),
    /// The services are reached by the other way from now on: the node has moved.
    Switched,
}

/// How services are reached, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FallbackStatus {
    /// Whether the network blocks UDP.
    pub blocked: bool,
    /// Services with an open TCP connection.
    pub by_tcp: Vec<Fqdn>,
    /// Whether TCP goes through an HTTP proxy.
    pub has_proxy: bool,
    /// Why the last attempt at a TCP connection failed.
    pub trouble: Option<Trouble>,
    /// How often UDP was tried while it was blocked.
    pub probes: u64,
}

pub(super) struct Fallback {
    config: FallbackConfig,
    quic: QuicConfig,
    rng: ChaCha20Rng,
    udp: Udp,
    /// When anything authentic came by UDP.
    heard: Option<Instant>,
    /// What services got by UDP since then.
    unheard: Unanswered,
    /// Names of services, and addresses of their UDP ports, as the cloud tells them.
    known: Vec<(Fqdn, SocketAddr)>,
    /// The same services by the address by which they are reached from here.
    services: BTreeMap<SocketAddr, Service>,
    by_stream: BTreeMap<StreamId, SocketAddr>,
    next_stream: u64,
    probe: Option<Probe>,
    /// When UDP is tried next, and the time until the attempt after it.
    next_probe: Option<(Instant, Duration)>,
    probes: u64,
    /// UDP works again: until when TCP connections stay.
    lingers: Option<Instant>,
    trouble: Option<Trouble>,
    out: VecDeque<FallbackOutput>,
}

struct Service {
    name: Fqdn,
    /// Our address towards it.
    local: SocketAddr,
    /// The address of its TCP port, as it is reached from here.
    tcp: SocketAddr,
    unanswered: Unanswered,
    recent: VecDeque<Vec<u8>>,
    conduit: Option<Conduit>,
    by_tcp: bool,
    /// UDP works again, but this service has not been heard by it yet: both ways are used.
    returning: bool,
    /// TCP is not tried before.
    pause: Instant,
}

/// Datagrams without an answer.
#[derive(Clone, Copy, Debug, Default)]
struct Unanswered {
    /// When the first and the last one were sent.
    times: Option<(Instant, Instant)>,
    count: u32,
}

impl Unanswered {
    /// One more was sent. After a pause the count begins anew: an acknowledgement, for example, has no answer, and says
    /// nothing about what is sent much later.
    fn sent(&mut self, now: Instant) {
        if self.times.is_some_and(|(_, last)| now > last + SUSPICION) {
            *self = Self::default();
        }
        self.tried(now);
    }

    /// One more was sent, to find out whether it is answered.
    fn tried(&mut self, now: Instant) {
        self.times = Some((self.since().unwrap_or(now), now));
        self.count += 1;
    }

    fn since(&self) -> Option<Instant> {
        self.times.map(|(first, _)| first)
    }

    /// When there is reason for suspicion, where UDP has worked.
    fn suspect_at(&self) -> Option<Instant> {
        self.since().filter(|_| self.count >= UNANSWERED).map(|since| since + SUSPICION)
    }
}

/// One attempt at UDP.
struct Probe {
    /// What its connection IDs begin with.
    tag: RelayCid,
    links: Links,
    link: LinkId,
    remote: SocketAddr,
    until: Instant,
}

impl Fallback {
    pub(super) fn new(config: &NodeConfig) -> Option<Self> {
        let fallback = config.fallback.clone()?;
        // A stream of its own: that there is a fallback changes nothing for the other parts.
        let mut rng = ChaCha20Rng::from_seed(config.seed);
        rng.set_stream(STREAM);
        let quic = QuicConfig {
            tls: config.tls.clone(),
            roots: config.roots.clone(),
            identity: config.identity.clone()?,
            alpn: config.alpn.clone(),
            options: config.quic.clone(),
        };
        Some(Self {
            config: fallback,
            quic,
            rng,
            udp: Udp::Unknown,
            heard: None,
            unheard: Unanswered::default(),
            known: Vec::new(),
            services: BTreeMap::new(),
            by_stream: BTreeMap::new(),
            next_stream: FIRST_STREAM,
            probe: None,
            next_probe: None,
            probes: 0,
            lingers: None,
            trouble: None,
            out: VecDeque::new(),
        })
    }

    /// How services are reached.
    pub(super) fn status(&self) -> FallbackStatus {
        let is_open = |service: &&Service| service.conduit.as_ref().is_some_and(Conduit::is_open);
        FallbackStatus {
            blocked: self.udp == Udp::Blocked,
            by_tcp: self.services.values().filter(is_open).map(|service| service.name.clone()).collect(),
            has_proxy: self.config.proxy.is_some(),
            trouble: self.trouble.clone(),
            probes: self.probes,
        }
    }

    pub(super) fn poll(&mut self) -> Option<FallbackOutput> {
        self.out.pop_front()
    }

    /// Every TCP connection from now on trusts these.
    pub(super) fn trust(&mut self, roots: Roots) {
        self.quic.roots = roots;
    }

    /// Every TCP connection from now on shows this certificate.
    pub(super) fn renew(&mut self, identity: Identity) {
        self.quic.identity = identity;
    }

    /// The node is in another network, or leaves.
    pub(super) fn moved(&mut self, places: &Places) {
        let all: Vec<SocketAddr> = self.services.keys().copied().collect();
        for remote in all {
            self.close(remote);
        }
        self.services.clear();
        (self.udp, self.heard, self.unheard, self.lingers) = (Udp::Unknown, None, Unanswered::default(), None);
        (self.probe, self.next_probe, self.trouble) = (None, None, None);
        for (name, remote) in self.known.clone() {
            self.place(places, &name, remote);
        }
    }

    /// Addresses of the UDP ports of a service that the node may want to reach.
    pub(super) fn knows(&mut self, places: &Places, name: &Fqdn, remotes: &[SocketAddr]) {
        for &remote in remotes {
            if !self.known.iter().any(|(_, known)| *known == remote) {
                if self.known.len() >= MAX_SERVICES {
                    self.known.remove(0);
                }
                self.known.push((name.clone(), remote));
            }
            self.place(places, name, remote);
        }
    }

    fn place(&mut self, places: &Places, name: &Fqdn, remote: SocketAddr) {
        let Some((local, remote)) = places.towards(remote) else { return };
        if let Some(service) = self.services.get_mut(&remote) {
            service.local = local;
        } else if self.services.len() < MAX_SERVICES {
            let service = Service {
                name: name.clone(),
                local,
                tcp: SocketAddr::new(remote.ip(), self.config.port.unwrap_or(remote.port())),
                unanswered: Unanswered::default(),
                recent: VecDeque::new(),
                conduit: None,
                by_tcp: self.udp == Udp::Blocked,
                returning: false,
                pause: Instant::ZERO,
            };
            self.services.insert(remote, service);
        }
    }

    /// Opens the TCP connection to a service that the node will want to reach, where UDP is blocked.
    pub(super) fn expect(&mut self, now: Instant, remote: SocketAddr) {
        if self.udp == Udp::Blocked {
            self.open(now, remote);
        }
    }

    /// A datagram that the node sends. What is left of it for UDP.
    pub(super) fn transmit(&mut self, now: Instant, transmit: Transmit) -> Option<Transmit> {
        let is_blocked = self.udp == Udp::Blocked;
        if let Some(service) = self.services.get_mut(&transmit.remote).filter(|service| !is_blocked && !service.by_tcp)
        {
            service.unanswered.sent(now);
            self.unheard.sent(now);
            for datagram in transmit.datagrams() {
                if service.recent.len() >= MAX_RECENT {
                    service.recent.pop_front();
                }
                service.recent.push_back(datagram.to_vec());
            }
        }
        self.forward(now, transmit)
    }

    /// As [`Self::transmit`], for a datagram to a peer that answers late. Its silence says nothing about the TRS that
    /// forwards the datagram.
    pub(super) fn forward(&mut self, now: Instant, transmit: Transmit) -> Option<Transmit> {
        let is_blocked = self.udp == Udp::Blocked;
        let remote = transmit.remote;
        let Some(service) = self.services.get_mut(&remote) else {
            return (!is_blocked).then_some(transmit);
        };
        service.local = transmit.local;
        if is_blocked || service.by_tcp {
            if service.conduit.is_none() {
                self.open(now, remote);
            }
            self.send(now, remote, &transmit);
            return None;
        }
        // The race is on: both ways. A connection that stands does not flutter between them: it waits for the winner.
        if self.udp == Udp::Unknown || service.returning {
            self.send(now, remote, &transmit);
        }
        Some(transmit)
    }

    /// Whether the survey may send to `remote` by UDP. What it sends may go unanswered for many reasons, so it is no
    /// ground for suspicion.
    pub(super) fn lets_survey(&self, remote: SocketAddr) -> bool {
        self.udp != Udp::Blocked && !self.services.get(&remote).is_some_and(|service| service.by_tcp)
    }

    fn send(&mut self, now: Instant, remote: SocketAddr, transmit: &Transmit) {
        let conduit = self.services.get_mut(&remote).and_then(|service| service.conduit.as_mut());
        if let Some(conduit) = conduit {
            for datagram in transmit.datagrams() {
                conduit.send(now, datagram);
            }
        }
    }

    /// An authentic and new datagram of a service or a peer came by UDP. While UDP is blocked this proves nothing: a
    /// network that refuses new QUIC connections may let older ones live.
    pub(super) fn heard(&mut self, now: Instant, remote: SocketAddr) {
        if self.udp != Udp::Blocked {
            self.gets_through(now, remote);
        }
    }

    /// UDP gets through from there.
    fn gets_through(&mut self, now: Instant, remote: SocketAddr) {
        (self.heard, self.unheard) = (Some(now), Unanswered::default());
        let Some(service) = self.services.get_mut(&remote) else { return };
        (service.unanswered, service.returning) = (Unanswered::default(), false);
        service.recent.clear();
        if self.udp == Udp::Blocked || service.by_tcp {
            return self.works(now, remote);
        }
        self.udp = Udp::Works;
        if self.lingers.is_none() {
            self.close(remote);
        }
    }

    /// Takes a UDP datagram, if it is for an attempt at UDP. An answer ends the attempt, without a connection.
    pub(super) fn takes(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, payload: &BytesMut) -> bool {
        let prefix = destination_prefix(payload);
        let is_its = |probe: &&mut Probe| probe.remote == remote && prefix == Some(probe.tag);
        let Some(probe) = self.probe.as_mut().filter(is_its) else { return false };
        let is_answer = probe.links.hear_datagram(now, local, remote, payload.clone()).is_some();
        probe.links.finish(now);
        if is_answer {
            probe.links.close(now, probe.link);
        }
        while let Some(output) = probe.links.poll() {
            if let LinkOutput::Transmit(transmit) = output {
                self.out.push_back(FallbackOutput::Pass(Output::Transmit(transmit)));
            }
        }
        if is_answer {
            self.probe = None;
            self.gets_through(now, remote);
        }
        true
    }

    /// UDP gets through, to this service at least.
    fn works(&mut self, now: Instant, remote: SocketAddr) {
        let was_blocked = self.udp == Udp::Blocked;
        self.udp = Udp::Works;
        for (at, service) in &mut self.services {
            if was_blocked || *at == remote {
                (service.by_tcp, service.unanswered) = (false, Unanswered::default());
                service.returning = *at != remote && service.conduit.is_some();
                service.recent.clear();
            }
        }
        self.next_probe = self.next_probe.filter(|_| self.services.values().any(|service| service.by_tcp));
        self.trouble = None;
        self.lingers = Some(now + LINGER);
        if was_blocked {
            self.event(Event::UdpWorks);
            self.out.push_back(FallbackOutput::Switched);
        }
    }

    /// A service has switched to datagrams before it was heard by UDP.
    fn won(&mut self, now: Instant, remote: SocketAddr) {
        let Some(service) = self.services.get_mut(&remote) else { return };
        if service.by_tcp || self.udp == Udp::Blocked {
            return;
        }
        let Some(since) = std::mem::take(&mut service.unanswered).since() else { return self.close(remote) };
        let recent = std::mem::take(&mut service.recent);
        if let (Udp::Works, Some(conduit)) = (self.udp, &mut service.conduit) {
            for datagram in &recent {
                conduit.send(now, datagram);
            }
        }
        service.by_tcp = true;
        if self.heard.is_none_or(|heard| heard < since) {
            self.next_probe.get_or_insert((now + FIRST_UDP_PROBE, FIRST_UDP_PROBE));
            self.blocked(remote);
        } else {
            // Is it this service, or UDP? The attempts tell.
            self.next_probe.get_or_insert((now, UDP_PROBE_WAIT));
        }
    }

    /// When everything has been silent by UDP for too long, while TCP has brought datagrams to a service.
    fn blocked_at(&self) -> Option<Instant> {
        let any_by_tcp = self.services.values().any(|service| service.by_tcp);
        self.unheard.suspect_at().filter(|_| self.udp == Udp::Works && any_by_tcp)
    }

    /// UDP is blocked. `remote`: a service that TCP reaches.
    fn blocked(&mut self, remote: SocketAddr) {
        let Some(service) = self.services.get(&remote).map(|service| service.name.clone()) else { return };
        self.udp = Udp::Blocked;
        self.lingers = None;
        for service in self.services.values_mut() {
            (service.by_tcp, service.unanswered, service.returning) = (true, Unanswered::default(), false);
        }
        self.event(Event::UdpBlocked { service });
        self.out.push_back(FallbackOutput::Switched);
    }

    fn event(&mut self, event: Event) {
        self.out.push_back(FallbackOutput::Pass(Output::Event(event)));
    }

    fn stream(&mut self, id: StreamId, output: StreamOutput) {
        self.out.push_back(FallbackOutput::Pass(Output::Stream(id, output)));
    }

    /// Opens a TCP connection to a service, if there is none.
    fn open(&mut self, now: Instant, remote: SocketAddr) {
        let Some(service) = self.services.get(&remote) else { return };
        if service.conduit.is_some() || service.pause > now {
            return;
        }
        let (name, tcp) = (service.name.clone(), service.tcp);
        let Some(tls) = self.tls(&name) else { return };
        let proxy = self.config.proxy.as_ref();
        let plan = Plan {
            tls,
            outer: self.config.outer.clone().unwrap_or_else(|| name.clone()),
            service: name,
            port: remote.port(),
            connect: proxy.map(|proxy| {
                let credentials = proxy.credentials.as_ref().map(|credentials| http::basic(credentials));
                http::connect_request(&tcp.to_string(), credentials.as_deref())
            }),
        };
        let to = proxy.map_or(tcp, |proxy| proxy.address);
        let id = StreamId(self.next_stream);
        self.next_stream += 1;
        let Ok(mut conduit) = Conduit::new(now, id, &plan) else { return };
        let Some(service) = self.services.get_mut(&remote) else { return };
        if self.udp == Udp::Unknown {
            for datagram in &service.recent {
                conduit.send(now, datagram);
            }
        }
        service.conduit = Some(conduit);
        self.by_stream.insert(id, remote);
        self.stream(id, StreamOutput::Connect { remote: to });
    }

    fn tls(&self, name: &Fqdn) -> Option<Arc<ClientConfig>> {
        let QuicConfig { tls, roots, identity, .. } = &self.quic;
        client_config_of(tls, roots, identity, ALPN, name).ok().map(Arc::new)
    }

    fn close(&mut self, remote: SocketAddr) {
        let conduit = self.services.get_mut(&remote).and_then(|service| service.conduit.take());
        if let Some(conduit) = conduit {
            self.by_stream.remove(&conduit.stream());
            self.stream(conduit.stream(), StreamOutput::Close);
        }
    }

    /// Takes what happened on a TCP connection; whether it is one of ours.
    pub(super) fn on_stream(&mut self, now: Instant, id: StreamId, event: StreamInput) -> bool {
        let Some(&remote) = self.by_stream.get(&id) else {
            // A late word of one that was closed is nobody's.
            return (FIRST_STREAM..self.next_stream).contains(&id.0);
        };
        let is_over = event == StreamInput::Closed;
        let mut datagrams = Vec::new();
        let Some(service) = self.services.get_mut(&remote) else { return true };
        let local = service.local;
        let Some(conduit) = &mut service.conduit else { return true };
        let was_open = conduit.is_open();
        let result = conduit.handle(now, event, &mut datagrams);
        let (opened, nms) = (!was_open && conduit.is_open(), conduit.take_nms());
        if opened {
            self.trouble = None;
            self.won(now, remote);
        }
        if let Some(nms) = nms {
            let nms = nms.split(',').filter_map(|text| text.trim().parse().ok()).collect();
            self.out.push_back(FallbackOutput::Nms(nms));
        }
        for payload in datagrams {
            self.out.push_back(FallbackOutput::Datagram { local, remote, payload });
        }
        if let Err(trouble) = result {
            self.flush(now);
            self.failed(now, remote, trouble, is_over);
        }
        true
    }

    /// A TCP connection is over, or could not be made.
    fn failed(&mut self, now: Instant, remote: SocketAddr, trouble: Trouble, is_closed: bool) {
        let Some(service) = self.services.get_mut(&remote) else { return };
        let name = service.name.clone();
        service.unanswered = Unanswered::default();
        service.recent.clear();
        // One that has carried datagrams is opened anew by the next one.
        if trouble != Trouble::Lost {
            service.pause = now + TCP_PAUSE;
        }
        if is_closed {
            if let Some(conduit) = service.conduit.take() {
                self.by_stream.remove(&conduit.stream());
            }
        } else {
            self.close(remote);
        }
        if trouble == Trouble::Lost {
            return;
        }
        let has_others = self.services.values().any(|service| service.conduit.as_ref().is_some_and(Conduit::is_open));
        if self.udp == Udp::Blocked && !has_others {
            // Perhaps UDP is not what is wrong.
            self.udp = Udp::Unknown;
            self.next_probe = None;
            for service in self.services.values_mut() {
                service.by_tcp = false;
            }
        }
        self.event(Event::NoTcp { service: name, trouble: trouble.clone() });
        self.trouble = Some(trouble);
    }

    /// When a silent service is tried by TCP.
    fn race_at(&self, service: &Service) -> Option<Instant> {
        let unanswered = Some(service.unanswered).filter(|_| service.conduit.is_none() && !service.by_tcp)?;
        let at = match self.udp {
            Udp::Unknown => unanswered.since()? + HEAD_START,
            Udp::Works => unanswered.suspect_at()?,
            Udp::Blocked => return None,
        };
        Some(at.max(service.pause))
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let remotes: Vec<SocketAddr> = self.services.keys().copied().collect();
        for remote in remotes {
            let service = &self.services[&remote];
            if self.race_at(service).is_some_and(|at| at <= now) {
                if self.udp == Udp::Works {
                    // A service that has forgotten a connection is silent to it, but not to a new one.
                    self.try_udp(now, remote);
                }
                self.open(now, remote);
                continue;
            }
            let Some(conduit) = service.conduit.as_ref().filter(|conduit| conduit.deadline() <= now) else { continue };
            match conduit.overdue() {
                Some(trouble) => self.failed(now, remote, trouble, false),
                None => self.close(remote),
            }
        }
        if self.blocked_at().is_some_and(|at| at <= now)
            && let Some((&remote, _)) = self.services.iter().find(|(_, service)| service.by_tcp)
        {
            self.blocked(remote);
        }
        if self.lingers.is_some_and(|until| until <= now) {
            self.lingers = None;
            for service in self.services.values_mut() {
                // Perhaps its silence is due to the firewall: a flow that it knows lives, while a new one is refused.
                service.by_tcp |= std::mem::take(&mut service.returning) && service.unanswered.count >= UNANSWERED;
            }
            if self.services.values().any(|service| service.by_tcp) {
                self.next_probe.get_or_insert((now + FIRST_UDP_PROBE, FIRST_UDP_PROBE));
            }
            let over: Vec<SocketAddr> =
                self.services.iter().filter(|(_, service)| !service.by_tcp).map(|(&remote, _)| remote).collect();
            for remote in over {
                self.close(remote);
            }
        }
        if self.probe.as_ref().is_some_and(|probe| probe.until <= now) {
            self.probe = None;
        }
        if let Some((at, wait)) = self.next_probe.filter(|(at, _)| *at <= now) {
            self.next_probe = Some((at + wait, (wait * 2).min(LONGEST_UDP_PROBE)));
            // Each in turn: perhaps one of them does not get UDP.
            let is_open = |service: &Service| service.conduit.as_ref().is_some_and(Conduit::is_open);
            let is_there = |service: &Service| is_open(service) || !service.by_tcp;
            let all: Vec<SocketAddr> =
                self.services.iter().filter(|(_, service)| is_there(service)).map(|(&remote, _)| remote).collect();
            if let Some(&remote) = all.get(self.probes as usize % all.len().max(1)) {
                self.probes += 1;
                self.try_udp(now, remote);
            }
        }
    }

    /// Sends the first packet of a QUIC connection to a service by UDP.
    fn try_udp(&mut self, now: Instant, remote: SocketAddr) {
        let Some(service) = self.services.get(&remote) else { return };
        let (local, name) = (service.local, service.name.clone());
        let mut tag = RelayCid([0; 8]);
        self.rng.fill_bytes(&mut tag.0);
        let Ok(mut links) = Links::new(self.quic.clone(), CidScheme::Relayed(tag), false, &mut self.rng) else {
            return;
        };
        let Some(link) = links.connect(now, local, remote, &name, None, Load::Signaling) else { return };
        self.unheard.tried(now);
        while let Some(output) = links.poll() {
            if let LinkOutput::Transmit(transmit) = output {
                self.out.push_back(FallbackOutput::Pass(Output::Transmit(transmit)));
            }
        }
        self.probe = Some(Probe { tag, links, link, remote, until: now + UDP_PROBE_WAIT });
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self, now: Instant) {
        let mut writes = Vec::new();
        let mut dropped = 0;
        for conduit in self.services.values_mut().filter_map(|service| service.conduit.as_mut()) {
            let bytes = conduit.flush(now);
            dropped += conduit.take_dropped();
            if !bytes.is_empty() {
                writes.push((conduit.stream(), bytes));
            }
        }
        for (id, bytes) in writes {
            self.stream(id, StreamOutput::Write(bytes));
        }
        for _ in 0..dropped {
            self.event(Event::Dropped(DropReason::QueueFull));
        }
    }

    pub(super) fn next_timer(&self) -> Option<Due> {
        let races = self.services.values().filter_map(|service| self.race_at(service));
        let conduits = self.services.values().filter_map(|service| Some(service.conduit.as_ref()?.deadline()));
        let probe = self.probe.as_ref().map(|probe| probe.until);
        let others = [self.blocked_at(), self.lingers, self.next_probe.map(|(at, _)| at), probe];
        let at = races.chain(conduits).chain(others.into_iter().flatten()).min()?;
        Some(Timer::Fallback.at(at))
    }
}
