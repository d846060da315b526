//! From a scenario to a running network.
//!
//! ```text
//!   AS   NMS   TRS          services: dual-stack hosts on the core
//!     \   |   /
//!      [ core ]             one router
//!     /        \            access links, as the scenario says
//!  node    [carrier]         a NAT that several sites share, on a link of its own
//!              |
//!          [firewall]
//!              |
//!         [NPTv6, ...]      what translates IPv6, where something translates IPv4 too
//!              |
//!        [NAT or router]    an edge box, where a site has more than one node or any of these
//!           /     \
//!        node     node      LAN wires
//! ```
//!
//! A site of one node without any such box has no edge: its access link ends at the node. Where there is one, the wires
//! between node and link take [`LAN_DELAY`] each out of the access link's delay, as far as that leaves it
//! [`MIN_DELAY`]; so `delay_ms` is the way from node to core, whatever stands between, if it is long enough.

mod boxes;
mod changes;
mod civil;
mod config;
mod disk;
mod roles;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::event::{DropReason, Event};
use cyphonic_core::machine::{Machine, ServiceCommand, Tables};
use cyphonic_core::name::{Fqdn, NodeId};
use cyphonic_core::node::{Node, NodeCommand};
use cyphonic_core::quic::QlogSink;
use cyphonic_core::rules::Rules;
use cyphonic_core::store::Store;
use cyphonic_core::time::Instant;
use cyphonic_core::timing::Due;
use cyphonic_core::version::Versions;
use cyphonic_scenarios::{
    Engine as EngineKind, Family, Firewall as FirewallWords, HostClock, Interface as Place, Link, LinkAt, NatAt, Role,
    Scenario, ServiceName,
};

use crate::dissect::Secrets;
use crate::host::apps::Transfer;
use crate::host::{Host, Interface};
use crate::net::nat::{Nat64Box, NatBox};
use crate::net::{
    BoxId, Direction, Engine, EventEngine, FirewallBox, Flows, MIN_DELAY, Network, TapMode, Tapped, TurmoilEngine,
};
use crate::seeded;
use boxes::{NatPart, Parts};
use civil::Civil;
use disk::Disk;

pub use changes::PathWords;
pub(crate) use roles::GRANT_TIME;
use roles::{Auth, Nms, Trs};
pub use roles::{password_device, service_key};

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
    /// The hosts whose TLS secrets are kept, by the first labels of their names; every host's if nothing is said.
    pub secrets_of: Option<Vec<String>>,
    /// Where each host's qlog traces go, by host name.
    pub qlog: Option<QlogSinks>,
    /// Roles that speak other versions than this build, by the first label of their names.
    pub versions: BTreeMap<String, Versions>,
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

/// A host with a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// The AS.
    Auth,
    /// The NMS.
    Nms,
    /// The TRS.
    Trs,
    /// A node, by its place in the scenario.
    Node(usize),
}

impl From<Role> for Actor {
    fn from(role: Role) -> Self {
        match role {
            Role::Service(ServiceName::As) => Self::Auth,
            Role::Service(ServiceName::Nms) => Self::Nms,
            Role::Service(ServiceName::Trs) => Self::Trs,
            Role::Node(node) => Self::Node(node),
        }
    }
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
    disk: Arc<Disk>,
    trs_store: Arc<dyn Store>,
    civil: Civil,
    /// The file of access rules of the NMS.
    rules: Rules,
    /// For each node: which site each of its interfaces is in.
    places: Vec<Vec<usize>>,
    mtus: Vec<Vec<usize>>,
    /// For each site: where its NAT64 shows IPv4.
    nat64: Vec<Option<Ipv6Addr>>,
    parts: Parts,
    /// The nodes whose certificates were revoked, and how often these had been renewed.
    revoked: Vec<(Fqdn, u32)>,
}

impl World {
    /// Builds the network of a scenario. Everything that is random in it comes from `seed`.
    ///
    /// # Panics
    /// Never for a scenario that `cyphonic_scenarios` made: it refuses what cannot be built.
    pub fn new(scenario: &Scenario, seed: u64, engine: EngineKind, watch: &Watch) -> Self {
        let boxes::Built { network, services, nodes, disk, trs_store, civil, places, mtus, parts } =
            boxes::build(scenario, seed, watch);
        let engine: Box<dyn Engine> = match engine {
            EngineKind::Turmoil => Box::new(TurmoilEngine::new(network)),
            EngineKind::Events => Box::new(EventEngine::new(network)),
        };
        let [auth, nms, trs] = services;
        let nat64 = scenario.sites.iter().map(|site| site.nat64_prefix().map(|prefix| prefix.network())).collect();
        let store = disk.clone();
        Self {
            engine,
            auth,
            nms,
            trs,
            nodes,
            store,
            disk,
            trs_store,
            civil,
            rules: scenario.rules.clone(),
            places,
            mtus,
            nat64,
            parts,
            revoked: Vec::new(),
        }
    }

