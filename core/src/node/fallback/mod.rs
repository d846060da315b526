//! The fallback to TCP where UDP is blocked (see [`crate::proxied`]), and the return to UDP.
//!
//! The fallback stands between the node's parts and the driver. Datagrams to services pass through it. The links tell
//! it of every UDP datagram that QUIC found authentic and new. Other datagrams prove nothing: anybody can forge a
//! service's address, or repeat an old datagram.
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
//!   worked, a TCP connection to it is opened as well. The datagrams that were sent meanwhile go there too. UDP wins
//!   with the first datagram that comes by UDP. TCP wins when the service has switched to datagrams.
//! * **Blocked.** The only UDP packets are attempts: now and then the first packet of a QUIC connection leaves.
//!   [`Fallback::status`] counts the attempts. An answer proves that QUIC gets through, with this version, server name
//!   and application protocol.
//! * **Back to UDP.** An answer proves UDP to one service only, and from one of the node's addresses. So UDP is tried
//!   at once with each other service. It has the head start again: the open TCP connection would answer sooner on the
//!   shorter path, and UDP would never be heard. After the head start datagrams to a silent service go both ways.
//! * **A change is a handover.** The links migrate (RFC 9000 §9), the node registers again, and the NMS directs its
//!   peers anew. A node that the NMS sees by TCP is relayed.
//! * **Everything silent.** If nothing is heard by UDP, neither from peers nor from services, the node sends a PING to
//!   the NMS ([`doubt`]). TCP is raced sooner then.
//! * **A known network.** A network that has blocked UDP is remembered by the node's addresses in it. When the node is
//!   back, TCP is raced without a head start.
//! * **One silent service.** If one service is silent by UDP while others answer, that service alone is reached by TCP.
//!   UDP is tried at once then, with each service in turn. UDP counts as blocked when all services have been silent for
//!   [`SUSPICION`].

mod doubt;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use self::doubt::Doubt;
use self::udp::{Probe, Return};
use super::NodeConfig;
use super::config::FallbackConfig;
use super::places::Places;
use crate::event::Event;
use crate::machine::{Output, StreamId, StreamOutput, Transmit};
use crate::name::Fqdn;
use crate::probe::is_punch;
use crate::proxied::conduit::Conduit;
use crate::quic::QuicConfig;
use crate::time::Instant;
use crate::timing::proxied::{FIRST_UDP_PROBE, HEAD_START, LINGER, LONGEST_UDP_PROBE, SUSPICION, UDP_PROBE_WAIT};
use crate::timing::{Due, Timer};
use crate::tls::{Identity, Roots};
use crate::trouble::NoTcp;

/// The largest number of services that are remembered: AS, NMS and TRS at a few addresses each.
const MAX_SERVICES: usize = 32;
/// The largest number of datagrams to a silent service that are kept for its TCP connection.
const MAX_RECENT: usize = 8;
/// The largest number of networks that are remembered because they blocked UDP.
const MAX_BLOCKING: usize = 8;
/// Where UDP has worked, so many datagrams without an answer raise suspicion against a service, or against UDP itself.
/// QUIC sends three within its first second, so a single lost datagram raises none.
const UNANSWERED: u32 = 3;
/// Answers by UDP are waited for at least this many round trips, before TCP helps.
const ROUND_TRIPS: u32 = 2;

/// The number of the fallback's random stream. Other parts have other streams.
const STREAM: u64 = 443;
/// The lowest id of the fallback's TCP connections.
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
    /// Nothing is heard by UDP: send a PING to the NMS.
    Ask,
    /// The services are now reached by TCP instead of UDP, or back: treat it as a move of the node. With the way by
    /// which UDP gets through again: our address, and the service's.
    Switched(Option<(SocketAddr, SocketAddr)>),
    /// The service at this address is reached by UDP again, after TCP.
    ByUdp(SocketAddr),
}

/// How services are reached, for `status` and `netcheck`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FallbackStatus {
    /// Whether the network blocks UDP.
    pub blocked: bool,
    /// Services with an open TCP connection.
    pub by_tcp: Vec<Fqdn>,
    /// Whether TCP goes through an HTTP proxy.
    pub has_proxy: bool,
    /// Why the last attempt at a TCP connection failed.
    pub trouble: Option<NoTcp>,
    /// How often UDP was tried while it was blocked.
    pub probes: u64,
}

