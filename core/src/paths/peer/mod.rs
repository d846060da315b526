//! The paths to one peer, as a state machine.

mod answer;
mod calm;
mod send;
mod tend;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::budget::SilentTargets;
use super::candidates::{Candidate, Kind, MAX_CANDIDATES, Way};
use super::lifetime::Lifetimes;
use super::path::{LEAST_MTU, Path, State};
use super::probe::{Keys, Secret};
use super::recent::{Datagrams, Recent};
use super::watch::Delivery;
use crate::machine::Transmit;
use crate::name::RelayCid;
use crate::time::Instant;
use crate::timing::paths::PATH_KNOWN;

/// Most paths of one peer: its candidates, and as many other addresses where it was seen.
pub const MAX_PATHS: usize = 2 * MAX_CANDIDATES;
/// Most paths to ports of one host that nobody announced. Between two NATs that give each destination another port,
/// each probe to a new port comes from a new port. Without this limit the two ends would find ports for ever, and probe
/// them all.
const MAX_SEEN: usize = 4;
/// Most addresses where the peer, or a relay, was heard last.
const MAX_KNOWN: usize = MAX_PATHS;

/// Names a path of one [`Paths`]; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathNumber(u32);

/// The settings of [`Paths`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Our tag: the first eight bytes after the form of each probe to us.
    pub ours: RelayCid,
    /// The peer's tag, likewise.
    pub theirs: RelayCid,
    /// Whether we are the TLS client of the tunnel.
    pub client: bool,
    /// What is known of NATs and firewalls in front of us.
    pub lifetimes: Lifetimes,
    /// The seed of the probes' tokens.
    pub seed: [u8; 32],
}

/// An input of [`Paths`].
#[derive(Debug)]
pub enum Input {
    /// The secret of the tunnel's TLS session: both handshakes are done, or the client's is.
    Keys(Secret),
    /// The peer, or this node, is slow: the round trip of a path is taken for this until it was measured.
    RoundTrip(Duration),
    /// The candidates of the peer. They replace those that were told before.
    Candidates(Vec<Candidate>),
    /// Our network has changed: our addresses now, and the candidates that follow from them.
    Network {
        /// Our addresses.
        locals: Vec<SocketAddr>,
        /// As in [`Input::Candidates`].
        candidates: Vec<Candidate>,
    },
    /// The leg behind this way, which leads through a relay, was replaced. What was known of the path is void.
    Renewed(Way),
    /// The relay behind this way is reached by UDP again, after TCP. The path stays, but large datagrams may not pass
    /// any more.
    Rerouted(Way),
    /// A path probe arrived ([`is_path_probe`](super::probe::is_path_probe)).
    Probe {
        /// The addresses that it travelled between.
        way: Way,
        /// The UDP payload.
        payload: BytesMut,
    },
    /// QUIC took a datagram as authentic and new. Other datagrams must not be told.
    Arrived {
        /// The addresses that it travelled between.
        way: Way,
        /// Length of its UDP payload, bytes.
        len: usize,
    },
    /// Datagrams that QUIC wants to send.
    Transmit(Datagrams),
    /// QUIC's counts so far: to be told now and then, and after every change of its MTU.
    Delivery(Delivery),
    /// The instant that [`Output::Wait`] gave last has come.
    Timeout,
}

/// An output of [`Paths`].
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a UDP datagram, or several.
    Transmit(Transmit),
    /// Tell QUIC that round trip and MTU have changed (`Connection::path_changed`).
    PathChanged,
    /// Make QUIC send a frame that needs an acknowledgement (`Connection::ping`).
    Ping,
    /// For logs, tables and tests.
    Event(Event),
    /// No more output now. The next call is due at an input, or at the given instant with [`Input::Timeout`].
    Wait(Option<Instant>),
}

