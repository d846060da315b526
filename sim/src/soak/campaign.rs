//! Runs many seeds: on all cores, in shards, and resumed from where it stopped.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{IsTerminal, Write as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cyphonic_scenarios::{Document, Plan, ResultsError, Scenario};
use indicatif::{ProgressBar, ProgressStyle};

use super::check::{Examined, examine};
use super::coverage::Coverage;
use super::depth::Depth;
use super::generate::generate;
use super::results::{self, Results, Shard, range, version};
use super::sheet::Sheet;
use super::shrink::shrink;
use super::violation::Violation;
use crate::error::LabError;

/// Most plans that are tried to make a failing one small.
pub const SHRINK_BUDGET: usize = 600;
/// The number of failures of one invariant whose plans are made small. Later ones are kept as they are.
const SHRUNK_ALIKE: usize = 3;
/// How often progress is printed without a terminal.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// The variables in which cluster schedulers give a task's number in its array.
const TASKS: [&str; 3] = ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "HQ_TASK_ID"];
/// The number of tasks of Slurm's array, and its first and last number.
const SLURM_TASKS: [&str; 3] = ["SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX"];
/// Most seeds of one soak: their results must fit into memory.
const MOST_SEEDS: u64 = 1_000_000_000;

/// A soak to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The seeds; each is a plan.
    pub seeds: RangeInclusive<u64>,
    /// The part of the seeds that is run here.
    pub shard: Shard,
    /// The number of concurrent runs; `None`: the number of cores.
    pub jobs: Option<usize>,
    /// No run is started after this time.
    pub time: Option<Duration>,
    /// Where results and failures go.
    pub out: Option<PathBuf>,
    /// See [`Depth::broken`].
    pub broken: bool,
}

/// The shard of `--shard I/N` or `/N`, or of the scheduler, whose tasks may begin at any number.
pub fn shard(option: Option<&str>, env: impl Fn(&str) -> Option<String>) -> Result<Shard, String> {
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| format!("{text:?} is no number"));
    let task = TASKS.iter().find_map(|name| env(name)).map(|text| number(&text)).transpose()?;
    let (index, of) =
        match option.map(|text| text.split_once('/').ok_or("write --shard I/N, or /N in an array of tasks")) {
            Some(parts) => match parts? {
                ("", of) => (task.ok_or(format!("/{of} needs one of {}", TASKS.join(", ")))?, number(of)?),
                (index, of) => {
                    let (index, of) = (number(index)?, number(of)?);
                    if index == 0 || index > of {
                        return Err(format!("shards are 1/{of} to {of}/{of}"));
                    }
                    return Ok(Shard { index, of });
                }
            },
            None => match (task, SLURM_TASKS.map(&env)) {
                (None, _) => return Ok(Shard::WHOLE),
                (Some(task), [Some(count), first, last]) => {
                    let count = number(&count)?;
                    let (first, last) = (first.as_deref().map(number), last.as_deref().map(number));
                    if let (Some(first), Some(last)) = (first.transpose()?, last.transpose()?)
                        && last.saturating_sub(first) + 1 != count
                    {
                        return Err(format!(
                            "the array has {count} tasks from {first} to {last}: where numbers are left out, \
                                        say which shard this is, with --shard I/N"
                        ));
                    }
                    (task, count)
                }
                (Some(_), _) => return Err("this is a task of an array: say of how many, with --shard /N".to_owned()),
            },
        };
    // N consecutive numbers have N different remainders, whatever the first one is.
    if of == 0 { Err("there are no shards".to_owned()) } else { Ok(Shard { index: index % of + 1, of }) }
}

struct State {
    results: Results,
    coverage: Coverage,
    file: Option<std::fs::File>,
    failures: Vec<(u64, Violation, Option<Sheet>)>,
    told: Instant,
    trouble: Option<LabError>,
}

