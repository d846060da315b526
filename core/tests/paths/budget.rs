//! What attackers get: strangers, liars and replayers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use cyphonic_core::paths::budget::{AMPLIFICATION, SILENT_BYTES};
use cyphonic_core::paths::candidates::Announced;
use cyphonic_core::paths::lifetime::Lifetimes;
use cyphonic_core::paths::probe::PROBE_LEN;
use cyphonic_core::time::Instant;
use proptest::prelude::*;

use super::world::{ALICE, BOB, Sent, World, at, plain};

fn victim(host: u8) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, host], 443))
}

fn sent_to(log: &[Sent], place: SocketAddr) -> usize {
    log.iter().filter(|sent| sent.way.remote == place).map(|sent| sent.payload.len()).sum()
}

#[test]
fn a_place_that_was_only_named_gets_its_bytes_and_no_more() {
    let mut world = plain(Lifetimes::guarded(), [&[1], &[1]], true, 1);
    for round in 0..40 {
        let ports = (0..8).map(|n| Announced::Seen(SocketAddr::new(victim(1).ip(), 1000 + 10 * round + n)));
        let named: Vec<_> = world.places(BOB, true).into_iter().chain(ports).collect();
        world.tell(ALICE, &named);
        world.talk(world.now + Duration::from_secs(3), Duration::from_millis(100), 1200);
    }
    let bytes: usize = world.log.iter().filter(|s| s.way.remote.ip() == victim(1).ip()).map(|s| s.payload.len()).sum();
    assert!(bytes <= SILENT_BYTES, "{bytes}");
    let largest = world.log.iter().filter(|s| s.way.remote.ip() == victim(1).ip()).map(|s| s.payload.len()).max();
    assert_eq!(largest, Some(PROBE_LEN), "nothing but small probes");
    assert_eq!(world.used(ALICE), Some(at(BOB, 1)), "and honest places are not hurt");
}

#[test]
fn a_peer_that_names_another_as_itself_cannot_answer_for_it() {
    // Bob forwards his own packets from the victim's address. They are authentic and new, and the address is false.
    let mut world = plain(Lifetimes::guarded(), [&[1], &[1]], false, 2);
    world.run_for(Duration::from_secs(1));
    world.wire(victim(3), at(ALICE, 1), |wire| wire.delay = Duration::from_millis(5));
    for _ in 0..200 {
        let from = world.log.len();
        world.ends[BOB].carrier.say(100);
        world.carry_out(BOB);
        let copies: Vec<_> = world.log[from..].iter().filter(|s| s.end == BOB).map(|s| s.payload.clone()).collect();
        for copy in copies {
            world.hop(victim(3), at(ALICE, 1), copy);
        }
        world.ends[ALICE].carrier.say(1200);
        world.carry_out(ALICE);
        world.run_for(Duration::from_millis(20));
    }
    let got = sent_to(&world.log, victim(3));
    assert!(got > 0 && got <= AMPLIFICATION * 200 * 100, "{got}");
    assert_eq!(world.used(ALICE), Some(at(BOB, 1)), "Bob is still heard where he was");
}

/// Two ends, and an attacker between them. The attacker's copy of every `of`th datagram arrives first.
fn with_a_spy(of: usize) -> World<super::world::Plain> {
    let mut world = plain(Lifetimes::guarded(), [&[1], &[1]], false, 3);
    world.talk(Instant::from_millis(1_000), Duration::from_millis(5), 300);
    for home in [at(ALICE, 1), at(BOB, 1)] {
        world.wire(victim(7), home, |wire| wire.delay = Duration::from_millis(24));
    }
    world.between = Some((victim(7), of));
    world.talk(Instant::from_millis(4_000), Duration::from_millis(5), 300);
    assert!(world.log.iter().any(|sent| sent.way.remote == victim(7)), "he was taken for the peer, and challenged");
    world
}

#[test]
fn copies_that_arrive_first_move_nothing_while_the_old_path_is_heard() {
    // The attacker's copies are authentic and new, and the attacker forwards challenges (RFC 9000 §9.3.3).
    let world = with_a_spy(3);
    assert_eq!((world.used(ALICE), world.used(BOB)), (Some(at(BOB, 1)), Some(at(ALICE, 1))));
}

#[test]
fn somebody_between_whose_every_copy_is_first_may_carry_the_traffic_and_cannot_keep_it() {
    let mut world = with_a_spy(1);
    world.between = None;
    world.talk(world.now + Duration::from_secs(5), Duration::from_millis(5), 300);
    assert_eq!((world.used(ALICE), world.used(BOB)), (Some(at(BOB, 1)), Some(at(ALICE, 1))));
}

/// What an observer does with the datagrams it saw.
#[derive(Clone, Copy, Debug)]
enum Trick {
    /// Sends a copy of the datagram `back` places before the last, from an address of its own.
    Copy { back: usize, from: u8 },
    /// The same with a bit changed.
    Spoil { back: usize, from: u8, bit: usize },
    /// Lets both talk for a while.
    Talk { millis: u64 },
}

fn trick() -> impl Strategy<Value = Trick> {
    prop_oneof![
        (0_usize..40, 1_u8..4).prop_map(|(back, from)| Trick::Copy { back, from }),
        (0_usize..40, 1_u8..4, 0_usize..400).prop_map(|(back, from, bit)| Trick::Spoil { back, from, bit }),
        (1_u64..400).prop_map(|millis| Trick::Talk { millis }),
    ]
}

fn play(tricks: &[Trick], seed: u8) -> World<super::world::Plain> {
    let mut world = plain(Lifetimes::guarded(), [&[1], &[1]], true, seed);
    // The observer does not see what is sent to other addresses. An observer that does, and forwards it, is a path.
    let homes = [at(ALICE, 1), at(BOB, 1)];
    let mut brought: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    world.talk(Instant::from_millis(500), Duration::from_millis(20), 300);
    for &trick in tricks {
        match trick {
            Trick::Talk { millis } => {
                let until = world.now + Duration::from_millis(millis);
                world.talk(until, Duration::from_millis(20), 1200);
            }
            Trick::Copy { back, from } | Trick::Spoil { back, from, .. } => {
                let Some(sent) = world.log.iter().rev().filter(|s| homes.contains(&s.way.remote)).nth(back).cloned()
                else {
                    continue;
                };
                let mut copy = sent.payload;
                if let Trick::Spoil { bit, .. } = trick {
                    let at = bit % (copy.len() * 8);
                    copy[at / 8] ^= 1 << (at % 8);
                }
                *brought.entry(victim(from)).or_default() += copy.len();
                world.hop(victim(from), at(1 - sent.end, 1), copy);
                world.run_for(Duration::from_millis(3));
            }
        }
        for (place, bytes) in &brought {
            let got = sent_to(&world.log, *place);
            assert!(got <= AMPLIFICATION * bytes, "{place} brought {bytes} bytes and got {got}");
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_trick_earns_more_than_three_times_its_bytes(tricks in prop::collection::vec(trick(), 1..40), seed in 0_u8..8) {
        let mut world = play(&tricks, seed);
        world.talk(world.now + Duration::from_secs(3), Duration::from_millis(20), 300);
        prop_assert_eq!(world.used(ALICE), Some(at(BOB, 1)));
        prop_assert_eq!(world.used(BOB), Some(at(ALICE, 1)));
    }

    #[test]
    fn the_same_inputs_give_the_same_bytes(tricks in prop::collection::vec(trick(), 1..20), seed in 0_u8..8) {
        prop_assert_eq!(play(&tricks, seed).log, play(&tricks, seed).log);
    }
}
