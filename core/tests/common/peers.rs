//! The paths of two nodes, with one path between them that works and others that do not.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::BytesMut;
use cyphonic_core::name::RelayCid;
use cyphonic_core::paths::budget::SilentTargets;
use cyphonic_core::paths::candidates::{Candidate, Kind, Way};
use cyphonic_core::paths::lifetime::Lifetimes;
use cyphonic_core::paths::peer::{Config, Input, Output, Paths};
use cyphonic_core::paths::probe::{Secret, tag_of};
use cyphonic_core::paths::watch::Delivery;
use cyphonic_core::time::Instant;

/// Candidates of a peer with both families behind a NAT.
const CANDIDATES: u8 = 4;

/// The two ends; the first one is the TLS client.
pub(crate) struct Peers {
    paths: [Paths; 2],
    silent: [SilentTargets; 2],
    pub(crate) now: Instant,
    /// How many path probes were sent.
    pub(crate) probes: usize,
}

/// A way of an end to the `host`th address of the other one.
fn way(end: usize, host: u8) -> Way {
    let at = |end: usize, host| SocketAddr::from(([10, end as u8, 0, host], 443));
    Way { local: at(end, 1), remote: at(1 - end, host) }
}

impl Peers {
    pub(crate) fn new() -> Self {
        let tag = |end: usize| RelayCid([7 + end as u8; 8]);
        let paths = [0, 1].map(|end| {
            let (ours, theirs, seed) = (tag(end), tag(1 - end), [end as u8; 32]);
            Paths::new(Config { ours, theirs, client: end == 0, lifetimes: Lifetimes::guarded(), seed })
        });
        let now = Instant::from_millis(1);
        let mut peers = Self { paths, silent: Default::default(), now, probes: 0 };
        for end in [0, 1] {
            let candidates = (1..=CANDIDATES).map(|host| Candidate { way: way(end, host), kind: Kind::V4 }).collect();
            peers.give(end, Input::Candidates(candidates));
            peers.arrive(end, 1200);
        }
        for input in [|| Input::Keys(Secret([3; 32])), || Input::Delivery(Delivery { sent: 10, lost: 0, mtu: 1200 })] {
            peers.give(0, input());
            peers.give(1, input());
        }
        assert_eq!([0, 1].map(|end| peers.paths[end].used()), [0, 1].map(|end| Some(way(end, 1))));
        peers
    }

    /// QUIC of an end took a datagram that came by the path that works.
    pub(crate) fn arrive(&mut self, end: usize, len: usize) {
        self.give(end, Input::Arrived { way: way(end, 1), len });
    }

    /// Gives an end an input. Probes arrive at once.
    pub(crate) fn give(&mut self, end: usize, input: Input) {
        let mut inputs = VecDeque::new();
        let mut next = Some((end, input));
        while let Some((end, input)) = next {
            self.paths[end].handle(self.now, input, &mut self.silent[end]);
            loop {
                match self.paths[end].poll() {
                    Output::Wait(_) => break,
                    Output::Transmit(sent) if tag_of(&sent.payload).is_some() => {
                        self.probes += 1;
                        if sent.remote == way(end, 1).remote {
                            let payload = BytesMut::from(&sent.payload[..]);
                            inputs.push_back((1 - end, Input::Probe { way: way(1 - end, 1), payload }));
                        }
                    }
                    output => drop(std::hint::black_box(output)),
                }
            }
            next = inputs.pop_front();
        }
    }
}
