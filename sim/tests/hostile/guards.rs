//! Every deliberate defect of the core ([`cyphonic_core::defects`]) is caught by the soak or by a directed attack.
//!
//! Each defect is planted in runs of the soak's own seeds, in order, until a run violates an invariant. The same seed
//! must hold that invariant without the defect. Then the scenario of that run is made small.
//!
//! Some defects show in no random network: an attack on them needs a certificate and a QUIC stack of its own, or the
//! nodes recover in time without that defence. A directed attack of this folder must succeed against each of these.
//!
//! If nothing catches a defect, the invariants are too weak and have to be mended.
//!
//! `GUARDS=Name,Name` selects some defects. A single one is made as small as the soak would make it, and is printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;

use cyphonic_core::defects::{Defect, plant};
use cyphonic_sim::soak::campaign::{SHRINK_BUDGET, failure};
use cyphonic_sim::soak::check::examine;
use cyphonic_sim::soak::depth::Depth;
use cyphonic_sim::soak::generate::generate;
use cyphonic_sim::soak::violation::Invariant;

use crate::{amplification, certified, grants, insiders, lapses, rates, reflection, revoked, rules, silence, twins};

/// Most runs for one defect: two cores make as many in a minute, even in a debug build.
const MOST_RUNS: u64 = 4_000;
/// Most steps of a scenario that shows a defect, once it was made small.
const MOST_STEPS: usize = 10;
/// How many scenarios are tried to make it small.
const BUDGET: usize = 60;

struct Caught {
    invariant: Invariant,
    seed: u64,
    steps: usize,
    sentence: String,
}

/// The defects that a directed attack shows, and the test that is the attack.
const DIRECTED: [(Defect, &str, fn()); 18] = [
    (
        Defect::DisplacedUntold,
        "twins::of_two_machines_with_one_key_the_one_that_came_last_is_served_and_the_other_learns_why",
        twins::of_two_machines_with_one_key_the_one_that_came_last_is_served_and_the_other_learns_why,
    ),
    (
        Defect::PathsOutliveAccess,
        "revoked::the_paths_of_a_revoked_node_at_the_relay_end_even_if_both_nodes_ignore_it",
        revoked::the_paths_of_a_revoked_node_at_the_relay_end_even_if_both_nodes_ignore_it,
    ),
    (
        Defect::RequestsUnlimited,
        "rates::an_insider_that_asks_for_a_peer_without_end_is_answered_at_a_rate",
        rates::an_insider_that_asks_for_a_peer_without_end_is_answered_at_a_rate,
    ),
    (
        Defect::ChallengeOfAnybody,
        "rates::a_flood_in_the_name_of_a_nodes_own_address_does_not_keep_that_node_out",
        rates::a_flood_in_the_name_of_a_nodes_own_address_does_not_keep_that_node_out,
    ),
    (
        Defect::AheadUnchecked,
        "insiders::packets_ahead_of_the_tunnel_response_are_not_taken_without_a_route_direction",
        insiders::packets_ahead_of_the_tunnel_response_are_not_taken_without_a_route_direction,
    ),
    (
        Defect::DialerUnchecked,
        "insiders::a_quic_peer_that_gives_another_name_than_its_certificates_gets_no_tunnel",
        insiders::a_quic_peer_that_gives_another_name_than_its_certificates_gets_no_tunnel,
    ),
    (
        Defect::OldConnectionKept,
        "lapses::the_keys_of_a_connection_are_replaced_after_its_lifetime",
        lapses::the_keys_of_a_connection_are_replaced_after_its_lifetime,
    ),
    (
        Defect::SilentLapseMissed,
        "lapses::a_node_that_says_nothing_to_the_nms_loses_its_tunnels_when_its_certificate_ends_all_the_same",
        lapses::a_node_that_says_nothing_to_the_nms_loses_its_tunnels_when_its_certificate_ends_all_the_same,
    ),
    (
        Defect::CertifiedOwnerForgotten,
        "certified::an_address_leads_to_the_node_that_has_it_in_its_certificate",
        certified::an_address_leads_to_the_node_that_has_it_in_its_certificate,
    ),
    (
        Defect::EarlierRulesPreferred,
        "rules::a_change_counts_though_the_clock_of_the_nms_was_set_back_before_its_restart",
        rules::a_change_counts_though_the_clock_of_the_nms_was_set_back_before_its_restart,
    ),
    (
        Defect::RenewalUntold,
        "lapses::a_certificate_that_is_renewed_in_time_costs_no_packet_and_no_tunnel",
        lapses::a_certificate_that_is_renewed_in_time_costs_no_packet_and_no_tunnel,
    ),
    (
        Defect::GrantUnchecked,
        "grants::two_legs_are_not_bound_without_a_grant_or_with_a_forged_one",
        grants::two_legs_are_not_bound_without_a_grant_or_with_a_forged_one,
    ),
    (
        Defect::CertifiedAddressesIgnored,
        "certified::the_certificates_addresses_count_where_the_database_has_others",
        certified::the_certificates_addresses_count_where_the_database_has_others,
    ),
    (
        Defect::OtherAddressesBelieved,
        "certified::a_peer_has_no_other_addresses_than_those_of_its_certificate",
        certified::a_peer_has_no_other_addresses_than_those_of_its_certificate,
    ),
    (
        Defect::NamedAddressBelieved,
        "reflection::an_address_that_an_insider_only_names_is_not_dialed_by_anybody",
        reflection::an_address_that_an_insider_only_names_is_not_dialed_by_anybody,
    ),
    (
        Defect::HalfOpenUnshared,
        "amplification::a_hundred_sources_that_prove_themselves_do_not_keep_an_honest_node_out",
        amplification::a_hundred_sources_that_prove_themselves_do_not_keep_an_honest_node_out,
    ),
    (
        Defect::PathProbesUnanswered,
        "silence::a_moved_nodes_new_path_is_proved_and_the_tunnel_stands",
        silence::a_moved_nodes_new_path_is_proved_and_the_tunnel_stands,
    ),
    (
        Defect::PathSilenceUnnoticed,
        "silence::a_path_that_ends_in_silence_is_left_for_another_interface",
        silence::a_path_that_ends_in_silence_is_left_for_another_interface,
    ),
];

