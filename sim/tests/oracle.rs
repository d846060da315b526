//! The oracle is compared with the boxes themselves: packets are sent as the nodes would send them, and the oracle has
//! to predict which ones arrive.

mod generate;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cyphonic_core::event::Event;
use cyphonic_core::route::answers_for;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Engine, Family, PortChoice, Scenario, two_nodes};
use cyphonic_sim::net::nat::{embed, extract};
use cyphonic_sim::net::packet::{Ip, IpOptions, Transport, udp};
use cyphonic_sim::net::{BoxInput, Direction, TapMode, Tapped};
use cyphonic_sim::oracle::{self, Attempt, End, Medium, Obstacle, Outlook, Success};
use cyphonic_sim::run::run;
use cyphonic_sim::world::{Watch, World};
use proptest::prelude::*;

/// Longer than any packet is under way.
const ARRIVAL: Duration = Duration::from_millis(400);

/// A network with silent hosts. Packets are put on its wires where the hosts would send them.
struct Bench<'a> {
    scenario: &'a Scenario,
    family: Family,
    world: World,
}

impl<'a> Bench<'a> {
    fn new(scenario: &'a Scenario, family: Family, seed: u64) -> Self {
        let watch = Watch { tap: TapMode::Keep, ..Watch::default() };
        Self { scenario, family, world: World::new(scenario, seed, Engine::Events, &watch) }
    }

    /// A node's own address, in the form that the other side uses: a NAT64 may be in between.
    fn own(&self, node: usize) -> SocketAddr {
        let place = self.scenario.nodes[node].interfaces[0];
        let v4 = place.v4.map(IpAddr::from).filter(|_| self.family == Family::Ipv4);
        let ip = v4.or(place.v6.map(IpAddr::from)).expect("the family is there");
        SocketAddr::new(ip, self.scenario.port)
    }

    fn written(&self, node: usize, to: SocketAddr) -> SocketAddr {
        let site = &self.scenario.sites[self.scenario.nodes[node].interfaces[0].site];
        match (site.nat64_prefix(), to.ip()) {
            (Some(prefix), IpAddr::V4(ip)) => SocketAddr::new(embed(prefix, ip).into(), to.port()),
            _ => to,
        }
    }

    fn read(&self, node: usize, from: SocketAddr) -> SocketAddr {
        let site = &self.scenario.sites[self.scenario.nodes[node].interfaces[0].site];
        match (site.nat64_prefix(), from.ip()) {
            (Some(prefix), IpAddr::V6(ip)) => {
                extract(prefix, ip).map_or(from, |ip| SocketAddr::new(ip.into(), from.port()))
            }
            _ => from,
        }
    }

    /// Sends a datagram from a node, and lets it arrive.
    fn send(&mut self, node: usize, to: SocketAddr, payload: &[u8]) {
        let packet = udp(self.own(node), self.written(node, to), IpOptions::default(), payload).unwrap();
        let wire = self.world.nodes[node].wires[0];
        let [_, (next, iface)] = self.world.network().ends(wire);
        let mut packet = Some(packet);
        self.world.engine().with_box(next, &mut |now, netbox| {
            if let Some(packet) = packet.take() {
                netbox.handle_input(now, BoxInput::Packet { iface, packet });
            }
        });
        let until = self.world.now() + ARRIVAL;
        self.world.run_until(until);
    }

    /// The source of a datagram with this payload on a host's wire.
    fn heard(&self, wire: Direction, payload: &[u8]) -> Option<SocketAddr> {
        let packets = self.world.network().take_tapped(wire.reversed());
        packets.iter().find_map(|Tapped { packet, .. }| {
            let ip = Ip::parse(packet)?;
            let Some(Transport::Udp { source, .. }) = ip.transport() else { return None };
            (ip.payload.get(8..) == Some(payload)).then(|| SocketAddr::new(ip.source, source))
        })
    }

    fn heard_by(&self, node: usize, payload: &[u8]) -> Option<SocketAddr> {
        self.heard(self.world.nodes[node].wires[0], payload).map(|from| self.read(node, from))
    }

    /// The address at which the NMS sees a node, which has talked to the AS before.
    fn register(&mut self, node: usize) -> Option<SocketAddr> {
        let services = &self.scenario.services;
        for (service, payload) in [(&services.auth, &b"log in"[..]), (&services.nms, b"register")] {
            let ip = if self.family == Family::Ipv4 { service.v4.into() } else { IpAddr::from(service.v6) };
            self.send(node, SocketAddr::new(ip, self.scenario.port), payload);
        }
        self.heard(self.world.nms.wires[0], b"register")
    }

    /// Whether a dialer gets an answer: from the dialed address, or from another port or public address.
    fn dials(&mut self, dialer: usize, listener: usize, punches: bool) -> bool {
        let (Some(from), Some(to)) = (self.register(dialer), self.register(listener)) else { return false };
        if punches {
            self.send(listener, from, b"punch");
        }
        self.send(dialer, to, b"question");
        let Some(asked) = self.heard_by(listener, b"question") else { return false };
        self.send(listener, asked, b"answer");
        self.heard_by(dialer, b"answer").is_some_and(|from| answers_for(from, to))
    }
}

/// Whether an attempt succeeds through the boxes, whatever their NATs draw. A pool of addresses may happen to give the
/// same one twice.
fn works(scenario: &Scenario, attempt: Attempt, family: Family, punches: bool) -> bool {
    let mut seeds = 1..=4;
    seeds.all(|seed| Bench::new(scenario, family, seed).dials(attempt.dialer, attempt.listener, punches))
}

