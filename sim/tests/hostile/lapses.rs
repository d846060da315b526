//! A certificate comes to its end while its owner has sessions with everybody, or is renewed in time.

use cyphonic_core::event::Event;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Engine, Scenario};
use cyphonic_sim::host::apps::EchoReport;
use cyphonic_sim::net::TapMode;
use cyphonic_sim::run::Run;

use crate::common::{NAT, V4, play_with, scenario};

/// Both methods and policies; direct, through a TRS that reads, and through one that does not.
const WAYS: [(&str, &str); 7] = [
    ("method = \"conventional\"", V4),
    ("method = \"conventional\"", NAT),
    ("method = \"proposed\"", V4),
    ("method = \"proposed\"", NAT),
    ("method = \"proposed\"\nrelay_mode = \"terminating\"", NAT),
    ("method = \"proposed\"\npolicy = \"optimal\"", V4),
    ("method = \"proposed\"\npolicy = \"optimal\"\nhandover = \"seamless\"", NAT),
];

/// Alice, Bob and Carol start, each at a site of her or his own, of this kind.
fn three((top, kind): (&str, &str), steps: &[String]) -> Scenario {
    let site = |name| format!("[[site]]\nname = \"{name}\"\nlink = {{ delay_ms = 5 }}\nkind = \"{kind}\"\n");
    let node = |name: &str, site: &str| format!("[[node]]\nname = \"{name}\"\nsite = \"{site}\"\n");
    let sites = ["a", "b", "c"].map(site).concat();
    let nodes = [("alice", "a"), ("bob", "b"), ("carol", "c")].map(|(name, at)| node(name, at)).concat();
    let top = format!("title = \"Lapses\"\nabout = \"A certificate ends.\"\nmeasure = \"outcome\"\n{top}\n");
    scenario(&format!("{top}{sites}{nodes}[[step]]\ndo = \"start\"\n{}", steps.concat()))
}

fn step(at_ms: u32, keys: &str) -> String {
    format!("[[step]]\nat_ms = {at_ms}\ndo = {keys}\n")
}

/// Echoes from one to another, one every 100 ms.
fn echoes(at_ms: u32, from: &str, to: &str, count: u32) -> String {
    step(at_ms, &format!("\"echo\"\nfrom = \"{from}\"\nto = \"{to}\"\ncount = {count}\ninterval_ms = 100"))
}

fn play(scenario: &Scenario) -> Run {
    play_with(scenario, 1, Engine::Events, TapMode::Off)
}

fn answered(run: &Run) -> Vec<usize> {
    run.reports().filter_map(|(_, report)| report.echo()).map(EchoReport::answered).collect()
}

fn lost_tunnels(run: &Run) -> usize {
    run.events.iter().filter(|(_, _, event)| matches!(event, Event::TunnelDown { .. })).count()
}

#[test]
fn nothing_passes_to_or_from_a_node_whose_certificate_has_ended() {
    for way in WAYS {
        let steps = [
            echoes(5_000, "alice", "bob", 3),
            echoes(5_000, "alice", "carol", 3),
            step(12_000, "\"expire\"\nnode = \"bob\""),
            // In the conventional method the NMS tells Alice, with Bob's next Keep Alive.
            echoes(16_000, "alice", "bob", 5),
            echoes(16_000, "bob", "alice", 5),
            echoes(16_000, "alice", "carol", 5),
        ];
        assert_eq!(answered(&play(&three(way, &steps))), [3, 3, 0, 0, 5], "{way:?}");
    }
}

/// Bob's datagrams to the NMS are lost. So he does not register again, and sends no Keep Alive.
fn silent_from(at_ms: u32) -> String {
    step(at_ms, "\"path\"\nsite = \"b\"\nto = \"nms\"\ntowards = \"up\"\nloss = 1.0")
}

