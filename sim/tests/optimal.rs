//! `policy = "optimal"` against the dialing table: each kind of site with each other, under both methods.

mod common;

use cyphonic_core::event::{Event, Signal};
use cyphonic_scenarios::Engine;
use cyphonic_sim::run::Run;

use common::{START, arrows, play, scene_of_sites, two_sites};

/// The sites of the kinds in the dialing table.
const KINDS: [(&str, &str); 8] = [
    ("P", "kind = \"ipv4-global\""),
    ("F", "kind = \"ipv4-global\"\nfirewall = { mode = \"stateful\" }"),
    ("FC", "kind = \"ipv4-private\"\nnat = { filtering = \"endpoint-independent\" }"),
    ("RC", "kind = \"ipv4-private\"\nnat = { filtering = \"address-dependent\" }"),
    ("PR", "kind = \"ipv4-private\""),
    ("SY", "kind = \"ipv4-private\"\nnat = { mapping = \"address-and-port-dependent\", ports = \"random\" }"),
    (
        "SA",
        "kind = \"ipv4-private\"\nnat = { mapping = \"address-and-port-dependent\", ports = \"random\", filtering = \"address-dependent\" }",
    ),
    (
        "SO",
        "kind = \"ipv4-private\"\nnat = { mapping = \"address-dependent\", ports = \"random\", filtering = \"endpoint-independent\" }",
    ),
];

fn site(kind: &str) -> &'static str {
    KINDS.iter().find(|(name, _)| *name == kind).expect("a kind").1
}

const ECHOES: &str = "do = \"echo\"\ncount = 30\ninterval_ms = 200";

fn pair(method: &str, a: &str, b: &str, wait_ms: u64) -> Run {
    pair_with(method, [a, b], "{ delay_ms = 10 }", wait_ms, ECHOES)
}

/// Alice, at a site of the first kind, does something with Bob, at a site of the second, this long after both
/// registered.
fn pair_with(method: &str, pair: [&str; 2], link: &str, wait_ms: u64, what: &str) -> Run {
    let settings = format!("policy = \"optimal\"\nmethod = \"{method}\"");
    let wait = format!("[[step]]\ndo = \"wait\"\nms = {wait_ms}");
    let steps = format!("{wait}\n[[step]]\nfrom = \"alice\"\nto = \"bob\"\n{what}\n");
    play(&scene_of_sites(&settings, pair.map(site), link, &steps), 1, Engine::Events)
}

/// The patterns of Alice's tunnels, in order, and the dialer of the last one.
fn tunnels(run: &Run) -> (Vec<u8>, Option<bool>) {
    let mut ups = run.events.iter().filter_map(|(_, who, event)| match event {
        Event::TunnelUp(up) if who == "alice" => Some(up),
        _ => None,
    });
    let paths = run.events.iter().filter(|(_, who, _)| who == "alice").filter_map(|(_, _, event)| event.path());
    let mut patterns: Vec<u8> = paths.map(|(_, pattern)| pattern.number()).collect();
    // A new path with the same pattern is no new tunnel.
    patterns.dedup();
    (patterns, ups.next_back().map(|up| up.dialed))
}

fn answered(run: &Run) -> usize {
    run.reports().filter_map(|(_, report)| report.echo()).map(cyphonic_sim::host::apps::EchoReport::answered).sum()
}

/// Whether either node can dial the other, punches included: the dialing table, by kind.
fn possible(a: &str, b: &str) -> bool {
    let dials = |dialer: &str, listener: &str| match (dialer, listener) {
        (_, "SY" | "SA") => false,
        // It answers from another port than the dialed one.
        (dialer, "SO") => !matches!(dialer, "F" | "PR" | "SY"),
        ("SY" | "SA" | "SO", listener) => matches!(listener, "P" | "FC" | "RC"),
        _ => true,
    };
    dials(a, b) || dials(b, a)
}

#[test]
fn every_pair_of_the_dialing_table_is_direct_where_that_is_possible_and_relayed_elsewhere() {
    for method in ["conventional", "proposed"] {
        for (a, _) in KINDS {
            for (b, _) in KINDS {
                let run = pair(method, a, b, 2500);
                let (patterns, dialed) = tunnels(&run);
                println!("{method:<12} {a:>2} x {b:<2} {patterns:?} dialed {dialed:?} answered {}", answered(&run));
                assert_eq!(patterns.len(), 1, "{method} {a} x {b}: {patterns:?}");
                assert_eq!(patterns[0] < 3, possible(a, b), "{method} {a} x {b}: {patterns:?}");
                assert_eq!(answered(&run), 30, "{method} {a} x {b}");
            }
        }
    }
}

#[test]
fn who_asks_before_the_networks_are_known_is_relayed_first_and_direct_soon_and_loses_nothing() {
    for method in ["conventional", "proposed"] {
        for (a, b) in [("PR", "PR"), ("F", "F"), ("P", "SY"), ("SY", "RC")] {
            let run = pair(method, a, b, 1);
            let (patterns, dialed) = tunnels(&run);
            println!("{method:<12} {a:>2} x {b:<2} {patterns:?} dialed {dialed:?} answered {}", answered(&run));
            assert_eq!(patterns[0], 3, "{method} {a} x {b}");
            assert!(*patterns.last().unwrap() < 3, "{method} {a} x {b}: {patterns:?}");
            assert_eq!(answered(&run), 30, "{method} {a} x {b}");
        }
    }
}