/// Why traffic changed over to another path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No path was in use before.
    First,
    /// The new path is better.
    Better,
    /// The path before has ended, is starved, or began at an address that we have lost.
    Ended,
    /// The peer has moved there.
    PeerMoved,
    /// The client uses it, and it is as good.
    Followed,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A path works in both directions.
    Proved {
        /// The path.
        way: Way,
        /// The round trip of the probe that proved it.
        rtt: Duration,
    },
    /// A path has ended.
    Died {
        /// The path.
        way: Way,
    },
    /// Most of what was sent on a path was lost.
    Starved {
        /// The path.
        way: Way,
    },
    /// Datagrams of QUIC's size do not pass any more.
    Narrowed {
        /// The path.
        way: Way,
        /// What passes, bytes of UDP payload.
        mtu: u16,
    },
    /// Traffic goes by another path from now on.
    Switched {
        /// The path in use before.
        from: Option<Way>,
        /// The new one.
        to: Way,
        /// The reason.
        why: Why,
    },
    /// A probe was not authentic, or not new.
    BadProbe,
}

/// One path in the words of `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStatus {
    /// The pair of addresses.
    pub way: Way,
    /// Its kind.
    pub kind: Kind,
    /// Its state.
    pub state: State,
    /// Its smoothed round trip, once it was measured.
    pub rtt: Option<Duration>,
    /// Largest UDP payload that is known to pass, bytes.
    pub mtu: u16,
    /// How it is used, and why.
    pub role: Role,
}

impl fmt::Display for PathStatus {
    /// `192.0.2.5:443 -> 203.0.113.7:443 (IPv4), 24.1 ms, 1452 bytes: used`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Inside => "same network",
            Kind::V6 => "IPv6",
            Kind::V4 => "IPv4",
            Kind::Nat64 => "IPv4 through NAT64",
            Kind::Relay => "TRS",
        };
        let why = match self.role {
            Role::Used => "used",
            Role::Beside => "used too, because the other one is in doubt or the peer seems to be here",
            Role::Warm => "kept warm",
            Role::Spare => "works, others are better",
            Role::Starved => "not used: most of what was sent on it was lost",
            Role::OnTrial => "not used yet: it came back a moment ago",
            Role::TooNarrow => "not used: 1200 bytes do not pass",
            Role::Silent => "not used: no answer",
        };
        write!(f, "{} -> {} ({kind})", self.way.local, self.way.remote)?;
        if let Some(rtt) = self.rtt {
            write!(f, ", {:.1} ms", rtt.as_secs_f64() * 1000.0)?;
        }
        if self.mtu > 0 {
            write!(f, ", {} bytes", self.mtu)?;
        }
        write!(f, ": {why}")
    }
}

/// How a path is used, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Traffic goes by it.
    Used,
    /// Everything goes by it too, because the path in use is in doubt, or because the peer seems to have moved here.
    Beside,
    /// It is kept warm.
    Warm,
    /// It works, but another path is better.
    Spare,
    /// Most of what was sent on it was lost.
    Starved,
    /// It came back a short time ago.
    OnTrial,
    /// It does not pass 1,200 bytes.
    TooNarrow,
    /// It does not answer.
    Silent,
}

/// A path to which the peer seems to have moved, and which is not proved yet.
#[derive(Clone, Copy, Debug)]
struct Bridge {
    to: PathNumber,
    since: Instant,
    /// The peer itself says that it has moved.
    moved: bool,
}