    /// What drives the network: for faults and attacks, which reach for any box and wire.
    pub fn engine(&mut self) -> &mut dyn Engine {
        self.engine.as_mut()
    }

    /// Every role: AS, NMS, TRS, and nodes.
    pub fn actors(&self) -> Vec<Actor> {
        let nodes = (0..self.nodes.len()).map(Actor::Node);
        [Actor::Auth, Actor::Nms, Actor::Trs].into_iter().chain(nodes).collect()
    }

    /// Where a role is.
    pub fn station(&self, actor: Actor) -> &Station {
        match actor {
            Actor::Auth => &self.auth,
            Actor::Nms => &self.nms,
            Actor::Trs => &self.trs,
            Actor::Node(node) => &self.nodes[node],
        }
    }

    /// The present.
    pub fn now(&self) -> Instant {
        self.engine.now()
    }

    /// Runs until a whole millisecond.
    pub fn run_until(&mut self, until: Instant) {
        self.engine.run_until(until);
    }

    /// Until when nothing happens in it by itself, at least; none if nothing ever does.
    pub fn quiet_until(&self) -> Option<Instant> {
        self.engine.quiet_until()
    }

    /// Names, taps and counters.
    pub fn network(&self) -> &Network {
        self.engine.network()
    }

    /// Acts on a node's host.
    pub fn node<R>(&mut self, node: usize, f: impl FnOnce(Instant, &mut Host<Node>) -> R) -> R {
        self.engine.with(self.nodes[node].id, f)
    }

    /// Looks at a node's host.
    pub fn look<R>(&self, node: usize, f: impl FnOnce(&Host<Node>) -> R) -> R {
        self.engine.look(self.nodes[node].id, f)
    }

    /// Whether the NMS has a registration of this node.
    pub fn is_registered(&self, node: &Fqdn) -> bool {
        self.engine.look(self.nms.id, |host: &Host<Nms>| host.machine().is_registered(NodeId::of(node)))
    }

    /// Every table of every role, and how many entries it has, by the host's name.
    pub fn tables(&self) -> Vec<(&str, Tables)> {
        let services = [
            (&self.auth, self.engine.look(self.auth.id, |host: &Host<Auth>| host.machine().tables())),
            (&self.nms, self.engine.look(self.nms.id, |host: &Host<Nms>| host.machine().tables())),
            (&self.trs, self.engine.look(self.trs.id, |host: &Host<Trs>| host.machine().tables())),
        ];
        let nodes = (0..self.nodes.len()).map(|node| (&self.nodes[node], self.look(node, |h| h.machine().tables())));
        services.into_iter().chain(nodes).map(|(station, tables)| (&*station.name, tables)).collect()
    }

    /// What each role waits for, by the host's name.
    pub fn timers(&self) -> Vec<(&str, Option<Due>)> {
        let services = [
            (&self.auth, self.engine.look(self.auth.id, |host: &Host<Auth>| host.waits_for())),
            (&self.nms, self.engine.look(self.nms.id, |host: &Host<Nms>| host.waits_for())),
            (&self.trs, self.engine.look(self.trs.id, |host: &Host<Trs>| host.waits_for())),
        ];
        let nodes = (0..self.nodes.len()).map(|node| (&self.nodes[node], self.look(node, Host::waits_for)));
        services.into_iter().chain(nodes).map(|(station, due)| (&*station.name, due)).collect()
    }

    /// Every event since the last call, in order of time, then of AS, NMS, TRS and nodes, with the host's name.
    pub fn drain_events(&mut self) -> Vec<(Instant, String, Event)> {
        let mut events = Vec::new();
        for actor in self.actors() {
            let drained = self.drain_events_of(actor);
            let name = &self.station(actor).name;
            events.extend(drained.into_iter().map(|(at, event)| (at, name.clone(), event)));
        }
        events.sort_by_key(|&(at, ..)| at);
        events
    }

