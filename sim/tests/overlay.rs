//! The promises of the overlay, as a state machine. The same transitions go to a model of a few lines and to a running
//! network. After each transition the network is compared with the model.
//!
//! The model knows which nodes have started, where each is, which links are down, and how long nothing has happened.
//! From that it says whether a message must arrive, must not, or may. Whether a message must arrive does not depend on
//! method, policy or NAT: that is the promise. The soak covers more (generated topologies, faults in overlap, every
//! invariant). This test goes step by step, and shrinks a failure to the fewest transitions.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use cyphonic_core::event::{DropReason, Event};
use cyphonic_core::machine::Input;
use cyphonic_core::name::Virtual;
use cyphonic_core::node::NodeCommand;
use cyphonic_scenarios::{Action, Engine, Interface, LinkAt, NatAt, Scenario};
use cyphonic_sim::host::apps::{App, AppReport, Echo, Family, ProbeOutcome, Target, Transfer};
use cyphonic_sim::net::packet::{IpOptions, udp};
use cyphonic_sim::soak::model::HEALING;
use cyphonic_sim::world::{Actor, Watch, World};
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

mod common;

const NODES: usize = 3;
const SITES: [&str; 4] = ["ipv6", "ipv4-global", "ipv4-private", "dual-stack-private-v4"];
/// How long a message may take, seconds: the retries of an echo and of a connection.
const PATIENCE: u64 = 30;

/// The first lines of a scenario file, for four settings.
const SETTINGS: [&str; 4] = [
    "method = \"conventional\"\npolicy = \"optimal\"",
    "framing = \"compact\"\npolicy = \"optimal\"",
    "framing = \"datagram\"\nrelay_mode = \"terminating\"\npolicy = \"optimal\"",
    "framing = \"stream\"\npolicy = \"optimal\"",
];

/// A transition of the network.
#[derive(Clone, Debug)]
enum Transition {
    /// A node starts.
    Start(usize),
    /// A node goes to another site.
    Move(usize, usize),
    /// A role loses its memory and starts again.
    Crash(Who),
    /// A site's link goes down.
    Cut(usize),
    /// A site's link comes up again.
    Mend(usize),
    /// A site's NATs lose their mappings.
    Reboot(usize),
    /// Nothing happens for so many seconds.
    Rest(u64),
    /// One node sends another an echo.
    Echo(usize, usize),
    /// One node sends another bytes over TCP.
    Send(usize, usize, u32),
    /// One node sends another a packet in the name of a third one.
    Forge(usize, usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Auth,
    Nms,
    Trs,
    Node(usize),
}

/// The state of the model.
#[derive(Clone, Debug)]
struct Overlay {
    setting: usize,
    /// The site of each node.
    at: [usize; NODES],
    started: [bool; NODES],
    /// The sites whose links are down.
    down: [bool; SITES.len()],
    /// Seconds since the last thing that may have cost a message.
    calm: u64,
}

impl Overlay {
    /// Whether a packet from `from` to `to` must arrive (`Some(true)`), must not (`Some(false)`), or may (`None`).
    fn arrives(&self, from: usize, to: usize) -> Option<bool> {
        let ends = [from, to];
        if !self.started[from] || !self.started[to] {
            return Some(false);
        }
        let is_up = ends.iter().all(|&node| !self.down[self.at[node]]);
        (is_up && self.calm >= HEALING.as_secs()).then_some(true)
    }
}

impl ReferenceStateMachine for Overlay {
    type State = Self;
    type Transition = Transition;

