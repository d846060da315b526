//! Links that are given many things at once: nothing is lost or changed by it, and it takes fewer transmits.

mod common;

use bytes::Bytes;
use cyphonic_core::event::DropReason;
use cyphonic_core::quic::{LinkOutput, Links};

use common::pair::{Pair, give, packets, sent};

fn received(links: &mut Links) -> Vec<Bytes> {
    data(sent(links).1)
}

/// The packets among what a side says.
fn data(outputs: Vec<LinkOutput>) -> Vec<Bytes> {
    let packets = |output| if let LinkOutput::Datagrams(_, packets) = output { packets } else { Vec::new() };
    outputs.into_iter().flat_map(packets).collect()
}

#[test]
fn packets_given_at_once_leave_joined_and_arrive_in_order() {
    let mut pair = Pair::new(44);
    let packets = packets(100, 1400);
    let transmits = pair.send(&packets);
    assert!(transmits.len() <= 5, "{}", transmits.len());
    assert!(transmits.iter().any(|transmit| transmit.segment.is_some()));
    assert!(transmits.iter().all(|transmit| transmit.payload.len() <= 44 * 1452));
    for transmit in &transmits {
        give(&mut pair.server, pair.now, transmit);
    }
    pair.server.finish(pair.now);
    assert_eq!(received(&mut pair.server), packets);
}

#[test]
fn a_driver_that_cannot_join_is_given_one_datagram_at_a_time() {
    let mut pair = Pair::new(1);
    let transmits = pair.send(&packets(10, 1400));
    assert!(transmits.len() >= 10 && transmits.iter().all(|transmit| transmit.segment.is_none()));
}

#[test]
fn more_than_quinn_holds_may_be_given_at_once() {
    let mut pair = Pair::new(44);
    let packets: Vec<_> = (0..12).flat_map(|_| packets(250, 1400)).collect();
    let transmits = pair.send(&packets);
    for transmit in &transmits {
        give(&mut pair.server, pair.now, transmit);
    }
    pair.server.finish(pair.now);
    assert_eq!(received(&mut pair.server), packets);
}

#[test]
fn what_is_delivered_before_it_is_answered_shares_a_datagram_with_the_answer() {
    let mut pair = Pair::new(1);
    for early in [false, true] {
        // Two: the second one is acknowledged at once.
        let question = pair.send(&packets(2, 1000));
        for transmit in &question {
            give(&mut pair.server, pair.now, transmit);
        }
        if early {
            pair.server.deliver();
        } else {
            pair.server.finish(pair.now);
        }
        let (before, arrived) = sent(&mut pair.server);
        let [LinkOutput::Datagrams(link, both)] = &arrived[..] else { panic!("{arrived:?}") };
        assert_eq!(both.len(), 2);
        pair.server.queue_datagram(pair.now, *link, both[0].clone()).unwrap();
        pair.server.finish(pair.now);
        let (after, others) = sent(&mut pair.server);
        assert!(others.is_empty(), "{others:?}");
        assert_eq!((before.len(), after.len()), (usize::from(!early), 1));
        for transmit in before.iter().chain(&after) {
            give(&mut pair.client, pair.now, transmit);
        }
        pair.client.finish(pair.now);
        assert_eq!(received(&mut pair.client), packets(1, 1000));
    }
}

#[test]
fn what_is_not_authentic_is_counted_in_a_batch_too() {
    let mut pair = Pair::new(1);
    for mut transmit in pair.send(&packets(10, 1400)) {
        *transmit.payload.last_mut().unwrap() ^= 1;
        give(&mut pair.server, pair.now, &transmit);
    }
    pair.server.finish(pair.now);
    let refused = |output: &LinkOutput| matches!(output, LinkOutput::Dropped(DropReason::NotAuthentic));
    assert!(sent(&mut pair.server).1.iter().filter(|output| refused(output)).count() >= 10);
}

#[test]
fn packets_come_out_before_they_are_acknowledged_and_only_once() {
    let mut pair = Pair::new(1);
    let packets = packets(10, 1000);
    for transmit in pair.send(&packets) {
        give(&mut pair.server, pair.now, &transmit);
    }
    pair.server.deliver();
    let (transmits, delivered) = sent(&mut pair.server);
    assert!(transmits.is_empty());
    assert_eq!(data(delivered), packets);
    pair.server.finish(pair.now);
    let (acknowledgements, rest) = sent(&mut pair.server);
    assert!(!acknowledgements.is_empty() && rest.is_empty());
}