/// Whether the directed attack succeeds against the defect.
fn is_shown(defect: Defect, attack: fn()) -> bool {
    let _planted = plant(defect);
    std::panic::catch_unwind(attack).is_err()
}

/// Runs with the defect until it is caught.
fn hunt(defect: Defect, wanted: bool) -> Option<Caught> {
    let mut planted = Some(plant(defect));
    (1..=MOST_RUNS).find_map(|seed| {
        let sheet = generate(seed);
        let scenario = sheet.scenario().expect("the generator writes scenarios");
        let depth = Depth { turmoil: false, ..Depth::of(seed, &scenario) };
        let violation = examine(&scenario, depth).violation?;
        planted.take();
        let honest = examine(&scenario, depth).violation;
        planted = Some(plant(defect));
        if honest.is_some_and(|honest| honest.invariant == violation.invariant) {
            return None;
        }
        let small = scenario.steps.len() <= MOST_STEPS && !wanted;
        let budget = if small {
            0
        } else if wanted {
            SHRINK_BUDGET
        } else {
            BUDGET
        };
        let least = failure(seed, &sheet, &violation, depth, budget);
        if wanted {
            println!("{}", least.render());
        }
        let steps = least.section("step").count();
        Some(Caught { invariant: violation.invariant, seed, steps, sentence: violation.sentence })
    })
}

#[test]
fn every_planted_defect_is_caught_and_its_scenario_is_small() {
    let wanted = std::env::var("GUARDS").unwrap_or_default();
    let is_wanted = |defect: &Defect| wanted.split(',').any(|name| name == format!("{defect:?}"));
    let is_soaked = |defect: &Defect| DIRECTED.iter().all(|(directed, ..)| directed != defect);
    let queue: Vec<Defect> =
        Defect::ALL.iter().copied().filter(|d| is_soaked(d) && (wanted.is_empty() || is_wanted(d))).collect();
    let (queue, caught) = (Mutex::new(queue.into_iter().rev().collect::<Vec<_>>()), Mutex::new(BTreeMap::new()));
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().pop();
                    let Some(defect) = next else { return };
                    let result = hunt(defect, wanted == format!("{defect:?}"));
                    println!("{defect:?}: {}", result.as_ref().map_or("not caught", |caught| &caught.sentence));
                    caught.lock().unwrap().insert(defect, result);
                }
            });
        }
    });
    let mut table = format!("{:<26} by   seed = runs  steps  what was seen\n", "defect");
    let mut failed = Vec::new();
    for (defect, caught) in caught.into_inner().unwrap() {
        let name = format!("{defect:?}");
        if let Some(Caught { invariant, seed, steps, sentence }) = caught {
            let _ = writeln!(table, "{name:<26} {:<4} {seed:>11}  {steps:>5}  {sentence}", invariant.to_string());
            if steps > MOST_STEPS {
                failed.push(format!("{name}: {steps} steps"));
            }
        } else {
            let _ = writeln!(table, "{name:<26} –    {MOST_RUNS:>11}");
            failed.push(format!("{name}: never caught"));
        }
    }
    for (defect, name, attack) in DIRECTED.iter().filter(|(defect, ..)| wanted.is_empty() || is_wanted(defect)) {
        if is_shown(*defect, *attack) {
            let _ = writeln!(table, "{:<26} {name}", format!("{defect:?}"));
        } else {
            failed.push(format!("{defect:?}: {name} does not see it"));
        }
    }
    println!("{table}");
    assert!(failed.is_empty(), "{failed:?}\n{table}");
}

#[test]
fn a_defect_is_planted_for_one_thread_and_for_as_long_as_it_is_held() {
    let seed = (1..MOST_RUNS).find(|&seed| examine_with(Defect::DeliveredTwice, seed)).unwrap();
    let honest = std::thread::spawn(move || examine(&generate(seed).scenario().unwrap(), Depth::default()).violation);
    assert_eq!(honest.join().unwrap(), None);
    assert_eq!(examine(&generate(seed).scenario().unwrap(), Depth::default()).violation, None);
}

fn examine_with(defect: Defect, seed: u64) -> bool {
    let _planted = plant(defect);
    examine(&generate(seed).scenario().unwrap(), Depth::default()).violation.is_some()
}

#[test]
fn nothing_but_tests_depends_on_the_defects() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut users = Vec::new();
    for package in ["", "core", "scenarios", "sim", "real", "paper-figs"] {
        let text = std::fs::read_to_string(root.join(package).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        collect(&manifest, package, &mut users);
    }
    assert_eq!(users, ["core/features/defects", "sim/dev-dependencies/cyphonic-core/features"]);
}

/// Where a manifest says `defects`, as a key or as a value.
fn collect(table: &toml::Table, at: &str, users: &mut Vec<String>) {
    for (key, value) in table {
        let here = format!("{at}/{key}");
        match value {
            toml::Value::Table(inner) => collect(inner, &here, users),
            _ if key == "defects" || value.to_string().contains("defects") => users.push(here),
            _ => {}
        }
    }
}