#[test]
fn a_transfer_that_begins_on_the_relay_goes_on_directly_with_every_byte() {
    for method in ["conventional", "proposed"] {
        for (a, b) in [("PR", "PR"), ("F", "F"), ("SY", "RC")] {
            let run =
                pair_with(method, [a, b], "{ delay_ms = 10, rate_mbps = 20 }", 1, "do = \"tcp\"\nbytes = 8000000");
            let (patterns, _) = tunnels(&run);
            assert_eq!((patterns[0], patterns.len()), (3, 2), "{method} {a} x {b}: {patterns:?}");
            let transfer = run.reports().find_map(|(_, report)| report.transfer().cloned()).expect("one was started");
            assert!(transfer.ok(), "{method} {a} x {b}: {transfer:?}");
        }
    }
}

#[test]
fn packets_of_1280_bytes_cross_narrow_links_before_and_after_the_change_to_a_direct_path() {
    // 1,280 bytes of IPv6: 40 and 8 of headers, and 1,232 of payload.
    let echoes = "do = \"echo\"\ncount = 30\ninterval_ms = 200\npayload_bytes = 1232";
    for link in ["{ delay_ms = 10, mtu = 1280 }", "{ delay_ms = 10, mtu = 1400, black_hole = true }"] {
        for (a, b) in [("PR", "PR"), ("F", "F")] {
            let run = pair_with("proposed", [a, b], link, 1, echoes);
            let (patterns, _) = tunnels(&run);
            assert!(*patterns.last().unwrap() < 3, "{a} x {b}, {link}: {patterns:?}");
            assert_eq!(answered(&run), 30, "{a} x {b}, {link}");
        }
    }
}

#[test]
fn a_direct_path_that_a_firewall_closes_in_the_middle_of_a_flow_is_left_for_the_relay_within_seconds() {
    // Bob's NAT gives him other ports than 443; then Alice's firewall lets her send to 443 only.
    for method in ["conventional", "proposed"] {
        let settings = format!("policy = \"optimal\"\nmethod = \"{method}\"\nport = 443");
        let sites = [
            "kind = \"ipv4-global\"\nlink = { delay_ms = 10 }\nfirewall = { stateful = false }",
            "kind = \"ipv4-private\"\nlink = { delay_ms = 10 }\nnat = { ports = \"random\" }",
        ];
        let echo =
            "[[step]]\ndo = \"echo\"\nat_ms = 3000\nfrom = \"alice\"\nto = \"bob\"\ncount = 150\ninterval_ms = 200\n";
        let close = "[[step]]\ndo = \"firewall\"\nat_ms = 8000\nsite = \"a\"\nmode = \"only-443\"\n";
        let scenario = two_sites(&settings, sites, &format!("{START}{echo}{close}"));
        let run = play(&scenario, 1, Engine::Events);
        let (patterns, _) = tunnels(&run);
        assert_eq!((patterns[0], patterns.last()), (2, Some(&3)), "{method}: {patterns:?}");
        // 5 s of silence and the set-up of the relay, at five echoes a second.
        let lost = 150 - answered(&run);
        println!("{method}: {lost} of 150 echoes lost");
        assert!(lost <= 40, "{method}: {lost} of 150 echoes lost");
    }
}

#[test]
fn what_the_nms_asks_the_trs_again_because_a_nat_let_no_answer_in_is_told_as_a_repetition() {
    for method in ["conventional", "proposed"] {
        let run = pair(method, "PR", "PR", 2500);
        let asks = |signal: &Signal| signal.what == "Probe Request";
        let asked = run.events.iter().filter(|(.., event)| matches!(event, Event::Signal(signal) if asks(signal)));
        let first = arrows(&run).filter(|signal| asks(signal));
        // Each of the two has one Probe that only the TRS may answer, and sends it four times.
        assert_eq!((asked.count(), first.count()), (8, 2), "{method}");
    }
}

#[test]
fn both_may_ask_at_the_same_time_and_get_one_tunnel() {
    for policy in ["paper", "optimal"] {
        for method in ["conventional", "proposed"] {
            for (a, b) in [("P", "P"), ("PR", "PR"), ("P", "SY")] {
                let (a, b) = (site(a), site(b));
                let echo = |from: &str, to: &str| {
                    format!(
                        "[[step]]\ndo = \"echo\"\nat_ms = 4000\nfrom = \"{from}\"\nto = \"{to}\"\ncount = 40\n\
                         interval_ms = 200\n"
                    )
                };
                let settings = format!("policy = \"{policy}\"\nmethod = \"{method}\"");
                let sites = [format!("link = {{ delay_ms = 10 }}\n{a}"), format!("link = {{ delay_ms = 12 }}\n{b}")];
                let steps = format!("{START}{}{}", echo("alice", "bob"), echo("bob", "alice"));
                let scenario = two_sites(&settings, sites.each_ref().map(String::as_str), &steps);
                let run = play(&scenario, 1, Engine::Events);
                let (patterns, _) = tunnels(&run);
                assert_eq!((patterns.len(), answered(&run)), (1, 80), "{policy} {method} {a} x {b}: {patterns:?}");
            }
        }
    }
}
