//! A whole network, driven by bytes.
//!
//! The first byte chooses one of [`scenes`]. The others are a program: time passes, nodes start and echo, roles crash,
//! wires break. An attacker on every wire repeats, cuts, changes and invents datagrams. Then everything is repaired,
//! and the network gets the soak's time to heal. At the end it must satisfy the soak's demands: every node reaches
//! every other one, no packet arrives twice or from a false sender, and no role panics.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::BytesMut;
use cyphonic_core::auth::Auth;
use cyphonic_core::event::{DropReason, Event};
use cyphonic_core::machine::{Input, StreamId, StreamInput};
use cyphonic_core::nms::Nms;
use cyphonic_core::node::{Node, NodeCommand};
use cyphonic_core::packet;
use cyphonic_core::proxied::door::Served;
use cyphonic_core::trs::Trs;
use cyphonic_scenarios::{Engine, Scenario, first_cell, two_nodes};
use cyphonic_sim::host::Host;
use cyphonic_sim::host::apps::{App, AppId, Echo, Family, Target};
use cyphonic_sim::net::{Direction, TapMode};
use cyphonic_sim::soak::model::HEALING;
use cyphonic_sim::world::{Actor, Station, Watch, World};

const SEED: u64 = 1;
/// Most orders of a program, so that each takes milliseconds.
const MAX_ORDERS: usize = 48;
/// Most datagrams that the attacker remembers.
const MAX_SEEN: usize = 512;

/// The sites of the two nodes, for the three patterns and for every setting that changes the messages.
fn scenes() -> &'static [Scenario] {
    static SCENES: OnceLock<Vec<Scenario>> = OnceLock::new();
    SCENES.get_or_init(|| {
        let sites = [["ipv6", "ipv6"], ["ipv4-global", "ipv4-private"], ["ipv4-private", "ipv4-private"]];
        let settings = [
            "method = \"conventional\"",
            "method = \"conventional\"\nlogin = \"password\"\npolicy = \"optimal\"",
            "framing = \"compact\"\npolicy = \"optimal\"",
            "framing = \"stream\"\nrelay_mode = \"terminating\"",
        ];
        let all = settings.iter().flat_map(|settings| sites.iter().map(move |sites| scene(settings, sites)));
        all.collect()
    })
}

fn scene(settings: &str, [a, b]: &[&str; 2]) -> Scenario {
    let [a, b] = [a, b].map(|kind| format!("kind = \"{kind}\""));
    let echo = "[[step]]\ndo = \"start\"\n[[step]]\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\n";
    let text = two_nodes(settings, [&a, &b], echo);
    first_cell("fuzz.toml", &text).unwrap_or_else(|error| panic!("{error}"))
}

/// A datagram that arrived at a role.
struct Seen {
    at: Actor,
    from: SocketAddr,
    to: SocketAddr,
    payload: Vec<u8>,
}

/// Plays a program on a network.
struct Player<'a> {
    scenario: &'a Scenario,
    world: World,
    watch: Watch,
    roles: Vec<(Actor, Station)>,
    seen: Vec<Seen>,
    next: usize,
    down: Vec<Direction>,
    /// The number of connections to the AS.
    strangers: u64,
}

/// Runs a program to its end, and checks the demands.
pub fn play(program: &[u8]) {
    let mut bytes = program.iter().copied();
    let scenes = scenes();
    let scenario = &scenes[usize::from(bytes.next().unwrap_or(0)) % scenes.len()];
    let watch = Watch { tap: TapMode::Keep, ..Watch::default() };
    let world = World::new(scenario, SEED, Engine::Events, &watch);
    let nodes = world.nodes.iter().enumerate().map(|(i, station)| (Actor::Node(i), station.clone()));
    let services =
        [(Actor::Auth, world.auth.clone()), (Actor::Nms, world.nms.clone()), (Actor::Trs, world.trs.clone())];
    let roles = services.into_iter().chain(nodes).collect();
    let mut player =
        Player { scenario, world, watch, roles, seen: Vec::new(), next: 0, down: Vec::new(), strangers: 0 };
    // Usually the network starts up first. Some programs begin before that.
    if bytes.next().is_none_or(|byte| byte & 1 == 0) {
        player.start(0);
        player.start(1);
        player.pass(1_000);
    }
    for _ in 0..MAX_ORDERS {
        let Some(order) = bytes.next() else { break };
        player.obey(order, &mut bytes);
    }
    player.heal();
}