/// All paths to one peer. See [the module](super).
pub struct Paths {
    config: Config,
    rng: ChaCha20Rng,
    keys: Option<Keys>,
    paths: BTreeMap<PathNumber, Path>,
    /// What the round trip of a new path is taken for.
    assumed: Option<Duration>,
    next: u32,
    /// Traffic goes by this one.
    used: Option<PathNumber>,
    /// Kept warm, in case the path in use fails.
    warm: Option<PathNumber>,
    /// Traffic goes by this one too, for the moment.
    beside: Option<PathNumber>,
    bridge: Option<Bridge>,
    /// When traffic last changed over because the peer said that it had moved.
    crossed_at: Option<Instant>,
    /// Addresses at which the peer, or a relay, was heard last.
    known: BTreeMap<SocketAddr, Instant>,
    /// Our addresses have changed, and no path is proved since.
    moved: bool,
    /// The leg behind the path in use was replaced.
    renewed: bool,
    lifetimes: Lifetimes,
    delivery: Delivery,
    recent: Recent,
    /// Datagrams that wait, so that they do not overtake those on a slower path.
    held: VecDeque<Datagrams>,
    /// Datagrams for the place where the peer seems to be, which the amplification limit does not admit yet.
    backlog: VecDeque<Datagrams>,
    /// The earliest time of the next datagram that goes everywhere.
    spread_at: Instant,
    hold_until: Option<Instant>,
    pace: send::Pace,
    /// The earliest time at which all paths are probed again.
    alarm_at: Instant,
    /// The time of the last input.
    now: Instant,
    /// The instant that was given last by [`Output::Wait`].
    due: Option<Instant>,
    /// Whether `due` still holds.
    timed: bool,
    /// When everything that was due by time was done last. Nothing has happened since that asks for more.
    tended: Option<Instant>,
    ranking: tend::Ranking,
    out: VecDeque<Output>,
}

impl Paths {
    /// Paths to a peer, without any path yet.
    pub fn new(config: Config) -> Self {
        Self {
            rng: ChaCha20Rng::from_seed(config.seed),
            lifetimes: config.lifetimes,
            config,
            keys: None,
            paths: BTreeMap::new(),
            assumed: None,
            next: 0,
            used: None,
            warm: None,
            beside: None,
            bridge: None,
            crossed_at: None,
            known: BTreeMap::new(),
            moved: false,
            renewed: false,
            delivery: Delivery::default(),
            recent: Recent::default(),
            held: VecDeque::new(),
            backlog: VecDeque::new(),
            spread_at: Instant::ZERO,
            hold_until: None,
            pace: send::Pace::default(),
            alarm_at: Instant::ZERO,
            now: Instant::ZERO,
            due: None,
            timed: false,
            tended: None,
            ranking: tend::Ranking::default(),
            out: VecDeque::new(),
        }
    }

    /// Takes one input at `now`, which never goes backwards. `silent` belongs to the node, which shares it among its
    /// peers.
    pub fn handle(&mut self, now: Instant, input: Input, silent: &mut SilentTargets) {
        self.now = now;
        match input {
            Input::Arrived { way, len } if self.only_counts(now, way) => {
                return self.take_more(now, way, len);
            }
            Input::Transmit(datagrams) if self.is_calm(now) => return self.send_more(now, datagrams, silent),
            _ => (self.timed, self.tended) = (false, None),
        }
        let input = match input {
            Input::Probe { way, payload } => {
                let len = payload.len();
                // A probe that is not authentic has no effect. Even time does not pass by it.
                let Some(probe) = self.keys.as_mut().and_then(|keys| keys.open(payload)) else {
                    return self.event(Event::BadProbe);
                };
                self.notice_sleep(now);
                self.on_probe(now, way, &probe, len, silent);
                return self.tend(now, silent);
            }
            other => other,
        };
        self.notice_sleep(now);
        match input {
            Input::Keys(secret) => self.on_keys(now, &secret),
            Input::RoundTrip(rtt) => {
                self.assumed = Some(rtt);
                self.paths.values_mut().for_each(|path| path.watch.rtt.assume(rtt));
            }
            Input::Candidates(candidates) => self.on_candidates(now, &candidates, silent),
            Input::Network { locals, candidates } => self.on_network(now, &locals, &candidates, silent),
            Input::Renewed(way) => {
                if let Some(number) = self.find(way) {
                    self.renewed |= self.used == Some(number);
                    self.forget(number);
                }
            }
            Input::Rerouted(way) => self.on_rerouted(now, way, silent),
            Input::Arrived { way, len } => self.on_arrived(now, way, len, silent),
            Input::Transmit(datagrams) => return self.on_transmit(now, datagrams, silent),
            Input::Delivery(counts) => self.on_delivery(now, counts),
            Input::Probe { .. } | Input::Timeout => {}
        }
        self.tend_once(now, silent);
    }

