//! Measures what paths beneath a QUIC connection cost for each datagram, on one path that works beside paths that do
//! not.

#[path = "../tests/common/peers.rs"]
mod peers;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use cyphonic_core::paths::peer::Input;
use cyphonic_core::paths::recent::Datagrams;

use peers::Peers;

/// The number of datagrams that a driver hands over at once under load.
const BATCH: u64 = 64;

fn datagrams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("paths");
    for batch in [1, BATCH] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("arrived, {batch} at once"), |bencher| {
            let mut peers = Peers::new();
            bencher.iter(|| {
                peers.now += Duration::from_micros(20 * batch);
                (0..batch).for_each(|_| peers.arrive(0, 1200));
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("sent, and an acknowledgement", |bencher| {
        let mut peers = Peers::new();
        bencher.iter(|| {
            peers.now += Duration::from_micros(100);
            let datagrams = Datagrams { payload: vec![0; 12_000], segment: Some(1200), asks: true };
            peers.give(0, Input::Transmit(datagrams));
            peers.arrive(0, 60);
        });
    });
    group.finish();
}

criterion_group!(benches, datagrams);
criterion_main!(benches);
