//! Shared by all robustness tests: the cells, and the results of a run.

use std::fmt;
use std::time::Duration;

use cyphonic_core::event::Event;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Engine, Scenario};
use cyphonic_sim::host::apps::ProbeOutcome;
use cyphonic_sim::run::{self, Run, StepOutcome};
use cyphonic_sim::world::{Watch, World};

use crate::common::{NAT, V4, scene_with};

/// One way in which two nodes can be connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Lines for the top of the scenario.
    pub(crate) settings: &'static str,
    /// The kinds of Alice's and Bob's sites.
    pub(crate) pair: [&'static str; 2],
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.settings.replace('\n', ", "), self.pair)
    }
}

pub(crate) const CONVENTIONAL: &str = "method = \"conventional\"";
pub(crate) const BLIND: &str = "method = \"proposed\"";
pub(crate) const TERMINATING: &str = "method = \"proposed\"\nrelay_mode = \"terminating\"";

const fn cell(settings: &'static str, pair: [&'static str; 2]) -> Cell {
    Cell { settings, pair }
}

/// Both methods, all three patterns with either node behind the NAT, both relay modes.
pub(crate) const CELLS: [Cell; 9] = [
    cell(CONVENTIONAL, [V4, V4]),
    cell(CONVENTIONAL, [NAT, V4]),
    cell(CONVENTIONAL, [V4, NAT]),
    cell(CONVENTIONAL, [NAT, NAT]),
    cell(BLIND, [V4, V4]),
    cell(BLIND, [NAT, V4]),
    cell(BLIND, [V4, NAT]),
    cell(BLIND, [NAT, NAT]),
    cell(TERMINATING, [NAT, NAT]),
];

impl Cell {
    pub(crate) fn scene(&self, link: &str, steps: &str) -> Scenario {
        scene_with(self.settings, self.pair, link, steps)
    }
}

/// Runs a scenario in a world that `spoil` changes before anything happens.
pub(crate) fn play(scenario: &Scenario, seed: u64, spoil: impl FnOnce(&mut World)) -> Run {
    let watch = Watch::default();
    let mut world = World::new(scenario, seed, Engine::Events, &watch);
    spoil(&mut world);
    run::run_in(world, scenario, seed, &watch)
}

/// The time from the start of a step's echo to its first answer, name resolution included.
pub(crate) fn first_answer(run: &Run, step: usize) -> Option<Duration> {
    let step = run.steps.get(step)?;
    let StepOutcome::App(_, report) = &step.outcome else { return None };
    let answered = report.echo()?.probes.iter().find_map(|probe| match probe.outcome {
        ProbeOutcome::Answered { rtt_ns } => Some(probe.sent + Duration::from_nanos(rtt_ns)),
        _ => None,
    });
    answered.map(|at| at - step.started)
}

/// How long a step took.
pub(crate) fn took(run: &Run, step: usize) -> Option<Duration> {
    run.steps.get(step).and_then(|step| Some(step.completed? - step.started))
}

/// The events without signals, for the message of a failed test.
pub(crate) fn story(run: &Run) -> String {
    let mut text = String::new();
    for (at, host, event) in &run.events {
        let line = match event {
            Event::Signal(signal) => format!("{at} {host}: {signal}{}\n", if signal.repeated { " again" } else { "" }),
            other => format!("{at} {host}: {other:?}\n"),
        };
        text.push_str(&line);
    }
    format!("{text}steps {:#?}\ndrops {:?}", run.steps, run.drops)
}

/// The number of times that a node reported a tunnel up.
pub(crate) fn tunnels_up(run: &Run, node: &str, since: Instant) -> usize {
    run.events.iter().filter(|(at, host, e)| *at >= since && host == node && matches!(e, Event::TunnelUp(_))).count()
}
