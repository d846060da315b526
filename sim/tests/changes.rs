//! The words about changes between a node and the network do what they say: interfaces, ports, single paths.

mod common;

use common::{play_with, scenario};
use cyphonic_core::event::Event;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::rows::Millis;
use cyphonic_scenarios::{Engine, Measure, Row, Scenario};
use cyphonic_sim::host::apps::EchoReport;
use cyphonic_sim::measure;
use cyphonic_sim::net::packet::{Ip, Transport};
use cyphonic_sim::net::{NetDrop, TapMode};
use cyphonic_sim::run::Run;
use cyphonic_sim::world::Watch;

const GLOBAL: &str = "kind = \"ipv4-global\"";
const HOME: &str = "kind = \"ipv4-private\"\nnat = { ports = \"preserve\" }";

/// Alice, Bob and Carol, each at a site of their own, and an empty site "d".
fn three(top: &str, sites: [&str; 4], steps: &str) -> Scenario {
    three_of(top, sites, &format!("[[step]]\ndo = \"start\"\n{steps}"))
}

/// As [`three`], with every step.
fn three_of(top: &str, [a, b, c, d]: [&str; 4], steps: &str) -> Scenario {
    let site = |name: &str, words: &str| format!("[[site]]\nname = \"{name}\"\nlink = {{ delay_ms = 5 }}\n{words}\n");
    let node = |name: &str, site: &str| format!("[[node]]\nname = \"{name}\"\nsite = \"{site}\"\n");
    let sites = [("a", a), ("b", b), ("c", c), ("d", d)].map(|(name, words)| site(name, words)).concat();
    let nodes = [("alice", "a"), ("bob", "b"), ("carol", "c")].map(|(name, at)| node(name, at)).concat();
    scenario(&format!(
        "title = \"Changes\"\nabout = \"What they mean.\"\nmeasure = \"outcome\"\n{top}\n{sites}{nodes}{steps}"
    ))
}

/// A step at this time.
fn step(at_ms: u32, keys: &str) -> String {
    format!("[[step]]\nat_ms = {at_ms}\ndo = {keys}\n")
}

/// Echoes from Alice, one every 100 ms.
fn echoes(at_ms: u32, to: &str, count: u32) -> String {
    step(at_ms, &format!("\"echo\"\nfrom = \"alice\"\nto = \"{to}\"\ncount = {count}\ninterval_ms = 100"))
}

fn answered(run: &Run) -> Vec<usize> {
    run.reports().filter_map(|(_, report)| report.echo()).map(EchoReport::answered).collect()
}

fn events(scenario: &Scenario) -> Run {
    play_with(scenario, 1, Engine::Events, TapMode::Digest)
}

#[test]
fn a_path_is_lost_in_one_direction_and_the_rest_of_the_link_is_not() {
    for (towards, lost_on) in [("up", "alice:0>core:3"), ("down", "core:3>alice:0")] {
        let path = format!("\"path\"\nsite = \"a\"\nto = \"b\"\ntowards = \"{towards}\"\nloss = 1.0");
        let steps = [
            echoes(5_000, "bob", 5),
            echoes(5_000, "carol", 5),
            step(6_000, &path),
            echoes(7_000, "bob", 5),
            echoes(7_000, "carol", 5),
            step(8_000, "\"path\"\nsite = \"a\"\nto = \"b\""),
            echoes(9_000, "bob", 5),
        ];
        let scenario = three("", [GLOBAL; 4], &steps.concat());
        let run = events(&scenario);
        assert_eq!(answered(&run), [5, 5, 0, 5, 5], "{towards}");
        let network = run.world.network();
        for direction in network.directions() {
            let (name, drops) = (network.wire_name(direction), network.wire_stats(direction).drops);
            assert_eq!(drops.get(NetDrop::Lost) > 0, name == lost_on, "{towards}: {name}");
        }
    }
}

