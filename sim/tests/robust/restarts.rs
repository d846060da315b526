//! Roles that crash and start again with their memory lost.

use std::time::Duration;

use cyphonic_core::name::Fqdn;
use cyphonic_core::node::NodeCommand;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Engine, Scenario};
use cyphonic_sim::host::apps::{App, Echo, Family, Target};
use cyphonic_sim::world::{Actor, Watch, World};

use crate::common::{ECHO, scene_of_sites};
use crate::scene::{CELLS, Cell};

/// The time after which every part has noticed that another one has lost its memory. QUIC sends a PING every 10 s and
/// gives up after 30 s of silence.
const NOTICED: Duration = Duration::from_secs(42);

/// A network that a test directs, and the log of its events.
struct Trial {
    scenario: Scenario,
    world: World,
    watch: Watch,
    log: Vec<String>,
}

impl Trial {
    /// A world in which Alice and Bob are registered and have a tunnel.
    fn new(cell: &Cell) -> Self {
        Self::of(cell.scene("{ delay_ms = 10 }", ECHO), &cell.to_string())
    }

    fn of(scenario: Scenario, cell: &str) -> Self {
        let watch = Watch::default();
        let world = World::new(&scenario, 1, Engine::Events, &watch);
        let mut trial = Self { scenario, world, watch, log: Vec::new() };
        (0..2).for_each(|node| trial.start(node));
        trial.run(2_000);
        let time = trial.reach(0, 1);
        assert!(time.is_some_and(|t| t < Duration::from_secs(1)), "{cell}: {time:?}");
        trial
    }

    fn start(&mut self, node: usize) {
        self.world.node(node, |now, host| host.command(now, NodeCommand::Start));
    }

    fn restart(&mut self, who: Actor) {
        self.log.push(format!("{} {who:?} restarts", self.world.now()));
        self.world.restart(&self.scenario, 1, &self.watch, who);
        if let Actor::Node(node) = who {
            self.start(node);
        }
    }

    fn run(&mut self, ms: u64) {
        let until = self.world.now() + Duration::from_millis(ms);
        self.world.run_until(until);
        let events = self.world.drain_events();
        self.log.extend(events.into_iter().map(|(at, host, event)| format!("{at} {host}: {event:?}")));
    }

    /// One node sends another an echo every 200 ms, for at most a minute. Returns the time until one is answered.
    fn reach(&mut self, from: usize, to: usize) -> Option<Duration> {
        let started = self.world.now();
        let name: Fqdn = self.scenario.nodes[to].name.clone();
        // The address, not the name: a flow that is under way sends no DNS query.
        let addresses = self.world.store.addresses_of(&name).unwrap();
        let target = addresses.map_or(Target::Name(name, Family::V6), |a| Target::Address(a.v6.into()));
        let mut apps = Vec::new();
        while self.world.now() < started + Duration::from_secs(60) {
            let echo = Echo { count: 1, ..Echo::default() };
            apps.push(self.world.node(from, |now, host| host.start(now, App::Echo(target.clone(), echo))));
            for _ in 0..20 {
                self.run(10);
                let answered = self.world.node(from, |_, host| {
                    apps.iter().any(|&app| host.report(app).echo().is_some_and(|echo| echo.answered() > 0))
                });
                if answered {
                    return Some(self.world.now() - started);
                }
            }
        }
        None
    }

    fn story(&mut self) -> String {
        format!("{}\ndrops {:?}", self.log.join("\n"), self.world.drops())
    }
}

#[test]
fn tunnels_live_on_without_the_nms_and_new_ones_come_once_it_is_back() {
    for cell in &CELLS {
        let mut trial = Trial::new(cell);
        trial.restart(Actor::Nms);
        trial.run(100);
        let time = trial.reach(0, 1);
        assert!(time.is_some_and(|t| t < Duration::from_millis(100)), "{cell}: {time:?}\n{}", trial.story());
        // By now the nodes have noticed, and registered again.
        trial.run(4_900);
        let registered = |node: usize| {
            trial.log.iter().filter(|line| line.contains(&format!("{}: Registered", ["alice", "bob"][node]))).count()
        };
        assert_eq!([registered(0), registered(1)], [2, 2], "{cell}\n{}", trial.story());
        trial.restart(Actor::Node(1));
        trial.run(2_000);
        let time = trial.reach(1, 0);
        assert!(time.is_some_and(|t| t < Duration::from_secs(2)), "{cell}: {time:?}\n{}", trial.story());
    }
}

#[test]
fn tunnels_live_on_while_the_nms_is_out_of_reach_and_new_ones_come_soon_after() {
    for cell in &CELLS {
        let mut trial = Trial::new(cell);
        let since = trial.log.len();
        let wires = trial.world.nms.wires.clone();
        for &wire in &wires {
            trial.world.engine().set_wire_up(wire, false);
        }
        for _ in 0..6 {
            trial.run(10_000);
            let time = trial.reach(0, 1);
            assert!(time.is_some_and(|t| t < Duration::from_millis(100)), "{cell}: {time:?}\n{}", trial.story());
        }
        let down = trial.log[since..].iter().any(|line| line.contains("TunnelDown"));
        assert!(!down, "{cell}:\n{}", trial.story());
        for &wire in &wires {
            trial.world.engine().set_wire_up(wire, true);
        }
        // The longest pause between two tries is 30 s.
        trial.run(45_000);
        trial.restart(Actor::Node(1));
        trial.run(2_000);
        let time = trial.reach(1, 0);
        assert!(time.is_some_and(|t| t < Duration::from_secs(2)), "{cell}: {time:?}\n{}", trial.story());
    }
}

