//! Paths that end, come back, move and get narrow. Traffic has to reach a path that works, within the stated time.

use std::net::SocketAddr;
use std::time::Duration;

use cyphonic_core::paths::lifetime::{Lifetimes, WARM_PACKETS_PER_HOUR};
use cyphonic_core::paths::peer::{Event, Role, Why};
use cyphonic_core::paths::probe::{Flags, Keys, PROBE_LEN, Probe, ProbeKind, Secret, kind_of};
use cyphonic_core::time::Instant;
use proptest::prelude::*;

use super::world::{ALICE, BOB, Plain, World, at, plain, relay, tag};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The longest time between two arrivals at an end, within this span.
fn gap(world: &World<Plain>, end: usize, from: Instant, to: Instant) -> Duration {
    let mut times: Vec<_> = world.ends[end].carrier.got.values().copied().filter(|t| (from..=to).contains(t)).collect();
    times.extend([from, to]);
    times.sort_unstable();
    times.windows(2).map(|w| w[1] - w[0]).max().unwrap()
}

fn switches(world: &World<Plain>, end: usize) -> Vec<(SocketAddr, Why)> {
    let switched = |(_, event): &(Instant, Event)| match event {
        Event::Switched { to, why, .. } => Some((to.remote, *why)),
        _ => None,
    };
    world.ends[end].events.iter().filter_map(switched).collect()
}

#[test]
fn a_direct_path_takes_over_from_the_relay_and_the_relay_from_a_dead_one() {
    let mut world = plain(Lifetimes::guarded(), [&[1], &[1]], true, 1);
    world.wire(at(ALICE, 1), at(BOB, 1), |wire| wire.up = false);
    world.talk(Instant::from_millis(2_000), ms(10), 300);
    assert_eq!((world.used(ALICE), world.used(BOB)), (Some(relay()), Some(relay())));
    world.wire(at(ALICE, 1), at(BOB, 1), |wire| wire.up = true);
    world.talk(Instant::from_millis(8_000), ms(10), 300);
    assert_eq!(
        (world.used(ALICE), world.used(BOB)),
        (Some(at(BOB, 1)), Some(at(ALICE, 1))),
        "{:?}\n{:?}",
        world.ends[0].events,
        world.ends[0].paths.status(world.now)
    );
    let from = world.now;
    world.wire(at(ALICE, 1), at(BOB, 1), |wire| wire.up = false);
    world.talk(from + ms(4_000), ms(10), 300);
    assert_eq!((world.used(ALICE), world.used(BOB)), (Some(relay()), Some(relay())));
    for end in [ALICE, BOB] {
        let gap = gap(&world, end, from, world.now);
        assert!(gap <= ms(400), "patience of 200 ms and some: {gap:?}");
        let lost = world.ends[1 - end].carrier.got.len();
        assert!(lost > 0);
    }
    assert_eq!(switches(&world, ALICE).len(), 3, "{:?}", switches(&world, ALICE));
}

#[test]
fn a_path_that_died_while_nobody_spoke_costs_a_fraction_of_a_second() {
    let mut world = plain(Lifetimes::default(), [&[1], &[1]], true, 1);
    world.talk(Instant::from_millis(3_000), ms(10), 300);
    world.run_for(Duration::from_secs(600));
    world.wire(at(ALICE, 1), at(BOB, 1), |wire| wire.up = false);
    world.run_for(Duration::from_secs(60));
    let began = world.now;
    let number = world.ends[ALICE].carrier.say(100);
    world.carry_out(ALICE);
    world.run_for(Duration::from_secs(5));
    let came = world.ends[BOB].carrier.got.get(&number).expect("it arrived");
    assert!(*came - began <= ms(500), "a timer notices, and one packet is enough: {:?}", *came - began);
}

#[test]
fn one_direction_that_dies_moves_both() {
    for dead in [ALICE, BOB] {
        let mut world = plain(Lifetimes::guarded(), [&[1], &[1]], true, 1);
        world.talk(Instant::from_millis(3_000), ms(10), 300);
        let from = world.now;
        let key = (at(dead, 1), at(1 - dead, 1));
        world.wires.entry(key).or_insert(world.wire).up = false;
        world.talk(from + ms(4_000), ms(10), 300);
        assert_eq!((world.used(ALICE), world.used(BOB)), (Some(relay()), Some(relay())));
        let gap = gap(&world, 1 - dead, from, world.now);
        assert!(gap <= ms(700), "{gap:?}");
    }
}

