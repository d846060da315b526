//! Finds the largest inner packet that crosses in one packet of the underlay, by sending it and looking at the wire.
//!
//! The probes are UDP datagrams to the peer's sink: nothing comes back but acknowledgements, so a QUIC packet with a probe
//! has no room to share with an acknowledgement of its own.

use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::message::Framing;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Family, Pair, Scenario};

use crate::host::apps::{App, AppId, Echo, EchoSize, Flow, FlowEnd, Target};
use crate::capture::Secrets;
use crate::capture::composition::data_frames;
use crate::capture::quic::Opener;
use crate::net::TapMode;
use crate::world::{Watch, World};

/// The smallest probe, bytes: an IPv6 header, an ICMP echo and a little.
const SMALLEST: usize = 100;
/// Time for path MTU discovery to come to its end before the search begins.
const SETTLE: Duration = Duration::from_secs(5);
/// How long one probe may take to arrive.
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
    outer: Vec<u8>,
    stage: Stage,
}

enum Stage {
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
            outer: Vec::new(),
            stage: Stage::Idle,
        }
    }

    /// Takes the search as far as it goes now; the result, once it is there.
    pub(super) fn advance(&mut self, world: &mut World) -> Option<MtuProbe> {
        let now = world.now();
        match self.stage {
            Stage::Idle => {
                let app = self.open(world);
                self.stage = Stage::Opening(app);
            }
            Stage::Opening(app) => {
                if world.node(self.pair.from, |_, host| host.take_report(app)).is_some() {
                    self.stage = Stage::Settling(now + SETTLE);
                }
            }
            Stage::Settling(until) => {
                if until <= now {
                    self.probe(world, SMALLEST);
                }
            }
            Stage::Probing { app, size, until } => {
                if until > now {
                    return None;
                }
                let report = world.node(self.pair.from, |_, host| host.take_report(app))?;
                let flow = report.flow().map(|report| report.flow);
                let arrived = world.node(self.pair.to, |_, host| {
                    host.flows().any(|(_, id, arrivals)| Some(id) == flow && arrivals.received == 1)
                });
                let carried = self.carried(world);
                if arrived && carried.len() == 1 {
                    self.fits = size;
                    self.outer = carried.into_iter().next().expect("one");
                } else {
                    self.fails = size;
                }
                if self.fits + 1 >= self.fails {
                    return Some(MtuProbe { largest: self.fits, outer: std::mem::take(&mut self.outer) });
                }
                self.probe(world, self.fits + (self.fails - self.fits) / 2);
            }
        }
        None
    }

    fn open(&self, world: &mut World) -> AppId {
        let echo = Echo { count: 3, interval: PATIENCE, size: EchoSize::Packet(SMALLEST), ..Echo::default() };
        world.node(self.pair.from, |now, host| host.start(now, App::Echo(self.target.clone(), echo)))
    }

    fn probe(&mut self, world: &mut World, size: usize) {
        // What was on the wire before this probe is not its doing.
        world.sent(&world.nodes[self.pair.from]);
        let headers = if self.pair.family == Family::Ipv6 { HEADERS_V6 } else { HEADERS_V4 };
        let flow = Flow { count: 1, per_second: 10, payload: size - headers, end: FlowEnd::Sink };
        let app = world.node(self.pair.from, |now, host| host.start(now, App::Flow(self.target.clone(), flow)));
        self.stage = Stage::Probing { app, size, until: world.now() + PATIENCE };
    }

    /// The outer packets that carried the probe, or a part of it.
    fn carried(&mut self, world: &mut World) -> Vec<Vec<u8>> {
        let sent = world.sent(&world.nodes[self.pair.from]);
        let opener = self.opener.get_or_insert_with(|| Opener::new(&self.secrets));
        sent.into_iter()
            .map(|tapped| tapped.packet)
            .filter(|packet| !data_frames(packet, opener, self.framing).is_empty())
            .collect()
    }
}
