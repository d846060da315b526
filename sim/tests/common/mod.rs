//! Small scenes: two nodes, each at a site of its own, and what they say to each other.

#![allow(dead_code, reason = "every test takes what it needs")]

use cyphonic_core::event::{Event, Signal};
use cyphonic_scenarios::{Document, Engine, Plan, Scenario};
use cyphonic_sim::net::TapMode;
use cyphonic_sim::run::{self, Run};
use cyphonic_sim::world::Watch;

/// The kinds of sites that give the three patterns.
pub(crate) const V4: &str = "ipv4-global";
pub(crate) const NAT: &str = "ipv4-private";

/// What comes after the start of every scene.
pub(crate) const ECHO: &str = r#"
[[step]]
do = "echo"
from = "alice"
to = "bob"
"#;

/// The scenario of this text.
pub(crate) fn scenario(toml: &str) -> Scenario {
    let document = Document::parse("scene", toml).unwrap_or_else(|error| panic!("{error}"));
    let plan = Plan::expand(&document, &[]).unwrap_or_else(|error| panic!("{error}"));
    plan.cells.into_iter().next().expect("a plan has a cell").scenario
}

/// Alice, in a network of the first kind, and Bob, in one of the second, start; then Alice sends Bob one echo.
/// `settings` are lines for the top of the file, `link` is every link.
pub(crate) fn scene(settings: &str, pair: [&str; 2], link: &str) -> Scenario {
    scene_with(settings, pair, link, ECHO)
}

/// As [`scene`], with other steps after the start.
pub(crate) fn scene_with(settings: &str, pair: [&str; 2], link: &str, steps: &str) -> Scenario {
    let [alice, bob] = pair.map(|kind| format!("kind = \"{kind}\""));
    scene_of_sites(settings, [&alice, &bob], link, steps)
}

/// As [`scene_with`], with all the keys of each site but its name and link.
pub(crate) fn scene_of_sites(settings: &str, [alice, bob]: [&str; 2], link: &str, steps: &str) -> Scenario {
    scenario(&format!(
        r#"
title = "A scene"
about = "Alice sends Bob an echo."
measure = "outcome"
{settings}

[services]
as = {link}
nms = {link}
trs = {link}

[[site]]
name = "a"
link = {link}
{alice}

[[site]]
name = "b"
link = {link}
{bob}

[[node]]
name = "alice"
site = "a"

[[node]]
name = "bob"
site = "b"

[[step]]
do = "start"
{steps}
"#
    ))
}

/// One run, without taps.
pub(crate) fn play(scenario: &Scenario, seed: u64, engine: Engine) -> Run {
    play_with(scenario, seed, engine, TapMode::Off)
}

/// One run.
pub(crate) fn play_with(scenario: &Scenario, seed: u64, engine: Engine, tap: TapMode) -> Run {
    run::run(scenario, seed, engine, &Watch { tap, ..Watch::default() })
}

/// The arrows of the run's diagram: what was said for the first time.
pub(crate) fn arrows(run: &Run) -> impl Iterator<Item = &Signal> {
    run.events.iter().filter_map(|(_, _, event)| match event {
        Event::Signal(signal) if !signal.repeated => Some(signal),
        _ => None,
    })
}
