//! Finds the largest inner packet that crosses in one outer packet. It sends packets and looks at the wire.
//!
//! The probes are UDP datagrams to the peer's sink, a few in quick succession. QUIC may add an acknowledgement to the
//! first packet after one that it received. Later packets have no room for one. A size fits if one outer packet
//! contained a whole probe of that size and nothing else.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::message::Framing;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::rows::Field;
use cyphonic_scenarios::{Cipher, Family, Pair, Scenario};

use crate::capture::composition::{compose, compose_cbc};
use crate::dissect::Secrets;
use crate::dissect::quic::Opener;
use crate::host::apps::{App, AppId, Echo, EchoSize, Flow, FlowEnd, Target};
use crate::net::TapMode;
use crate::world::{Watch, World};

/// The smallest probe, bytes: an IPv6 header, an ICMP echo and a little.
const SMALLEST: usize = 100;
/// The time for path MTU discovery to end before the search begins.
const DISCOVERY: Duration = Duration::from_secs(5);
/// The number of sizes beyond the first failure that are tried.
const BEYOND: usize = 16;
/// Probes of each size.
const PROBES: u64 = 3;
/// The time in which they have to arrive.
const PATIENCE: Duration = Duration::from_millis(500);
/// Inner IP and UDP headers, bytes.
const HEADERS_V6: usize = 48;
const HEADERS_V4: usize = 28;

/// The result of the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MtuProbe {
    /// The largest inner IP packet that crossed in one outer packet, bytes.
    pub largest: usize,
    /// The outer packet, as it was on the sender's wire.
    pub outer: Vec<u8>,
}

/// A search that is running. `fits` crossed in one packet, `fails` did not.
pub(super) struct Prober {
    /// The probes go from `from` to `to`.
    pub(super) pair: Pair,
    target: Target,
    framing: Framing,
    cipher: Cipher,
    secrets: Arc<Secrets>,
    /// Made when the tunnel is up, because it knows only sessions that were logged before.
    opener: Option<Opener>,
    fits: usize,
    fails: usize,
    /// The sizes to try after the halving.
    beyond: Option<Range<usize>>,
    outer: Vec<u8>,
    /// The number of packets in the sender's taps before the probe, by wire. They stay there, because they belong to
    /// the capture.
    before: Vec<usize>,
    stage: ProbeStage,
}

enum ProbeStage {
    /// An echo that builds the tunnel.
    Opening(AppId),
    /// Path MTU discovery is under way.
    Discovering(Instant),
    /// A probe of this size is under way.
    Probing { app: AppId, size: usize, until: Instant },
    /// The search has not begun.
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
            cipher: scenario.cipher,
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

    /// Takes the search as far as it goes now. Returns the result, once there is one.
    pub(super) fn advance(&mut self, world: &mut World) -> Option<MtuProbe> {
        let now = world.now();
        match self.stage {
            ProbeStage::Idle => {
                let app = self.open(world);
                self.stage = ProbeStage::Opening(app);
            }
            ProbeStage::Opening(app) => {
                if world.node(self.pair.from, |_, host| host.take_report(app)).is_some() {
                    self.stage = ProbeStage::Discovering(now + DISCOVERY);
                }
            }
            ProbeStage::Discovering(until) => {
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

    /// Halving finds a size after which the next one does not fit. A few larger ones may fit nevertheless: a STREAM
    /// frame that fills its packet to the last byte needs no length field (RFC 9000 §19.8).
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
        // Earlier packets on the wire do not belong to this probe.
        let network = world.network();
        self.before = world.nodes[self.pair.from].wires.iter().map(|&wire| network.tapped_len(wire)).collect();
        let headers = if self.pair.family == Family::Ipv6 { HEADERS_V6 } else { HEADERS_V4 };
        let flow =
            Flow { count: PROBES, interval: Duration::from_millis(1), payload: size - headers, end: FlowEnd::Sink };
        let app = world.node(self.pair.from, |now, host| host.start(now, App::Flow(self.target.clone(), flow)));
        self.stage = ProbeStage::Probing { app, size, until: world.now() + PATIENCE };
    }

    /// An outer packet that carried a whole probe of this size and nothing else.
    fn whole(&mut self, world: &World, size: usize) -> Option<Vec<u8>> {
        let network = world.network();
        let wires = world.nodes[self.pair.from].wires.iter().zip(&self.before);
        let sent = wires.flat_map(|(&wire, &before)| network.tapped_from(wire, before));
        let opener = self.opener.get_or_insert_with(|| Opener::new(&self.secrets));
        let inner_v6 = self.pair.family == Family::Ipv6;
        sent.map(|tapped| tapped.packet).find(|packet| {
            let composed = match self.cipher {
                Cipher::AesCtr => compose(packet, opener, self.framing, inner_v6),
                Cipher::AesCbcMd5 => compose_cbc(packet, inner_v6, size),
            };
            composed.is_some_and(|found| {
                let inner = found.bytes(Field::VirtualIpHeader) + found.bytes(Field::IpPayload);
                found.other_frames == 0 && inner as usize == size
            })
        })
    }
}