    /// The events of one host since its last were taken.
    pub fn drain_events_of(&mut self, actor: Actor) -> Vec<(Instant, Event)> {
        match actor {
            Actor::Auth => self.engine.with(self.auth.id, |_, host: &mut Host<Auth>| host.drain_events()),
            Actor::Nms => self.engine.with(self.nms.id, |_, host: &mut Host<Nms>| host.drain_events()),
            Actor::Trs => self.engine.with(self.trs.id, |_, host: &mut Host<Trs>| host.drain_events()),
            Actor::Node(node) => self.node(node, |_, host| host.drain_events()),
        }
    }

    /// How often each role dropped something, by host and reason.
    pub fn drops(&self) -> BTreeMap<(String, DropReason), u64> {
        let mut all = BTreeMap::new();
        let mut add = |name: &str, drops: BTreeMap<DropReason, u64>| {
            all.extend(drops.into_iter().map(|(reason, n)| ((name.to_owned(), reason), n)));
        };
        add(&self.auth.name, self.engine.look(self.auth.id, |h: &Host<Auth>| h.drops().clone()));
        add(&self.nms.name, self.engine.look(self.nms.id, |h: &Host<Nms>| h.drops().clone()));
        add(&self.trs.name, self.engine.look(self.trs.id, |h: &Host<Trs>| h.drops().clone()));
        for node in &self.nodes {
            add(&node.name, self.engine.look(node.id, |h: &Host<Node>| h.drops().clone()));
        }
        all
    }

    /// The packets that a host put on its wires since the last call, if taps keep them.
    pub fn sent(&self, station: &Station) -> Vec<Tapped> {
        let network = self.engine.network();
        station.wires.iter().flat_map(|&wire| network.take_tapped(wire)).collect()
    }

    /// A role crashes and starts again, its memory lost; the database stays. A node has to be told to start.
    /// `scenario`, `seed` and `watch` are those that the world was made of.
    pub fn restart(&mut self, scenario: &Scenario, seed: u64, watch: &Watch, who: Actor) {
        let now = self.now();
        self.civil.begin(&self.name_of(scenario, who), now);
        let stores = [self.store.clone(), self.trs_store.clone()];
        let cast = roles::Cast::new(scenario, seed, watch, stores, self.civil.clone(), self.rules.clone(), now);
        match who {
            Actor::Auth => self.engine.with(self.auth.id, |now, host: &mut Host<Auth>| host.restart(now, cast.auth())),
            Actor::Nms => self.engine.with(self.nms.id, |now, host: &mut Host<Nms>| host.restart(now, cast.nms())),
            Actor::Trs => self.engine.with(self.trs.id, |now, host: &mut Host<Trs>| host.restart(now, cast.trs())),
            Actor::Node(node) => {
                let sites: Vec<_> = self.places[node].iter().map(|&site| self.nat64[site]).collect();
                self.node(node, |now, host| {
                    let up = |(_, interface): &(&Option<Ipv6Addr>, &Interface)| interface.up;
                    let places: Vec<_> = sites.iter().zip(host.interfaces()).filter(up).collect();
                    let nat64 = places.iter().find_map(|(nat64, _)| **nat64);
                    let addresses = places.iter().flat_map(|(_, interface)| interface.addresses.iter().copied());
                    host.restart(now, cast.node(node, addresses.collect(), nat64));
                });
            }
        }
        if !self.revoked.is_empty() {
            self.inform(seed, who);
            if who == Actor::Nms {
                self.tell_revoked();
            }
        }
    }

    /// Tells the NMS the names on the list of revoked certificates, as a daemon does after it has read the list.
    fn tell_revoked(&mut self) {
        let names = self.revoked.iter().map(|(name, _)| name.clone()).collect();
        let (id, command) = (self.nms.id, ServiceCommand::Revoked(names));
        self.engine.with(id, |now, host: &mut Host<Nms>| host.command(now, command));
    }

    /// A role says goodbye to all that it is connected with, as before an orderly end.
    pub fn say_goodbye(&mut self, who: Actor) {
        let (id, stop) = (self.station(who).id, ServiceCommand::Stop);
        match who {
            Actor::Auth => self.engine.with(id, |now, host: &mut Host<Auth>| host.command(now, stop)),
            Actor::Nms => self.engine.with(id, |now, host: &mut Host<Nms>| host.command(now, stop)),
            Actor::Trs => self.engine.with(id, |now, host: &mut Host<Trs>| host.command(now, stop)),
            Actor::Node(node) => self.node(node, |now, host| host.command(now, NodeCommand::Stop)),
        }
    }

