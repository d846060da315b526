//! Links that are given many things at once: nothing is lost or changed by it, and it takes fewer transmits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cyphonic_core::event::DropReason;
use cyphonic_core::machine::Transmit;
use cyphonic_core::name::Fqdn;
use cyphonic_core::pki::{Authority, Validity};
use cyphonic_core::quic::{CidScheme, LinkId, LinkOutput, Links, Load, QuicConfig, QuicOptions};
use cyphonic_core::time::Instant;
use cyphonic_core::tls::{Environment, Roots, WallClock};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

#[derive(Debug)]
struct Clock;

impl WallClock for Clock {
    fn since_unix_epoch(&self) -> Duration {
        Duration::from_secs(1_000_000)
    }
}

/// A client and a server with one link, whose path MTU is known.
struct Pair {
    now: Instant,
    client: Links,
    server: Links,
    link: LinkId,
}

fn address(host: u16) -> SocketAddr {
    SocketAddr::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, host].into(), 443)
}

impl Pair {
    fn new(segments: usize) -> Self {
        let around = Validity::new(Duration::from_secs(999_000), Duration::from_secs(1_001_000)).unwrap();
        let root = Authority::root(&[1; 32], "root", around).unwrap();
        let authority = root.intermediate(&[2; 32], "as", around).unwrap();
        let links = |owner: &str, accept| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = QuicConfig {
                tls: Environment { provider, clock: Arc::new(Clock), key_log: None },
                roots: Roots::new([root.certificate().clone()]).unwrap(),
                identity: authority.issue(&owner.parse().unwrap(), &[3; 32], 1, around).unwrap(),
                alpn: b"test".to_vec(),
                options: QuicOptions { segments, ..QuicOptions::default() },
            };
            Links::new(config, CidScheme::Direct, accept, &mut ChaCha20Rng::from_seed([4; 32])).unwrap()
        };
        let (mut client, server) = (links("alice.example", false), links("bob.example", true));
        let bob: Fqdn = "bob.example".parse().unwrap();
        let link = client.connect(Instant::ZERO, address(1), address(2), &bob, None, Load::Packets).unwrap();
        let mut pair = Self { now: Instant::ZERO, client, server, link };
        for _ in 0..200 {
            pair.now += Duration::from_millis(10);
            let there = sent(&mut pair.client).0;
            for transmit in &there {
                give(&mut pair.server, pair.now, transmit);
            }
            pair.server.settle(pair.now);
            let back = sent(&mut pair.server).0;
            for transmit in &back {
                give(&mut pair.client, pair.now, transmit);
            }
            pair.client.settle(pair.now);
            pair.client.handle_timeout(pair.now);
            pair.server.handle_timeout(pair.now);
        }
        pair
    }

    /// What the client sends for packets that it is given at once.
    fn send(&mut self, packets: &[Bytes]) -> Vec<Transmit> {
        for packet in packets {
            self.client.queue_datagram(self.now, self.link, packet.clone()).unwrap();
        }
        self.client.settle(self.now);
        sent(&mut self.client).0
    }
}

/// What a side sends, and the rest of what it says.
fn sent(links: &mut Links) -> (Vec<Transmit>, Vec<LinkOutput>) {
    let (mut transmits, mut others) = (Vec::new(), Vec::new());
    while let Some(output) = links.poll() {
        match output {
            LinkOutput::Transmit(transmit) => transmits.push(transmit),
            other => others.push(other),
        }
    }
    (transmits, others)
}

/// Hands a side the datagrams of a transmit, to be settled.
fn give(links: &mut Links, now: Instant, transmit: &Transmit) {
    for datagram in transmit.payload.chunks(transmit.segment.unwrap_or(transmit.payload.len())) {
        links.take_datagram(now, transmit.remote, transmit.local, BytesMut::from(datagram));
    }
}

fn packets(count: u8, len: usize) -> Vec<Bytes> {
    (0..count).map(|n| vec![n; len].into()).collect()
}

fn received(links: &mut Links) -> Vec<Bytes> {
    data(sent(links).1)
}

/// The packets among what a side says.
fn data(outputs: Vec<LinkOutput>) -> Vec<Bytes> {
    let packet = |output| if let LinkOutput::Datagram(_, data) = output { Some(data) } else { None };
    outputs.into_iter().filter_map(packet).collect()
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
    pair.server.settle(pair.now);
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
    pair.server.settle(pair.now);
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
            pair.server.settle(pair.now);
        }
        let (before, arrived) = sent(&mut pair.server);
        let [LinkOutput::Datagram(link, first), LinkOutput::Datagram(..)] = &arrived[..] else { panic!("{arrived:?}") };
        pair.server.queue_datagram(pair.now, *link, first.clone()).unwrap();
        pair.server.settle(pair.now);
        let (after, others) = sent(&mut pair.server);
        assert!(others.is_empty(), "{others:?}");
        assert_eq!((before.len(), after.len()), (usize::from(!early), 1));
        for transmit in before.iter().chain(&after) {
            give(&mut pair.client, pair.now, transmit);
        }
        pair.client.settle(pair.now);
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
    pair.server.settle(pair.now);
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
    pair.server.settle(pair.now);
    let (acknowledgements, rest) = sent(&mut pair.server);
    assert!(!acknowledgements.is_empty() && rest.is_empty());
}
