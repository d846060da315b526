//! Real QUIC over paths: one connection over any network.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cyphonic_core::header::{Flags, Header, Kind as HeaderKind};
use cyphonic_core::paths::lifetime::Lifetimes;
use cyphonic_core::paths::peer::Input;
use cyphonic_core::paths::recent::Datagrams;
use cyphonic_core::quic::{CidScheme, DatagramRefused, LinkId, LinkOutput, Links, Load, QuicOptions};
use cyphonic_core::time::Instant;
use cyphonic_core::version::Spoken;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::world::{ALICE, BOB, Carrier, World, at, relay, tag};

#[path = "../common/mod.rs"]
mod common;

/// The peer's address, as QUIC knows it.
fn constant() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1))
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// One end's QUIC.
struct Quic {
    links: Links,
    link: Option<LinkId>,
    keyed: bool,
    mtu: u16,
    closed: bool,
    /// The packets that arrived, by number: when, and how often.
    got: BTreeMap<u64, (Instant, u32)>,
    /// How many of these came on the stream.
    stream: usize,
    ready: Vec<Input>,
}

impl Quic {
    fn new(end: usize, options: QuicOptions) -> Self {
        let config = common::Credentials::new().quic(["alice", "bob"][end], options);
        let scheme = CidScheme::Relayed(tag(end));
        let mut rng = ChaCha20Rng::from_seed([end as u8; 32]);
        let links = Links::new(config, scheme, end == BOB, &mut rng).unwrap();
        Self { links, link: None, keyed: false, mtu: 0, closed: false, got: BTreeMap::new(), stream: 0, ready: vec![] }
    }

    fn dial(&mut self, now: Instant) {
        let name = common::name("bob");
        self.link = self.links.connect(now, constant(), constant(), &name, Some(tag(BOB)), Load::Packets);
        self.drain(now);
    }

    fn count(&mut self, now: Instant, packet: &[u8]) {
        let number = u64::from_be_bytes(packet[..8].try_into().unwrap());
        self.got.entry(number).or_insert((now, 0)).1 += 1;
    }

    fn drain(&mut self, now: Instant) {
        while let Some(output) = self.links.poll() {
            match output {
                LinkOutput::Transmit(t) | LinkOutput::Bare(t) => {
                    self.ready.push(Input::Transmit(Datagrams { payload: t.payload, segment: t.segment, asks: true }));
                }
                LinkOutput::Connected { link, .. } => self.link = Some(link),
                LinkOutput::Datagrams(_, packets) => packets.iter().for_each(|packet| self.count(now, packet)),
                LinkOutput::Frame(_, _, body) => {
                    self.stream += 1;
                    self.count(now, &body);
                }
                LinkOutput::Closed(..) => self.closed = true,
                LinkOutput::Dropped(_) | LinkOutput::Pathed(..) | LinkOutput::Followed(_) => {}
            }
        }
        let Some(link) = self.link else { return };
        if !self.keyed
            && let Some(secret) = self.links.paths_secret(link)
        {
            self.keyed = true;
            self.ready.push(Input::Keys(secret));
        }
        if let Some(counts) = self.links.delivery(link).filter(|counts| self.keyed && counts.mtu != self.mtu) {
            self.mtu = counts.mtu;
            self.ready.push(Input::Delivery(counts));
        }
    }

    /// Sends an inner packet in a DATAGRAM frame, as compact framing does, or on the stream.
    fn say(&mut self, now: Instant, number: u64, len: usize, stream: bool) -> bool {
        let Some(link) = self.link.filter(|_| self.keyed) else { return false };
        let mut packet = number.to_be_bytes().to_vec();
        packet.resize(len.max(8), 0);
        let framed = |packet: &[u8]| {
            let length = packet.len() as u16;
            let kind = HeaderKind::Capsule;
            let spoken = Spoken::FIRST;
            let header = Header {
                transaction: 0,
                spoken,
                flags: Flags(0),
                kind,
                count: 0,
                sequence: 0,
                length,
                option: 0,
                id: [0; 16],
            };
            Bytes::from([&header.encode()[..], packet].concat())
        };
        if stream {
            return self.links.send_frame(now, link, framed(&packet));
        }
        match self.links.send_datagram(now, link, packet.clone().into()) {
            Ok(()) => true,
            Err(DatagramRefused::TooLarge(..)) if len <= 1280 => self.links.send_frame(now, link, framed(&packet)),
            Err(_) => false,
        }
    }
}

impl Carrier for Quic {
    fn take(&mut self, now: Instant, payload: BytesMut) -> bool {
        let heard = self.links.hear_datagram(now, constant(), constant(), payload);
        self.links.finish(now);
        self.drain(now);
        heard.is_some()
    }