#[test]
fn who_needs_the_nms_notices_soon_that_it_has_forgotten_everybody() {
    for cell in &CELLS {
        let mut trial = Trial::new(cell);
        trial.restart(Actor::Nms);
        trial.restart(Actor::Node(0));
        let time = trial.reach(0, 1);
        assert!(time.is_some_and(|t| t < NOTICED), "{cell}: {time:?}\n{}", trial.story());
    }
}

/// The project's own policy, in each method: over a direct path, and through a relay.
fn optimal_scenes() -> Vec<(String, Scenario)> {
    let (nat, symmetric) = ("", "nat = { mapping = \"address-and-port-dependent\", ports = \"random\" }");
    let scene = |method: &str, nat: &str| {
        let site = format!("kind = \"ipv4-private\"\n{nat}");
        let top = format!("method = \"{method}\"\npolicy = \"optimal\"");
        (format!("{method}, optimal, {nat}"), scene_of_sites(&top, [&site, &site], "{ delay_ms = 10 }", ECHO))
    };
    let methods = ["proposed", "conventional"];
    methods.iter().flat_map(|method| [scene(method, nat), scene(method, symmetric)]).collect()
}

#[test]
fn a_peer_that_restarts_is_reached_within_two_seconds() {
    let paper = CELLS.iter().map(|cell| (cell.to_string(), cell.scene("{ delay_ms = 10 }", ECHO)));
    for (cell, scene) in paper.chain(optimal_scenes()) {
        for (restarts, from) in [(1, 0), (0, 1), (0, 0), (1, 1)] {
            let mut trial = Trial::of(scene.clone(), &cell);
            trial.restart(Actor::Node(restarts));
            trial.run(500);
            let time = trial.reach(from, 1 - from);
            println!("{cell}: node {restarts} restarts, {from} sends: {time:?}");
            assert!(
                time.is_some_and(|t| t < Duration::from_millis(1_500)),
                "{cell}, {restarts} restarts, {from} sends: {time:?}\n{}",
                trial.story()
            );
        }
    }
}

#[test]
fn a_tunnel_whose_peer_is_gone_is_taken_down_though_nobody_uses_it() {
    for cell in &CELLS {
        for gone in [0, 1] {
            let mut trial = Trial::new(cell);
            // The node is restarted, and is never told to start.
            trial.world.restart(&trial.scenario, 1, &trial.watch, Actor::Node(gone));
            trial.run(45_000);
            let other = trial.scenario.nodes[1 - gone].name.short().to_owned();
            let down = trial.log.iter().any(|line| line.contains(&format!(" {other}: TunnelDown")));
            assert!(down, "{cell}, {gone} is gone:\n{}", trial.story());
        }
    }
}

#[test]
fn a_relay_that_restarts_is_used_again() {
    for cell in CELLS.iter().filter(|cell| cell.pair == ["ipv4-private", "ipv4-private"]) {
        let mut trial = Trial::new(cell);
        trial.restart(Actor::Trs);
        let time = trial.reach(0, 1);
        println!("{cell}: {time:?}");
        assert!(time.is_some_and(|t| t < NOTICED), "{cell}: {time:?}\n{}", trial.story());
    }
}

#[test]
fn the_relay_trusts_a_restarted_nms_and_the_nms_a_restarted_relay() {
    for cell in CELLS.iter().filter(|cell| cell.pair == ["ipv4-private", "ipv4-private"]) {
        for who in [[Actor::Nms, Actor::Nms], [Actor::Trs, Actor::Trs], [Actor::Nms, Actor::Trs]] {
            let mut trial = Trial::new(cell);
            for actor in who {
                trial.restart(actor);
                trial.run(60_000);
                // Every node is registered again. A new tunnel is asked for.
                trial.restart(Actor::Node(0));
                trial.run(1_000);
                let time = trial.reach(0, 1);
                assert!(
                    time.is_some_and(|t| t < Duration::from_secs(2)),
                    "{cell}, {who:?}: {time:?}\n{}",
                    trial.story()
                );
            }
        }
    }
}

#[test]
fn a_node_logs_in_when_the_as_is_back() {
    for cell in &CELLS {
        let scenario = cell.scene("{ delay_ms = 10 }", ECHO);
        let watch = Watch::default();
        let mut world = World::new(&scenario, 1, Engine::Events, &watch);
        for wire in world.auth.wires.clone() {
            world.engine().set_wire_up(wire, false);
        }
        world.node(0, |now, host| host.command(now, NodeCommand::Start));
        world.run_until(Instant::from_millis(20_000));
        for wire in world.auth.wires.clone() {
            world.engine().set_wire_up(wire, true);
        }
        world.run_until(Instant::from_millis(60_000));
        let own = world.node(0, |_, host| host.virtual_addresses());
        assert!(own.is_some(), "{cell}: {:?}", world.drain_events());
    }
}
