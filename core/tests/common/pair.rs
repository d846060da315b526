//! A client and a server with one link, and what passes between them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cyphonic_core::machine::Transmit;
use cyphonic_core::quic::{CidScheme, LinkId, LinkOutput, Links, Load, QuicOptions};
use cyphonic_core::time::Instant;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{Credentials, address, name};

/// A client and a server with one link, whose path MTU is known.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) client: Links,
    pub(crate) server: Links,
    pub(crate) link: LinkId,
}

impl Pair {
    pub(crate) fn new(segments: usize) -> Self {
        let credentials = Credentials::new();
        let links = |owner, accept| {
            let config = credentials.quic(owner, QuicOptions { segments, ..QuicOptions::default() });
            Links::new(config, CidScheme::Direct, accept, &mut ChaCha20Rng::from_seed([4; 32])).unwrap()
        };
        let (mut client, server) = (links("alice", false), links("bob", true));
        let link = client.connect(Instant::ZERO, address(1), address(2), &name("bob"), None, Load::Packets).unwrap();
        let mut pair = Self { now: Instant::ZERO, client, server, link };
        for _ in 0..200 {
            pair.now += Duration::from_millis(10);
            let there = sent(&mut pair.client).0;
            for transmit in &there {
                give(&mut pair.server, pair.now, transmit);
            }
            pair.server.finish(pair.now);
            let back = sent(&mut pair.server).0;
            for transmit in &back {
                give(&mut pair.client, pair.now, transmit);
            }
            pair.client.finish(pair.now);
            pair.client.handle_timeout(pair.now);
            pair.server.handle_timeout(pair.now);
        }
        pair
    }

    /// What the client sends for packets that it is given at once.
    pub(crate) fn send(&mut self, packets: &[Bytes]) -> Vec<Transmit> {
        for packet in packets {
            self.client.queue_datagram(self.now, self.link, packet.clone()).unwrap();
        }
        self.client.finish(self.now);
        sent(&mut self.client).0
    }
}

/// What a side sends, and the rest of what it says.
pub(crate) fn sent(links: &mut Links) -> (Vec<Transmit>, Vec<LinkOutput>) {
    let (mut transmits, mut others) = (Vec::new(), Vec::new());
    while let Some(output) = links.poll() {
        match output {
            LinkOutput::Transmit(transmit) => transmits.push(*transmit),
            other => others.push(other),
        }
    }
    (transmits, others)
}

/// Hands a side the datagrams of a transmit, of a turn that is not finished.
pub(crate) fn give(links: &mut Links, now: Instant, transmit: &Transmit) {
    for datagram in transmit.payload.chunks(transmit.segment.unwrap_or(transmit.payload.len())) {
        links.take_datagram(now, transmit.remote, transmit.local, BytesMut::from(datagram));
    }
}

pub(crate) fn packets(count: u8, len: usize) -> Vec<Bytes> {
    (0..count).map(|n| vec![n; len].into()).collect()
}