#[test]
fn a_path_by_one_family_leaves_the_other_one_alone_and_may_be_slow() {
    let slow = |family: &str| format!("\"path\"\nsite = \"a\"\nto = \"b\"\nfamily = \"{family}\"\ndelay_ms = 200");
    let rtt = |family: &str| {
        let steps = [echoes(5_000, "bob", 1), step(6_000, &slow(family)), echoes(7_000, "bob", 1)].concat();
        let run = events(&three("", [GLOBAL; 4], &steps));
        let echoes: Vec<_> = run.reports().filter_map(|(_, report)| report.echo().cloned()).collect();
        echoes[1].rtts_ns().next().unwrap() / 1_000_000
    };
    assert_eq!((rtt("ipv4"), rtt("ipv6")), (20 + 400, 20));
}

#[test]
fn a_path_to_a_service_is_the_services_alone() {
    // No node can register without the NMS. A registered node does not need it any more.
    let run = |to: &str| {
        let dead = step(0, &format!("\"path\"\nsite = \"a\"\nto = \"{to}\"\nloss = 1.0"));
        let start = step(0, "\"start\"\ngive_up_s = 5");
        let steps = [dead, start, echoes(6_000, "bob", 1)].concat();
        answered(&events(&three_of("", [GLOBAL; 4], &steps)))
    };
    assert_eq!((run("nms"), run("trs")), (vec![0], vec![1]));
}

#[test]
fn a_node_goes_on_by_the_interface_that_it_got_when_it_loses_the_other() {
    for framing in ["udp4501", "compact"] {
        let steps = [
            echoes(5_000, "bob", 5),
            step(6_000, "\"attach\"\nnode = \"alice\"\nto = \"d\""),
            echoes(7_000, "bob", 5),
            step(9_000, "\"detach\"\nnode = \"alice\"\nfrom = \"a\""),
            echoes(15_000, "bob", 5),
            step(17_000, "\"detach\"\nnode = \"alice\"\nfrom = \"d\""),
            echoes(18_000, "bob", 5),
            step(30_000, "\"attach\"\nnode = \"alice\"\nto = \"a\""),
            echoes(60_000, "bob", 5),
        ];
        let scenario = three(&format!("framing = \"{framing}\""), [GLOBAL; 4], &steps.concat());
        let run = events(&scenario);
        let answered = answered(&run);
        assert_eq!(answered[2], 5, "{framing}: by the other one: {answered:?}");
        assert_eq!((answered[0], answered[1], answered[3], answered[4]), (5, 5, 0, 5), "{framing}: {answered:?}");
        // By then no packet uses the link of the first interface.
        let up = |name: &str| run.taps.iter().filter(|(wire, _)| wire.starts_with(name)).map(|(_, t)| t.packets).sum();
        let [first, second]: [u64; 2] = ["alice:0>", "alice:1>"].map(up);
        assert!(first > 0 && second > 0, "{framing}: {first} {second}");
    }
}

#[test]
fn a_rebinding_gives_one_node_another_port_and_nobody_else() {
    let steps = [
        echoes(5_000, "bob", 5),
        step(7_000, "\"rebind\"\nnode = \"alice\""),
        // Longer than the time after which a dead tunnel is dropped.
        echoes(60_000, "bob", 5),
    ];
    let run = play_with(&three("", [HOME, GLOBAL, GLOBAL, GLOBAL], &steps.concat()), 1, Engine::Events, TapMode::Keep);
    assert_eq!(answered(&run)[0], 5);
    assert_eq!(answered(&run)[1], 5, "the tunnel is there again");
    let network = run.world.network();
    let direction = network.directions().find(|d| network.wire_name(*d).starts_with("a-nat:0>core")).unwrap();
    let mut ports: Vec<u16> = Vec::new();
    for seen in network.take_tapped(direction) {
        if let Some(Transport::Udp { source, .. }) = Ip::parse(&seen.packet).unwrap().transport() {
            ports.push(source);
        }
    }
    ports.dedup();
    assert_eq!((ports[0], ports.len()), (443, 2), "the port before, and that after: {ports:?}");
}