/// Whether Alice was registered within twelve seconds.
fn registers(scenario: &Scenario) -> bool {
    let run = run(scenario, 1, Engine::Events, &Watch::default());
    run.events.iter().any(|(_, who, event)| who == "alice" && matches!(event, Event::Registered { .. }))
}

#[test]
fn the_oracle_says_who_can_register_with_and_without_an_http_proxy() {
    let walls = [
        "",
        "firewall = { mode = \"stateful\" }",
        "firewall = { mode = \"only-443\" }",
        "firewall = { mode = \"only-tcp-443\" }",
        "firewall = { mode = \"web\" }",
        "firewall = { mode = \"web-proxy\" }",
        "firewall = { mode = \"web-proxy\", reaction = \"reset\" }",
        "firewall = { egress = [\"udp\"] }",
        "firewall = { egress = [\"tcp/3128\", \"tcp/443\"] }",
        "firewall = { inspect = [{ quic = true, reaction = \"drop\" }] }",
        "firewall = { inspect = [{ sni = \"nms.cyphonic.test\", reaction = \"reset\" }] }",
        "firewall = { inspect = [{ sni = \"cyphonic.test\", reaction = \"drop\" }] }",
        "firewall = { inspect = [{ sni = \"cyphonic.test\", reaction = \"reject\" }, { sni = \"example\", reaction = \"reset\" }] }",
    ];
    let ways =
        ["method = \"proposed\"\npolicy = \"optimal\"", "policy = \"paper\"", "method = \"conventional\"\nport = 443"];
    let mut seen = [0; 2];
    for (wall, way) in walls.iter().flat_map(|wall| ways.map(|way| (wall, way))) {
        for keys in ["", "proxy = true\n", "tcp_name = \"www.example\"\n"] {
            let site = format!("kind = \"ipv4-private\"\n{wall}\n");
            let steps = "[[step]]\ndo = \"start\"\ngive_up_s = 12\n\
                         [[step]]\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\n";
            let text = two_nodes(way, [&site, "kind = \"ipv4-global\""], steps);
            let text = text.replacen("\nsite = \"a\"\n", &format!("\nsite = \"a\"\n{keys}"), 1);
            let scenario = generate::scenario(&text);
            let expected = oracle::can_register(&scenario, End::start(&scenario, 0));
            assert_eq!(registers(&scenario), expected, "{text}");
            seen[usize::from(expected)] += 1;
        }
    }
    assert!(seen[0] > 10 && seen[1] > 10, "{seen:?}");
}

/// The outlook of a node whose packets cross the core.
fn outlook(scenario: &Scenario, node: usize, family: Family) -> Outlook {
    Outlook::of(scenario, End::start(scenario, node).site, family).expect("it has the family")
}

proptest! {
    #![proptest_config(generate::config(300))]

    #[test]
    fn every_generated_scenario_makes_a_world(text in generate::texts()) {
        let scenario = generate::scenario(&text);
        let mut world = World::new(&scenario, 1, Engine::Events, &Watch::default());
        world.run_until(Instant::from_millis(50));
        prop_assert!(world.network().boxes().count() >= 6, "{text}");
    }

    #[test]
    fn the_oracle_says_what_the_boxes_do(text in generate::texts()) {
        let scenario = generate::scenario(&text);
        let [a, b] = [0, 1].map(|node| &scenario.sites[node]);
        let both_behind = a.carrier.filter(|_| a.carrier == b.carrier).map(|carrier| &scenario.carriers[carrier].nat);
        // The oracle never counts on a port that several hosts want. Here one of them has it.
        if both_behind.is_some_and(|nat| matches!(nat.ports, PortChoice::Preserve | PortChoice::Overloading)) {
            return Ok(());
        }
        let verdict = oracle::judge(&scenario, End::start(&scenario, 0), End::start(&scenario, 1));
        for attempt in verdict.attempts {
            // Obstacles of families, of other protocols than UDP and of inspection are tested elsewhere.
            let beyond = [Obstacle::NoFamily, Obstacle::Broken, Obstacle::Inspected, Obstacle::NoSignaling];
            if attempt.result.is_err_and(|obstacle| beyond.contains(&obstacle)) {
                continue;
            }
            let Medium::Core(family) = attempt.medium else { continue };
            let [dialer, listener] = [attempt.dialer, attempt.listener].map(|node| outlook(&scenario, node, family));
            let [bare, punched] = [false, true].map(|punches| works(&scenario, attempt, family, punches));
            match attempt.result {
                // A listener that punches through an unsteady NAT has two ports, and answers from the wrong one.
                Ok(Success::Open) => prop_assert!(bare && (punched || !listener.is_steady()), "{attempt:?}"),
                Ok(Success::Punched) => prop_assert!(punched && !bare, "{attempt:?}"),
                // The punch comes first here, and is answered through its own mapping.
                Err(Obstacle::DialerUnsteady | Obstacle::DialerAddress | Obstacle::DialerEgress)
                    if dialer.reuses_inbound =>
                {
                    prop_assert!(!bare, "{attempt:?}");
                }
                // A NAT that reuses mappings, with another filter behind it: the punch may take another port, or not.
                Err(Obstacle::ListenerUnsteady) if listener.reuses_inbound => prop_assert!(!bare, "{attempt:?}"),
                Err(_) => prop_assert!(!punched && !bare, "{attempt:?}"),
            }
        }
        let outlook = Outlook::of(&scenario, 0, Family::Ipv6);
        prop_assert_eq!(outlook.is_some(), scenario.sites[0].v6.is_some());
    }
}