impl Player<'_> {
    fn obey(&mut self, order: u8, bytes: &mut impl Iterator<Item = u8>) {
        let mut byte = || bytes.next().unwrap_or(0);
        match order % 16 {
            0 => self.pass(1),
            1 => self.pass(u64::from(byte()) + 1),
            2 => self.pass(1_000),
            3 => self.pass(u64::from(byte()) * 100),
            4 => self.start(usize::from(byte() & 1)),
            5 => drop(self.echo(usize::from(byte() & 1), 1)),
            6 => self.crash(byte()),
            7 => self.toggle(byte()),
            // A datagram that came last, or some time ago: again, cut, with a bit changed, or from elsewhere.
            8 => self.repeat(byte(), |_| {}),
            9 => {
                let keep = usize::from(byte());
                self.repeat(byte(), |seen| seen.payload.truncate(keep));
            }
            10 | 11 => {
                let (place, change) = (usize::from(byte()) << 3 | usize::from(byte() & 7), byte());
                self.repeat(byte(), |seen| {
                    let len = seen.payload.len().max(1);
                    if let Some(byte) = seen.payload.get_mut(place % len) {
                        *byte ^= change;
                    }
                });
            }
            12 => self.repeat(byte(), |seen| seen.from.set_port(seen.from.port() ^ 1)),
            // A datagram for another role.
            13 => {
                let role = self.roles[usize::from(byte()) % self.roles.len()].0;
                self.repeat(byte(), |seen| seen.at = role);
            }
            14 => {
                let (who, len) = (byte(), usize::from(byte()));
                let payload: Vec<u8> = bytes.take(len).collect();
                self.repeat(who, |seen| seen.payload = payload);
            }
            _ => {
                let (kind, len) = (byte(), usize::from(byte()));
                let data: Vec<u8> = bytes.take(len).collect();
                self.stream(kind, data);
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        let until = self.world.now() + Duration::from_millis(ms);
        self.world.run_until(until);
        let network = self.world.network();
        for wire in network.directions() {
            let (id, _) = network.ends(wire)[1];
            let Some(&(at, _)) = self.roles.iter().find(|(_, station)| station.id == id) else { continue };
            for tapped in network.take_tapped(wire) {
                let Some(udp) = packet::udp(&tapped.packet) else { continue };
                let seen = Seen { at, from: udp.source, to: udp.destination, payload: udp.payload.to_vec() };
                if self.seen.len() < MAX_SEEN {
                    self.seen.push(seen);
                } else {
                    self.seen[self.next] = seen;
                    self.next = (self.next + 1) % MAX_SEEN;
                }
            }
        }
    }

    fn start(&mut self, node: usize) {
        self.world.node(node, |now, host| host.command(now, NodeCommand::Start));
    }

    fn echo(&mut self, from: usize, count: u32) -> AppId {
        let name = self.scenario.nodes[1 - from].name.clone();
        let echo = Echo { count, interval: Duration::from_secs(2), ..Echo::default() };
        self.world.node(from, |now, host| host.start(now, App::Echo(Target::Name(name, Family::V6), echo)))
    }

    fn crash(&mut self, who: u8) {
        let who = self.roles[usize::from(who) % self.roles.len()].0;
        self.world.restart(self.scenario, SEED, &self.watch, who);
        if let Actor::Node(node) = who {
            self.start(node);
        }
    }

    fn toggle(&mut self, which: u8) {
        let wires: Vec<_> = self.world.network().directions().collect();
        let wire = wires[usize::from(which) % wires.len()];
        let up = self.down.iter().position(|&down| down == wire).map(|i| self.down.remove(i)).is_some();
        if !up {
            self.down.push(wire);
        }
        self.world.engine().set_wire_up(wire, up);
    }

    fn repeat(&mut self, which: u8, change: impl FnOnce(&mut Seen)) {
        let Some(back) = self.seen.len().checked_sub(1 + usize::from(which)) else { return };
        let Seen { at, from, to, ref payload } = self.seen[back];
        let mut seen = Seen { at, from, to, payload: payload.clone() };
        change(&mut seen);
        let Seen { at, from: remote, to: local, payload } = seen;
        self.inject(at, Wild::Datagram(local, remote, payload));
    }

    /// A client connects to the AS, sends something there, or goes away: always the client that came last.
    fn stream(&mut self, kind: u8, data: Vec<u8>) {
        let input = match kind % 4 {
            0 => {
                self.strangers += 1;
                StreamInput::Accepted { remote: SocketAddr::from(([203, 0, 113, 9], 40_000)) }
            }
            _ if self.strangers == 0 => return,
            1 => StreamInput::Closed,
            _ => StreamInput::Data(data),
        };
        self.inject(Actor::Auth, Wild::Stream(StreamId((1 << 48) + self.strangers), input));
    }

    fn inject(&mut self, at: Actor, wild: Wild) {
        let engine = self.world.engine();
        let station = self.roles.iter().find(|(role, _)| *role == at).map(|(_, station)| station.id).expect("a role");
        match at {
            Actor::Auth => engine.with(station, |now, host: &mut Host<Served<Auth>>| host.inject(now, wild.input())),
            Actor::Nms => engine.with(station, |now, host: &mut Host<Served<Nms>>| host.inject(now, wild.input())),
            Actor::Trs => engine.with(station, |now, host: &mut Host<Served<Trs>>| host.inject(now, wild.input())),
            Actor::Node(_) => engine.with(station, |now, host: &mut Host<Node>| host.inject(now, wild.input())),
        }
    }

    /// Repairs everything, waits, and checks the soak's demands.
    fn heal(&mut self) {
        for wire in std::mem::take(&mut self.down) {
            self.world.engine().set_wire_up(wire, true);
        }
        for node in 0..2 {
            let started = self.world.look(node, |host| host.virtual_addresses().is_some());
            if !started {
                self.start(node);
            }
        }
        self.pass(HEALING.as_millis() as u64);
        let echoes = [0, 1].map(|from| (from, self.echo(from, 12)));
        self.pass(40_000);
        for (from, id) in echoes {
            let report = self.world.look(from, |host| host.report(id).clone());
            let echo = report.echo().expect("an echo");
            let last = echo.probes.last().map(|probe| format!("{:?}", probe.outcome)).unwrap_or_default();
            assert!(
                last.starts_with("Answered"),
                "{from} does not reach the other: {report:?}; dropped: {:?}",
                self.world.drops()
            );
            assert_eq!((echo.corrupt, echo.duplicates), (0, 0));
        }
        let mut owned = [None; 2];
        for (_, host, event) in self.world.drain_events() {
            let Event::Registered { addresses, .. } = event else { continue };
            let node = self.scenario.node(&host).expect("nodes register");
            let before = *owned[node].get_or_insert(addresses);
            assert_eq!(before, addresses, "an address is for good");
        }
        assert_ne!(owned[0], owned[1]);
        let foreign: u64 = self
            .world
            .drops()
            .iter()
            .filter(|((_, reason), _)| *reason == DropReason::InnerSource)
            .map(|(_, n)| n)
            .sum();
        assert_eq!(foreign, 0, "nobody who holds keys lies");
    }
}

/// An input that no wire would carry as it is.
enum Wild {
    Datagram(SocketAddr, SocketAddr, Vec<u8>),
    Stream(StreamId, StreamInput),
}

impl Wild {
    fn input<C>(self) -> Input<C> {
        match self {
            Self::Datagram(local, remote, payload) => {
                Input::Datagram { local, remote, payload: BytesMut::from(&payload[..]) }
            }
            Self::Stream(id, input) => Input::Stream(id, input),
        }
    }
}
