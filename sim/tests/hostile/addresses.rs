//! A link's new address counts once its peer has answered from there (RFC 9000 §8.2).

use std::net::SocketAddr;
use std::time::Duration;

use cyphonic_core::machine::Transmit;
use cyphonic_core::quic::{LinkId, LinkOutput, Links, Load};
use cyphonic_core::time::Instant;

use crate::rogue::{fqdn, links};

const SERVER: &str = "192.0.2.1:443";
const HOME: &str = "198.51.100.1:443";
const CAFE: &str = "203.0.113.9:443";

/// The most that quinn sends to a new address of a known peer before it is validated. Its challenge is padded to 1,200
/// bytes, however few bytes came from there. One full datagram leaves as long as any budget is left (RFC 9000 §8.2.1
/// would allow less).
pub(crate) const MOST_UNPROVED: usize = 3 * 1_200;

struct Pair {
    now: Instant,
    client: Links,
    server: Links,
    link: LinkId,
    accepted: LinkId,
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The datagrams that an endpoint wants to send. Its other outputs go to `other`.
fn sent(links: &mut Links, mut other: impl FnMut(LinkOutput)) -> Vec<Transmit> {
    let mut sent = Vec::new();
    while let Some(output) = links.poll() {
        match output {
            LinkOutput::Transmit(transmit) => sent.push(*transmit),
            output => other(output),
        }
    }
    sent
}

impl Pair {
    fn new() -> Self {
        let (mut client, server) = (links(&fqdn("alice"), false), links(&fqdn("trs"), true));
        let now = Instant::from_millis(1);
        let link = client.connect(now, address(HOME), address(SERVER), &fqdn("trs"), None, Load::Packets).unwrap();
        let mut pair = Self { now, client, server, link, accepted: link };
        let mut accepted = None;
        for _ in 0..2_000 {
            pair.round(HOME, |output| {
                if let LinkOutput::Connected { link, .. } = output {
                    accepted = Some(link);
                }
            });
        }
        pair.accepted = accepted.unwrap();
        pair
    }

    /// A millisecond in which every packet arrives that the client at `home` sends, or that is sent to `home`.
    fn round(&mut self, home: &str, heard: impl FnMut(LinkOutput)) {
        self.now += Duration::from_millis(1);
        for transmit in sent(&mut self.client, drop) {
            self.server.handle_datagram(self.now, address(SERVER), address(home), transmit.payload[..].into());
        }
        for transmit in sent(&mut self.server, heard) {
            if transmit.remote == address(home) {
                self.client.handle_datagram(self.now, transmit.remote, address(SERVER), transmit.payload[..].into());
            }
        }
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
    }

    /// A new packet of the client that no endpoint has received.
    fn fresh(&mut self) -> Vec<u8> {
        self.client.send_datagram(self.now, self.link, b"a packet".to_vec().into()).unwrap();
        sent(&mut self.client, drop).pop().unwrap().payload
    }

    fn seen(&self) -> SocketAddr {
        self.server.remote(self.accepted).unwrap()
    }
}

#[test]
fn a_sniffed_packet_that_comes_first_from_elsewhere_moves_nothing() {
    let mut pair = Pair::new();
    let sniffed = pair.fresh();
    pair.server.handle_datagram(pair.now, address(SERVER), address(CAFE), sniffed[..].into());
    assert_eq!(pair.seen(), address(HOME));
    let (mut cafe, mut rounds) = (0, 0);
    while rounds < 3_000 {
        pair.now += Duration::from_millis(1);
        for transmit in sent(&mut pair.server, drop) {
            if transmit.remote == address(CAFE) {
                cafe += transmit.payload.len();
            } else {
                let payload = transmit.payload[..].into();
                pair.client.handle_datagram(pair.now, transmit.remote, address(SERVER), payload);
            }
        }
        for transmit in sent(&mut pair.client, drop) {
            pair.server.handle_datagram(pair.now, address(SERVER), address(HOME), transmit.payload[..].into());
        }
        pair.client.handle_timeout(pair.now);
        pair.server.handle_timeout(pair.now);
        assert_eq!(pair.seen(), address(HOME));
        rounds += 1;
    }
    assert!(cafe > 0, "the new address is asked to prove itself");
    assert!(cafe <= MOST_UNPROVED, "{cafe} bytes");
}

#[test]
fn a_client_that_truly_moved_is_believed_once_it_has_answered() {
    let mut pair = Pair::new();
    let first = pair.fresh();
    pair.server.handle_datagram(pair.now, address(SERVER), address(CAFE), first[..].into());
    assert_eq!(pair.seen(), address(HOME));
    for _ in 0..100 {
        pair.round(CAFE, drop);
    }
    assert_eq!(pair.seen(), address(CAFE));
}

#[test]
fn what_quic_drops_in_silence_is_counted() {
    let mut pair = Pair::new();
    let packet = pair.fresh();
    let counted = |pair: &mut Pair, bytes: &[u8]| {
        pair.server.handle_datagram(pair.now, address(SERVER), address(HOME), bytes.into());
        let mut dropped = 0;
        sent(&mut pair.server, |output| dropped += usize::from(matches!(output, LinkOutput::Dropped(_))));
        dropped
    };
    for at in 1..packet.len() {
        let mut damaged = packet.clone();
        damaged[at] ^= 1;
        assert_eq!(counted(&mut pair, &damaged), 1, "byte {at}");
    }
    assert_eq!(counted(&mut pair, &packet[..packet.len() - 1]), 1);
    assert_eq!(counted(&mut pair, &packet), 0, "the true one");
    assert_eq!(counted(&mut pair, &packet), 1, "once more");
}
