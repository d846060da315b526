//! Recovery of nodes from faults: NATs that forget, a machine that sleeps, a NAT that allows few sessions.

mod common;

use cyphonic_core::method::Method;
use cyphonic_scenarios::Engine;
use cyphonic_sim::host::apps::ProbeOutcome;
use cyphonic_sim::run::Run;

use common::{play, scenario};

const METHODS: [Method; 2] = [Method::Conventional, Method::Proposed];
const SYMMETRIC: &str = "mapping = \"address-and-port-dependent\", ";

/// A run of two nodes, each behind a NAT, unless `nodes` has others.
fn run(method: Method, nodes: &str, steps: &str) -> Run {
    let top = format!(
        "title = \"t\"\nabout = \"a\"\nmeasure = \"outcome\"\npolicy = \"optimal\"\nduration_limit_s = 600\n\
         method = \"{}\"\n[services]\nas = {{ delay_ms = 10 }}\nnms = {{ delay_ms = 10 }}\ntrs = {{ delay_ms = 10 }}\n",
        method.name()
    );
    play(&scenario(&format!("{top}{nodes}\n{steps}")), 1, Engine::Events)
}

fn site(name: &str, nat: &str, delay_ms: u32) -> String {
    format!(
        "[[site]]\nname = \"{name}\"\nkind = \"ipv4-private\"\nnat = {{ {nat}ports = \"random\" }}\n\
         link = {{ delay_ms = {delay_ms}, jitter_ms = 2 }}\n"
    )
}

fn pair(a: &str, b: &str) -> String {
    format!("{a}{b}[[node]]\nname = \"alice\"\nsite = \"a\"\n[[node]]\nname = \"bob\"\nsite = \"b\"\n")
}

fn start(more: &str) -> String {
    format!("[[step]]\ndo = \"start\"\n{more}\n")
}

fn echoes(at_ms: u32, count: u32, interval_ms: u32) -> String {
    format!(
        "[[step]]\ndo = \"echo\"\nat_ms = {at_ms}\nfrom = \"alice\"\nto = \"bob\"\ncount = {count}\n\
         interval_ms = {interval_ms}\n"
    )
}

/// Of the last echo step: which were answered.
fn answered(run: &Run) -> Vec<bool> {
    let report = run.reports().filter_map(|(_, report)| report.echo()).last().expect("echoes");
    report.probes.iter().map(|probe| matches!(probe.outcome, ProbeOutcome::Answered { .. })).collect()
}

/// The longest row of echoes that were not answered.
fn gap(run: &Run) -> usize {
    answered(run).split(|answered| *answered).map(<[bool]>::len).max().unwrap_or(0)
}

#[test]
fn a_nat_that_forgets_either_end_of_a_relayed_tunnel_costs_three_seconds_at_most() {
    for method in METHODS {
        for (site_, interval) in [("b", 10), ("a", 10), ("b", 200), ("b", 1_000), ("a", 1_000)] {
            let reboot = format!("[[step]]\ndo = \"nat_reboot\"\nat_ms = 20000\nsite = \"{site_}\"\n");
            let steps = format!("{}{}{reboot}", start(""), echoes(5_000, 40_000 / interval, interval));
            let run = run(method, &pair(&site("a", SYMMETRIC, 10), &site("b", SYMMETRIC, 10)), &steps);
            let ms = gap(&run) * interval as usize;
            assert!(ms <= 3_000, "{method:?} {site_} each {interval} ms: {ms} ms");
        }
    }
}

#[test]
fn a_node_that_wakes_up_is_back_within_three_seconds() {
    for method in METHODS {
        for nat in ["", SYMMETRIC] {
            for (who, sleeps) in [("alice", 60_000), ("bob", 60_000), ("alice", 15_000), ("alice", 600_000 / 4)] {
                let pause = format!("[[step]]\ndo = \"pause\"\nat_ms = 10000\nwhat = \"{who}\"\nms = {sleeps}\n");
                let steps = format!("{}{}{pause}", start(""), echoes(5_000, 1_000, 200));
                let run = run(method, &pair(&site("a", nat, 10), &site("b", nat, 10)), &steps);
                let awake = (5_000 + sleeps as usize) / 200;
                let lost = answered(&run)[awake..].iter().filter(|answered| !**answered).count();
                assert!(lost * 200 <= 3_000, "{method:?} {nat} {who} sleeps {sleeps} ms: {lost} lost");
            }
        }
    }
}

#[test]
fn a_nat_with_few_sessions_for_a_host_leaves_one_for_the_relay() {
    for method in METHODS {
        for sessions in 3..=9 {
            let few = format!("max_sessions_per_host = {sessions}, ");
            let nodes = pair(&site("a", &few, 10), &site("b", "", 10));
            let run = run(method, &nodes, &format!("{}{}", start("give_up_s = 60"), echoes(5_000, 20, 1_000)));
            let answered = answered(&run);
            let late = answered.iter().skip(10).filter(|answered| !**answered).count();
            assert!(answered.len() == 20 && late == 0, "{method:?} {sessions} sessions: {answered:?}");
        }
    }
}
