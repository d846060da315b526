//! Runs one file: every cell of its sweep with every seed.

mod one;
mod qlog;
mod results;
mod summary;

use std::fmt::Write as _;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use cyphonic_scenarios::{Cell, Document, Engine, Plan, Row, Table};

use self::one::Single;
use self::results::Results;
use super::{batch, tables, view};
use crate::error::LabError;
use crate::manifest;
use crate::soak::campaign;

/// So many runs for each worker are made between two writings of results: a program that is stopped repeats no more.
const RUNS_A_WRITING: usize = 8;

/// What to do with one file.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct RunRequest {
    /// A path, or the name of a built-in scenario.
    pub file: String,
    /// Instead of the file's seeds.
    pub seeds: Option<RangeInclusive<u64>>,
    /// Instead of the file's engine.
    pub engine: Option<Engine>,
    /// Keys and values to lay over it.
    pub sets: Vec<(String, String)>,
    /// Where files go.
    pub out: Option<PathBuf>,
    /// Print JSON.
    pub json: bool,
    /// Print sequence diagrams.
    pub sequence: bool,
    /// Write captures.
    pub pcap: bool,
    /// Write qlog traces.
    pub qlog: bool,
    /// How many runs at once; all cores if nothing is said.
    pub jobs: Option<usize>,
    /// Replace results that are there already.
    pub overwrite: bool,
    /// Where the page of the first run goes; then no other run is made.
    pub view: Option<PathBuf>,
}

/// What is left of a run once it was printed.
struct Done {
    text: String,
    rows: Vec<Row>,
    failed: Vec<String>,
}

/// Runs the file and prints as it goes; gives what failed: the other runs are made all the same.
pub fn run_file(request: &RunRequest, out: &mut dyn Write) -> Result<Option<LabError>, LabError> {
    if (request.pcap || request.qlog) && request.out.is_none() {
        return Err(LabError::Usage("--pcap and --qlog write files: say where with --out DIR".to_owned()));
    }
    let mut plan = Plan::expand(&Document::open(&request.file)?, &request.sets)?;
    let mut seeds = request.seeds.clone().unwrap_or_else(|| plan.seeds.clone());
    if let Some(page) = &request.view {
        if plan.cells.len() > 1 || seeds.start() != seeds.end() {
            told("a page shows one run: the first cell, with the first seed; choose others with --set and --seed");
        }
        plan.cells.truncate(1);
        seeds = *seeds.start()..=*seeds.start();
        view::write(&plan, *seeds.start(), request.engine, page)?;
    }
    let each = (seeds.end() - seeds.start()).saturating_add(1);
    let total = each.checked_mul(plan.cells.len() as u64);
    let total = total.ok_or_else(|| LabError::Usage("so many seeds cannot be counted: ask for fewer".to_owned()))?;
    let mut results = match &request.out {
        Some(folder) => Some(Results::open(folder, &plan, &seeds, request.overwrite)?),
        None => None,
    };
    let begun = results.as_ref().map_or(0, Results::done);
    if begun > 0 {
        told(&format!("{begun} of {total} runs were made before: going on with the others"));
    }
    let workers = batch::workers(request.jobs);
    let progress = batch::Progress::new(&plan.name, total, begun).in_words();
    let mut table = Table::new(&plan);
    let mut failed: Vec<String> = Vec::new();
    let mut next = begun;
    print(out, if request.json { "[" } else { "" });
    while next < total {
        let until = total.min(next + (workers * RUNS_A_WRITING) as u64);
        let runs: Vec<(usize, u64)> =
            (next..until).map(|run| ((run / each) as usize, seeds.start() + run % each)).collect();
        let done = batch::work(&runs, workers, &progress, |&(cell, seed)| one(request, &plan, cell, seed));
        let mut batch = Table::new(&plan);
        for (&(cell, seed), done) in runs.iter().zip(done) {
            let done = done?;
            let separator = if request.json && next > begun { ",\n" } else { "" };
            progress.above(|| print(out, &format!("{separator}{}", done.text)));
            done.rows.into_iter().for_each(|row| batch.push(&plan.cells[cell].labels, seed, row));
            failed.extend(done.failed);
            next += 1;
        }
        match &mut results {
            // The whole is read back from the file, with what was there before.
            Some(results) => results.append(&batch, next)?,
            None => table.lines.extend(batch.lines),
        }
    }
    progress.finish();
    if let Some(results) = results {
        let made = results.finish()?;
        manifest::write(&made.file, &manifest_of(request, &plan, seeds)?.manifest(&made.file, &made.bytes))?;
        table = made.table;
    }
    if request.json {
        print(out, "]\n");
    } else {
        print(out, &summary::summary(&table));
        print(out, &format!("{}\n", tables::plain(&table)));
    }
    let failure = format!("{} of {} runs failed:\n  {}", failed.len(), total - begun, failed.join("\n  "));
    Ok((!failed.is_empty()).then_some(LabError::Failed(failure)))
}

/// How the results were asked for.
fn manifest_of<'a>(
    request: &'a RunRequest,
    plan: &Plan,
    seeds: RangeInclusive<u64>,
) -> Result<manifest::Request<'a>, LabError> {
    let quoted = |text: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+".contains(c);
        if text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
    };
    let mut command = format!("cyphonic-lab run {} --seed {}..{}", quoted(&request.file), seeds.start(), seeds.end());
    for (key, value) in &request.sets {
        let _ = write!(command, " --set {}", quoted(&format!("{key}={value}")));
    }
    if let Some(engine) = request.engine {
        let _ = write!(command, " --engine {}", engine.name());
    }
    let engine = |cell: &Cell| request.engine.unwrap_or(cell.scenario.engine).name();
    Ok(manifest::Request {
        command: command + " --out DIR",
        scenario: &request.file,
        text: manifest::text_of(&request.file)?,
        sets: &request.sets,
        cells: plan.cells.len(),
        seeds,
        engines: plan.cells.iter().map(engine).collect(),
    })
}

/// One run, whole.
fn one(request: &RunRequest, plan: &Plan, cell: usize, seed: u64) -> Result<Done, LabError> {
    let single = Single::run(request, plan, cell, seed)?;
    let scenario = &plan.cells[cell].scenario;
    let mut failed: Vec<String> = single.rows.as_ref().err().map(ToString::to_string).into_iter().collect();
    let held = scenario.expect.map(|_| campaign::hold(scenario, seed));
    if let Some((sentence, false)) = &held {
        failed.push(format!("{}: {sentence}", batch::name_of(plan, &plan.cells[cell], seed)));
    }
    let text = if request.json {
        format!("{:#}", single.json(plan))
    } else {
        let held = held.map(|(sentence, _)| format!("  {sentence}\n")).unwrap_or_default();
        single.print(request, plan) + &held
    };
    Ok(Done { text, rows: single.rows.unwrap_or_default(), failed })
}

/// A closed pipe, as with `| head`, is no failure.
fn print(out: &mut dyn Write, text: &str) {
    let _ = out.write_all(text.as_bytes());
}

fn told(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