pub(super) struct Fallback {
    config: FallbackConfig,
    quic: QuicConfig,
    rng: ChaCha20Rng,
    udp: Udp,
    /// When the last authentic datagram came by UDP.
    heard: Option<Instant>,
    /// Datagrams that were sent to services by UDP since then.
    unheard: Unanswered,
    doubt: Doubt,
    /// The round trip to the services, as far as it is known.
    round_trip: Duration,
    /// The node's addresses in this network.
    here: Vec<IpAddr>,
    /// The addresses that it had in networks that blocked UDP, the latest last.
    blocking: VecDeque<Vec<IpAddr>>,
    /// Names of services, and addresses of their UDP ports, as the cloud tells them.
    known: Vec<(Fqdn, SocketAddr)>,
    /// The same services by the address by which they are reached from here.
    services: BTreeMap<SocketAddr, Service>,
    by_stream: BTreeMap<StreamId, SocketAddr>,
    next_stream: u64,
    /// Attempts at UDP that are under way, by the service.
    attempts: BTreeMap<SocketAddr, Probe>,
    /// When UDP is tried next, and the time until the attempt after it.
    next_probe: Option<(Instant, Duration)>,
    probes: u64,
    /// UDP works again; TCP connections stay open until this time.
    lingers: Option<Instant>,
    trouble: Option<NoTcp>,
    out: VecDeque<FallbackOutput>,
}

struct Service {
    name: Fqdn,
    /// Our address towards it.
    local: SocketAddr,
    /// Where TCP to it is opened, as it is reached from here: its own port, or the HTTP proxy.
    tcp: Option<SocketAddr>,
    /// Whether TCP goes through the HTTP proxy.
    is_proxied: bool,
    /// Its TCP port as an HTTP proxy reaches it: no NAT64 of this network is in between there.
    target: SocketAddr,
    unanswered: Unanswered,
    recent: VecDeque<Vec<u8>>,
    conduit: Option<Conduit>,
    by_tcp: bool,
    /// UDP works again, but this service has not answered by UDP yet.
    returning: Option<Return>,
    /// TCP is not tried before this time.
    pause: Instant,
}

impl Service {
    /// Sends by TCP, if there is a connection.
    fn send(&mut self, now: Instant, transmit: &Transmit) {
        if let Some(conduit) = &mut self.conduit {
            for datagram in transmit.datagrams() {
                conduit.send(now, datagram);
            }
        }
    }
}

/// Datagrams without an answer.
#[derive(Clone, Copy, Debug, Default)]
struct Unanswered {
    /// When the first and the last one were sent.
    times: Option<(Instant, Instant)>,
    count: u32,
}

impl Unanswered {
    /// Counts a datagram. After a pause the count begins anew: an acknowledgement, for example, gets no answer, and
    /// must not count with datagrams that are sent much later.
    fn sent(&mut self, now: Instant) {
        if self.times.is_some_and(|(_, last)| now > last + SUSPICION) {
            *self = Self::default();
        }
        self.tried(now);
    }

    /// Counts an attempt at UDP, which was sent only to see whether it is answered.
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

impl Fallback {
    pub(super) fn new(config: &NodeConfig) -> Option<Self> {
        let fallback = config.fallback.clone()?;
        let quic = QuicConfig {
            tls: config.tls.clone(),
            roots: config.roots.clone(),
            identity: config.identity.clone()?,
            alpn: config.alpn.clone(),
            options: config.quic.clone(),
        };
        Some(Self::with(fallback, quic, config.seed))
    }

    fn with(config: FallbackConfig, quic: QuicConfig, seed: [u8; 32]) -> Self {
        // With a stream of its own, the fallback changes no random number of the other parts.
        let mut rng = ChaCha20Rng::from_seed(seed);
        rng.set_stream(STREAM);
        Self {
            config,
            quic,
            rng,
            udp: Udp::Unknown,
            heard: None,
            unheard: Unanswered::default(),
            doubt: Doubt::default(),
            round_trip: Duration::ZERO,
            here: Vec::new(),
            blocking: VecDeque::new(),
            known: Vec::new(),
            services: BTreeMap::new(),
            by_stream: BTreeMap::new(),
            next_stream: FIRST_STREAM,
            attempts: BTreeMap::new(),
            next_probe: None,
            probes: 0,
            lingers: None,
            trouble: None,
            out: VecDeque::new(),
        }
    }

