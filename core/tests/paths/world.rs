//! A small network between two ends: addresses, one-way wires, a blind relay, and NATs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use cyphonic_core::machine::Transmit;
use cyphonic_core::name::RelayCid;
use cyphonic_core::paths::budget::SilentTargets;
use cyphonic_core::paths::candidates::{Announced, Way, pair};
use cyphonic_core::paths::lifetime::Lifetimes;
use cyphonic_core::paths::peer::{Config, Event, Input, Output, Paths};
use cyphonic_core::paths::probe::{Secret, is_path_probe};
use cyphonic_core::quic::destination_prefix;
use cyphonic_core::time::Instant;

pub(crate) const ALICE: usize = 0;
pub(crate) const BOB: usize = 1;

/// Address `host` of an end.
pub(crate) fn at(end: usize, host: u8) -> SocketAddr {
    SocketAddr::from(([10, end as u8, 0, host], 443))
}

pub(crate) fn relay() -> SocketAddr {
    SocketAddr::from(([10, 9, 9, 9], 443))
}

pub(crate) fn tag(end: usize) -> RelayCid {
    RelayCid([b'A' + end as u8; 8])
}

/// One direction between two addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    pub(crate) delay: Duration,
    pub(crate) up: bool,
    /// Largest UDP payload that passes, bytes.
    pub(crate) mtu: usize,
    /// One of this many datagrams is lost, at random places. 0: none.
    pub(crate) lose_every: u32,
}

/// The part of an end above its paths.
pub(crate) trait Carrier {
    /// Takes a datagram that is no path probe. Returns whether it was authentic and new.
    fn take(&mut self, now: Instant, payload: BytesMut) -> bool;
    /// `Connection::path_changed` and `Connection::ping`.
    fn path_changed(&mut self, now: Instant);
    fn ping(&mut self, now: Instant);
    /// Handles the inputs so far. Returns everything to send, and the secret once there is one.
    fn collect(&mut self, now: Instant) -> Vec<Input>;
    fn timeout(&mut self, now: Instant);
    fn next_timeout(&self) -> Option<Instant>;
}

pub(crate) struct End<C> {
    pub(crate) paths: Paths,
    pub(crate) silent: SilentTargets,
    pub(crate) carrier: C,
    pub(crate) locals: Vec<SocketAddr>,
    pub(crate) events: Vec<(Instant, Event)>,
    pub(crate) due: Option<Instant>,
}

/// A datagram that left, as an observer in front of the sender's NAT sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) at: Instant,
    pub(crate) end: usize,
    pub(crate) way: Way,
    pub(crate) payload: Vec<u8>,
}

pub(crate) struct World<C> {
    pub(crate) now: Instant,
    pub(crate) ends: [End<C>; 2],
    pub(crate) wire: Wire,
    pub(crate) wires: BTreeMap<(SocketAddr, SocketAddr), Wire>,
    /// The address to which the relay forwards datagrams with a tag.
    pub(crate) legs: BTreeMap<RelayCid, SocketAddr>,
    /// The outside address of each inside one.
    pub(crate) nats: BTreeMap<SocketAddr, SocketAddr>,
    /// An attacker between the two, with its address. It forwards everything that it gets, and one of this many
    /// datagrams that it sees.
    pub(crate) between: Option<(SocketAddr, usize)>,
    pub(crate) log: Vec<Sent>,
    flying: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    flown: u64,
}

impl<C: Carrier> World<C> {
    /// Two ends with one address each; Alice is the TLS client.
    pub(crate) fn new(carriers: [C; 2], lifetimes: Lifetimes, seed: u8) -> Self {
        let [alice, bob] = carriers;
        let end = |end: usize, carrier| End {
            paths: Paths::new(Config {
                ours: tag(end),
                theirs: tag(1 - end),
                client: end == ALICE,
                lifetimes,
                seed: [seed.wrapping_add(end as u8); 32],
            }),
            silent: SilentTargets::default(),
            carrier,
            locals: vec![at(end, 1)],
            events: Vec::new(),
            due: None,
        };
        let wire = Wire { delay: Duration::from_millis(25), up: true, mtu: 1472, lose_every: 0 };
        Self {
            now: Instant::ZERO,
            ends: [end(ALICE, alice), end(BOB, bob)],
            wire,
            wires: BTreeMap::new(),
            legs: [ALICE, BOB].map(|end| (tag(end), at(end, 1))).into(),
            nats: BTreeMap::new(),
            between: None,
            log: Vec::new(),
            flying: BTreeMap::new(),
            flown: 0,
        }
    }

