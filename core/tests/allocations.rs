//! What packets cost in memory: on their way into and out of links nothing is allocated for each of them, only for each
//! batch.

mod common;

use std::alloc::System;
use std::time::Duration;

use bytes::BytesMut;
use cyphonic_core::machine::Transmit;
use cyphonic_core::quic::LinkOutput;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use common::pair::{Pair, give, packets, sent};
use common::peers::Peers;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 50;
const EACH: u8 = 100;

/// Its datagrams, in one buffer as a driver with GRO has them.
fn datagrams(transmit: &Transmit) -> Vec<BytesMut> {
    let mut all = BytesMut::from(&transmit.payload[..]);
    let len = transmit.segment.unwrap_or(all.len());
    let count = all.len().div_ceil(len);
    (0..count).map(|_| all.split_to(len.min(all.len()))).collect()
}

/// The allocator counts for the whole process, so one test runs at a time.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn datagrams_that_arrive_on_a_path_that_works_allocate_nothing() {
    let _alone = ONE_AT_A_TIME.lock();
    let mut peers = Peers::new();
    // Until then tables grow to their size.
    peers.now += Duration::from_secs(1);
    peers.arrive(0, 1200);
    let before = Region::new(ALLOCATOR);
    peers.probes = 0;
    for _ in 0..10 * ROUNDS {
        peers.now += Duration::from_micros(500);
        (0..EACH).for_each(|_| peers.arrive(0, 1200));
    }
    let allocations = before.change().allocations;
    println!("{allocations} allocations for {} datagrams and {} probes", 10 * ROUNDS * usize::from(EACH), peers.probes);
    // Paths are probed now and then. Each probe is a datagram of its own. The test itself prints.
    assert!(allocations <= 50 + 8 * peers.probes, "{allocations} allocations, and only {} probes", peers.probes);
}

#[test]
fn what_is_allocated_is_for_batches_and_not_for_packets() {
    let _alone = ONE_AT_A_TIME.lock();
    let mut pair = Pair::new(44);
    let packets = packets(EACH, 1400);
    let (mut sending, mut receiving) = (0, 0);
    for round in 0..2 * ROUNDS {
        pair.now += Duration::from_millis(1);
        let before = Region::new(ALLOCATOR);
        let transmits = pair.send(&packets);
        let for_sending = before.change().allocations;
        let arrived: Vec<_> = transmits.iter().map(datagrams).collect();
        let before = Region::new(ALLOCATOR);
        for (transmit, datagrams) in transmits.iter().zip(arrived) {
            for datagram in datagrams {
                pair.server.take_datagram(pair.now, transmit.remote, transmit.local, datagram);
            }
        }
        pair.server.finish(pair.now);
        let (answers, delivered) = sent(&mut pair.server);
        let for_receiving = before.change().allocations;
        let count =
            |output: &LinkOutput| if let LinkOutput::Datagrams(_, packets) = output { packets.len() } else { 0 };
        assert_eq!(delivered.iter().map(count).sum::<usize>(), usize::from(EACH));
        for answer in &answers {
            give(&mut pair.client, pair.now, answer);
        }
        pair.client.finish(pair.now);
        sent(&mut pair.client);
        // Until then tables grow to their size.
        if round >= ROUNDS {
            sending += for_sending;
            receiving += for_receiving;
        }
    }
    let passed = ROUNDS * usize::from(EACH);
    println!("{passed} packets: {sending} allocations to send them, {receiving} to receive them");
    assert!(sending * 3 < passed, "{sending} allocations to send {passed} packets");
    assert!(receiving * 10 < passed, "{receiving} allocations to receive {passed} packets");
}