#[test]
fn a_mover_is_heard_at_once_and_answered_within_a_round_trip() {
    for relayed in [false, true] {
        let mut world = plain(Lifetimes::guarded(), [&[1], &[1]], relayed, 1);
        world.talk(Instant::from_millis(3_000), ms(2), 300);
        let from = world.now;
        let places = world.places(BOB, relayed);
        world.move_to(ALICE, &[2], &places);
        world.talk(from + ms(3_000), ms(2), 300);
        assert_eq!((world.used(ALICE), world.used(BOB)), (Some(at(BOB, 1)), Some(at(ALICE, 2))));
        let (there, back) = (gap(&world, BOB, from, world.now), gap(&world, ALICE, from, world.now));
        assert!(there <= ms(5), "what Alice sends: {there:?}");
        assert!(back <= ms(55), "what Bob sends, one round trip and an interval: {back:?}");
        let lost = world.ends[ALICE].carrier.got.keys().next_back().unwrap();
        assert_eq!(world.ends[ALICE].carrier.got.len() as u64, *lost, "Bob's last datagrams were sent again");
    }
}

#[test]
fn the_second_interface_takes_over_when_the_first_one_goes() {
    for relayed in [false, true] {
        let mut world = plain(Lifetimes::guarded(), [&[1, 2], &[1]], relayed, 1);
        world.talk(Instant::from_millis(3_000), ms(2), 300);
        let from = world.now;
        let first = world.ends[ALICE].paths.used().unwrap().local;
        let left = if first == at(ALICE, 1) { 2 } else { 1 };
        let places = world.places(BOB, relayed);
        world.move_to(ALICE, &[left], &places);
        world.talk(from + ms(3_000), ms(2), 300);
        assert_eq!((world.used(ALICE), world.used(BOB)), (Some(at(BOB, 1)), Some(at(ALICE, left))));
        let (there, back) = (gap(&world, BOB, from, world.now), gap(&world, ALICE, from, world.now));
        assert!(there <= ms(5) && back <= ms(55), "{there:?} {back:?}");
        let killed =
            |(t, event): &(Instant, Event)| *t > from && matches!(event, Event::Died { way } if way.remote != first);
        assert!(!world.ends[BOB].events.iter().any(killed), "one move ends one path: {:?}", world.ends[BOB].events);
    }
}

#[test]
fn both_move_at_once_and_the_relay_bridges() {
    let mut world = plain(Lifetimes::guarded(), [&[1], &[1]], true, 1);
    world.talk(Instant::from_millis(3_000), ms(2), 300);
    let from = world.now;
    let places = [world.places(ALICE, true), world.places(BOB, true)];
    world.move_to(ALICE, &[2], &places[BOB]);
    world.move_to(BOB, &[2], &places[ALICE]);
    world.talk(from + ms(1_000), ms(2), 300);
    assert_eq!((world.used(ALICE), world.used(BOB)), (Some(relay()), Some(relay())));
    for end in [ALICE, BOB] {
        // Through the relay a datagram takes 50 ms.
        let gap = gap(&world, end, from, world.now);
        assert!(gap <= ms(110), "{gap:?}");
    }
    // The NMS tells both ends their addresses.
    for end in [ALICE, BOB] {
        let places = world.places(1 - end, true);
        world.tell(end, &places);
    }
    world.talk(world.now + ms(3_000), ms(2), 300);
    assert_eq!((world.used(ALICE), world.used(BOB)), (Some(at(BOB, 2)), Some(at(ALICE, 2))));
}

#[test]
fn a_nats_new_port_is_followed_within_three_round_trips() {
    let mut world = plain(Lifetimes::guarded(), [&[1], &[1]], false, 1);
    let outside = |port| SocketAddr::from(([192, 0, 2, 1], port));
    world.nats.insert(at(ALICE, 1), outside(5000));
    world.talk(Instant::from_millis(3_000), ms(5), 300);
    assert_eq!(world.used(BOB), Some(outside(5000)));
    let from = world.now;
    world.nats.insert(at(ALICE, 1), outside(6000));
    world.talk(from + ms(2_000), ms(5), 300);
    assert_eq!(world.used(BOB), Some(outside(6000)));
    let gap = gap(&world, ALICE, from, world.now);
    assert!(gap <= ms(150), "{gap:?}");
}