    pub(crate) fn wire(&mut self, from: SocketAddr, to: SocketAddr, change: impl Fn(&mut Wire)) {
        for key in [(from, to), (to, from)] {
            change(self.wires.entry(key).or_insert(self.wire));
        }
    }

    /// Gives an end one input, and carries out its outputs.
    pub(crate) fn give(&mut self, end: usize, input: Input) {
        let (now, this) = (self.now, &mut self.ends[end]);
        this.paths.handle(now, input, &mut this.silent);
        self.drain(end);
    }

    /// The addresses of the other end.
    pub(crate) fn places(&self, of: usize, relayed: bool) -> Vec<Announced> {
        let outside = |local: &SocketAddr| Announced::Seen(*self.nats.get(local).unwrap_or(local));
        let direct = self.ends[of].locals.iter().map(outside);
        direct.chain(relayed.then(|| Announced::Relay(relay()))).collect()
    }

    /// Tells an end the addresses of the other one.
    pub(crate) fn tell(&mut self, end: usize, announced: &[Announced]) {
        let candidates = pair(&self.ends[end].locals, None, announced);
        self.give(end, Input::Candidates(candidates));
    }

    /// Changes an end's addresses, and tells it. Its leg to the relay follows.
    pub(crate) fn move_to(&mut self, end: usize, hosts: &[u8], announced: &[Announced]) {
        let locals: Vec<_> = hosts.iter().map(|&host| at(end, host)).collect();
        self.ends[end].locals.clone_from(&locals);
        if let Some(&first) = locals.first() {
            let outside = *self.nats.get(&first).unwrap_or(&first);
            self.legs.insert(tag(end), outside);
        }
        let candidates = pair(&locals, None, announced);
        self.give(end, Input::Network { locals, candidates });
        self.carry_out(end);
    }

    fn drain(&mut self, end: usize) {
        loop {
            let now = self.now;
            match self.ends[end].paths.poll() {
                Output::Transmit(transmit) => self.fly(end, &transmit),
                Output::PathChanged => self.ends[end].carrier.path_changed(now),
                Output::Ping => self.ends[end].carrier.ping(now),
                Output::Event(event) => self.ends[end].events.push((now, event)),
                Output::Wait(due) => return self.ends[end].due = due,
            }
        }
    }

    /// Carries out what an end's carrier wants.
    pub(crate) fn carry_out(&mut self, end: usize) {
        loop {
            let inputs = self.ends[end].carrier.collect(self.now);
            if inputs.is_empty() {
                return;
            }
            for input in inputs {
                self.give(end, input);
            }
        }
    }

    fn fly(&mut self, end: usize, transmit: &Transmit) {
        let way = Way { local: transmit.local, remote: transmit.remote };
        assert!(self.ends[end].locals.contains(&way.local), "{way:?} from an address that is gone");
        for payload in transmit.datagrams() {
            self.log.push(Sent { at: self.now, end, way, payload: payload.to_vec() });
            let from = *self.nats.get(&way.local).unwrap_or(&way.local);
            self.hop(from, way.remote, payload.to_vec());
            if let Some((between, of)) = self.between
                && ![between, relay()].contains(&way.remote)
                && self.log.len().is_multiple_of(of)
            {
                self.hop(between, way.remote, payload.to_vec());
            }
        }
    }

    /// Puts a datagram on a wire. Attackers use it too, for forged and repeated datagrams.
    pub(crate) fn hop(&mut self, from: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        let wire = *self.wires.get(&(from, to)).unwrap_or(&self.wire);
        self.flown += 1;
        let dice = self.flown.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let lost = wire.lose_every > 0 && dice.is_multiple_of(u64::from(wire.lose_every));
        if wire.up && !lost && payload.len() <= wire.mtu {
            self.flying.insert((self.now + wire.delay, self.flown), (from, to, payload));
        }
    }