impl Campaign {
    /// Runs the seeds that are not done yet. Gives the text to print, and the error if seeds failed.
    pub fn run(&self) -> Result<(String, Option<LabError>), LabError> {
        if self.seeds.end().saturating_sub(*self.seeds.start()) / self.shard.of >= MOST_SEEDS {
            return Err(LabError::Usage(format!("more than {MOST_SEEDS} seeds at once: give fewer, or a --shard")));
        }
        let mut results = Results::new(version(), self.seeds.clone(), self.shard);
        let file = self.out.as_deref().map(|out| open(out, &mut results)).transpose()?;
        let todo: Vec<u64> = self.shard.seeds(&self.seeds).filter(|seed| !results.lines.contains_key(seed)).collect();
        let before = results.lines.len();
        let began = now();
        let bar = ProgressBar::new(todo.len() as u64).with_style(
            ProgressStyle::with_template("soak {bar:30} {pos}/{len} runs  {per_sec}  {elapsed}  {msg}")
                .expect("a good template"),
        );
        let coverage = results.coverage();
        let state = Mutex::new(State { results, coverage, file, failures: Vec::new(), told: began, trouble: None });
        let next = AtomicUsize::new(0);
        let jobs = self.jobs.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
        std::thread::scope(|scope| {
            for _ in 0..jobs.min(todo.len()).max(1) {
                scope.spawn(|| {
                    while self.time.is_none_or(|time| began.elapsed() < time)
                        && let Some(&seed) = todo.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        if !self.one(seed, &state, &bar, began) {
                            return;
                        }
                    }
                });
            }
        });
        bar.finish_and_clear();
        let mut state = state.into_inner().expect("the workers are done");
        if let Some(trouble) = state.trouble.take() {
            return Err(trouble);
        }
        let took = began.elapsed().as_secs_f64();
        let ran = state.results.lines.len() - before;
        let mut text = format!("{ran} runs in {took:.0} s, {:.1} runs/s\n", ran as f64 / took.max(1e-3));
        text.push_str(&state.results.summary(&state.coverage));
        state.failures.sort_by_key(|(seed, ..)| *seed);
        for (seed, violation, sheet) in &state.failures {
            let _ = writeln!(text, "\nseed {seed}: {violation}");
            if let (Some(sheet), None) = (sheet, &self.out) {
                text.push_str(&sheet.render());
            }
        }
        let failed = state.results.failed().len();
        let at = self.out.as_ref().map(|out| format!("; see {}", out.join(FAILURES).display())).unwrap_or_default();
        let error = (failed > 0).then(|| LabError::Failed(format!("{failed} seeds failed{at}")));
        Ok((text, error))
    }

    /// Runs one seed; false if the campaign has to stop.
    fn one(&self, seed: u64, state: &Mutex<State>, bar: &ProgressBar, began: Instant) -> bool {
        let sheet = generate(seed);
        let scenario = sheet.scenario().expect("the generator writes scenarios");
        let depth = Depth { broken: self.broken, ..Depth::of(seed, &scenario) };
        let examined = examine(&scenario, depth);
        let mut small = None;
        if let Some(violation) = &examined.violation {
            let alike = {
                let state = state.lock().expect("a worker's panic ends the program");
                state.failures.iter().filter(|(_, other, _)| other.invariant == violation.invariant).count()
            };
            let budget = if alike < SHRUNK_ALIKE { SHRINK_BUDGET } else { 0 };
            small = Some(failure(seed, &sheet, violation, depth, budget));
        }
        let mut state = state.lock().expect("a worker's panic ends the program");
        if let Err(trouble) = state.keep(seed, &examined, small, self.out.as_deref()) {
            state.trouble.get_or_insert(trouble);
            return false;
        }
        state.coverage.add(&scenario, &examined.paths);
        bar.inc(1);
        let (reached, may) = state.coverage.reached();
        let said = format!("{} failed, {reached} of {may} combinations reached", state.failures.len());
        bar.set_message(said.clone());
        if !std::io::stderr().is_terminal() && state.told.elapsed() > TOLD_EVERY {
            state.told = now();
            let (done, all) = (bar.position(), bar.length().unwrap_or(0));
            let rate = done as f64 / began.elapsed().as_secs_f64();
            let _ = writeln!(std::io::stderr(), "{done} of {all} runs, {rate:.1} runs/s, {said}");
        }
        true
    }
}

const FAILURES: &str = "failures";

impl State {
    fn keep(
        &mut self,
        seed: u64,
        examined: &Examined,
        small: Option<Sheet>,
        out: Option<&Path>,
    ) -> Result<(), LabError> {
        let line = Results::line(seed, examined);
        if let (Some(sheet), Some(out)) = (&small, out) {
            let folder = out.join(FAILURES);
            results::write(&folder.join(format!("soak-{seed}.toml")), &sheet.render())?;
        }
        if let (Some(file), Some(out)) = (&mut self.file, out) {
            file.write_all(line.as_bytes()).map_err(|source| unwritten(out, self.results.shard, source))?;
        }
        let rest = line.trim_end().split_once(',').map_or("", |(_, rest)| rest);
        self.results.lines.insert(seed, rest.to_owned());
        if let Some(violation) = &examined.violation {
            self.failures.push((seed, violation.clone(), small));
        }
        Ok(())
    }
}

/// The smallest plan with the same failure, described in its `about`.
pub fn failure(seed: u64, sheet: &Sheet, violation: &Violation, depth: Depth, budget: usize) -> Sheet {
    let mut last = violation.sentence.clone();
    let (mut least, _) = shrink(sheet, budget, |candidate| {
        let Ok(scenario) = candidate.scenario() else { return false };
        match examine(&scenario, depth).violation {
            Some(found) if found.is_like(violation) => {
                last = found.sentence;
                true
            }
            _ => false,
        }
    });
    // The last plan that failed is the one that was kept.
    least.set("title", format!("Soak {seed} breaks {}", violation.invariant));
    least.set("about", format!("{}: {last}.", violation.invariant));
    least.set("expect", violation.invariant.name());
    least
}

