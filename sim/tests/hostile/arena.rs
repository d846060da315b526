//! A network at rest after a scene, with every packet of its wires, for attacks.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use cyphonic_core::auth::Auth;
use cyphonic_core::event::{DropReason, Event};
use cyphonic_core::machine::{Input, ServiceCommand, StreamId, StreamInput};
use cyphonic_core::message::Framing;
use cyphonic_core::nms::Nms;
use cyphonic_core::node::{Node, NodeCommand};
use cyphonic_core::proxied::door::Served;
use cyphonic_core::time::Instant;
use cyphonic_core::tls::Roots;
use cyphonic_core::trs::Trs;
use cyphonic_scenarios::{Engine, Scenario, Service};
use cyphonic_sim::host::Host;
use cyphonic_sim::host::apps::{App, Echo, EchoReport, Family, Target};
use cyphonic_sim::net::packet::{Ip, protocol};
use cyphonic_sim::net::{BoxInput, TapMode};
use cyphonic_sim::world::{Station, Watch, World};

use crate::common::play_with;

/// The seed of every arena.
pub(crate) const SEED: u64 = 7;

/// The role that is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    As,
    Nms,
    Trs,
    Node(usize),
}

pub(crate) const ALICE: Role = Role::Node(0);
pub(crate) const BOB: Role = Role::Node(1);

/// A packet that arrived at a host.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) at: Instant,
    pub(crate) role: Role,
    pub(crate) iface: usize,
    pub(crate) packet: Vec<u8>,
}

impl Arrived {
    pub(crate) fn udp(&self) -> Option<Datagram> {
        udp(&self.packet)
    }
}

/// A UDP datagram with its source and destination.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) payload: Vec<u8>,
}

/// The datagram in an IP packet, if it is a whole one.
pub(crate) fn udp(packet: &[u8]) -> Option<Datagram> {
    let ip = Ip::parse(packet)?;
    if ip.protocol != protocol::UDP || ip.fragment.is_some() {
        return None;
    }
    let port = |at: usize| u16::from_be_bytes([ip.payload[at], ip.payload[at + 1]]);
    let (from, to) = (SocketAddr::new(ip.source, port(0)), SocketAddr::new(ip.destination, port(2)));
    Some(Datagram { from, to, payload: ip.payload[8..].to_vec() })
}

/// The network of a scene, for attacks.
pub(crate) struct Arena {
    pub(crate) scenario: Scenario,
    pub(crate) world: World,
    /// Every packet that arrived at a host so far, in order of time.
    pub(crate) arrived: Vec<Arrived>,
}

impl Arena {
    /// Plays a scene to its end, and two more seconds, in which closed connections are forgotten.
    pub(crate) fn after(scenario: Scenario) -> Self {
        let run = play_with(&scenario, SEED, Engine::Events, TapMode::Keep);
        assert!(run.complete);
        let mut arena = Self { scenario, world: run.world, arrived: Vec::new() };
        arena.run(2_000);
        arena.world.drain_events();
        arena
    }

    /// The network of a scene before anything happens.
    pub(crate) fn before(scenario: Scenario) -> Self {
        let watch = Watch { tap: TapMode::Keep, ..Watch::default() };
        let world = World::new(&scenario, SEED, Engine::Events, &watch);
        Self { scenario, world, arrived: Vec::new() }
    }

    /// Lets the network run.
    pub(crate) fn run(&mut self, ms: u64) {
        let until = self.world.now() + Duration::from_millis(ms);
        self.world.run_until(until);
        self.listen();
    }

    /// Takes what arrived at hosts from the taps.
    fn listen(&mut self) {
        let network = self.world.network();
        let stations = self.roles().into_iter().map(|role| (self.station(role).id, role)).collect::<BTreeMap<_, _>>();
        let mut arrived = Vec::new();
        for wire in network.directions() {
            let (id, iface) = network.ends(wire)[1];
            let Some(&role) = stations.get(&id) else { continue };
            for tapped in network.take_tapped(wire) {
                let Some(at) = tapped.arrives else { continue };
                arrived.push(Arrived { at, role, iface, packet: tapped.packet });
            }
        }
        arrived.sort_by_key(|a| a.at);
        self.arrived.extend(arrived);
    }

    /// The datagrams that a host sent since the last call.
    pub(crate) fn sent(&mut self, role: Role) -> Vec<Datagram> {
        let wires = self.station(role).wires.clone();
        let network = self.world.network();
        wires.into_iter().flat_map(|wire| network.take_tapped(wire)).filter_map(|t| udp(&t.packet)).collect()
    }

    pub(crate) fn roles(&self) -> Vec<Role> {
        let nodes = (0..self.world.nodes.len()).map(Role::Node);
        [Role::As, Role::Nms, Role::Trs].into_iter().chain(nodes).collect()
    }

    pub(crate) fn station(&self, role: Role) -> &Station {
        match role {
            Role::As => &self.world.auth,
            Role::Nms => &self.world.nms,
            Role::Trs => &self.world.trs,
            Role::Node(node) => &self.world.nodes[node],
        }
    }

    /// The address at which a role listens. Services have an IPv4 address here.
    pub(crate) fn address(&self, role: Role) -> SocketAddr {
        let service = |service: &Service| IpAddr::from(service.v4);
        let ip = match role {
            Role::As => service(&self.scenario.services.auth),
            Role::Nms => service(&self.scenario.services.nms),
            Role::Trs => service(&self.scenario.services.trs),
            Role::Node(node) => {
                let place = &self.scenario.nodes[node].interfaces[0];
                place.v4.map(IpAddr::from).or(place.v6.map(IpAddr::from)).expect("a place has an address")
            }
        };
        SocketAddr::new(ip, self.scenario.port)
    }

