//! Runs every cell and seed of a plan.

use std::io::{IsTerminal, Write as _};
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cyphonic_scenarios::{Cell, Engine, Plan, Row, Table};
use indicatif::{ProgressBar, ProgressStyle};

use crate::error::LabError;
use crate::measure;
use crate::net::TapMode;
use crate::run::{Run, run};
use crate::soak::campaign::now;
use crate::world::Watch;

/// How to run a plan.
#[derive(Clone, Default)]
pub struct Options {
    /// The engine, in place of the scenario's.
    pub engine: Option<Engine>,
    /// The seeds, in place of the plan's.
    pub seeds: Option<RangeInclusive<u64>>,
    /// Whether every run gets a digest over all wires.
    pub digest: bool,
}

/// The outcome of one run.
pub struct Outcome {
    /// Index into the plan's cells.
    pub cell: usize,
    /// The seed.
    pub seed: u64,
    /// The rows.
    pub rows: Vec<Row>,
    /// The digest over all wires, if asked for.
    pub digest: Option<String>,
}

/// Runs a plan on all cores. The outcomes are in the order of cells, then seeds.
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
    // After a failure some runs were never started. The first failure in order is reported.
    let mut done = Vec::new();
    for result in results.into_iter().flatten() {
        done.push(result?);
    }
    Ok(done)
}

/// Does work with each item, on all cores, with a progress bar on a terminal. The results are in the order of the
/// items.
pub fn each<T: Sync, R: Send>(name: &str, items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let progress = Progress::new(name, items.len() as u64, 0);
    let results = work(items, workers(None), &progress, f);
    progress.finish();
    results
}

/// The number of concurrent runs: as asked for, or one for each core.
pub fn workers(jobs: Option<usize>) -> usize {
    jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
}

/// Does work with each item, on this many threads. The results are in the order of the items.
pub fn work<T: Sync, R: Send>(items: &[T], workers: usize, progress: &Progress, f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<R>>> = Mutex::new(items.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..workers.min(items.len().max(1)) {
            scope.spawn(|| {
                while let Some((index, item)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| items.get(i).map(|item| (i, item)))
                {
                    let result = f(item);
                    results.lock().expect("a worker's panic ends the program")[index] = Some(result);
                    progress.step();
                }
            });
        }
    });
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

/// The name of a run in messages: `table1 (framing=compact, a_kind=ipv6) seed 1`.
pub fn name_of(plan: &Plan, cell: &Cell, seed: u64) -> String {
    match cell.name().as_str() {
        "" => format!("{} seed {seed}", plan.name),
        labels => format!("{} ({labels}) seed {seed}", plan.name),
    }
}

/// The outcomes as the plan's table.
pub fn table(plan: &Plan, outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(plan);
    for outcome in outcomes {
        for row in &outcome.rows {
            table.push(&plan.cells[outcome.cell].labels, outcome.seed, row.clone());
        }
    }
    table
}

/// How often progress is printed without a terminal.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The progress of many runs: a bar on a terminal, and lines elsewhere.
pub struct Progress {
    bar: ProgressBar,
    name: String,
    /// When the last line was written.
    told: Option<Mutex<Instant>>,
}

impl Progress {
    /// Progress of this many runs, some of which were made before.
    pub fn new(name: &str, length: u64, begun: u64) -> Self {
        let style =
            ProgressStyle::with_template("{msg:<10} {bar:30} {pos}/{len} runs  {elapsed}").expect("a good template");
        let bar = ProgressBar::new(length).with_style(style).with_message(name.to_owned()).with_position(begun);
        bar.tick();
        Self { bar, name: name.to_owned(), told: None }
    }

    /// Without a terminal, a line is printed now and then.
    #[must_use]
    pub fn in_words(self) -> Self {
        let told = (!std::io::stderr().is_terminal()).then(|| Mutex::new(now()));
        Self { told, ..self }
    }

    /// One more run was made.
    fn step(&self) {
        self.bar.inc(1);
        let Some(told) = &self.told else { return };
        let mut told = told.lock().expect("nothing here panics");
        if told.elapsed() >= TOLD_EVERY {
            *told = now();
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
            let _ = writeln!(std::io::stderr(), "{}: {done} of {all} runs", self.name);
        }
    }

    /// Prints something above the bar.
    pub fn above(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// All runs were made.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