#[test]
fn a_path_that_grows_narrow_is_told_to_quic_and_one_too_narrow_is_left() {
    let mut world = plain(Lifetimes::guarded(), [&[1], &[1]], true, 1);
    let counts = |sent| cyphonic_core::paths::watch::Delivery { sent, lost: 0, mtu: 1452 };
    world.talk(Instant::from_millis(1_000), ms(5), 1200);
    world.give(ALICE, cyphonic_core::paths::peer::Input::Delivery(counts(0)));
    world.talk(Instant::from_millis(3_000), ms(5), 1452);
    world.wire(at(ALICE, 1), at(BOB, 1), |wire| wire.mtu = 1300);
    let (from, told) = (world.now, world.ends[ALICE].carrier.told);
    world.talk(from + ms(2_500), ms(5), 1452);
    let narrowed = |(_, event): &(Instant, Event)| matches!(event, Event::Narrowed { mtu: 1200, .. });
    assert!(world.ends[ALICE].events.iter().any(narrowed), "{:?}", world.ends[ALICE].events);
    assert!(world.ends[ALICE].carrier.told > told);
    // QUIC falls back to 1,200 bytes. Then even these do not pass any more.
    world.talk(world.now + ms(2_000), ms(5), 1200);
    world.wire(at(ALICE, 1), at(BOB, 1), |wire| wire.mtu = 1100);
    world.talk(world.now + ms(4_000), ms(5), 1200);
    assert_eq!(world.used(ALICE), Some(relay()));
    let roles: Vec<_> = world.ends[ALICE].paths.status(world.now).iter().map(|s| s.role).collect();
    assert!(roles.contains(&Role::TooNarrow), "{roles:?}");
}

#[test]
fn a_second_path_is_kept_warm_within_its_packets_an_hour() {
    let mut world = plain(Lifetimes::guarded(), [&[1], &[1]], true, 1);
    world.talk(Instant::from_millis(3_000), ms(20), 300);
    let (from, began) = (world.log.len(), world.now);
    world.run_for(Duration::from_secs(3_600));
    let by =
        |remotes: &[SocketAddr]| world.log[from..].iter().filter(|s| remotes.contains(&s.way.remote)).count() as u64;
    let (relayed, direct) = (by(&[relay()]), by(&[at(ALICE, 1), at(BOB, 1)]));
    assert!((1..=WARM_PACKETS_PER_HOUR).contains(&relayed), "{relayed}");
    assert!((1..=WARM_PACKETS_PER_HOUR).contains(&direct), "{direct}");
    assert!(world.now > began);
    let mut open = plain(Lifetimes::default(), [&[1], &[1]], true, 1);
    open.talk(Instant::from_millis(3_000), ms(20), 300);
    let from = open.log.len();
    open.run_for(Duration::from_secs(3_600));
    assert!(open.log.len() - from <= 10, "no NAT, no keep-alive: {} packets", open.log.len() - from);
}

#[test]
fn a_machine_that_slept_asks_every_path_at_once() {
    let mut world = plain(Lifetimes::guarded(), [&[1], &[1]], true, 1);
    world.talk(Instant::from_millis(3_000), ms(20), 300);
    world.wire(at(ALICE, 1), at(BOB, 1), |wire| wire.up = false);
    // Both ends stand still for a minute: no timer is handled.
    world.now += Duration::from_secs(60);
    let from = world.now;
    world.talk(from + ms(2_000), ms(20), 300);
    for end in [ALICE, BOB] {
        let gap = gap(&world, end, from, world.now);
        assert!(
            gap <= ms(150),
            "{gap:?} {:?} {:?}",
            world.ends[end].events,
            world.ends[end].carrier.got.values().filter(|t| **t > from).take(5).collect::<Vec<_>>()
        );
    }
}

/// How many probes of this kind an end has sent.
fn probes(world: &World<Plain>, end: usize, kind: ProbeKind) -> usize {
    world.log.iter().filter(|sent| sent.end == end && kind_of(&sent.payload) == Some(kind)).count()
}

