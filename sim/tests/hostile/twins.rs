//! Two machines with one name and key: a cloned virtual machine, or a key that was copied.

use std::net::SocketAddr;

use cyphonic_core::event::{Event, Failure};
use cyphonic_core::message::ErrorCode;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Engine, first_cell};
use cyphonic_sim::host::apps::{EchoReport, ProbeOutcome};
use cyphonic_sim::net::TapMode;
use cyphonic_sim::run::{self, Run};
use cyphonic_sim::world::Watch;

/// Method, policy and kind of the sites of the two machines.
const CASES: [(&str, &str, &str); 6] = [
    ("conventional", "paper", "ipv4-global"),
    ("conventional", "optimal", "ipv4-private"),
    ("conventional", "optimal", "ipv6"),
    ("proposed", "paper", "ipv4-global"),
    ("proposed", "optimal", "ipv4-private"),
    ("proposed", "optimal", "ipv6"),
];

/// Alice and a second machine with her key, each at a site of its own, and Bob.
fn play((method, policy, kind): (&str, &str, &str), steps: &str) -> Run {
    let site = |(site, kind)| format!("[[site]]\nname = \"{site}\"\nkind = \"{kind}\"\nlink = {{ delay_ms = 10 }}\n");
    let of_bob = if kind == "ipv6" { "ipv6" } else { "ipv4-private" };
    let sites: String = [("a", kind), ("c", kind), ("other", kind), ("b", of_bob)].map(site).concat();
    let text = format!(
        "title = \"t\"\nabout = \"a\"\nmeasure = \"outcome\"\npolicy = \"{policy}\"\nduration_limit_s = 300\n\
         method = \"{method}\"\n[services]\nas = {{ delay_ms = 10 }}\nnms = {{ delay_ms = 10 }}\ntrs = {{ delay_ms = 10 }}\n\
         {sites}[[node]]\nname = \"alice\"\nsite = \"a\"\n[[node]]\nname = \"twin\"\nsite = \"c\"\ncopy_of = \"alice\"\n\
         [[node]]\nname = \"bob\"\nsite = \"b\"\n{steps}"
    );
    let scenario = first_cell("twins", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    run::run(&scenario, 1, Engine::Events, &Watch { tap: TapMode::Off, ..Watch::default() })
}

fn start(nodes: &str, at_ms: u64) -> String {
    format!("[[step]]\ndo = \"start\"\nnodes = [{nodes}]\nat_ms = {at_ms}\n")
}

fn echoes(at_ms: u64, seconds: u64) -> String {
    format!(
        "[[step]]\ndo = \"echo\"\nat_ms = {at_ms}\nfrom = \"bob\"\nto = \"alice\"\ncount = {}\ninterval_ms = 100\n",
        10 * seconds
    )
}

fn idle() -> String {
    "[[step]]\ndo = \"idle\"\n".to_owned()
}

/// When a machine was registered, in this time, ms.
fn registered(run: &Run, host: &str, since: u64, until: u64) -> Vec<Instant> {
    let time = Instant::from_millis(since)..Instant::from_millis(until);
    let is = |(at, name, event): &&(Instant, String, Event)| {
        name == host && time.contains(at) && matches!(event, Event::Registered { .. })
    };
    run.events.iter().filter(is).map(|(at, ..)| *at).collect()
}

/// What the NMS told of two machines.
fn told(run: &Run) -> Vec<(Instant, SocketAddr, SocketAddr)> {
    let told = |(at, _, event): &(Instant, String, Event)| match event {
        Event::OtherMachine { name, served, refused } => {
            assert_eq!(name.short(), "alice");
            Some((*at, *served, *refused))
        }
        _ => None,
    };
    run.events.iter().filter_map(told).collect()
}

/// When a machine was told of the other one, and where that is.
fn displaced(run: &Run, host: &str) -> Vec<(Instant, Option<SocketAddr>)> {
    let told = |(at, name, event): &(Instant, String, Event)| match event {
        Event::Unregistered { reason: Failure::Displaced } if name == host => Some((*at, None)),
        Event::Unregistered { reason: Failure::Refused(ErrorCode::OtherMachine(served)) } if name == host => {
            Some((*at, Some(*served)))
        }
        _ => None,
    };
    run.events.iter().filter_map(told).collect()
}

fn report(run: &Run) -> &EchoReport {
    run.reports().filter_map(|(_, report)| report.echo()).last().expect("echoes")
}

/// The longest time without an answer, ms, of echoes that were sent each 100 ms.
fn gap(run: &Run) -> usize {
    let answered = report(run).probes.iter().map(|probe| matches!(probe.outcome, ProbeOutcome::Answered { .. }));
    let answered: Vec<bool> = answered.collect();
    100 * answered.split(|answered| *answered).map(<[bool]>::len).max().unwrap_or_default()
}

fn after(at: Instant, since_ms: u64) -> u64 {
    u64::try_from((at - Instant::from_millis(since_ms)).as_millis()).unwrap()
}

#[test]
pub(crate) fn of_two_machines_with_one_key_the_one_that_came_last_is_served_and_the_other_learns_why() {
    for case in CASES {
        let steps = [start("\"alice\", \"bob\"", 0), echoes(10_000, 200), start("\"twin\"", 30_000), idle()].concat();
        let run = play(case, &steps);
        let first = registered(&run, "twin", 30_000, 40_000);
        let again = [registered(&run, "alice", 30_000, 300_000), registered(&run, "twin", 40_000, 300_000)];
        let (told, displaced) = (told(&run), displaced(&run, "alice"));
        println!(
            "{case:?}: twin at {first:?}, again {again:?}, alice told {} times, first {:?}; NMS {told:?}; gap {} ms",
            displaced.len(),
            displaced.iter().take(2).collect::<Vec<_>>(),
            gap(&run)
        );
        assert_eq!(first.len(), 1, "{case:?}");
        assert_eq!(again, [[], []], "{case:?}: they take turns");
        // The first word may come with the next Keep Alive; the address with the answer to the first request.
        let (at, _) = displaced[0];
        assert!(after(at, 30_000) < 4_500, "{case:?}: {at}");
        let (at, served) = *displaced.iter().find(|(_, served)| served.is_some()).unwrap();
        assert!(after(at, 30_000) < 6_000, "{case:?}: {at}");
        // Five and more waits of half a minute, and the first, shorter ones.
        assert!((10..=24).contains(&displaced.len()), "{case:?}: {displaced:?}");
        let [(at, shown, refused)] = told[..] else { panic!("{case:?}: {told:?}") };
        assert!(after(at, 30_000) < 6_000 && Some(shown) == served && shown.ip() != refused.ip(), "{case:?}: {told:?}");
        assert!(gap(&run) <= 2_000, "{case:?}: {} ms", gap(&run));
    }
}

#[test]
fn when_the_machine_that_is_served_goes_the_other_takes_its_place() {
    for case in CASES {
        // A restarted NMS of the conventional method does not know the other machine's login any more.
        let ways = [
            ("do = \"stop\"\nnode = \"twin\"", "", 45_000),
            ("do = \"link_down\"\nsite = \"c\"", "", 45_000),
            ("do = \"stop\"\nnode = \"twin\"", "[[step]]\ndo = \"restart\"\nwhat = \"nms\"\nat_ms = 101000\n", 75_000),
        ];
        for (goes, restart, within) in ways {
            let goes = format!("[[step]]\n{goes}\nat_ms = 100000\n{restart}");
            let start = [start("\"alice\", \"bob\"", 0), start("\"twin\"", 30_000)].concat();
            let run = play(case, &[start, goes.clone(), echoes(180_000, 30), idle()].concat());
            let [taken] = registered(&run, "alice", 30_000, 300_000)[..] else { panic!("{case:?} {goes}") };
            println!("{case:?} {goes}: after {} ms", after(taken, 100_000));
            // The silence after which the NMS takes the machine for gone, and the longest pause.
            assert!(after(taken, 100_000) < within, "{case:?} {goes}: {taken}");
            assert_eq!(gap(&run), 0, "{case:?} {goes}: {}", report(&run).answered());
        }
    }
}

#[test]
fn a_machine_that_is_started_again_is_served_and_the_other_yields() {
    for case in CASES {
        let restart = "[[step]]\ndo = \"restart\"\nwhat = \"alice\"\nat_ms = 60000\n".to_owned();
        let steps =
            [start("\"alice\", \"bob\"", 0), start("\"twin\"", 30_000), restart, echoes(70_000, 100), idle()].concat();
        let run = play(case, &steps);
        assert_eq!(registered(&run, "alice", 30_000, 300_000).len(), 1, "{case:?}");
        assert!(after(registered(&run, "alice", 30_000, 300_000)[0], 60_000) < 1_000, "{case:?}");
        assert_eq!(registered(&run, "twin", 30_000, 300_000).len(), 1, "{case:?}");
        assert!(!displaced(&run, "twin").is_empty() && gap(&run) <= 200, "{case:?}: {}", gap(&run));
    }
}

#[test]
fn one_machine_that_crashes_moves_or_sleeps_is_never_taken_for_two() {
    let events = [
        "do = \"restart\"\nwhat = \"alice\"",
        "do = \"move\"\nnode = \"alice\"\nto = \"other\"",
        "do = \"suspend\"\nwhat = \"alice\"\nms = 20000",
        "do = \"pause\"\nwhat = \"alice\"\nms = 5000",
        "do = \"restart\"\nwhat = \"nms\"",
        "do = \"clock\"\nwhat = \"alice\"\nstep_s = -100000",
    ];
    for case in CASES {
        for event in events {
            let steps = (0..3).map(|n| format!("[[step]]\n{event}\nat_ms = {}\n", 30_000 + 30_000 * n));
            let steps: String = if event.contains("move") { steps.take(1).collect() } else { steps.collect() };
            let run = play(case, &[start("\"alice\", \"bob\"", 0), steps, echoes(130_000, 10), idle()].concat());
            assert!(told(&run).is_empty() && displaced(&run, "alice").is_empty(), "{case:?} {event}");
            assert_eq!(gap(&run), 0, "{case:?} {event}: {}", report(&run).answered());
            if event.contains("restart") && event.contains("alice") || event.contains("move") {
                let at = registered(&run, "alice", 30_000, 59_000)[0];
                assert!(after(at, 30_000) <= 2_000, "{case:?} {event}: {at}");
            }
        }
    }
}

#[test]
fn after_a_restart_of_the_nms_one_of_the_two_is_served_again() {
    for case in CASES {
        let restart = "[[step]]\ndo = \"restart\"\nwhat = \"nms\"\nat_ms = 100000\n".to_owned();
        let steps =
            [start("\"alice\", \"bob\"", 0), start("\"twin\"", 30_000), restart, echoes(120_000, 150), idle()].concat();
        let run = play(case, &steps);
        let turns: Vec<_> = ["alice", "twin"].map(|host| registered(&run, host, 100_000, 300_000)).concat();
        println!("{case:?}: {turns:?}; gap {} ms", gap(&run));
        assert!((1..=3).contains(&turns.len()) && gap(&run) <= 5_000, "{case:?}: {turns:?}, {} ms", gap(&run));
    }
}