    /// The next output. After [`Output::Wait`] there is nothing more until the next input.
    pub fn poll(&mut self) -> Output {
        self.out.pop_front().unwrap_or_else(|| {
            if !self.timed {
                (self.due, self.timed) = (self.next_timeout(), true);
            }
            Output::Wait(self.due)
        })
    }

    /// Sets the tags of this tunnel's probes: before [`Input::Keys`], if they were not known at the beginning.
    pub fn tagged(&mut self, ours: RelayCid, theirs: RelayCid) {
        (self.config.ours, self.config.theirs) = (ours, theirs);
    }

    /// Whether the path in use works, as far as is known.
    pub fn is_well(&self, now: Instant) -> bool {
        let used = self.used.and_then(|used| self.paths.get(&used));
        used.is_some_and(|path| path.is_alive() && !path.watch.in_doubt(now))
    }

    /// Whether any path is proved.
    pub fn is_proved(&self) -> bool {
        self.paths.values().any(Path::is_alive)
    }

    /// The peer's addresses on the paths that work.
    pub fn places(&self) -> Vec<SocketAddr> {
        self.paths.values().filter(|path| path.is_alive()).map(|path| path.candidate.way.remote).collect()
    }

    /// Whether our addresses have changed and no path is proved since.
    pub fn has_moved(&self) -> bool {
        self.moved
    }

    /// The path in use.
    pub fn used(&self) -> Option<Way> {
        self.used.map(|number| self.paths[&number].candidate.way)
    }

    /// Whether a path is in use.
    pub fn has_used(&self) -> bool {
        self.used.is_some()
    }

    /// The time of the last input.
    pub fn last_input(&self) -> Instant {
        self.now
    }

    /// Every path, in the order in which it became known.
    pub fn status(&self, now: Instant) -> Vec<PathStatus> {
        let all = self.paths.iter().map(|(&number, path)| PathStatus {
            way: path.candidate.way,
            kind: path.candidate.kind,
            state: path.state,
            rtt: path.watch.rtt.is_measured().then(|| path.watch.rtt.get()),
            mtu: path.mtu,
            role: self.role(now, number, path),
        });
        all.collect()
    }

    fn role(&self, now: Instant, number: PathNumber, path: &Path) -> Role {
        let standing = path.standing(now);
        let is = |which: Option<PathNumber>| which == Some(number);
        match () {
            () if is(self.used) => Role::Used,
            () if is(self.beside) => Role::Beside,
            () if !standing.alive => Role::Silent,
            () if !standing.wide => Role::TooNarrow,
            () if standing.starved => Role::Starved,
            () if standing.trial => Role::OnTrial,
            () if is(self.warm) => Role::Warm,
            () => Role::Spare,
        }
    }

    /// The lifetimes of mappings that were observed, for the node to remember.
    pub fn lifetimes(&self) -> Lifetimes {
        self.lifetimes
    }

    /// The number of entries in each table. None grows beyond its limit.
    pub fn tables(&self) -> crate::machine::Tables {
        vec![
            ("paths", self.paths.len()),
            ("known places", self.known.len()),
            ("datagrams held", self.held.len() + self.backlog.len()),
        ]
    }

    fn find(&self, way: Way) -> Option<PathNumber> {
        self.paths.iter().find(|(_, path)| path.candidate.way == way).map(|(&number, _)| number)
    }

    fn add(&mut self, now: Instant, candidate: Candidate, announced: bool) -> Option<PathNumber> {
        let kept = [self.used, self.beside];
        if !announced {
            let host = candidate.way.remote.ip();
            let seen = self.paths.iter().filter(|(_, path)| !path.announced && path.candidate.way.remote.ip() == host);
            let seen: Vec<_> = seen.map(|(&number, path)| (path.is_alive(), number)).collect();
            let oldest = seen.iter().filter(|(_, number)| !kept.contains(&Some(*number))).min();
            if let Some(&(_, oldest)) = oldest.filter(|_| seen.len() >= MAX_SEEN) {
                self.forget(oldest);
            }
        }
        if self.paths.len() >= MAX_PATHS {
            let spare = self.paths.iter().find(|(n, p)| !p.announced && !p.is_alive() && !kept.contains(&Some(**n)));
            let oldest = spare.map(|(&number, _)| number)?;
            self.forget(oldest);
        }
        let number = PathNumber(self.next);
        self.next += 1;
        let mut path = Path::new(now, candidate, announced);
        if let Some(rtt) = self.assumed {
            path.watch.rtt.assume(rtt);
        }
        self.paths.insert(number, path);
        Some(number)
    }

