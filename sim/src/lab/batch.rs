//! Runs every cell and seed of a plan.

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cyphonic_scenarios::{Cell, Engine, Plan, Row, Table};
use indicatif::{ProgressBar, ProgressStyle};

use crate::error::LabError;
use crate::measure;
use crate::net::TapMode;
use crate::run::{Run, run};
use crate::world::Watch;

/// How to run a plan.
#[derive(Clone, Default)]
pub struct Options {
    /// Instead of the scenario's engine.
    pub engine: Option<Engine>,
    /// Instead of the plan's seeds.
    pub seeds: Option<RangeInclusive<u64>>,
    /// Whether every run gets a digest over all wires.
    pub digest: bool,
}

/// What one run gave.
pub struct Outcome {
    /// Index into the plan's cells.
    pub cell: usize,
    /// The seed.
    pub seed: u64,
    /// The rows.
    pub rows: Vec<Row>,
    /// Over all wires, if asked for.
    pub digest: Option<String>,
}

/// Runs a plan on all cores; outcomes in the order of cells, then seeds.
pub fn outcomes(plan: &Plan, options: &Options) -> Result<Vec<Outcome>, LabError> {
    let seeds = options.seeds.clone().unwrap_or_else(|| plan.seeds.clone());
    let jobs: Vec<(usize, u64)> =
        (0..plan.cells.len()).flat_map(|cell| seeds.clone().map(move |seed| (cell, seed))).collect();
    let stop = AtomicBool::new(false);
    let results = each(&plan.name, &jobs, |&(cell, seed)| {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let result = one(plan, cell, seed, options);
        if result.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        Some(result)
    });
    // After a failure some were never started; the first failure in order is the one to tell.
    let mut done = Vec::new();
    for result in results.into_iter().flatten() {
        done.push(result?);
    }
    Ok(done)
}

/// Does something with each item, on all cores, with a bar on a terminal; what came of each, in order.
pub fn each<T: Sync, R: Send>(name: &str, items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let bar = progress(name, items.len() as u64);
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<R>>> = Mutex::new(items.iter().map(|_| None).collect());
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(items.len().max(1));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((index, item)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| items.get(i).map(|item| (i, item)))
                {
                    let result = f(item);
                    results.lock().expect("a worker's panic ends the program")[index] = Some(result);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let results = results.into_inner().expect("the workers are done");
    results.into_iter().map(|result| result.expect("every item was done")).collect()
}

fn one(plan: &Plan, cell: usize, seed: u64, options: &Options) -> Result<Outcome, LabError> {
    let scenario = &plan.cells[cell].scenario;
    let mut watch = measure::watch_for(scenario.measure);
    if options.digest && watch.tap == TapMode::Off {
        watch.tap = TapMode::Digest;
    }
    let ran = run(scenario, seed, options.engine.unwrap_or(scenario.engine), &watch);
    let rows = rows(plan, &plan.cells[cell], seed, &ran, &watch)?;
    Ok(Outcome { cell, seed, rows, digest: options.digest.then(|| ran.digest()) })
}

/// The rows of one run, or an error that names the run.
pub fn rows(plan: &Plan, cell: &Cell, seed: u64, ran: &Run, watch: &Watch) -> Result<Vec<Row>, LabError> {
    measure::rows(&cell.scenario, ran, watch)
        .map_err(|error| LabError::Measure { run: name_of(plan, cell, seed), error })
}

/// How a run is called in messages: `table1 (framing=compact, a_kind=ipv6) seed 1`.
pub fn name_of(plan: &Plan, cell: &Cell, seed: u64) -> String {
    match cell.name().as_str() {
        "" => format!("{} seed {seed}", plan.name),
        labels => format!("{} ({labels}) seed {seed}", plan.name),
    }
}

/// Outcomes as the plan's table.
pub fn table(plan: &Plan, outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(plan);
    for outcome in outcomes {
        for row in &outcome.rows {
            table.push(&plan.cells[outcome.cell].labels, outcome.seed, row.clone());
        }
    }
    table
}

/// A bar on a terminal; nothing anywhere else.
fn progress(name: &str, length: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg:<10} {bar:30} {pos}/{len} runs  {elapsed}").expect("a good template");
    let bar = ProgressBar::new(length).with_style(style).with_message(name.to_owned());
    bar.tick();
    bar
}
