//! Both engines give the same bytes at the same nanosecond on every wire. The same seed gives them again.

mod scene;

use std::collections::BTreeMap;
use std::time::Duration;

use cyphonic_core::time::Instant;
use cyphonic_sim::net::nat::{NatBox, NatConfig, Pooling, PortChoice};
use cyphonic_sim::net::{
    BurstLoss, Engine, EventEngine, NetDrop, QueueLimit, Reorder, TapMode, TapSummary, TurmoilEngine, WireConfig,
    WireFaults,
};
use scene::{Scene, Talker, scene};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Events,
    Turmoil,
}

/// The result of a run.
#[derive(Debug, PartialEq)]
struct Outcome {
    taps: BTreeMap<String, TapSummary>,
    received: [u64; 2],
    drops: Vec<(NetDrop, u64)>,
    hops: u64,
    timeouts: u64,
}

const MS: Duration = Duration::from_millis(1);

/// Three seconds of a lossy, jittery, narrow network in which the harness changes things.
fn rough_run(kind: Kind, seed: u64) -> Outcome {
    run_with(kind, seed, WireFaults::default(), None)
}

/// As [`rough_run`], with these faults on the middle link. From half a second on the NAT has this setting.
fn run_with(kind: Kind, seed: u64, faults: WireFaults, nat_config: Option<&NatConfig>) -> Outcome {
    let edge = WireConfig { jitter: Duration::from_micros(700 + seed), ..WireConfig::new(MS) };
    let narrow = WireConfig {
        delay: Duration::from_nanos(3_456_789 + seed),
        jitter: 2 * MS,
        reorder: seed.is_multiple_of(2),
        loss: 0.05,
        rate_bps: Some(5_000_000),
        queue: if seed.is_multiple_of(3) { QueueLimit::Bytes(10_000) } else { QueueLimit::Time(5 * MS) },
        mtu: 1400,
        faults,
        ..WireConfig::new(MS)
    };
    let interval = Duration::from_nanos(7_000_321);
    let alice = Talker::speaker("10.0.0.1:5000", "198.51.100.1:443", interval, 9, 600);
    let Scene { network, alice, nat, bob, middle } = scene(seed, TapMode::Digest, edge, narrow, alice, true);
    let mut engine: Box<dyn Engine> = match kind {
        Kind::Events => Box::new(EventEngine::new(network)),
        Kind::Turmoil => Box::new(TurmoilEngine::new(network)),
    };
    let engine = engine.as_mut();
    let at = Instant::from_millis;
    engine.run_until(at(500));
    engine.with(alice, |now, talker: &mut Talker| {
        assert_eq!(now, at(500));
        talker.speak(40);
    });
    engine.with(bob, |_, talker: &mut Talker| talker.speak(5));
    if let Some(config) = nat_config {
        engine.with(nat, |_, nat: &mut NatBox| nat.nat_mut().set_config(config.clone()));
    }
    engine.run_until(at(501));
    engine.set_wire_up(middle.forward(), false);
    engine.run_until(at(900));
    engine.set_wire_up(middle.forward(), true);
    engine.with(nat, |_, nat: &mut NatBox| nat.nat_mut().clear());
    engine.run_until(at(1500));
    // First shorter, then longer delays than before, and an MTU that is too small for some packets.
    engine.set_wire(middle.backward(), WireConfig { mtu: 500, ..WireConfig::new(MS) }).unwrap();
    engine.run_until(at(1800));
    engine.set_wire(middle.backward(), WireConfig::new(Duration::from_micros(40_500))).unwrap();
    assert!(engine.set_wire(middle.backward(), WireConfig::new(Duration::ZERO)).is_err());
    engine.run_until(at(3000));
    assert_eq!(engine.now(), at(3000));

    let received = [alice, bob].map(|id| engine.with(id, |_, talker: &mut Talker| talker.received));
    let network = engine.network();
    let mut drops = Vec::new();
    for direction in network.directions() {
        drops.extend(network.wire_stats(direction).drops.iter());
    }
    Outcome { taps: network.taps(), received, drops, hops: network.hops(), timeouts: network.timeouts() }
}

#[test]
fn both_engines_put_the_same_bytes_on_every_wire() {
    let mut distinct = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let events = rough_run(Kind::Events, seed);
        assert_eq!(events, rough_run(Kind::Turmoil, seed), "seed {seed}");
        assert!(events.received.iter().all(|&count| count > 500), "traffic flowed: {events:?}");
        for reason in [NetDrop::Lost, NetDrop::QueueFull, NetDrop::WireDown] {
            assert!(events.drops.iter().any(|&(seen, _)| seen == reason), "{reason:?}: {events:?}");
        }
        distinct.insert(events.taps["nat:1>router:0"].digest);
    }
    assert_eq!(distinct.len(), 40, "every seed is another run");
}

#[test]
fn the_same_seed_gives_the_same_run_again() {
    for kind in [Kind::Events, Kind::Turmoil] {
        assert_eq!(rough_run(kind, 7), rough_run(kind, 7), "{kind:?}");
    }
}

