//! Scenarios of two nodes, each at a site of its own, with random boxes between them. Every word of a site that affects
//! reachability can occur.

#![allow(dead_code, reason = "every test takes what it needs")]

use cyphonic_scenarios::{Scenario, first_cell, two_nodes};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

/// The same cases every time. `PROPTEST_RNG_SEED` and `PROPTEST_CASES` give other and more cases.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    ProptestConfig {
        cases: number("PROPTEST_CASES").map_or(cases, |n| n as u32),
        rng_seed: RngSeed::Fixed(number("PROPTEST_RNG_SEED").unwrap_or(1)),
        ..ProptestConfig::default()
    }
}

const DEPENDENCES: [&str; 3] = ["endpoint-independent", "address-dependent", "address-and-port-dependent"];

/// The keys of a NAT, with commas between them.
fn nat() -> impl Strategy<Value = String> {
    let words = |words: &'static [&'static str]| select(words);
    (
        words(&DEPENDENCES),
        words(&DEPENDENCES),
        words(&["preserve", "sequential", "random", "overloading"]),
        words(&["off", "internal-source", "external-source"]),
        prop_oneof![Just(1), Just(14)],
        words(&["paired", "arbitrary"]),
        any::<bool>(),
    )
        .prop_map(|(mapping, filtering, mut ports, hairpin, addresses, pooling, reuses)| {
            if ports == "preserve" && (pooling == "arbitrary" || mapping != DEPENDENCES[0]) {
                // Otherwise chance, or the order of contacts, decides which mapping keeps the port.
                ports = "sequential";
            }
            format!(
                "mapping = \"{mapping}\", filtering = \"{filtering}\", ports = \"{ports}\", hairpin = \"{hairpin}\", \
                 addresses = {addresses}, pooling = \"{pooling}\", reuses_inbound = {reuses}"
            )
        })
}

/// A line that gives a site a firewall, or nothing.
fn firewall() -> impl Strategy<Value = String> {
    let reaction = select(&["drop", "reject", "reset"][..]);
    let rules = prop_oneof![
        4 => Just(String::new()),
        2 => Just("stateful = true".to_owned()),
        1 => Just("stateful = false".to_owned()),
        2 => Just("mode = \"only-443\"".to_owned()),
        1 => Just("mode = \"only-tcp-443\"".to_owned()),
        1 => Just("mode = \"web\"".to_owned()),
        1 => Just("mode = \"web-proxy\"".to_owned()),
        1 => Just("stateful = false, egress = [\"udp/443\", \"tcp/443\"]".to_owned()),
        1 => Just("egress = [\"udp\", \"tcp/443\"]".to_owned()),
        1 => reaction.prop_map(|reaction| format!("inspect = [{{ quic = true, reaction = \"{reaction}\" }}]")),
        1 => Just("inspect = [{ sni = \"bob.cyphonic.test\", reaction = \"drop\" }]".to_owned()),
        1 => Just("inspect = [{ sni = \"cyphonic.test\", reaction = \"drop\" }]".to_owned()),
        1 => Just("inspect = [{ alpn = \"h3\", reaction = \"throttle\", rate_kbps = 500.0 }]".to_owned()),
    ];
    let refusal = select(&["drop", "reject", "reset"][..]);
    (rules, refusal).prop_map(|(rules, refusal)| match rules.as_str() {
        "" => String::new(),
        rules => format!("firewall = {{ {rules}, reaction = \"{refusal}\" }}\n"),
    })
}