    fn path_changed(&mut self, now: Instant) {
        if let Some(link) = self.link {
            self.links.path_changed(now, link);
            self.drain(now);
        }
    }

    fn ping(&mut self, now: Instant) {
        if let Some(link) = self.link {
            self.links.ping(now, link);
            self.drain(now);
        }
    }

    fn collect(&mut self, now: Instant) -> Vec<Input> {
        self.drain(now);
        std::mem::take(&mut self.ready)
    }

    fn timeout(&mut self, now: Instant) {
        self.links.handle_timeout(now);
        self.drain(now);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.links.next_timer().map(|due| due.at)
    }
}

/// Alice has dialed Bob, who is at his first address.
fn dialed(relayed: bool, options: &QuicOptions) -> World<Quic> {
    let quic = |end| Quic::new(end, options.clone());
    let mut world = World::new([quic(ALICE), quic(BOB)], Lifetimes::guarded(), 1);
    let places = world.places(BOB, relayed);
    world.tell(ALICE, &places);
    let now = world.now;
    world.ends[ALICE].carrier.dial(now);
    world.carry_out(ALICE);
    world
}

/// Each end sends a numbered packet every `every` until then. The numbers sent, by end.
fn talk(world: &mut World<Quic>, until: Instant, every: Duration, len: usize, stream: bool) -> [Vec<u64>; 2] {
    let mut sent = [vec![], vec![]];
    while world.now < until {
        for (end, sent) in sent.iter_mut().enumerate() {
            let (now, number) = (world.now, world.now.as_nanos() / 1_000);
            if world.ends[end].carrier.say(now, number, len, stream) {
                sent.push(number);
            }
            world.carry_out(end);
        }
        world.run((world.now + every).min(until));
    }
    sent
}

fn tell_both(world: &mut World<Quic>, relayed: bool) {
    for end in 0..2 {
        let places = world.places(1 - end, relayed);
        world.tell(end, &places);
    }
}

fn missing(world: &World<Quic>, sent: &[Vec<u64>; 2]) -> [usize; 2] {
    [ALICE, BOB].map(|end| sent[end].iter().filter(|n| !world.ends[1 - end].carrier.got.contains_key(n)).count())
}

/// Checks that no inner packet arrived twice, and that no connection was lost.
fn assert_sound(world: &World<Quic>, what: &str) {
    for end in &world.ends {
        assert!(!end.carrier.closed, "{what}: the connection was lost");
        let twice = end.carrier.got.iter().filter(|(_, (_, times))| *times > 1).count();
        assert_eq!(twice, 0, "{what}: inner packets came twice");
    }
}

#[test]
fn a_switch_at_every_offset_of_the_handshake_ends_with_a_connection() {
    for movers in [&[ALICE][..], &[BOB], &[ALICE, BOB]] {
        for late in [0, 50] {
            for offset in 0..=120 {
                let mut world = dialed(false, &QuicOptions::default());
                world.run_for(ms(offset));
                let homes = [world.places(ALICE, false), world.places(BOB, false)];
                for &mover in movers {
                    world.move_to(mover, &[2], &homes[1 - mover]);
                }
                world.run_for(ms(late));
                tell_both(&mut world, false);
                let sent = talk(&mut world, Instant::from_millis(3_000), ms(10), 100, false);
                let what = format!("{movers:?} moved at {offset} ms, told {late} ms later");
                assert_sound(&world, &what);
                assert!(sent.iter().all(|sent| sent.len() > 200), "{what}: {} {}", sent[0].len(), sent[1].len());
                for end in 0..2 {
                    let last = world.ends[end].carrier.got.values().map(|(at, _)| *at).max();
                    let heard = last.is_some_and(|at| at >= Instant::from_millis(2_900));
                    assert!(heard, "{what}: nothing reaches {end}; last at {last:?}");
                    let mover = movers.contains(&(1 - end));
                    let place = at(1 - end, if mover { 2 } else { 1 });
                    assert_eq!(world.used(end), Some(place), "{what}");
                }
            }
        }
    }
}