#[test]
pub(crate) fn a_node_that_says_nothing_to_the_nms_loses_its_tunnels_when_its_certificate_ends_all_the_same() {
    let nms_restarts = || step(20_000, "\"restart\"\nwhat = \"nms\"");
    for way in WAYS.iter().filter(|(top, _)| top.contains("conventional")) {
        for (expires, restarts) in [(12_000, ""), (120_000, ""), (120_000, &nms_restarts())] {
            let steps = [
                echoes(5_000, "alice", "bob", 3),
                silent_from(10_000),
                restarts.to_owned(),
                step(expires, "\"expire\"\nnode = \"bob\""),
                // By then the NMS has compared its clock, which has jumped.
                echoes(expires + 65_000, "alice", "bob", 5),
                echoes(expires + 65_000, "bob", "alice", 5),
            ];
            assert_eq!(answered(&play(&three(*way, &steps))), [3, 0, 0], "{way:?}, {expires}, {restarts}");
        }
    }
}

#[test]
fn packets_stop_at_the_very_end_of_a_certificate_in_the_proposed_method() {
    for way in WAYS.iter().filter(|(top, _)| top.contains("proposed")) {
        let steps = [
            echoes(5_000, "alice", "bob", 3),
            echoes(10_050, "alice", "bob", 40),
            step(12_000, "\"expire\"\nnode = \"bob\""),
        ];
        assert_eq!(answered(&play(&three(*way, &steps))), [3, 20], "{way:?}");
    }
}

/// The day on which the certificate before ends passes under a row of echoes.
pub(crate) fn a_certificate_that_is_renewed_in_time_costs_no_packet_and_no_tunnel() {
    for way in WAYS {
        let steps = [
            echoes(5_000, "alice", "bob", 3),
            echoes(10_000, "alice", "bob", 150),
            step(12_000, "\"renew\"\nnode = \"bob\"\nrunning = true"),
            step(13_000, "\"renew\"\nnode = \"alice\"\nrunning = true"),
            step(18_000, "\"expire\"\nnode = \"carol\""),
        ];
        let run = play(&three(way, &steps));
        assert_eq!((answered(&run), lost_tunnels(&run)), (vec![3, 150], 0), "{way:?}");
    }
}

/// The keys of one connection open the packets of its lifetime, and no others.
pub(crate) fn the_keys_of_a_connection_are_replaced_after_its_lifetime() {
    for (top, kind) in WAYS.into_iter().filter(|(top, _)| top.contains("optimal")) {
        let top = format!("{top}\ntunnel_lifetime_s = 20");
        let run = play(&three((&top, kind), &[echoes(5_000, "alice", "bob", 600)]));
        let tunnels = run.events.iter().filter(|(_, node, event)| {
            node == "bob" && matches!(event, Event::TunnelUp(up) if up.peer.as_str().starts_with("alice"))
        });
        let begun: Vec<u64> = tunnels.map(|(at, ..)| (*at - Instant::ZERO).as_secs()).collect();
        let gaps: Vec<u64> = begun.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.len() >= 2 && gaps.iter().all(|gap| *gap <= 21), "{kind}: tunnels came up in second {begun:?}");
        assert_eq!((answered(&run), lost_tunnels(&run)), (vec![600], 0), "{kind}");
    }
}

#[test]
fn a_connection_is_replaced_in_time() {
    the_keys_of_a_connection_are_replaced_after_its_lifetime();
}

#[test]
fn a_renewal_in_time_costs_nothing() {
    a_certificate_that_is_renewed_in_time_costs_no_packet_and_no_tunnel();
}

#[test]
fn a_node_whose_certificate_has_ended_is_back_seconds_after_it_gets_the_next_one() {
    for way in WAYS {
        let steps = [
            echoes(5_000, "alice", "bob", 3),
            step(12_000, "\"expire\"\nnode = \"bob\""),
            step(60_000, "\"renew\"\nnode = \"bob\"\nrunning = true"),
            echoes(65_000, "alice", "bob", 3),
        ];
        assert_eq!(answered(&play(&three(way, &steps))), [3, 3], "{way:?}");
    }
}
