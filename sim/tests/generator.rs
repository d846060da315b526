//! The generator knows every word of the language: one that it never draws fails here, by name.

use std::collections::{BTreeMap, BTreeSet};

use cyphonic_scenarios::{
    Dependence, FirewallMode, Hairpin, HostClock, IcmpErrors, Pooling, PortChoice, Refresh, Refusal, Signaling,
    actions, firewall_keys, link_keys, nat_keys,
};
use cyphonic_sim::soak::generate::{GENERATOR, generate};
use cyphonic_sim::soak::sheet::Sheet;
use toml::Table;

/// Of the plans of so many seeds.
const SEEDS: u64 = 300;

fn plans() -> impl Iterator<Item = Sheet> {
    (1..=SEEDS).map(generate)
}

/// Every value that was drawn of each key, of some tables.
fn drawn<'a>(tables: impl Iterator<Item = &'a Table>) -> BTreeMap<String, BTreeSet<String>> {
    let mut drawn: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (key, value) in tables.flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        drawn.entry(key.clone()).or_default().insert(value);
    }
    drawn
}

fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|word| name(*word)).collect()
}

#[test]
fn every_key_and_word_of_a_nat_is_drawn() {
    let plans: Vec<Sheet> = plans().collect();
    let sites = plans.iter().flat_map(|plan| plan.section("site"));
    let nats = sites.flat_map(|site| ["nat", "nat64", "nat66"].into_iter().filter_map(|key| site.get(key)?.as_table()));
    let drawn = drawn(nats.chain(plans.iter().flat_map(|plan| plan.section("carrier"))));
    let none = BTreeSet::new();
    for &key in nat_keys() {
        let values = drawn.get(key).unwrap_or(&none);
        assert!(!values.is_empty(), "the soak's generator (generate/boxes.rs) never draws `{key}` of a NAT");
        // The default is what a key that was left out says.
        let (words, default) = match key {
            "mapping" | "filtering" => (names(Dependence::ALL, Dependence::name), ""),
            "ports" => (names(PortChoice::ALL, PortChoice::name), "preserve"),
            "pooling" => (names(Pooling::ALL, Pooling::name), ""),
            "refresh" => (names(Refresh::ALL, Refresh::name), ""),
            "hairpin" => (names(Hairpin::ALL, Hairpin::name), "off"),
            "icmp_errors" => (names(IcmpErrors::ALL, IcmpErrors::name), "carried"),
            "idle_s"
            | "addresses"
            | "lifetime_s"
            | "flush_s"
            | "reuses_inbound"
            | "fragments"
            | "answers_unsolicited"
            | "max_sessions"
            | "max_sessions_per_host" => (Vec::new(), ""),
            other => panic!("say here which words `{other}` of a NAT has"),
        };
        for word in words.into_iter().filter(|word| *word != default) {
            let missing = "the soak's generator (generate/boxes.rs) never draws";
            assert!(values.contains(word), "{missing} {key} = {word:?} of a NAT");
        }
    }
}

#[test]
fn every_key_and_word_of_a_firewall_is_drawn() {
    let plans: Vec<Sheet> = plans().collect();
    let walls = plans.iter().flat_map(|plan| plan.section("site")).filter_map(|site| site.get("firewall")?.as_table());
    let drawn = drawn(walls);
    for &key in firewall_keys() {
        let missing = "the soak's generator (generate/boxes.rs) never draws";
        let values = drawn.get(key).unwrap_or_else(|| panic!("{missing} `{key}` of a firewall"));
        let words = match key {
            "mode" => names(FirewallMode::ALL, FirewallMode::name),
            "reaction" => names(Refusal::ALL, Refusal::name),
            "stateful" | "egress" | "inspect" => Vec::new(),
            other => panic!("say here which words `{other}` of a firewall has"),
        };
        for word in words {
            assert!(values.contains(word), "{missing} {key} = {word:?} of a firewall");
        }
    }
}