#[test]
fn relay_and_direct_take_turns_without_a_lost_packet() {
    for stream in [false, true] {
        let mut world = dialed(true, &QuicOptions::default());
        world.wire(at(ALICE, 1), at(BOB, 1), |wire| wire.up = false);
        world.run_for(ms(1_000));
        tell_both(&mut world, true);
        let first = talk(&mut world, Instant::from_millis(3_000), ms(5), 300, stream);
        assert_eq!((world.used(ALICE), world.used(BOB)), (Some(relay()), Some(relay())));
        world.wire(at(ALICE, 1), at(BOB, 1), |wire| wire.up = true);
        tell_both(&mut world, true);
        let until = world.now + ms(67_000);
        let second = talk(&mut world, until, ms(5), 300, stream);
        assert_eq!((world.used(ALICE), world.used(BOB)), (Some(at(BOB, 1)), Some(at(ALICE, 1))));
        world.wire(at(ALICE, 1), at(BOB, 1), |wire| wire.up = false);
        let until = world.now + ms(4_000);
        let third = talk(&mut world, until, ms(5), 300, stream);
        assert_eq!((world.used(ALICE), world.used(BOB)), (Some(relay()), Some(relay())));
        world.run_for(ms(1_000));
        assert_sound(&world, "relay and direct");
        assert_eq!(missing(&world, &first), [0, 0], "relayed");
        assert_eq!(missing(&world, &second), [0, 0], "relay to direct");
        assert_eq!(missing(&world, &third), [0, 0], "direct to relay: the last datagrams were sent again");
    }
}

#[test]
fn a_move_of_either_end_or_both_loses_nothing() {
    for movers in [&[ALICE][..], &[BOB], &[ALICE, BOB]] {
        for stream in [false, true] {
            let mut world = dialed(true, &QuicOptions::default());
            tell_both(&mut world, true);
            talk(&mut world, Instant::from_millis(3_000), ms(2), 300, stream);
            let homes = [world.places(ALICE, true), world.places(BOB, true)];
            for &mover in movers {
                world.move_to(mover, &[2], &homes[1 - mover]);
            }
            let from = world.now;
            let sent = talk(&mut world, from + ms(50), ms(2), 300, stream);
            tell_both(&mut world, true);
            let more = talk(&mut world, from + ms(4_000), ms(2), 300, stream);
            world.run_for(ms(500));
            let what = format!("{movers:?} moved, stream {stream}");
            assert_sound(&world, &what);
            assert_eq!((missing(&world, &sent), missing(&world, &more)), ([0, 0], [0, 0]), "{what}");
            for end in 0..2 {
                let place = at(1 - end, if movers.contains(&(1 - end)) { 2 } else { 1 });
                assert_eq!(world.used(end), Some(place), "{what}");
                let mut times: Vec<_> =
                    world.ends[end].carrier.got.values().map(|(at, _)| *at).filter(|t| *t >= from).collect();
                times.push(from);
                times.sort_unstable();
                let gap = times.windows(2).map(|w| w[1] - w[0]).max().unwrap();
                let bound = if movers.len() == 2 { ms(160) } else { ms(55) };
                assert!(gap <= bound, "{what}: nothing reached {end} for {gap:?}");
            }
        }
    }
}

#[test]
fn a_path_that_shrinks_makes_no_black_hole() {
    for stream in [false, true] {
        let mut world = dialed(false, &QuicOptions::default());
        tell_both(&mut world, false);
        talk(&mut world, Instant::from_millis(3_000), ms(5), 1_200, stream);
        let mtu = world.ends[ALICE].carrier.mtu;
        assert!(mtu >= 1_400, "the search is over: {mtu}");
        world.wire(at(ALICE, 1), at(BOB, 1), |wire| wire.mtu = 1_280);
        let from = world.now;
        talk(&mut world, from + ms(6_000), ms(5), 1_250, stream);
        assert_sound(&world, "shrunk");
        for end in 0..2 {
            let times: Vec<_> = world.ends[end].carrier.got.values().map(|(at, _)| *at).collect();
            let late = times.iter().filter(|t| **t > from + ms(2_500)).count();
            assert!(late > 500, "stream {stream}: {late} of about 700 reached {end}");
        }
        let mtu = world.ends[ALICE].carrier.mtu;
        assert!((1_200..=1_280).contains(&mtu), "{mtu}");
    }
}

#[test]
fn a_switch_to_a_narrower_path_makes_no_black_hole() {
    for stream in [false, true] {
        let mut world = dialed(false, &QuicOptions::default());
        tell_both(&mut world, false);
        talk(&mut world, Instant::from_millis(3_000), ms(5), 1_200, stream);
        world.wire(at(ALICE, 2), at(BOB, 1), |wire| wire.mtu = 1_280);
        let homes = world.places(BOB, false);
        world.move_to(ALICE, &[2], &homes);
        let from = world.now;
        talk(&mut world, from + ms(3_000), ms(5), 1_250, stream);
        assert_sound(&world, "narrower");
        for end in 0..2 {
            let late = world.ends[end].carrier.got.values().filter(|(t, _)| *t > from + ms(500)).count();
            assert!(late > 450, "stream {stream}: {late} of about 500 reached {end}");
        }
    }
}