    fn land(&mut self, from: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        if to == relay() {
            let leg = destination_prefix(&payload).and_then(|tag| self.legs.get(&tag).copied());
            return if let Some(leg) = leg {
                self.hop(relay(), leg, payload);
            };
        }
        if self.between.is_some_and(|(between, _)| between == to) {
            let other = if from == at(ALICE, 1) { at(BOB, 1) } else { at(ALICE, 1) };
            return self.hop(to, other, payload);
        }
        let within = self.nats.iter().find(|(_, outside)| **outside == to).map(|(within, _)| *within);
        let local = within.unwrap_or(to);
        let Some(end) = (0..2).find(|&end| self.ends[end].locals.contains(&local)) else { return };
        if within.is_none() && self.nats.contains_key(&local) {
            return;
        }
        let (now, way, len) = (self.now, Way { local, remote: from }, payload.len());
        let payload = BytesMut::from(&payload[..]);
        if is_path_probe(&payload, tag(end)) {
            self.give(end, Input::Probe { way, payload });
        } else if self.ends[end].carrier.take(now, payload) {
            self.give(end, Input::Arrived { way, len });
        }
        self.carry_out(end);
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, until: Instant) {
        (0..2).for_each(|end| self.carry_out(end));
        for step in 0.. {
            assert!(step < 3_000_000, "busy without end at {}", self.now);
            let landing = self.flying.first_key_value().map(|(key, _)| key.0);
            let timers = self.ends.iter().flat_map(|end| [end.due, end.carrier.next_timeout()]);
            let timer = timers.flatten().min();
            let Some(next) = landing.into_iter().chain(timer).min().filter(|&next| next <= until) else { break };
            self.now = self.now.max(next);
            if landing == Some(next) {
                let (_, (from, to, payload)) = self.flying.pop_first().unwrap();
                self.land(from, to, payload);
                continue;
            }
            for end in 0..2 {
                if self.ends[end].due.is_some_and(|due| due <= self.now) {
                    self.give(end, Input::Timeout);
                }
                let now = self.now;
                self.ends[end].carrier.timeout(now);
                self.carry_out(end);
            }
        }
        self.now = until;
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run(self.now + time);
    }

    pub(crate) fn used(&self, end: usize) -> Option<SocketAddr> {
        self.ends[end].paths.used().map(|way| way.remote)
    }
}

/// Traffic that needs no keys: numbered datagrams, each answered by a small one.
#[derive(Default)]
pub(crate) struct Plain {
    end: usize,
    next: u64,
    queue: Vec<Vec<u8>>,
    seen: BTreeSet<(bool, u64)>,
    /// When each number first arrived, and how many arrivals were repetitions.
    pub(crate) got: BTreeMap<u64, Instant>,
    pub(crate) again: usize,
    pub(crate) told: usize,
}

impl Plain {
    pub(crate) fn new(end: usize) -> Self {
        Self { end, ..Self::default() }
    }

    /// Sends a datagram of this length, and returns its number.
    pub(crate) fn say(&mut self, len: usize) -> u64 {
        self.next += 1;
        self.queue.push(self.datagram(false, self.next, len));
        self.next
    }

    fn datagram(&self, answer: bool, number: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0x40 | u8::from(answer)];
        data.extend_from_slice(&tag(1 - self.end).0);
        data.extend_from_slice(&number.to_be_bytes());
        data.resize(len.max(data.len()), 0);
        data
    }
}

impl Carrier for Plain {
    fn take(&mut self, now: Instant, payload: BytesMut) -> bool {
        if payload.len() < 17 || payload[0] & 0xfe != 0x40 || payload[1..9] != tag(self.end).0 {
            return false;
        }
        let number = u64::from_be_bytes(payload[9..17].try_into().unwrap());
        let answer = payload[0] & 1 == 1;
        if !self.seen.insert((answer, number)) {
            self.again += 1;
            return false;
        }
        if !answer {
            self.got.insert(number, now);
            self.queue.push(self.datagram(true, number, 40));
        }
        true
    }

    fn path_changed(&mut self, _: Instant) {
        self.told += 1;
    }

    fn ping(&mut self, _: Instant) {
        self.say(40);
    }

    fn collect(&mut self, _: Instant) -> Vec<Input> {
        let datagrams = |payload| cyphonic_core::paths::recent::Datagrams { payload, segment: None, asks: true };
        std::mem::take(&mut self.queue).into_iter().map(|payload| Input::Transmit(datagrams(payload))).collect()
    }

    fn timeout(&mut self, _: Instant) {}

    fn next_timeout(&self) -> Option<Instant> {
        None
    }
}

/// Two ends that have keys and know each other's addresses.
pub(crate) fn plain(lifetimes: Lifetimes, hosts: [&[u8]; 2], relayed: bool, seed: u8) -> World<Plain> {
    let mut world = World::new([Plain::new(ALICE), Plain::new(BOB)], lifetimes, seed);
    for (end, hosts) in hosts.iter().enumerate() {
        world.ends[end].locals = hosts.iter().map(|&host| at(end, host)).collect();
    }
    for end in 0..2 {
        world.give(end, Input::Keys(Secret([9; 32])));
        let places = world.places(1 - end, relayed);
        world.tell(end, &places);
    }
    world
}

impl World<Plain> {
    /// Both ends send something every `every` until `until`.
    pub(crate) fn talk(&mut self, until: Instant, every: Duration, len: usize) {
        while self.now < until {
            for end in 0..2 {
                self.ends[end].carrier.say(len);
                self.carry_out(end);
            }
            self.run((self.now + every).min(until));
        }
    }
}