/// The keys of a site but its name.
fn site() -> impl Strategy<Value = String> {
    let kinds = select(&["ipv6", "ipv4-global", "ipv4-private", "dual-stack", "dual-stack-private-v4"][..]);
    let translator = prop_oneof![Just(""), Just("nat64"), Just("nptv6"), Just("nat66")];
    let broken = prop_oneof![4 => Just(""), 1 => Just("ipv4"), 1 => Just("ipv6")];
    (kinds, translator, nat(), nat(), any::<bool>(), broken, firewall(), 1..30u32).prop_map(
        |(kind, translator, v4, v6, carrier, broken, firewall, delay)| {
            let (has_v6, is_dual) = (kind.contains('6') || kind.contains("dual"), kind.contains("dual"));
            let mut text = format!("kind = \"{kind}\"\nlink = {{ delay_ms = {delay} }}\n{firewall}");
            if kind.contains("private") {
                text += &["nat = { ", &v4, " }\n"].concat();
                text += if carrier { "carrier = \"cgn\"\n" } else { "" };
            }
            match translator {
                "nptv6" if has_v6 => text += "nptv6 = {}\n",
                "nat66" if has_v6 => text += &["nat66 = { ", &v6, " }\n"].concat(),
                "nat64" if kind == "ipv6" => text += &["nat64 = { ", &v6, " }\n"].concat(),
                _ => {}
            }
            if is_dual && !broken.is_empty() {
                text += &["broken = \"", broken, "\"\n"].concat();
            }
            text
        },
    )
}

/// Alice and Bob with either method, at random sites that may be behind a carrier. Alice sends Bob three echoes. The
/// scenario is a text, which a failure prints.
pub(crate) fn texts() -> impl Strategy<Value = String> {
    let policy = select(&["paper", "optimal"][..]);
    pairs(policy, ECHOES)
}

/// As [`texts`], always with the optimal policy, and with enough time for it to find the best path. These are left out,
/// because more than the networks decides there:
///
/// * firewalls that look for a node's name, and NATs that answer by the mapping of the request: after the wrong node
///   has dialed, its traces hinder the right one;
/// * a carrier with a pool of addresses: nobody outside can see that two homes share it;
/// * a carrier that overloads ports: to the NMS both homes are one.
pub(crate) fn meetings() -> impl Strategy<Value = String> {
    let pairs = pairs(Just("optimal"), MEETING).prop_filter("no name is inspected", |text| !text.contains("sni = "));
    pairs.prop_map(|text| {
        let text = text.replace("reuses_inbound = true", "reuses_inbound = false");
        let text = text.replacen("\naddresses = 14\n", "\naddresses = 1\n", 1);
        text.replacen("\nports = \"overloading\"\n", "\nports = \"preserve\"\n", 1)
    })
}

const ECHOES: &str = "[[step]]\ndo = \"start\"\ngive_up_s = 60\n\
                      [[step]]\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\ncount = 3\n";
const MEETING: &str = "[[step]]\ndo = \"start\"\ngive_up_s = 12\n\
                       [[step]]\ndo = \"wait\"\nms = 3000\n\
                       [[step]]\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\ncount = 40\ninterval_ms = 500\n";

fn pairs(policy: impl Strategy<Value = &'static str>, steps: &'static str) -> impl Strategy<Value = String> {
    let method = select(&["conventional", "proposed"][..]);
    let proxy = || prop_oneof![4 => Just(""), 1 => Just("proxy = true\n"), 1 => Just("tcp_name = \"www.example\"\n")];
    let all = (method, policy, nat(), site(), site(), 1..20u32, [proxy(), proxy()]);
    all.prop_map(move |(method, policy, carrier, a, b, delay, proxies)| {
        let top = format!(
            "method = \"{method}\"\npolicy = \"{policy}\"\nport = 443\n\
             [[carrier]]\nname = \"cgn\"\nlink = {{ delay_ms = {delay} }}\n{}\n",
            carrier.replace(", ", "\n")
        );
        let text = two_nodes(&top, [&a, &b], steps);
        ["a", "b"].into_iter().zip(proxies).fold(text, |text, (site, proxy)| {
            let place = format!("\nsite = \"{site}\"\n");
            text.replacen(&place, &format!("{place}{proxy}"), 1)
        })
    })
}

/// The scenario of a text. Every generated text is a valid one.
pub(crate) fn scenario(text: &str) -> Scenario {
    first_cell("generated", text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}
