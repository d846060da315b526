//! The soak itself. Seeds are plans, shards join to the whole, and a broken expectation is caught and made small. Plans
//! that failed once do not fail any more.

use std::path::{Path, PathBuf};

use cyphonic_scenarios::{Engine, Plan};
use cyphonic_sim::error::LabError;
use cyphonic_sim::net::TapMode;
use cyphonic_sim::run::run;
use cyphonic_sim::soak::campaign::{Campaign, SHRINK_BUDGET, failure, replay};
use cyphonic_sim::soak::check::examine;
use cyphonic_sim::soak::depth::Depth;
use cyphonic_sim::soak::generate::{MOST, generate};
use cyphonic_sim::soak::results::{Results, Shard, merge};
use cyphonic_sim::soak::sheet::Sheet;
use cyphonic_sim::soak::violation::Invariant;
use cyphonic_sim::world::Watch;

/// `SOAK_SEEDS` sets a greater number.
fn seeds() -> u64 {
    std::env::var("SOAK_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

fn campaign(seeds: std::ops::RangeInclusive<u64>, shard: Shard, out: Option<&Path>) -> Campaign {
    Campaign { seeds, shard, jobs: None, time: None, out: out.map(Path::to_owned), broken: false }
}

#[test]
fn every_seed_is_a_scenario_that_reads_as_it_was_written() {
    for seed in 0..2_000 {
        let sheet = generate(seed);
        let text = sheet.render();
        assert_eq!(Sheet::parse(&text).unwrap(), sheet, "{text}");
        let scenario = sheet.scenario().unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(scenario.seeds, seed..=seed);
        let (sites, nodes) = (scenario.sites.len() as u64, scenario.nodes.len() as u64);
        assert!((1..=MOST).contains(&sites) && (2..=MOST).contains(&nodes), "{text}");
        assert_eq!(generate(seed).render(), text);
    }
}

#[test]
fn seeds_of_every_day_break_nothing_and_a_sample_of_them_is_the_same_again() {
    let (text, failed) = campaign(1..=seeds(), Shard::WHOLE, None).run().unwrap();
    println!("{text}");
    assert!(failed.is_none(), "{text}");
}

#[test]
fn two_halves_joined_are_the_whole_and_a_soak_goes_on_where_it_stopped() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [whole, halves, joined] = folders.each_ref().map(tempfile::TempDir::path);
    campaign(1..=16, Shard::WHOLE, Some(whole)).run().unwrap();
    for index in [1, 2] {
        campaign(1..=16, Shard { index, of: 2 }, Some(halves)).run().unwrap();
    }
    let join = |folder: &Path| {
        merge(&[folder.to_owned()], Some(joined), None).unwrap();
        std::fs::read_to_string(joined.join("soak.csv")).unwrap()
    };
    let all = join(whole);
    assert_eq!(all.lines().count(), 2 + 16);
    assert_eq!(join(halves), all);
    // The last run was cut off while its line was written.
    let file = whole.join(Results::file(Shard::WHOLE));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &text[..text.len() - 9]).unwrap();
    let (text, _) = campaign(1..=16, Shard::WHOLE, Some(whole)).run().unwrap();
    assert!(text.starts_with("1 runs"), "{text}");
    assert_eq!(join(whole), all);
    let other = campaign(1..=17, Shard::WHOLE, Some(whole)).run();
    assert!(matches!(other, Err(LabError::Usage(_))), "results of other seeds are not gone on with");
}

#[test]
fn a_broken_expectation_is_caught_and_made_small() {
    let depth = Depth { broken: true, ..Depth::default() };
    let sheet = generate(3);
    let violation = examine(&sheet.scenario().unwrap(), depth).violation.expect("nothing at all was to be answered");
    assert_eq!(violation.invariant, Invariant::I7);
    let least = failure(3, &sheet, &violation, depth, SHRINK_BUDGET);
    let text = least.render();
    assert!(text.contains("about = \"I7: ") && text.contains("echoes were answered"), "{text}");
    let scenario = least.scenario().unwrap();
    assert!(scenario.steps.len() <= 3 && scenario.nodes.len() == 2 && scenario.sites.len() <= 2, "{text}");
    assert!(examine(&scenario, depth).violation.is_some() && examine(&scenario, Depth::default()).violation.is_none());
}

#[test]
fn a_failing_plan_is_written_where_it_replays() {
    let folder = tempfile::tempdir().unwrap();
    let broken = Campaign { broken: true, ..campaign(3..=3, Shard::WHOLE, Some(folder.path())) };
    let (text, failed) = broken.run().unwrap();
    assert!(failed.is_some() && text.contains("seed 3: I7: "), "{text}");
    let (text, failed) = replay(folder.path().join("failures/soak-3.toml").to_str().unwrap()).unwrap();
    assert!(failed.is_none() && text.contains("every invariant holds") && !text.contains(" 0 demands"), "{text}");
}

/// The scenarios of a folder, in order; none if there is no such folder.
fn scenarios(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(folder);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

#[test]
fn what_failed_once_fails_no_more_on_either_engine() {
    let files = scenarios("regressions");
    assert!(!files.is_empty());
    for file in files {
        let (text, failed) = replay(file.to_str().unwrap()).unwrap();
        assert!(failed.is_none(), "{text}");
    }
}

#[test]
fn what_is_known_to_fail_still_does() {
    for file in scenarios("regressions/open") {
        let plan = Plan::load(&file, &[]).unwrap();
        let depth = Depth { packets: true, assault: true, ..Depth::default() };
        let violation = examine(&plan.cells[0].scenario, depth).violation;
        let about = violation.unwrap_or_else(|| panic!("{} holds now: move it up", file.display())).invariant;
        assert!(plan.about.starts_with(&format!("{about}: ")), "{} breaks {about}", file.display());
    }
}

#[test]
fn a_plan_gives_the_same_bytes_on_both_engines() {
    let small = |sheet: &Sheet| sheet.section("site").count() + sheet.section("node").count() <= 4;
    for sheet in (0..).map(generate).filter(small).take(2) {
        let scenario = sheet.scenario().unwrap();
        let watch = Watch { tap: TapMode::Digest, ..Watch::default() };
        let [a, b] =
            [Engine::Events, Engine::Turmoil].map(|on| run(&scenario, *scenario.seeds.start(), on, &watch).digest());
        assert_eq!(a, b, "{}", sheet.render());
    }
}
