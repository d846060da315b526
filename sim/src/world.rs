//! From a scenario to a running network.
//!
//! ```text
//!   AS   NMS   TRS          services: dual-stack hosts on the core
//!     \   |   /
//!      [ core ]             one router
//!     /        \            access links, as the scenario says
//!  node     [firewall]
//!              |
//!        [NAT or router]    an edge box, where a site has more than one node, a NAT or a firewall
//!           /     \
//!        node     node      LAN wires
//! ```
//!
//! A site of one node without NAT and firewall has no edge box: its access link ends at the node. Where there is one,
//! the wires between node and edge take [`LAN_DELAY`] each out of the access link's delay, as far as that leaves it
//! [`MIN_DELAY`]; so `delay_ms` is the way from node to core, whatever stands between, if it is long enough.

mod boxes;
mod roles;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::auth::Auth;
use cyphonic_core::event::{DropReason, Event};
use cyphonic_core::nms::Nms;
use cyphonic_core::node::{Node, NodeCommand};
use cyphonic_core::quic::QlogSink;
use cyphonic_core::store::Store;
use cyphonic_core::time::Instant;
use cyphonic_core::trs::Trs;
use cyphonic_scenarios::{Engine as EngineKind, Interface as Place, Scenario};

use crate::capture::Secrets;
use crate::host::{Host, Interface};
use crate::net::{BoxId, Direction, Engine, EventEngine, MIN_DELAY, Network, TapMode, Tapped, TurmoilEngine};

/// Out of the access link's delay, for each wire between a node and its edge box.
pub const LAN_DELAY: Duration = MIN_DELAY;

/// Where a host's qlog traces go, by its name.
pub type QlogSinks = Arc<dyn Fn(&str) -> QlogSink + Send + Sync>;

/// What to watch while a network runs.
#[derive(Clone, Default)]
pub struct Watch {
    /// What the taps on all wires do.
    pub tap: TapMode,
    /// Where TLS secrets go, for captures that can be decrypted.
    pub secrets: Option<Arc<Secrets>>,
    /// Where each host's qlog traces go, by host name.
    pub qlog: Option<QlogSinks>,
}

/// A host's part in the network.
#[derive(Clone, Debug)]
pub struct Station {
    /// Its box.
    pub id: BoxId,
    /// As diagrams call it.
    pub name: String,
    /// Its wires, by interface, as the direction that leaves the host.
    pub wires: Vec<Direction>,
}

/// A network that runs a scenario.
pub struct World {
    engine: Box<dyn Engine>,
    /// The AS.
    pub auth: Station,
    /// The NMS.
    pub nms: Station,
    /// The TRS.
    pub trs: Station,
    /// The nodes, in the scenario's order.
    pub nodes: Vec<Station>,
    /// The database that AS and NMS share.
    pub store: Arc<dyn Store>,
    /// For each node: which site each of its interfaces is in.
    places: Vec<Vec<usize>>,
    mtus: Vec<Vec<usize>>,
}

impl World {
    /// Builds the network of a scenario. Everything that is random in it comes from `seed`.
    ///
    /// # Panics
    /// Never for a scenario that `cyphonic_scenarios` made: it refuses what cannot be built.
    pub fn new(scenario: &Scenario, seed: u64, engine: EngineKind, watch: &Watch) -> Self {
        let built = boxes::build(scenario, seed, watch);
        let engine: Box<dyn Engine> = match engine {
            EngineKind::Turmoil => Box::new(TurmoilEngine::new(built.network)),
            EngineKind::Events => Box::new(EventEngine::new(built.network)),
        };
        let [auth, nms, trs] = built.services;
        let (nodes, store, places, mtus) = (built.nodes, built.store, built.places, built.mtus);
        Self { engine, auth, nms, trs, nodes, store, places, mtus }
    }

    /// What drives the network: for faults and attacks, which reach for any box and wire.
    pub fn engine(&mut self) -> &mut dyn Engine {
        self.engine.as_mut()
    }

    /// The present.
    pub fn now(&self) -> Instant {
        self.engine.now()
    }

    /// Runs until a whole millisecond.
    pub fn run_until(&mut self, until: Instant) {
        self.engine.run_until(until);
    }

    /// Names, taps and counters.
    pub fn network(&self) -> &Network {
        self.engine.network()
    }

    /// Acts on a node's host.
    pub fn node<R>(&mut self, node: usize, f: impl FnOnce(Instant, &mut Host<Node>) -> R) -> R {
        self.engine.with(self.nodes[node].id, f)
    }

    /// Every event since the last call, in order of time, then of AS, NMS, TRS and nodes, with the host's name.
    pub fn drain_events(&mut self) -> Vec<(Instant, String, Event)> {
        let mut events = Vec::new();
        let name = |station: &Station, drained: Vec<(Instant, Event)>, events: &mut Vec<_>| {
            events.extend(drained.into_iter().map(|(at, event)| (at, station.name.clone(), event)));
        };
        let drained = self.engine.with(self.auth.id, |_, host: &mut Host<Auth>| host.drain_events());
        name(&self.auth, drained, &mut events);
        let drained = self.engine.with(self.nms.id, |_, host: &mut Host<Nms>| host.drain_events());
        name(&self.nms, drained, &mut events);
        let drained = self.engine.with(self.trs.id, |_, host: &mut Host<Trs>| host.drain_events());
        name(&self.trs, drained, &mut events);
        for node in &self.nodes {
            let drained = self.engine.with(node.id, |_, host: &mut Host<Node>| host.drain_events());
            name(node, drained, &mut events);
        }
        events.sort_by_key(|&(at, ..)| at);
        events
    }

    /// How often each role dropped something, by host and reason.
    pub fn drops(&mut self) -> BTreeMap<(String, DropReason), u64> {
        let mut all = BTreeMap::new();
        let mut add = |name: &str, drops: BTreeMap<DropReason, u64>| {
            all.extend(drops.into_iter().map(|(reason, n)| ((name.to_owned(), reason), n)));
        };
        add(&self.auth.name, self.engine.with(self.auth.id, |_, h: &mut Host<Auth>| h.drops().clone()));
        add(&self.nms.name, self.engine.with(self.nms.id, |_, h: &mut Host<Nms>| h.drops().clone()));
        add(&self.trs.name, self.engine.with(self.trs.id, |_, h: &mut Host<Trs>| h.drops().clone()));
        for node in &self.nodes {
            add(&node.name, self.engine.with(node.id, |_, h: &mut Host<Node>| h.drops().clone()));
        }
        all
    }

    /// The packets that a host put on its wires since the last call, if taps keep them.
    pub fn sent(&self, station: &Station) -> Vec<Tapped> {
        let network = self.engine.network();
        station.wires.iter().flat_map(|&wire| network.take_tapped(wire)).collect()
    }

    /// Moves a node: it leaves every network that it is in, and appears in another.
    pub fn move_node(&mut self, node: usize, to: &Place) {
        let iface = self.places[node].iter().position(|&site| site == to.site).expect("built for every move");
        let mtus = self.mtus[node].clone();
        let addresses = addresses(to);
        self.node(node, |now, host| {
            for (i, &mtu) in mtus.iter().enumerate() {
                let up = i == iface;
                let addresses = if up { addresses.clone() } else { Vec::new() };
                host.set_interface(now, i, Interface { addresses, mtu, up });
            }
            host.command(now, NodeCommand::Addresses(addresses.clone()));
        });
    }
}

/// The addresses that a place gives, IPv6 first.
fn addresses(place: &Place) -> Vec<std::net::IpAddr> {
    place.v6.map(Into::into).into_iter().chain(place.v4.map(Into::into)).collect()
}
