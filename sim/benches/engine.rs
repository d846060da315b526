//! Both engines on the four-box scene alice – NAT – router – bob: how many hop-packets a second under load, and how
//! many simulated seconds a second with light traffic and with none.

#[expect(dead_code, reason = "the tests use more of the scene")]
#[path = "../tests/scene/mod.rs"]
mod scene;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use cyphonic_core::time::Instant;
use cyphonic_sim::net::{Engine, EventEngine, Network, TapMode, TurmoilEngine, WireConfig};
use scene::{Talker, scene};

type Start = fn(Network) -> Box<dyn Engine>;

const ENGINES: [(&str, Start); 2] = [
    ("events", |network| Box::new(EventEngine::new(network))),
    ("turmoil", |network| Box::new(TurmoilEngine::new(network))),
];

fn network(delay_ms: u64, interval: Duration, burst: u32, payload: usize, tap: TapMode) -> Network {
    let wire = WireConfig::new(Duration::from_millis(delay_ms));
    let alice = Talker::speaker("10.0.0.1:5000", "198.51.100.1:443", interval, burst, payload);
    scene(1, tap, wire, wire, alice, true).network
}

fn run(mut engine: Box<dyn Engine>, seconds: u64) -> u64 {
    engine.run_until(Instant::from_millis(seconds * 1000));
    engine.network().hops()
}

/// 20 datagrams of 1,200 bytes each millisecond, each sent back: up to 120,000 hops a simulated second.
fn load(c: &mut Criterion) {
    let mut group = c.benchmark_group("hop-packets");
    group.sample_size(10);
    for (case, delay_ms, tap) in
        [("", 5, TapMode::Off), (" with digests", 5, TapMode::Digest), (" over long wires", 50, TapMode::Off)]
    {
        let new = || network(delay_ms, Duration::from_millis(1), 20, 1200, tap);
        for (name, start) in ENGINES {
            group.throughput(Throughput::Elements(run(start(new()), 1)));
            group.bench_function(format!("{name}{case}"), |b| {
                b.iter_batched(|| start(new()), |engine| black_box(run(engine, 1)), BatchSize::PerIteration);
            });
        }
    }
    group.finish();
}

/// One element is a simulated second; light traffic is an echo every 20 ms.
fn idle(c: &mut Criterion) {
    let mut group = c.benchmark_group("simulated-seconds");
    group.sample_size(10);
    for (traffic, interval) in [("light", Duration::from_millis(20)), ("idle", Duration::from_secs(3600))] {
        for (name, start) in ENGINES {
            let seconds = if name == "events" { 1000 } else { 10 };
            group.throughput(Throughput::Elements(seconds));
            group.bench_function(format!("{name} {traffic}"), |b| {
                b.iter_batched(
                    || start(network(5, interval, 1, 100, TapMode::Off)),
                    |engine| black_box(run(engine, seconds)),
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(benches, load, idle);
criterion_main!(benches);