    fn init_state() -> BoxedStrategy<Self> {
        (0..SETTINGS.len(), prop::array::uniform3(0..SITES.len()))
            .prop_map(|(setting, at)| Self {
                setting,
                at,
                started: [false; NODES],
                down: [false; SITES.len()],
                calm: 0,
            })
            .boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Transition> {
        let (node, site) = (0..NODES, 0..SITES.len());
        let pair = || (0..NODES, 1..NODES).prop_map(|(from, by)| (from, (from + by) % NODES));
        let who = prop_oneof![Just(Who::Auth), Just(Who::Nms), Just(Who::Trs), node.clone().prop_map(Who::Node),];
        prop_oneof![
            3 => node.clone().prop_map(Transition::Start),
            2 => (node, site.clone()).prop_map(|(node, site)| Transition::Move(node, site)),
            1 => who.prop_map(Transition::Crash),
            1 => site.clone().prop_map(Transition::Cut),
            2 => site.clone().prop_map(Transition::Mend),
            1 => site.prop_map(Transition::Reboot),
            1 => (1..40u64).prop_map(Transition::Rest),
            3 => Just(Transition::Rest(HEALING.as_secs())),
            4 => pair().prop_map(|(from, to)| Transition::Echo(from, to)),
            2 => (pair(), 1..40_000u32).prop_map(|((from, to), bytes)| Transition::Send(from, to, bytes)),
            1 => pair().prop_map(|(from, to)| Transition::Forge(from, to, NODES - from - to)),
        ]
        .boxed()
    }

    fn preconditions(state: &Self, transition: &Transition) -> bool {
        match *transition {
            Transition::Start(node) => !state.started[node],
            Transition::Move(node, site) => state.at[node] != site,
            Transition::Crash(Who::Node(node)) => state.started[node],
            Transition::Cut(site) => !state.down[site],
            Transition::Mend(site) => state.down[site],
            // A NAT with a node behind it.
            Transition::Reboot(site) => SITES[site].contains("private") && state.at.contains(&site),
            Transition::Forge(from, ..) => state.started[from],
            _ => true,
        }
    }

    fn apply(mut state: Self, transition: &Transition) -> Self {
        match *transition {
            Transition::Rest(seconds) => state.calm += seconds,
            Transition::Echo(..) | Transition::Send(..) | Transition::Forge(..) => state.calm += PATIENCE,
            Transition::Start(node) => {
                state.started[node] = true;
                state.calm = 0;
            }
            Transition::Move(node, site) => {
                state.at[node] = site;
                state.calm = 0;
            }
            Transition::Cut(site) => {
                state.down[site] = true;
                state.calm = 0;
            }
            Transition::Mend(site) => {
                state.down[site] = false;
                state.calm = 0;
            }
            Transition::Crash(_) | Transition::Reboot(_) => state.calm = 0,
        }
        state
    }
}

/// A running network.
struct Network {
    scenario: Scenario,
    world: World,
    watch: Watch,
    owned: BTreeMap<usize, Virtual>,
}

/// The interface of a node in a site, in the scenario's terms.
fn place(scenario: &Scenario, node: usize, site: usize) -> Interface {
    let moves = scenario.steps.iter().find_map(|step| match &step.action {
        Action::Move { node: who, to } if *who == node && to.site == site => Some(*to),
        _ => None,
    });
    moves.expect("the scenario has every move")
}

impl Network {
    fn run(&mut self, seconds: u64) {
        let until = self.world.now() + Duration::from_secs(seconds);
        self.world.run_until(until);
        for (_, host, event) in self.world.drain_events() {
            let Event::Registered { addresses, .. } = event else { continue };
            let node = self.scenario.node(&host).expect("only nodes register");
            let before = *self.owned.entry(node).or_insert(addresses);
            assert_eq!(before, addresses, "I2: {host} has its addresses for good");
        }
    }

    fn start(&mut self, node: usize) {
        self.world.node(node, |now, host| host.command(now, NodeCommand::Start));
    }

    fn app(&mut self, from: usize, app: App) -> AppReport {
        let id = self.world.node(from, |now, host| host.start(now, app));
        self.run(PATIENCE);
        self.world.look(from, |host| host.report(id).clone())
    }

    fn target(&self, to: usize) -> Target {
        Target::Name(self.scenario.nodes[to].name.clone(), Family::V6)
    }
}

impl StateMachineTest for Network {
    type SystemUnderTest = Self;
    type Reference = Overlay;

    fn init_test(model: &Overlay) -> Self {
        let sites = SITES.map(|kind| format!("[[site]]\nname = \"{kind}\"\nkind = \"{kind}\"\n")).concat();
        let node = |(node, &site): (usize, &usize)| {
            let site = SITES[site];
            format!("[[node]]\nname = \"n{node}\"\nsite = \"{site}\"\n")
        };
        let nodes: String = model.at.iter().enumerate().map(node).collect();
        // No node takes these moves. They give every node an interface in every site.
        let moves = (0..NODES).flat_map(|node| {
            SITES.iter().map(move |site| format!("[[step]]\ndo = \"move\"\nnode = \"n{node}\"\nto = \"{site}\"\n"))
        });
        let scenario = common::scenario(&format!(
            "title = \"Overlay\"\nabout = \"A model and a network.\"\nmeasure = \"outcome\"\n{}\n{sites}{nodes}\
             [[step]]\ndo = \"start\"\n[[step]]\ndo = \"echo\"\nfrom = \"n0\"\nto = \"n1\"\n{}",
            SETTINGS[model.setting],
            moves.collect::<String>()
        ));
        let watch = Watch::default();
        let world = World::new(&scenario, 1, Engine::Events, &watch);
        Self { scenario, world, watch, owned: BTreeMap::new() }
    }