#[test]
fn an_end_that_hears_nothing_does_not_make_the_other_one_ask_without_end() {
    let mut world = plain(Lifetimes::guarded(), [&[1], &[1]], false, 1);
    world.talk(Instant::from_millis(2_000), ms(20), 300);
    let mut alice = Keys::new(&Secret([9; 32]), true);
    let mut deaf = |token| {
        let probe = Probe { kind: ProbeKind::Hello, token, echo: 0, size: 0, flags: Flags::DEAF };
        alice.seal(tag(BOB), &probe, PROBE_LEN).expect("a number is left")
    };
    // Alice has used these numbers.
    (0..500).for_each(|token| drop(deaf(token)));
    let before = [ProbeKind::Hello, ProbeKind::Answer].map(|kind| probes(&world, BOB, kind));
    for token in 0..40 {
        world.hop(at(ALICE, 1), at(BOB, 1), deaf(token));
        world.talk(world.now + ms(5), ms(5), 300);
    }
    world.run_for(ms(100));
    let [hellos, answers] = [ProbeKind::Hello, ProbeKind::Answer].map(|kind| probes(&world, BOB, kind));
    assert!(answers - before[1] >= 40, "{answers} answers");
    // They come within 200 ms, which is about Bob's patience. A question may be two probes, a small and a large one.
    let hellos = hellos - before[0];
    assert!((1..=6).contains(&hellos), "{hellos} questions of Bob");
}

/// A change of the three ways between two ends, which have two addresses, one address, and a relay.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    way: usize,
    up: [bool; 2],
    after: u64,
}

fn trouble() -> impl Strategy<Value = Trouble> {
    (0_usize..4, any::<[bool; 2]>(), 10_u64..3_000).prop_map(|(way, up, after)| Trouble { way, up, after })
}

/// After the last change traffic must arrive again within this time, in both directions.
const RECOVERY: Duration = Duration::from_secs(5);

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_dies_traffic_ends_on_a_path_that_lives(
        troubles in prop::collection::vec(trouble(), 1..12),
        every in prop::sample::select(vec![10_u64, 100, 900]),
        alive in 0_usize..4,
        seed in 0_u8..4,
    ) {
        let mut world = plain(Lifetimes::guarded(), [&[1, 2], &[1]], true, seed);
        let ways = [
            vec![(at(ALICE, 1), at(BOB, 1))],
            vec![(at(ALICE, 2), at(BOB, 1))],
            vec![(at(ALICE, 1), relay())],
            vec![(at(BOB, 1), relay())],
        ];
        let mut until = Instant::from_millis(2_000);
        world.talk(until, ms(every), 300);
        for trouble in troubles {
            for &(one, other) in &ways[trouble.way] {
                world.wires.entry((one, other)).or_insert(world.wire).up = trouble.up[0];
                world.wires.entry((other, one)).or_insert(world.wire).up = trouble.up[1];
            }
            until = world.now + ms(trouble.after);
            world.talk(until, ms(every), 300);
        }
        // One way works from now on. The relay's way is two wires.
        let living: Vec<usize> = if alive >= 2 { vec![2, 3] } else { vec![alive] };
        for (index, way) in ways.iter().enumerate() {
            for &(one, other) in way {
                world.wire(one, other, |wire| wire.up = living.contains(&index));
            }
        }
        let from = world.now + RECOVERY;
        world.talk(from, ms(every), 300);
        world.talk(from + ms(10_000), ms(every), 300);
        for end in [ALICE, BOB] {
            let gap = gap(&world, end, from, world.now);
            prop_assert!(gap <= ms(every + 300), "end {end}: nothing for {gap:?}");
            let remote = world.used(end).unwrap();
            let by_relay = remote == relay();
            prop_assert_eq!(by_relay, alive >= 2);
        }
    }

    #[test]
    fn paths_that_stand_never_flap(seed in 0_u8..8, delays in prop::array::uniform3(1_u64..120), lose in 0_u32..3) {
        let mut world = plain(Lifetimes::guarded(), [&[1, 2], &[1]], true, seed);
        let lose_every = [0, 50, 20][lose as usize];
        for (index, (one, other)) in [(at(ALICE, 1), at(BOB, 1)), (at(ALICE, 2), at(BOB, 1)), (at(ALICE, 1), relay())].into_iter().enumerate() {
            world.wire(one, other, |wire| (wire.delay, wire.lose_every) = (ms(delays[index]), lose_every));
        }
        world.talk(Instant::from_millis(60_000), ms(50), 300);
        for end in [ALICE, BOB] {
            // With 5 % loss a path may seem to have ended. Only then may traffic go back to another one.
            let late: Vec<_> = world.ends[end].events.iter().filter(|(at, _)| *at > Instant::from_millis(5_000)).collect();
            let died = late.iter().filter(|(_, e)| matches!(e, Event::Died { .. })).count();
            let better = late.iter().filter(|(_, e)| matches!(e, Event::Switched { why: Why::Better, .. })).count();
            prop_assert!(better <= 1 + died, "end {end}: {late:?}");
            prop_assert!(lose > 0 || died == 0, "end {end}: {late:?}");
        }
    }
}