    /// Takes back a node's certificate. The services learn it now; nodes are told by the NMS. `seed` is that which the
    /// world was made of.
    pub fn revoke(&mut self, seed: u64, name: &Fqdn) {
        self.revoked.push((name.clone(), self.civil.renewals(name)));
        for actor in [Actor::Auth, Actor::Nms, Actor::Trs] {
            self.inform(seed, actor);
        }
        let (id, command) = (self.nms.id, ServiceCommand::Revoked(vec![name.clone()]));
        self.engine.with(id, |now, host: &mut Host<Nms>| host.command(now, command));
    }

    /// The NMS has other access rules from now on, also after it starts again.
    pub fn set_rules(&mut self, rules: &Rules) {
        self.rules = rules.clone();
        let (id, command) = (self.nms.id, ServiceCommand::Rules(rules.clone()));
        self.engine.with(id, |now, host: &mut Host<Nms>| host.command(now, command));
    }

    /// Tells a service whose certificates count no more. A node learns it from the NMS, if anybody is concerned.
    fn inform(&mut self, seed: u64, actor: Actor) {
        let revoked: Vec<_> = self.revoked.iter().map(|(name, renewals)| (name, *renewals)).collect();
        let roots = seeded::pki(seed).roots_without(&revoked);
        let id = self.station(actor).id;
        let service = ServiceCommand::Trust(roots.clone());
        match actor {
            Actor::Auth => self.engine.with(id, |now, host: &mut Host<Auth>| host.command(now, service)),
            Actor::Nms => self.engine.with(id, |now, host: &mut Host<Nms>| host.command(now, service)),
            Actor::Trs => self.engine.with(id, |now, host: &mut Host<Trs>| host.command(now, service)),
            Actor::Node(_) => {}
        }
    }

    /// A node's certificate comes to its end: a day passes on every clock.
    pub fn expire(&mut self) {
        self.civil.pass_a_day();
    }

    /// A node crashes and starts again with a new certificate; as [`Self::restart`].
    pub fn renew(&mut self, scenario: &Scenario, seed: u64, watch: &Watch, node: usize) {
        self.civil.renew(&scenario.nodes[node].name);
        self.restart(scenario, seed, watch, Actor::Node(node));
    }

    /// A node gets a new certificate for its key, and goes on.
    pub fn renew_running(&mut self, scenario: &Scenario, seed: u64, watch: &Watch, node: usize) {
        let name = scenario.nodes[node].name.clone();
        self.civil.renew(&name);
        let stores = [self.store.clone(), self.trs_store.clone()];
        let cast = roles::Cast::new(scenario, seed, watch, stores, self.civil.clone(), self.rules.clone(), self.now());
        let identity = NodeCommand::Identity(Box::new(cast.identity(&name)));
        self.node(node, |now, host| host.command(now, identity));
    }

    /// Moves a role's civil clock by so many seconds.
    pub fn step_clock(&mut self, scenario: &Scenario, who: Actor, by_s: i32) {
        let name = self.name_of(scenario, who);
        self.civil.step(&name, by_s.into());
    }

    /// Lets a role stand still until then.
    pub fn pause(&mut self, who: Actor, until: Instant) {
        let id = self.station(who).id;
        match who {
            Actor::Auth => self.engine.with(id, |_, host: &mut Host<Auth>| host.pause(until)),
            Actor::Nms => self.engine.with(id, |_, host: &mut Host<Nms>| host.pause(until)),
            Actor::Trs => self.engine.with(id, |_, host: &mut Host<Trs>| host.pause(until)),
            Actor::Node(node) => self.node(node, |_, host| host.pause(until)),
        }
    }

    /// Suspends the machine of a role until then. `clock` is the one by which the role counts time.
    pub fn suspend(&mut self, who: Actor, until: Instant, clock: HostClock) {
        let (id, stops) = (self.station(who).id, clock == HostClock::Monotonic);
        match who {
            Actor::Auth => self.engine.with(id, |now, host: &mut Host<Auth>| host.suspend(now, until, stops)),
            Actor::Nms => self.engine.with(id, |now, host: &mut Host<Nms>| host.suspend(now, until, stops)),
            Actor::Trs => self.engine.with(id, |now, host: &mut Host<Trs>| host.suspend(now, until, stops)),
            Actor::Node(node) => self.node(node, |now, host| host.suspend(now, until, stops)),
        }
    }