    fn apply(mut network: Self, after: &Overlay, transition: Transition) -> Self {
        match transition {
            Transition::Start(node) => network.start(node),
            Transition::Move(node, site) => {
                let to = place(&network.scenario, node, site);
                network.world.move_node(node, &to);
            }
            Transition::Crash(who) => {
                let actor = match who {
                    Who::Auth => Actor::Auth,
                    Who::Nms => Actor::Nms,
                    Who::Trs => Actor::Trs,
                    Who::Node(node) => Actor::Node(node),
                };
                network.world.restart(&network.scenario, 1, &network.watch, actor);
                if let Who::Node(node) = who {
                    network.start(node);
                }
            }
            Transition::Cut(site) => network.world.set_link_up(LinkAt::Site(site), false),
            Transition::Mend(site) => network.world.set_link_up(LinkAt::Site(site), true),
            Transition::Reboot(site) => network.world.reboot_nats(NatAt::Site(site)),
            Transition::Rest(seconds) => network.run(seconds),
            Transition::Echo(from, to) => {
                // The model at the time when the message was sent, not when it was given up.
                let before = Overlay { calm: after.calm - PATIENCE, ..after.clone() };
                let echo = Echo { count: 6, interval: Duration::from_secs(3), ..Echo::default() };
                let target = network.target(to);
                let report = network.app(from, App::Echo(target, echo));
                let echo = report.echo().expect("an echo");
                let last = echo.probes.last().is_some_and(|p| matches!(p.outcome, ProbeOutcome::Answered { .. }));
                assert_eq!((echo.corrupt, echo.duplicates), (0, 0), "I1, I6: {report:?}");
                if let Some(arrives) = before.arrives(from, to) {
                    assert_eq!(last, arrives, "I7: {from} to {to}: {report:?}; {:?}", network.world.drops());
                }
            }
            Transition::Send(from, to, bytes) => {
                let before = Overlay { calm: after.calm - PATIENCE, ..after.clone() };
                let target = network.target(to);
                let report =
                    network.app(from, App::Transfer(target, Transfer { bytes: bytes.into(), seed: 7, rate_bps: None }));
                let transfer = report.transfer().expect("a transfer");
                match before.arrives(from, to) {
                    Some(true) => assert!(matches!(transfer.result, Some(Ok(()))), "I7: {report:?}"),
                    Some(false) => assert!(!matches!(transfer.result, Some(Ok(()))), "I1: {report:?}"),
                    None => {}
                }
            }
            Transition::Forge(from, to, third) => {
                if let (Some(&to), Some(&third)) = (network.owned.get(&to), network.owned.get(&third)) {
                    let at = |address: IpAddr| (address, 9).into();
                    let packet = udp(at(third.v6.into()), at(to.v6.into()), IpOptions::default(), b"forged");
                    let packet = Bytes::from(packet.expect("one family"));
                    network.world.node(from, |now, host| host.inject(now, Input::Packet(packet)));
                }
                network.run(PATIENCE);
            }
        }
        network
    }

    fn check_invariants(network: &Self, model: &Overlay) {
        let owners: Vec<_> = network.owned.values().collect();
        for (i, a) in owners.iter().enumerate() {
            assert!(owners[..i].iter().all(|b| a.v4 != b.v4 && a.v6 != b.v6), "I2: an address has two owners");
        }
        for node in 0..NODES {
            network.world.look(node, |host| {
                assert!(host.machine().peers().len() < NODES, "I5: more peers than there are");
                assert!(
                    !host.drops().contains_key(&DropReason::InnerSource),
                    "I1: a forged source was let out by its sender"
                );
                assert!(host.flows().next().is_none(), "I1: a forged packet arrived");
                assert!(model.started[node] || host.virtual_addresses().is_none(), "I2: an address without asking");
            });
        }
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_overlay_keeps_its_promise(sequential 1..24 => Network);
}