    /// How services are reached.
    pub(super) fn status(&self) -> FallbackStatus {
        let is_open = |service: &&Service| service.conduit.as_ref().is_some_and(Conduit::is_open);
        FallbackStatus {
            blocked: self.udp == Udp::Blocked,
            by_tcp: self.services.values().filter(is_open).map(|service| service.name.clone()).collect(),
            has_proxy: self.services.values().any(|service| service.is_proxied),
            trouble: self.trouble.clone(),
            probes: self.probes,
        }
    }

    /// The round trip to the services is this one, if it is known.
    pub(super) fn note_round_trip(&mut self, round_trip: Option<Duration>) {
        self.round_trip = round_trip.unwrap_or_default();
    }

    /// Whether the network blocks UDP.
    pub(super) fn is_blocked(&self) -> bool {
        self.udp == Udp::Blocked
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
        (self.next_probe, self.trouble, self.doubt) = (None, None, Doubt::default());
        self.attempts.clear();
        self.here.clone_from(&places.addresses);
        for (name, remote) in self.known.clone() {
            self.place(places, &name, remote);
        }
    }

    /// Addresses of the UDP ports of a service that the node may want to reach.
    pub(super) fn knows(&mut self, places: &Places, name: &Fqdn, remotes: &[SocketAddr]) {
        self.here.clone_from(&places.addresses);
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
        let port = self.config.port.unwrap_or(remote.port());
        let target = SocketAddr::new(remote.ip(), port);
        let Some((local, remote)) = places.towards(remote) else { return };
        let proxy = self.config.proxy.as_ref().filter(|proxy| proxy.is_for(name, target.ip()));
        let proxy = proxy.map(|proxy| places.proxy(&proxy.addresses, target));
        // The address from which a known service is reached stays: it may be another one than the first of its family.
        if !self.services.contains_key(&remote) && self.services.len() < MAX_SERVICES {
            let service = Service {
                name: name.clone(),
                local,
                is_proxied: proxy.is_some(),
                tcp: proxy.unwrap_or(Some(SocketAddr::new(remote.ip(), port))),
                target,
                unanswered: Unanswered::default(),
                recent: VecDeque::new(),
                conduit: None,
                by_tcp: self.udp == Udp::Blocked,
                returning: None,
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

    /// A datagram that the node sends. Returns it if it has to be sent by UDP.
    pub(super) fn transmit(&mut self, now: Instant, transmit: Box<Transmit>) -> Option<Box<Transmit>> {
        self.pass(now, transmit, true)
    }

    /// As [`Self::transmit`], for a datagram that no service answers: an acknowledgement, or a datagram to a peer. A
    /// silent peer says nothing about the TRS that forwards to it.
    pub(super) fn forward(&mut self, now: Instant, transmit: Box<Transmit>) -> Option<Box<Transmit>> {
        self.pass(now, transmit, false)
    }

    /// `wants_answer`: silence is a ground for suspicion.
    fn pass(&mut self, now: Instant, transmit: Box<Transmit>, wants_answer: bool) -> Option<Box<Transmit>> {
        let remote = transmit.remote;
        let Some(service) = self.services.get_mut(&remote) else {
            if self.udp == Udp::Works && !is_punch(&transmit.payload) {
                self.doubt.sent(now);
            }
            return (self.udp != Udp::Blocked).then_some(transmit);
        };
        service.local = transmit.local;
        // Its TCP connection is over, and other services answer by UDP: UDP has another chance here.
        if service.by_tcp && self.udp == Udp::Works && service.conduit.is_none() {
            service.by_tcp = false;
            self.out.push_back(FallbackOutput::ByUdp(remote));
        }
        if self.udp == Udp::Blocked || service.by_tcp {
            if service.conduit.is_none() {
                self.open(now, remote);
            }
            if let Some(service) = self.services.get_mut(&remote) {
                service.send(now, &transmit);
            }
            return None;
        }
        self.doubt.sent(now);
        if wants_answer {
            service.unanswered.sent(now);
            self.unheard.sent(now);
        }
        for datagram in transmit.datagrams() {
            if service.recent.len() >= MAX_RECENT {
                service.recent.pop_front();
            }
            service.recent.push_back(datagram.to_vec());
        }
        // During the race datagrams go both ways. Otherwise an open TCP connection waits, and the service's datagrams
        // do not change their way from one to the next.
        if self.udp == Udp::Unknown || service.returning.as_ref().is_some_and(|back| back.both_ways) {
            service.send(now, &transmit);
        }
        Some(transmit)
    }

    /// Whether the survey may send to `remote` by UDP. What it sends may go unanswered for many reasons, so it is no
    /// ground for suspicion.
    pub(super) fn lets_survey(&self, remote: SocketAddr) -> bool {
        self.udp != Udp::Blocked && !self.services.get(&remote).is_some_and(|service| service.by_tcp)
    }

    /// An authentic and new datagram of a service or a peer came by UDP. While UDP is blocked this proves nothing: a
    /// network that refuses new QUIC connections may let older ones live.
    pub(super) fn heard(&mut self, now: Instant, remote: SocketAddr) {
        if self.udp != Udp::Blocked {
            self.gets_through(now, remote);
        }
    }

    /// A datagram from this service has got through.
    fn gets_through(&mut self, now: Instant, remote: SocketAddr) {
        (self.heard, self.unheard) = (Some(now), Unanswered::default());
        self.doubt.heard();
        let Some(service) = self.services.get_mut(&remote) else { return };
        self.trouble = self.trouble.take().filter(|trouble| trouble.service != service.name);
        (service.unanswered, service.returning) = (Unanswered::default(), None);
        service.recent.clear();
        // A connection that opens only now would take over from UDP.
        let is_open = service.conduit.as_ref().is_some_and(Conduit::is_open);
        let returns = self.udp == Udp::Blocked || service.by_tcp;
        if returns {
            self.works(now, remote);
        }
        self.udp = Udp::Works;
        if self.lingers.is_none() || !is_open {
            self.close(remote);
        }
    }

    /// UDP gets through, to this service at least.
    fn works(&mut self, now: Instant, remote: SocketAddr) {
        let was_blocked = self.udp == Udp::Blocked;
        self.udp = Udp::Works;
        let way = self.services.get(&remote).map(|service| (service.local, remote));
        let head_start = HEAD_START.max(ROUND_TRIPS * self.round_trip);
        let (mut returning, mut by_udp) = (Vec::new(), Vec::new());
        for (at, service) in &mut self.services {
            if was_blocked || *at == remote {
                by_udp.extend(service.by_tcp.then_some(*at));
                (service.by_tcp, service.unanswered) = (false, Unanswered::default());
                service.returning = None;
                if *at != remote && service.conduit.is_some() {
                    service.returning = Some(Return::new(now, head_start));
                    returning.push(*at);
                }
                if let Some((local, _)) = way.filter(|(local, _)| local.is_ipv4() == at.is_ipv4()) {
                    service.local = local;
                }
                service.recent.clear();
            }
        }
        self.next_probe = self.next_probe.filter(|_| self.services.values().any(|service| service.by_tcp));
        self.trouble = None;
        self.lingers = Some(now + LINGER.max(2 * head_start));
        if was_blocked {
            self.forget_here();
            self.event(Event::UdpWorks);
            self.out.push_back(FallbackOutput::Switched(way));
        }
        self.out.extend(by_udp.into_iter().map(FallbackOutput::ByUdp));
        for at in returning {
            self.try_udp(now, at, 0);
        }
    }

    /// This network is not known to block UDP any more.
    fn forget_here(&mut self) {
        let here = std::mem::take(&mut self.here);
        self.blocking.retain(|other| *other != here);
        self.here = here;
    }

    /// A service has switched to datagrams before it was heard by UDP.
    fn won(&mut self, now: Instant, remote: SocketAddr) {
        let Some(service) = self.services.get_mut(&remote) else { return };
        if service.by_tcp || service.returning.is_some() || self.udp == Udp::Blocked {
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
            // The attempts show whether UDP is blocked, or only this service is silent.
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
        self.forget_here();
        if self.blocking.len() >= MAX_BLOCKING {
            self.blocking.pop_front();
        }
        self.blocking.push_back(self.here.clone());
        for service in self.services.values_mut() {
            (service.by_tcp, service.unanswered, service.returning) = (true, Unanswered::default(), None);
        }
        self.event(Event::UdpBlocked { service });
        self.out.push_back(FallbackOutput::Switched(None));
    }

    fn event(&mut self, event: Event) {
        self.out.push_back(FallbackOutput::Pass(Output::from(event)));
    }

    fn stream(&mut self, id: StreamId, output: StreamOutput) {
        self.out.push_back(FallbackOutput::Pass(Output::Stream(id, output)));
    }

    /// When a silent service is tried by TCP.
    fn race_at(&self, service: &Service) -> Option<Instant> {
        let unanswered = Some(service.unanswered).filter(|_| service.conduit.is_none() && !service.by_tcp)?;
        let at = match self.udp {
            Udp::Unknown if self.blocking.contains(&self.here) => unanswered.since()?,
            Udp::Unknown => unanswered.since()? + HEAD_START,
            Udp::Works => {
                let alone = unanswered.suspect_at();
                alone.into_iter().chain(self.doubt.confirmed_at(unanswered, self.round_trip)).min()?
            }
            Udp::Blocked => return None,
        };
        Some(at.max(service.pause))
    }

    /// When to send the NMS a PING.
    fn ask_at(&self) -> Option<Instant> {
        self.doubt.ask_at(self.round_trip).filter(|_| self.udp == Udp::Works)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.ask_at().is_some_and(|at| at <= now) {
            self.doubt.asked(now);
            self.out.push_back(FallbackOutput::Ask);
        }
        let remotes: Vec<SocketAddr> = self.services.keys().copied().collect();
        for remote in remotes {
            let service = &self.services[&remote];
            if self.race_at(service).is_some_and(|at| at <= now) {
                if self.udp == Udp::Works {
                    // A service that has forgotten a connection does not answer it, but answers a new one.
                    self.try_udp(now, remote, 0);
                }
                self.open(now, remote);
                continue;
            }
            if service.returning.as_ref().is_some_and(|back| back.attempt_at <= now) {
                self.goes_both_ways(now, remote);
            }
            let conduit = self.services[&remote].conduit.as_ref();
            let Some(conduit) = conduit.filter(|conduit| conduit.deadline() <= now) else { continue };
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
                // A firewall may let an old flow live and refuse a new one, so this service may need TCP.
                service.by_tcp |= service.returning.take().is_some() && service.unanswered.count >= UNANSWERED;
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
        self.attempts.retain(|_, attempt| attempt.until > now);
        if let Some((at, wait)) = self.next_probe.filter(|(at, _)| *at <= now) {
            // Each service has its turn, because one of them may be unreachable by UDP. Then each of our addresses has,
            // because one of two networks may let UDP out. The back-off grows only while the last of them has its turn.
            let is_open = |service: &Service| service.conduit.as_ref().is_some_and(Conduit::is_open);
            let is_there = |service: &Service| is_open(service) || !service.by_tcp;
            let all: Vec<SocketAddr> =
                self.services.iter().filter(|(_, service)| is_there(service)).map(|(&remote, _)| remote).collect();
            let (service, turn) = (self.probes as usize % all.len().max(1), self.probes as usize / all.len().max(1));
            let mut is_last = true;
            if let Some(&remote) = all.get(service) {
                self.probes += 1;
                is_last = self.try_udp(now, remote, turn);
            }
            let next = if is_last { (wait * 2).min(LONGEST_UDP_PROBE) } else { wait };
            self.next_probe = Some((at + wait, next));
        }
    }

    pub(super) fn next_timer(&self) -> Option<Due> {
        let races = self.services.values().filter_map(|service| self.race_at(service));
        let conduits = self.services.values().filter_map(|service| Some(service.conduit.as_ref()?.deadline()));
        let returns = self.services.values().filter_map(|service| Some(service.returning.as_ref()?.attempt_at));
        let attempts = self.attempts.values().map(|attempt| attempt.until);
        let others = [self.blocked_at(), self.ask_at(), self.lingers, self.next_probe.map(|(at, _)| at)];
        let at = races.chain(conduits).chain(returns).chain(attempts).chain(others.into_iter().flatten()).min()?;
        Some(Timer::Fallback.at(at))
    }
}