    /// Begins a TCP transfer without a tunnel between two nodes' own addresses, of this family or the first one that
    /// both have. Gives its number at the first node.
    pub fn start_bare(&mut self, from: usize, to: usize, family: Option<Family>, transfer: &Transfer) -> usize {
        let of = |world: &Self, node: usize| -> Vec<IpAddr> {
            world.look(node, |host| {
                host.interfaces().iter().filter(|place| place.up).flat_map(|place| place.addresses.clone()).collect()
            })
        };
        let (ours, theirs) = (of(self, from), of(self, to));
        let families = [Family::Ipv6, Family::Ipv4].into_iter().filter(|found| family.is_none_or(|one| one == *found));
        let remote = families.filter_map(|family| {
            let is_of = |address: &&IpAddr| address.is_ipv6() == (family == Family::Ipv6);
            ours.iter().find(is_of).and(theirs.iter().find(is_of)).copied()
        });
        let remote = remote.into_iter().next();
        self.node(to, |now, host| host.serve_bare(now));
        self.node(from, |now, host| host.start_bare(now, remote, transfer))
    }

    /// Whether the disk that the services' database is on has no room left.
    pub fn set_disk_full(&mut self, is_full: bool) {
        self.disk.set_full(is_full);
    }

    fn name_of(&self, scenario: &Scenario, who: Actor) -> Fqdn {
        match who {
            Actor::Node(node) => scenario.nodes[node].name.clone(),
            Actor::Auth | Actor::Nms | Actor::Trs => roles::service_name(&self.station(who).name),
        }
    }

    /// Reboots every NAT of a place: its mappings are lost.
    pub fn reboot_nats(&mut self, at: NatAt) {
        for (_, part) in self.parts.nats.iter().filter(|(place, _)| *place == at) {
            match *part {
                NatPart::Nat(id) => self.engine.with(id, |_, nat: &mut NatBox| nat.reboot()),
                NatPart::Nat64(id) => self.engine.with(id, |_, nat: &mut Nat64Box| nat.nat_mut().reboot()),
            }
        }
    }

    /// Gives the firewall of a site other rules; what is under way is judged by them too.
    pub fn set_firewall(&mut self, site: usize, words: &FirewallWords) {
        let Some(&id) = self.parts.firewalls.get(&site) else { return };
        let config = config::firewall(words);
        self.engine.with(id, |_, filter: &mut FirewallBox| filter.firewall_mut().set_config(config, Flows::Forgotten));
    }

    /// Gives a link another behaviour, for what is sent from now on. `scenario` is that of which the world was made.
    pub fn set_link(&mut self, scenario: &Scenario, at: LinkAt, link: &Link) {
        let Some(&(_, access)) = self.parts.links.iter().find(|(place, _)| *place == at) else { return };
        let broken = match at {
            LinkAt::Site(site) => scenario.sites[site].broken,
            LinkAt::Service(_) | LinkAt::Carrier(_) => None,
        };
        for (direction, way) in access.wire.both().into_iter().zip([&link.up, &link.down]) {
            let config = cyphonic_wire::of_way(way, access.spent, broken);
            self.engine.set_wire(direction, config).expect("a scenario's links can be simulated");
        }
        let mtu = usize::from(link.up.mtu.min(link.down.mtu));
        match at {
            LinkAt::Service(ServiceName::As) => self.set_mtu::<Auth>(self.auth.id, mtu),
            LinkAt::Service(ServiceName::Nms) => self.set_mtu::<Nms>(self.nms.id, mtu),
            LinkAt::Service(ServiceName::Trs) => self.set_mtu::<Trs>(self.trs.id, mtu),
            // There is a router between.
            LinkAt::Site(_) | LinkAt::Carrier(_) => {}
        }
    }

    fn set_mtu<M: Machine + 'static>(&mut self, id: BoxId, mtu: usize) {
        self.engine.with(id, |now, host: &mut Host<M>| {
            let interface = Interface { mtu, ..host.interfaces()[0].clone() };
            host.set_interface(now, 0, interface);
        });
    }

    /// Takes a link down or up, both ways. Packets that are on it already arrive.
    pub fn set_link_up(&mut self, at: LinkAt, up: bool) {
        for (_, access) in self.parts.links.iter().filter(|(place, _)| *place == at) {
            access.wire.both().into_iter().for_each(|direction| self.engine.set_wire_up(direction, up));
        }
    }
}

/// The addresses that a place gives, IPv6 first.
fn addresses(place: &Place) -> Vec<std::net::IpAddr> {
    place.v6.map(Into::into).into_iter().chain(place.v4.map(Into::into)).collect()
}