#[test]
fn a_firewall_that_refuses_the_services_names_is_drawn_with_and_without_another_name_for_tcp() {
    let with = |plan: &Sheet, key: &str| plan.section("node").any(|node| node.contains_key(key));
    let refuses = |plan: &Sheet| {
        let walls = plan.section("site").filter_map(|site| site.get("firewall")?.get("inspect"));
        walls.into_iter().any(|rules| rules.to_string().contains("sni"))
    };
    let refusing: Vec<bool> = plans().filter(refuses).map(|plan| with(&plan, "tcp_name")).collect();
    assert!(refusing.contains(&true) && refusing.contains(&false), "the soak's generator never draws it: {refusing:?}");
}

#[test]
fn a_second_machine_with_a_nodes_key_is_drawn_in_both_methods() {
    let has_copy = |plan: &Sheet| plan.section("node").any(|node| node.contains_key("copy_of"));
    let of = |plan: Sheet| plan.scenario().expect("the generator writes scenarios").method.name();
    let drawn: BTreeSet<&str> = plans().filter(has_copy).map(of).collect();
    assert_eq!(drawn.len(), 2, "the soak's generator (generate/trouble.rs) draws `copy_of` for {drawn:?} only");
}

#[test]
fn every_word_of_signaling_is_drawn() {
    let of = |plan: Sheet| plan.scenario().expect("the generator writes scenarios").signaling.name();
    let drawn: BTreeSet<&str> = plans().map(of).collect();
    for word in names(Signaling::ALL, Signaling::name) {
        assert!(drawn.contains(word), "the soak's generator (generate/mod.rs) never draws signaling = {word:?}");
    }
}

#[test]
fn every_key_of_a_link_and_every_action_is_drawn() {
    let plans: Vec<Sheet> = plans().collect();
    let steps: Vec<&Table> = plans.iter().flat_map(|plan| plan.section("step")).collect();
    let links = steps.iter().copied().filter(|step| step.get("do").and_then(|action| action.as_str()) == Some("link"));
    let links = drawn(links);
    for key in link_keys() {
        // By their defaults: how long a queue is, and for how long a packet is held back.
        let is_left = ["queue_ms", "queue_bytes", "reorder_ms"].contains(key);
        assert_eq!(links.contains_key(*key), !is_left, "the soak's generator (generate.rs), `{key}` of a link");
    }
    let drawn = drawn(steps.into_iter());
    for action in actions() {
        // One needs a scenario of its own, the other says nothing that `wait` does not.
        let is_left = ["probe_mtu", "idle"].contains(action);
        assert_eq!(drawn["do"].contains(*action), !is_left, "the soak's generator (generate/trouble.rs): {action}");
    }
    let clocks: Vec<_> =
        names(HostClock::ALL, HostClock::name).into_iter().filter(|word| *word != "boottime").collect();
    let of_hosts = drawn.get("clock").map(|values| values.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(of_hosts, Some(clocks), "the soak's generator (generate/trouble.rs): `clock` of suspend");
    assert!(drawn.get("over").is_some_and(|values| values.contains("underlay")), "the soak's generator: `over` of tcp");
    for key in ["graceful", "running"] {
        let is_drawn = drawn.get(key).is_some_and(|values| values.contains("true"));
        assert!(is_drawn, "the soak's generator (generate/trouble.rs): {key}");
    }
}

#[test]
fn a_seed_means_the_same_for_as_long_as_the_generator_has_its_number() {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    (1..=60).for_each(|seed| context.update(generate(seed).render().as_bytes()));
    let digest = u64::from_be_bytes(*context.finish().as_ref().first_chunk().unwrap());
    assert_eq!(
        (GENERATOR, format!("{digest:016x}").as_str()),
        (23, "d9035d54100acb23"),
        "a seed means something else: give GENERATOR another number"
    );
}