/// `--replay FILE`: checks every invariant on a file, on both engines.
pub fn replay(file: &str) -> Result<(String, Option<LabError>), LabError> {
    let plan = Plan::expand(&Document::open(file)?, &[])?;
    let mut text = String::new();
    let mut failed = 0;
    for cell in &plan.cells {
        for seed in plan.seeds.clone() {
            let (sentence, holds) = hold(&cell.scenario, seed);
            failed += usize::from(!holds);
            let _ = writeln!(text, "{file} seed {seed}: {sentence}");
        }
    }
    Ok((text, (failed > 0).then(|| LabError::Failed(format!("{failed} runs failed")))))
}

/// Checks every invariant on a scenario with one seed, on both engines. Gives a text with the result, and whether all
/// of them hold.
pub fn hold(scenario: &Scenario, seed: u64) -> (String, bool) {
    let examined = examine(&Scenario { seeds: seed..=seed, ..scenario.clone() }, Depth::FULL);
    match examined.violation {
        None => {
            let (s, demanded) = (examined.simulated_s, examined.demanded);
            (format!("every invariant holds; {s} s simulated, {demanded} demands"), true)
        }
        Some(violation) => (violation.to_string(), false),
    }
}

/// Opens the shard's file to append to it. The lines that it has are put into `results`.
fn open(out: &Path, results: &mut Results) -> Result<std::fs::File, LabError> {
    let path = out.join(Results::file(results.shard));
    if path.exists() {
        let old = Results::load(&path)?;
        let differs = if old.version != results.version {
            Some(format!("of {}, and this is {}", old.version, results.version))
        } else if old.seeds != results.seeds {
            Some(format!("of seeds {}, and not of {}", range(&old.seeds), range(&results.seeds)))
        } else {
            (old.shard != results.shard).then(|| format!("of shard {}, and not of {}", old.shard, results.shard))
        };
        if let Some(differs) = differs {
            return Err(LabError::Usage(format!("{} holds results {differs}: give another --out", path.display())));
        }
        results.lines = old.lines;
    }
    // Writes the file anew, without an incomplete last line.
    results::write(&path, &results.render())?;
    let file = OpenOptions::new().append(true).open(&path);
    file.map_err(|source| unwritten(out, results.shard, source))
}

fn unwritten(folder: &Path, shard: Shard, source: std::io::Error) -> LabError {
    LabError::Results(ResultsError::Write { folder: folder.to_owned(), file: Results::file(shard).into(), source })
}

/// The time on this machine, for what people see of progress.
#[expect(clippy::disallowed_methods, reason = "how long people wait; no run ever sees it")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_said_or_comes_from_the_scheduler() {
        const TASK: (&str, &str) = ("SLURM_ARRAY_TASK_ID", "4");
        const COUNT: &str = SLURM_TASKS[0];
        let env = |pairs: &'static [(&'static str, &'static str)]| {
            move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let get = |option, pairs| shard(option, env(pairs)).map(|shard| shard.to_string());
        assert_eq!(get(None, &[]).unwrap(), "1/1");
        assert_eq!(get(Some("2/4"), &[("SLURM_ARRAY_TASK_ID", "9")]).unwrap(), "2/4");
        assert_eq!(get(None, &[TASK, (COUNT, "4")]).unwrap(), "1/4");
        assert_eq!(get(None, &[TASK, (COUNT, "4"), (SLURM_TASKS[1], "2"), (SLURM_TASKS[2], "5")]).unwrap(), "1/4");
        let sparse = get(None, &[TASK, (COUNT, "2"), (SLURM_TASKS[1], "2"), (SLURM_TASKS[2], "4")]);
        assert!(sparse.unwrap_err().contains("--shard I/N"), "two tasks would be one shard");
        assert_eq!(get(Some("/3"), &[("JOB_COMPLETION_INDEX", "0")]).unwrap(), "1/3");
        assert_eq!(get(Some("/3"), &[("HQ_TASK_ID", "5")]).unwrap(), "3/3");
        for (option, pairs) in [
            (Some("0/4"), &[][..]),
            (Some("5/4"), &[]),
            (Some("4"), &[]),
            (Some("/4"), &[]),
            (Some("/0"), &[("HQ_TASK_ID", "1")]),
            (None, &[("HQ_TASK_ID", "1")]),
        ] {
            assert!(get(option, pairs).is_err(), "{option:?}");
        }
    }
}