#[test]
fn a_row_of_datagrams_says_what_was_lost_late_doubled_and_how_long_nothing_came() {
    let udp = |at_ms: u32| {
        let pair = "\"udp\"\nfrom = \"alice\"\nto = \"bob\"";
        step(at_ms, &format!("{pair}\ncount = 100\ninterval_ms = 30\npayload_bytes = 100"))
    };
    let path = |at_ms: u32, how: &str| step(at_ms, &format!("\"path\"\nsite = \"a\"\nto = \"b\"\n{how}"));
    let steps = [
        echoes(5_000, "bob", 1),
        // 30 ms gives no whole number of datagrams a second.
        udp(6_000),
        path(7_000, "loss = 1.0"),
        path(8_000, ""),
        udp(10_000),
        path(11_000, "delay_ms = 200"),
        path(12_000, "duplicate = 1.0\nreorder = 0.5\nreorder_ms = 100"),
        step(14_000, "\"wait\"\nms = 1000"),
    ];
    let mut scenario = three("framing = \"datagram\"", [GLOBAL; 4], &steps.concat());
    scenario.measure = Measure::Flow;
    let run = events(&scenario);
    let rows = measure::rows(&scenario, &run, &Watch::default()).unwrap();
    let flows: Vec<_> =
        rows.iter().map(|row| if let Row::Flow(flow) = row { flow.clone() } else { panic!() }).collect();
    let [outage, slow] = &flows[..] else { panic!("{flows:?}") };
    assert_eq!((outage.step, &*outage.initiator, &*outage.responder, outage.sent), (2, "alice", "bob", 100));
    // From the 7th to the 8th second, both ends of which are between two datagrams: every 30 ms from 6 s on.
    assert_eq!((outage.lost, outage.gap_ms), (33, Some(Millis { micros: 34 * 30_000 })));
    assert_eq!((outage.late, outage.duplicated, outage.reordered), (0, 0, 0));
    assert_eq!((outage.delay_ms, outage.worst_ms), (Some(Millis { micros: 10_000 }), Some(Millis { micros: 10_000 })));
    // All of the 11th second are late: 34. The last of them keep the next ones waiting, as on a link: the first by 180
    // ms, each later one by 30 ms less. Those that are reordered take 100 ms more, so up to five of them are late too.
    let worst = slow.worst_ms.map(|worst| worst.micros);
    assert!(slow.lost == 0 && (34..=40).contains(&slow.late), "{slow:?}");
    assert!(worst.is_some_and(|worst| (210_000..=290_000).contains(&worst)), "{slow:?}");
    assert!(slow.reordered > 5 && slow.duplicated == 0, "{slow:?}");
}

#[test]
fn who_goes_in_order_is_missed_at_once_and_who_crashes_is_not() {
    let closed = |graceful: &str| {
        let stop = step(6_000, &format!("\"stop\"\nnode = \"bob\"\n{graceful}"));
        let steps = [echoes(5_000, "bob", 3), stop, step(6_500, "\"wait\"\nms = 100")].concat();
        let run = events(&three("", [GLOBAL; 4], &steps));
        let down =
            |(_, host, event): &&(Instant, String, Event)| host == "alice" && matches!(event, Event::TunnelDown { .. });
        run.events.iter().filter(down).count()
    };
    assert_eq!((closed("graceful = true"), closed("graceful = false"), closed("")), (1, 0, 0));
    // Then the node comes back.
    let back = [
        echoes(5_000, "bob", 3),
        step(6_000, "\"restart\"\nwhat = \"bob\"\ngraceful = true"),
        echoes(12_000, "bob", 3),
    ];
    assert_eq!(answered(&events(&three("", [GLOBAL; 4], &back.concat()))), [3, 3]);
}

#[test]
fn a_node_may_boot_in_1970_and_comes_once_its_clock_is_set() {
    let clock = |at_ms: u32, step_s: i64| step(at_ms, &format!("\"clock\"\nwhat = \"carol\"\nstep_s = {step_s}"));
    for (first, then, registers) in
        [(3_600, 0, true), (-1_790_000_000, 0, false), (-1_790_000_000, 1_790_000_000, true)]
    {
        let start = step(0, "\"start\"\ngive_up_s = 10");
        let wait = step(20_001, "\"wait\"\nms = 90000");
        let steps = [clock(0, first), start, echoes(12_000, "bob", 3), clock(20_000, then), wait];
        let run = events(&three_of("", [GLOBAL; 4], &steps.concat()));
        assert_eq!(answered(&run), [3], "nobody else is harmed");
        // Before its certificates begin, the node cannot know that they are valid.
        let carol = run.world.look(2, |host| host.virtual_addresses().is_some());
        assert_eq!(carol, registers, "by {first} s, then by {then} s");
    }
}
