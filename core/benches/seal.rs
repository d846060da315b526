//! Measures sealing and opening one packet (conventional method), in time and bytes per second.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use cyphonic_core::conventional::keys::Sealing;
use cyphonic_core::conventional::seal::{OVERHEAD, open, seal, seal_into};
use cyphonic_core::header::{Flags, Header, Kind};
use cyphonic_core::key::Key128;

/// The lengths of inner packets, bytes: a small one, a middle one, and the largest of the paper's Table 3.
const SIZES: [usize; 3] = [64, 512, 1404];

fn packets(criterion: &mut Criterion) {
    let sealing = Sealing::new(&Key128([7; 16]));
    let header = Header {
        transaction: 1,
        spoken: cyphonic_core::version::Spoken::FIRST,
        flags: Flags::default(),
        kind: Kind::Capsule,
        count: 0,
        sequence: 1,
        length: 0,
        option: 0,
        id: [3; 16],
    };
    let mut group = criterion.benchmark_group("conventional");
    for size in SIZES {
        let plaintext = vec![0x5a; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("seal/{size}"), |bencher| {
            let mut out = Vec::with_capacity(size + OVERHEAD);
            bencher.iter(|| {
                out.clear();
                seal_into(&sealing, black_box(header), black_box(&plaintext), &mut out);
                black_box(out.len())
            });
        });
        let sealed = seal(&sealing, header, &plaintext);
        group.bench_function(format!("open/{size}"), |bencher| {
            bencher.iter_batched_ref(
                || sealed.clone(),
                |datagram| open(&sealing, black_box(datagram)).expect("it was just sealed"),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, packets);
criterion_main!(benches);
