//! Finds the largest inner packet that crosses in one packet of the underlay, by sending it and looking at the wire.

use std::time::Duration;

use cyphonic_core::message::Framing;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Pair, Scenario};

use crate::host::apps::{App, AppId, Echo, EchoSize, Target};
use crate::capture::composition::data_frames;
use crate::capture::quic::Opener;
use crate::net::TapMode;
use crate::world::{Watch, World};

/// The smallest probe, bytes: an IPv6 header, an ICMP echo and a little.
const SMALLEST: usize = 100;
/// Time for path MTU discovery to come to its end before the search begins.
const SETTLE: Duration = Duration::from_secs(5);
/// How long one probe may take.
const PATIENCE: Duration = Duration::from_secs(1);

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
    opener: Opener,
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
    Probing { app: AppId, size: usize },
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
        let opener = Opener::new(secrets);
        Self {
            pair,
            target,
            framing: scenario.framing,
            opener,
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
                let app = self.send(world, SMALLEST, 3);
                self.stage = Stage::Opening(app);
            }
            Stage::Opening(app) => {
                if world.node(self.pair.from, |_, host| host.take_report(app)).is_some() {
                    self.stage = Stage::Settling(now + SETTLE);
                }
            }
            Stage::Settling(until) => {
                if until <= now {
                    self.next(world, SMALLEST);
                }
            }
            Stage::Probing { app, size } => {
                let report = world.node(self.pair.from, |_, host| host.take_report(app))?;
                let answered = report.echo().is_some_and(|echo| echo.answered() == 1);
                let carried = self.carried(world);
                if answered && carried.len() == 1 {
                    self.fits = size;
                    self.outer = carried.into_iter().next().expect("one");
                } else {
                    self.fails = size;
                }
                if self.fits + 1 >= self.fails {
                    return Some(MtuProbe { largest: self.fits, outer: std::mem::take(&mut self.outer) });
                }
                self.next(world, self.fits + (self.fails - self.fits) / 2);
            }
        }
        None
    }

    fn next(&mut self, world: &mut World, size: usize) {
        // What was on the wire before this probe is not its doing.
        world.sent(&world.nodes[self.pair.from]);
        let app = self.send(world, size, 1);
        self.stage = Stage::Probing { app, size };
    }

    fn send(&self, world: &mut World, size: usize, count: u32) -> AppId {
        let (interval, timeout) = (Duration::from_millis(200), PATIENCE);
        let echo = Echo { count, interval, size: EchoSize::Packet(size), timeout };
        world.node(self.pair.from, |now, host| host.start(now, App::Echo(self.target.clone(), echo)))
    }

    /// The outer packets that carried the probe, or a part of it.
    fn carried(&mut self, world: &mut World) -> Vec<Vec<u8>> {
        let sent = world.sent(&world.nodes[self.pair.from]);
        sent.into_iter()
            .map(|tapped| tapped.packet)
            .filter(|packet| !data_frames(packet, &mut self.opener, self.framing).is_empty())
            .collect()
    }
}
