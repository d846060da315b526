//! Finds the largest inner packet that crosses in one packet of the underlay, by sending it and looking at the wire.
//!
//! The probes are UDP datagrams to the peer's sink, a few in quick succession: QUIC lets an acknowledgement ride on the
//! first packet after one that was received, and the later ones have no room to share. A size fits if one packet of the
//! underlay had a whole probe of it in it and nothing else.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::message::Framing;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::rows::Field;
use cyphonic_scenarios::{Family, Pair, Scenario};

use crate::capture::composition::compose;
use crate::dissect::Secrets;
use crate::dissect::quic::Opener;
use crate::host::apps::{App, AppId, Echo, EchoSize, Flow, FlowEnd, Target};
use crate::net::TapMode;
use crate::world::{Watch, World};

/// The smallest probe, bytes: an IPv6 header, an ICMP echo and a little.
const SMALLEST: usize = 100;
/// Time for path MTU discovery to come to its end before the search begins.
const SETTLE: Duration = Duration::from_secs(5);
/// How many sizes beyond the first that fails are tried.
const BEYOND: usize = 16;
/// Probes of each size.
const PROBES: u64 = 3;
/// How long they may take to arrive.
const PATIENCE: Duration = Duration::from_millis(500);
/// Inner IP and UDP headers, bytes.
const HEADERS_V6: usize = 48;
const HEADERS_V4: usize = 28;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MtuProbe {
    /// The largest inner IP packet that crossed in one outer packet, bytes.
    pub largest: usize,
    /// That outer packet, as it was on the sender's wire.
    pub outer: Vec<u8>,
}

/// A search under way: `fits` crossed in one packet, `fails` did not.
pub(super) struct Prober {
    pub(super) pair: Pair,
    target: Target,
    framing: Framing,
    secrets: Arc<Secrets>,
    /// Once the tunnel stands: it knows only sessions that were logged before it.
    opener: Option<Opener>,
    fits: usize,
    fails: usize,
    /// What is tried after the halving.
    beyond: Option<Range<usize>>,
    outer: Vec<u8>,
    /// How many packets the sender's taps had before the probe, by wire. They stay there: they belong to the capture.
    before: Vec<usize>,
    stage: ProbeStage,
}

enum ProbeStage {
    /// An echo that builds the tunnel.
    Opening(AppId),
    /// Path MTU discovery is under way.
    Settling(Instant),
    /// A probe of this size is under way.
    Probing { app: AppId, size: usize, until: Instant },
    /// Nothing was started yet.
    Idle,
}

impl Prober {
    /// A search between a pair.
    ///
    /// # Panics
    /// If the watch keeps no packets, or (under QUIC) no secrets: then nothing can be counted.
    pub(super) fn new(scenario: &Scenario, pair: Pair, target: Target, watch: &Watch) -> Self {
        assert_eq!(watch.tap, TapMode::Keep, "probe_mtu counts packets on the wire, so they must be kept");
        let secrets = watch.secrets.clone().expect("probe_mtu looks into QUIC packets, so it needs their secrets");
        let fails = usize::from(scenario.tun_mtu) + 1;
        Self {
            pair,
            target,
            framing: scenario.framing,
            secrets,
            opener: None,
            fits: 0,
            fails,
            beyond: None,
            outer: Vec::new(),
            before: Vec::new(),
            stage: ProbeStage::Idle,
        }
    }

    /// Takes the search as far as it goes now; the result, once it is there.
    pub(super) fn advance(&mut self, world: &mut World) -> Option<MtuProbe> {
        let now = world.now();
        match self.stage {
            ProbeStage::Idle => {
                let app = self.open(world);
                self.stage = ProbeStage::Opening(app);
            }
            ProbeStage::Opening(app) => {
                if world.node(self.pair.from, |_, host| host.take_report(app)).is_some() {
                    self.stage = ProbeStage::Settling(now + SETTLE);
                }
            }
            ProbeStage::Settling(until) => {
                if until <= now {
                    self.probe(world, SMALLEST);
                }
            }
            ProbeStage::Probing { app, size, until } => {
                if until > now {
                    return None;
                }
                let report = world.node(self.pair.from, |_, host| host.take_report(app))?;
                let flow = report.flow().map(|report| report.flow);
                let arrived = world.node(self.pair.to, |_, host| {
                    host.flows().any(|(_, id, arrivals)| Some(id) == flow && arrivals.received == PROBES)
                });
                match self.whole(world, size).filter(|_| arrived) {
                    Some(outer) => (self.fits, self.outer) = (size, outer),
                    None if self.beyond.is_none() => self.fails = size,
                    None => {}
                }
                match self.next_size() {
                    Some(size) => self.probe(world, size),
                    None => return Some(MtuProbe { largest: self.fits, outer: std::mem::take(&mut self.outer) }),
                }
            }
        }
        None
    }

    /// Halving finds a size after which the next does not fit. A few larger ones may all the same: a STREAM frame that
    /// fills its packet to the last byte needs no length field (RFC 9000 §19.8).
    fn next_size(&mut self) -> Option<usize> {
        if self.beyond.is_none() && self.fits + 1 < self.fails {
            return Some(self.fits + (self.fails - self.fits) / 2);
        }
        self.beyond.get_or_insert_with(|| self.fails + 1..self.fails + BEYOND).next()
    }

    fn open(&self, world: &mut World) -> AppId {
        let echo = Echo { count: 3, interval: PATIENCE, size: EchoSize::Packet(SMALLEST), ..Echo::default() };
        world.node(self.pair.from, |now, host| host.start(now, App::Echo(self.target.clone(), echo)))
    }

    fn probe(&mut self, world: &mut World, size: usize) {
        // What was on the wire before this probe is not its doing.
        let network = world.network();
        self.before = world.nodes[self.pair.from].wires.iter().map(|&wire| network.tapped_len(wire)).collect();
        let headers = if self.pair.family == Family::Ipv6 { HEADERS_V6 } else { HEADERS_V4 };
        let flow =
            Flow { count: PROBES, interval: Duration::from_millis(1), payload: size - headers, end: FlowEnd::Sink };
        let app = world.node(self.pair.from, |now, host| host.start(now, App::Flow(self.target.clone(), flow)));
        self.stage = ProbeStage::Probing { app, size, until: world.now() + PATIENCE };
    }

    /// A packet of the underlay that carried a whole probe of this size, and nothing else.
    fn whole(&mut self, world: &World, size: usize) -> Option<Vec<u8>> {
        let network = world.network();
        let wires = world.nodes[self.pair.from].wires.iter().zip(&self.before);
        let sent = wires.flat_map(|(&wire, &before)| network.tapped_from(wire, before));
        let opener = self.opener.get_or_insert_with(|| Opener::new(&self.secrets));
        let inner_v6 = self.pair.family == Family::Ipv6;
        sent.map(|tapped| tapped.packet).find(|packet| {
            compose(packet, opener, self.framing, inner_v6).is_some_and(|found| {
                let inner = found.bytes(Field::VirtualIpHeader) + found.bytes(Field::IpPayload);
                found.other_frames == 0 && inner as usize == size
            })
        })
    }
}