    fn forget(&mut self, number: PathNumber) {
        self.paths.remove(&number);
        for which in [&mut self.used, &mut self.warm, &mut self.beside] {
            which.take_if(|which| *which == number);
        }
        self.bridge.take_if(|bridge| bridge.to == number);
    }

    /// Whether something authentic came from this address lately, by any path.
    fn is_known(&self, now: Instant, place: SocketAddr) -> bool {
        self.known.get(&place).is_some_and(|&at| now - at <= PATH_KNOWN)
    }

    fn know(&mut self, now: Instant, place: SocketAddr) {
        if self.known.len() >= MAX_KNOWN
            && !self.known.contains_key(&place)
            && let Some((&oldest, _)) = self.known.iter().min_by_key(|(_, at)| **at)
        {
            self.known.remove(&oldest);
        }
        self.known.insert(place, now);
    }

    fn event(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    fn on_keys(&mut self, now: Instant, secret: &Secret) {
        self.keys = Some(Keys::new(secret, self.config.client));
        // A handshake over one path alone has proved that path, because its datagrams had 1,200 bytes in both
        // directions (RFC 9000 §8.1 and §14.1). The Finished of the server, or of the client, answers what was sent
        // there.
        let mut heard =
            self.paths.iter().filter(|(_, path)| path.watch.heard_at().is_some()).map(|(&number, _)| number);
        if let (Some(only), None) = (heard.next(), heard.next()) {
            self.prove_by_handshake(now, only);
        }
        self.paths.values_mut().for_each(|path| path.call(now));
    }

    fn on_candidates(&mut self, now: Instant, candidates: &[Candidate], silent: &mut SilentTargets) {
        let instructed = self.used.filter(|used| self.paths[used].announced);
        self.paths.values_mut().for_each(|path| path.announced = false);
        for &candidate in candidates {
            match self.find(candidate.way) {
                Some(number) => {
                    let path = self.paths.get_mut(&number).expect("found");
                    (path.candidate, path.announced) = (candidate, true);
                    if !path.is_alive() {
                        path.call(now);
                    }
                }
                None => {
                    self.add(now, candidate, true);
                }
            }
        }
        // A path that works stays, even if nobody names it any more.
        let gone = |(&n, p): (&PathNumber, &Path)| {
            let used = Some(n) == self.used || Some(n) == self.beside;
            (!p.announced && !p.is_alive() && !used && p.watch.heard_at().is_none()).then_some(n)
        };
        let gone: Vec<_> = self.paths.iter().filter_map(gone).collect();
        for number in gone {
            self.forget(number);
        }
        if self.keys.is_some() && (self.moved || self.renewed) && self.used.is_none() {
            self.renewed = false;
            // We moved when no known address was left to greet. Now there is one.
            if let Some(to) = self.blind(now, None) {
                self.hello(now, to, usize::from(LEAST_MTU), silent);
                self.switch(now, to, Why::Ended, silent);
            }
        }
        let Some(used) = instructed.filter(|used| !self.paths[used].announced) else { return };
        if self.keys.is_none() {
            // The handshake follows the announced addresses, even if packets came from another one before.
            self.forget(used);
            self.dial_again(now, silent);
        } else if let Some(path) = self.paths.get_mut(&used).filter(|path| path.is_alive()) {
            // The NMS no longer names that address, so the peer seems to have left it.
            path.watch.asked(now);
            path.watch.is_deaf();
        }
    }
}