#[test]
fn a_run_cut_into_pieces_is_the_same_run() {
    let run = |kind, step: u64| {
        let wire = WireConfig { jitter: MS, loss: 0.1, ..WireConfig::new(2 * MS) };
        let alice = Talker::speaker("10.0.0.1:5000", "198.51.100.1:443", MS, 2, 300);
        let network = scene(3, TapMode::Digest, wire, wire, alice, true).network;
        let mut engine: Box<dyn Engine> = match kind {
            Kind::Events => Box::new(EventEngine::new(network)),
            Kind::Turmoil => Box::new(TurmoilEngine::new(network)),
        };
        (1..=600 / step).for_each(|i| engine.run_until(Instant::from_millis(i * step)));
        (engine.network().taps(), engine.network().hops(), engine.network().timeouts())
    };
    let whole = run(Kind::Events, 600);
    for kind in [Kind::Events, Kind::Turmoil] {
        for step in [1, 3, 100] {
            assert_eq!(run(kind, step), whole, "{kind:?} in steps of {step} ms");
        }
    }
}

#[test]
fn packets_arrive_at_the_nanosecond_that_the_wires_add_up_to() {
    for kind in [Kind::Events, Kind::Turmoil] {
        let edge = WireConfig::new(Duration::from_nanos(1_000_001));
        let middle = WireConfig { rate_bps: Some(8_000_000), ..WireConfig::new(Duration::from_nanos(2_999_999)) };
        let alice = Talker::speaker("10.0.0.1:5000", "198.51.100.1:443", Duration::from_secs(9), 1, 972);
        let Scene { network, bob, middle, .. } = scene(1, TapMode::Keep, edge, middle, alice, false);
        let mut engine: Box<dyn Engine> = match kind {
            Kind::Events => Box::new(EventEngine::new(network)),
            Kind::Turmoil => Box::new(TurmoilEngine::new(network)),
        };
        engine.run_until(Instant::from_millis(100));
        let tapped = engine.network().take_tapped(middle.forward());
        assert_eq!(tapped.len(), 1);
        // Sent at 1.234567 ms, 1.000001 ms to the NAT, 1,000 bytes at 1 byte/µs, 2.999999 ms.
        assert_eq!(tapped[0].departs, Instant::from_nanos(1_234_567 + 1_000_001 + 1_000_000));
        assert_eq!(tapped[0].arrives, Some(tapped[0].departs + Duration::from_nanos(2_999_999)));
        let heard = engine.with(bob, |_, talker: &mut Talker| talker.heard_from);
        assert_eq!(heard, Some("203.0.113.1:5000".parse().unwrap()), "{kind:?}: translated");
    }
}

#[test]
fn a_panic_in_a_box_reaches_the_harness_from_either_engine() {
    use cyphonic_sim::net::{BoxInput, BoxOutput, NetBox, NetworkBuilder};

    struct Bomb;
    impl NetBox for Bomb {
        fn handle_input(&mut self, _now: Instant, _input: BoxInput) {
            panic!("the box broke");
        }
        fn poll_output(&mut self) -> BoxOutput {
            BoxOutput::Wait(Some(Instant::from_millis(5)))
        }
        fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
            self
        }
    }
    for kind in [Kind::Events, Kind::Turmoil] {
        let panic = std::panic::catch_unwind(|| {
            let mut builder = NetworkBuilder::new(1);
            builder.add_box("bomb", Box::new(Bomb));
            let network = builder.build().unwrap();
            match kind {
                Kind::Events => EventEngine::new(network).run_until(Instant::from_millis(10)),
                Kind::Turmoil => TurmoilEngine::new(network).run_until(Instant::from_millis(10)),
            }
        });
        assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"the box broke"), "{kind:?}");
    }
}

#[test]
#[should_panic(expected = "whole milliseconds")]
fn runs_end_at_whole_milliseconds_only() {
    let alice = Talker::listener("10.0.0.1:5000", false);
    let wire = WireConfig::new(MS);
    EventEngine::new(scene(1, TapMode::Off, wire, wire, alice, false).network).run_until(Instant::from_nanos(1));
}

/// A digest of everything on every wire.
fn digest(taps: &BTreeMap<String, TapSummary>) -> String {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    for (name, tap) in taps {
        digest.update(name.as_bytes());
        digest.update(&tap.digest);
    }
    digest.finish().as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[test]
fn what_is_not_asked_for_changes_no_byte() {
    assert_eq!(
        digest(&rough_run(Kind::Events, 7).taps),
        "2e4b4726118615f5719827aad06a98a60ede9eaf4d3b091e87dfa71b06173621"
    );
}

#[test]
fn both_engines_agree_where_everything_goes_wrong() {
    let faults = WireFaults {
        burst_loss: Some(BurstLoss { enter: 0.02, leave: 0.3, loss_good: 0.001, loss_bad: 0.7 }),
        outages: None,
        reorder: Some(Reorder { probability: 0.05, by: 9 * MS }),
        duplicate: 0.03,
        corrupt: 0.05,
    };
    let mut nat = NatConfig::new("203.0.113.1".parse().unwrap());
    nat.external.extend((2..=9).map(|host| std::net::IpAddr::from([203, 0, 113, host])));
    nat.pooling = Pooling::Arbitrary;
    nat.allocation = PortChoice::Random;
    nat.times.flush = Some(400 * MS);
    nat.times.lifetime = Some(300 * MS);
    for seed in 0..8 {
        let events = run_with(Kind::Events, seed, faults, Some(&nat));
        assert_eq!(events, run_with(Kind::Turmoil, seed, faults, Some(&nat)), "seed {seed}");
        assert_ne!(events, rough_run(Kind::Events, seed));
        assert!(events.received.iter().all(|&count| count > 300), "traffic flowed: {events:?}");
    }
}
