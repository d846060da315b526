//! Nodes that change their network, at any moment.

use std::fmt::Write;
use std::time::Duration;

use cyphonic_core::event::Event;
use cyphonic_scenarios::Scenario;

use crate::common::{NAT, V4, scenario, scene_of_sites};
use crate::scene::{BLIND, CONVENTIONAL, TERMINATING, first_answer, play, story};

const V6: &str = "ipv6";
/// When Alice sends her first echo.
const ECHO_MS: u64 = 3_000;

/// Alice and Bob at home, each with another network to go to, and Alice's echoes after three seconds. `moves`: the
/// node, the time in milliseconds, and the network.
fn scene(
    settings: &str,
    [alice, bob]: [&str; 2],
    [alice_to, bob_to]: [&str; 2],
    moves: &[(&str, u64, &str)],
) -> Scenario {
    let mut text = format!("title = \"Moves\"\nabout = \"Nodes move.\"\nmeasure = \"outcome\"\n{settings}\n");
    for (name, kind) in [("home-a", alice), ("home-b", bob), ("away-a", alice_to), ("away-b", bob_to)] {
        write!(text, "[[site]]\nname = \"{name}\"\nkind = \"{kind}\"\nlink = {{ delay_ms = 10 }}\n").unwrap();
    }
    for (name, site) in [("alice", "home-a"), ("bob", "home-b")] {
        write!(text, "[[node]]\nname = \"{name}\"\nsite = \"{site}\"\n").unwrap();
    }
    text += "[[step]]\ndo = \"start\"\n";
    let echo = "[[step]]\ndo = \"echo\"\nat_ms = 3000\nfrom = \"alice\"\nto = \"bob\"\ncount = 60\ninterval_ms = 200\n";
    // Steps come in the order of their times.
    let (before, after): (Vec<_>, Vec<_>) = moves.iter().partition(|(_, at, _)| *at < ECHO_MS);
    let step = |(node, at, to): &&(&str, u64, &str)| {
        format!("[[step]]\ndo = \"move\"\nat_ms = {at}\nnode = \"{node}\"\nto = \"{to}\"\n")
    };
    text += &before.iter().map(step).collect::<String>();
    text += echo;
    text += &after.iter().map(step).collect::<String>();
    text += "[[step]]\ndo = \"wait\"\nms = 14000\n[[step]]\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\n";
    scenario(&text)
}

/// The networks before and after a move: within a pattern, and from one pattern to another.
const WAYS: [([&str; 2], [&str; 2]); 4] =
    [([V4, V4], [V4, V4]), ([NAT, V4], [V4, NAT]), ([NAT, NAT], [NAT, NAT]), ([V6, V6], [NAT, V4])];
const MODES: [&str; 3] = [CONVENTIONAL, BLIND, TERMINATING];

/// Plays the scene in every way; `moves` is the same for all.
fn every_way(moves: &[(&str, u64, &str)]) {
    for settings in MODES {
        for (before, after) in WAYS {
            let scenario = scene(settings, before, after, moves);
            let run = play(&scenario, 1, |_| {});
            let last = run.steps.len().saturating_sub(1);
            let echo = 1 + moves.iter().filter(|(_, at, _)| *at < ECHO_MS).count();
            let times = (first_answer(&run, echo), first_answer(&run, last));
            let good = matches!(times, (Some(first), Some(last))
                if first <= Duration::from_secs(9) && last <= Duration::from_secs(1));
            assert!(good, "{settings} {before:?} to {after:?}, {moves:?}: {times:?}\n{}", story(&run));
        }
    }
}

/// Moments around the first query: route construction takes up to some 300 ms.
fn moments() -> impl Iterator<Item = u64> {
    (2_980..3_300).step_by(23).chain([3_700, 4_500])
}

#[test]
fn the_initiator_may_move_at_any_moment() {
    moments().for_each(|at| every_way(&[("alice", at, "away-a")]));
}

#[test]
fn the_responder_may_move_at_any_moment() {
    moments().for_each(|at| every_way(&[("bob", at, "away-b")]));
}

#[test]
fn both_may_move_at_once() {
    moments().for_each(|at| every_way(&[("alice", at, "away-a"), ("bob", at, "away-b")]));
    moments().step_by(3).for_each(|at| every_way(&[("alice", at, "away-a"), ("bob", at + 15, "away-b")]));
}

#[test]
fn a_node_may_move_back_before_anyone_has_noticed() {
    for gap in [1, 20, 45, 120, 1_000] {
        every_way(&[("alice", 3_050, "away-a"), ("alice", 3_050 + gap, "home-a")]);
        every_way(&[("bob", 3_050, "away-b"), ("bob", 3_050 + gap, "home-b")]);
    }
}

/// The node does not notice that its address has changed. A message under the old keys from the new address is enough,
/// and the node registers once.
#[test]
fn the_nms_follows_a_node_whose_nat_gives_it_another_port() {
    // A node sends a Keep Alive every three seconds in the conventional method, and a PING every ten in QUIC.
    for (settings, echo_ms) in [(CONVENTIONAL, 9_500), (BLIND, 21_000)] {
        let steps = format!(
            r#"
[[step]]
do = "nat_reboot"
at_ms = 5000
site = "b"
[[step]]
do = "echo"
at_ms = {echo_ms}
from = "alice"
to = "bob"
"#
        );
        let sites = ["kind = \"ipv4-global\"", "kind = \"ipv4-private\"\nnat = { ports = \"random\" }"];
        let run = play(&scene_of_sites(settings, sites, "{ delay_ms = 10 }", &steps), 1, |_| {});
        let registered =
            |(_, who, event): &&(_, String, Event)| who == "bob" && matches!(event, Event::Registered { .. });
        let answered = first_answer(&run, 2).is_some_and(|after| after < Duration::from_secs(1));
        assert!(answered && run.events.iter().filter(registered).count() == 1, "{settings}\n{}", story(&run));
    }
}