    /// The role with this address.
    pub(crate) fn role_at(&self, address: SocketAddr) -> Option<Role> {
        self.roles().into_iter().find(|&role| self.address(role) == address)
    }

    pub(crate) fn is_conventional(&self) -> bool {
        self.scenario.framing == Framing::Udp4501
    }

    /// Hands a role an input of any kind but a command.
    pub(crate) fn inject(&mut self, role: Role, input: Attack) {
        let id = self.station(role).id;
        let engine = self.world.engine();
        match role {
            Role::As => engine.with(id, |now, host: &mut Host<Served<Auth>>| host.inject(now, input.into())),
            Role::Nms => engine.with(id, |now, host: &mut Host<Served<Nms>>| host.inject(now, input.into())),
            Role::Trs => engine.with(id, |now, host: &mut Host<Served<Trs>>| host.inject(now, input.into())),
            Role::Node(_) => engine.with(id, |now, host: &mut Host<Node>| host.inject(now, input.into())),
        }
    }

    /// Replaces the roots of a role.
    pub(crate) fn trust(&mut self, role: Role, roots: &Roots) {
        let id = self.station(role).id;
        let engine = self.world.engine();
        let service = || ServiceCommand::Trust(roots.clone());
        match role {
            Role::As => engine.with(id, |now, host: &mut Host<Served<Auth>>| host.command(now, service())),
            Role::Nms => engine.with(id, |now, host: &mut Host<Served<Nms>>| host.command(now, service())),
            Role::Trs => engine.with(id, |now, host: &mut Host<Served<Trs>>| host.command(now, service())),
            Role::Node(node) => {
                self.world.node(node, |now, host| host.command(now, NodeCommand::Trust(roots.clone())));
            }
        }
    }

    /// Hands a role a datagram as if it had come from `remote`.
    pub(crate) fn datagram(&mut self, role: Role, local: SocketAddr, remote: SocketAddr, payload: &[u8]) {
        self.inject(role, Attack::Datagram { local, remote, payload: payload.to_vec() });
    }

    /// Hands a host an IP packet as if it had come in through an interface.
    pub(crate) fn packet(&mut self, role: Role, iface: usize, packet: &[u8]) {
        let id = self.station(role).id;
        self.world.engine().with_box(id, &mut |now, host| {
            host.handle_input(now, BoxInput::Packet { iface, packet: packet.to_vec() });
        });
    }

    /// How often a role dropped something for this reason so far.
    pub(crate) fn drops(&mut self, role: Role, reason: DropReason) -> u64 {
        let name = self.station(role).name.clone();
        self.world.drops().get(&(name, reason)).copied().unwrap_or(0)
    }

    /// How often a role dropped anything so far.
    pub(crate) fn drops_of(&mut self, role: Role) -> u64 {
        let name = self.station(role).name.clone();
        self.world.drops().into_iter().filter(|((host, _), _)| *host == name).map(|(_, count)| count).sum()
    }

    /// How often any role dropped anything so far.
    pub(crate) fn all_drops(&mut self) -> u64 {
        self.world.drops().values().sum()
    }

    /// The events since the last call, except signals.
    pub(crate) fn happened(&mut self) -> Vec<String> {
        let events = self.world.drain_events().into_iter().filter(|(_, _, event)| !matches!(event, Event::Signal(_)));
        events.map(|(at, host, event)| format!("{at} {host} {event:?}")).collect()
    }

    /// How many of two echoes are answered, within 15 s.
    pub(crate) fn echo(&mut self, from: usize, to: usize) -> usize {
        let name = self.scenario.nodes[to].name.clone();
        let echo = Echo { count: 2, interval: Duration::from_millis(10), ..Echo::default() };
        let app = App::Echo(Target::Name(name, Family::V6), echo);
        let id = self.world.node(from, |now, host| host.start(now, app));
        self.run(15_000);
        self.world.node(from, |_, host| host.report(id).clone()).echo().map_or(0, EchoReport::answered)
    }

    /// An echo from Alice to Bob and one back: both through the tunnel that there is.
    pub(crate) fn assert_works(&mut self) {
        for (from, to) in [(0, 1), (1, 0)] {
            let name = self.scenario.nodes[to].name.clone();
            let echo = Echo { count: 2, interval: Duration::from_millis(10), ..Echo::default() };
            let app = App::Echo(Target::Name(name, Family::V6), echo);
            let id = self.world.node(from, |now, host| host.start(now, app));
            for _ in 0..1_500 {
                self.run(10);
                if self.world.node(from, |_, host| host.report(id).finished.is_some()) {
                    break;
                }
            }
            let report = self.world.node(from, |_, host| host.report(id).clone());
            let answered = report.echo().map(EchoReport::answered);
            assert_eq!(answered, Some(2), "{report:?}\n{:#?}\n{:?}", self.happened(), self.world.drops());
        }
    }
}

/// An input that no wire would carry as it is.
pub(crate) enum Attack {
    Datagram { local: SocketAddr, remote: SocketAddr, payload: Vec<u8> },
    Packet(Vec<u8>),
    Stream(StreamId, StreamInput),
}

impl<C> From<Attack> for Input<C> {
    fn from(attack: Attack) -> Self {
        match attack {
            Attack::Datagram { local, remote, payload } => {
                Self::Datagram { local, remote, payload: BytesMut::from(&payload[..]) }
            }
            Attack::Packet(packet) => Self::Packet(packet.into()),
            Attack::Stream(id, event) => Self::Stream(id, event),
        }
    }
}
