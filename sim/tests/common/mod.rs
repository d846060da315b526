//! Small scenes: two nodes, each at a site of its own, and what they say to each other.

#![allow(dead_code, reason = "every test takes what it needs")]

use cyphonic_core::event::{Event, Signal};
use cyphonic_scenarios::{Engine, Scenario, first_cell, two_nodes};
use cyphonic_sim::net::TapMode;
use cyphonic_sim::run::{self, Run};
use cyphonic_sim::world::Watch;

/// The kinds of sites that give the three patterns.
pub(crate) const V4: &str = "ipv4-global";
pub(crate) const NAT: &str = "ipv4-private";

/// All services and nodes start.
pub(crate) const START: &str = "[[step]]\ndo = \"start\"\n";

/// What comes after the start of every scene.
pub(crate) const ECHO: &str = r#"
[[step]]
do = "echo"
from = "alice"
to = "bob"
"#;

/// The scenario of this text.
pub(crate) fn scenario(toml: &str) -> Scenario {
    first_cell("scene", toml).unwrap_or_else(|error| panic!("{error}\n{toml}"))
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
pub(crate) fn scene_of_sites(settings: &str, sites: [&str; 2], link: &str, steps: &str) -> Scenario {
    let top = format!("{settings}\n[services]\nas = {link}\nnms = {link}\ntrs = {link}");
    let [alice, bob] = sites.map(|keys| format!("link = {link}\n{keys}"));
    two_sites(&top, [&alice, &bob], &format!("{START}{steps}"))
}

/// Alice and Bob at two sites of these keys, with services at their default links. `steps` begin with [`START`].
pub(crate) fn two_sites(top: &str, sites: [&str; 2], steps: &str) -> Scenario {
    scenario(&two_nodes(top, sites, steps))
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
        Event::Signal(signal) if !signal.repeated => Some(&**signal),
        _ => None,
    })
}
