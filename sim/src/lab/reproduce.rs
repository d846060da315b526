//! Runs all experiments, writes their results, and prints the paper's tables beside ours.

use std::fmt::Write as _;
use std::path::Path;

use cyphonic_scenarios::{Document, EMBEDDED, Engine, Plan, Table, write_whole};

use super::batch::{self, Options, Outcome};
use super::{LabError, matrix, tables};

/// One experiment, done.
pub struct Done {
    /// What was run.
    pub plan: Plan,
    /// Its rows.
    pub table: Table,
    /// How many runs were made on both engines.
    pub compared: usize,
}

/// Every experiment that is built in.
pub fn plans() -> Result<Vec<Plan>, LabError> {
    EMBEDDED.iter().map(|(name, _)| Ok(Plan::expand(&Document::embedded(name)?, &[])?)).collect()
}

/// Runs one experiment. What runs on turmoil runs on the event loop too, and must put the same bytes on every wire.
pub fn experiment(plan: Plan) -> Result<Done, LabError> {
    let reference = plan.cells.iter().any(|cell| cell.scenario.engine == Engine::Turmoil);
    let outcomes = batch::outcomes(&plan, &Options { digest: reference, ..Options::default() })?;
    let table = batch::table(&plan, &outcomes);
    let mut compared = 0;
    if reference {
        let options = Options { digest: true, engine: Some(Engine::Events), ..Options::default() };
        compared = compare(&plan, &outcomes, &batch::outcomes(&plan, &options)?)?;
    }
    Ok(Done { plan, table, compared })
}

/// How many runs both engines agree on: all, or it is an error that names the first that they do not.
fn compare(plan: &Plan, one: &[Outcome], other: &[Outcome]) -> Result<usize, LabError> {
    for (a, b) in one.iter().zip(other) {
        if a.digest != b.digest {
            let run = batch::name_of(plan, &plan.cells[a.cell], a.seed);
            return Err(LabError::Failed(format!(
                "{run}: the two engines put different bytes on the wires, which is a bug; \
                 look at both with `run {} --engine turmoil --pcap` and `--engine events --pcap`",
                plan.name
            )));
        }
    }
    Ok(one.len())
}

/// Runs everything; writes `DIR/NAME.csv` for each experiment once all have run; gives the report to print.
pub fn reproduce(out: &Path, mut announce: impl FnMut(&str)) -> Result<String, LabError> {
    super::writable(out)?;
    let mut all = Vec::new();
    let plans = plans()?;
    let count = plans.len() + 1;
    for (index, plan) in plans.into_iter().enumerate() {
        announce(&format!("[{}/{count}] {}", index + 1, plan.title));
        all.push(experiment(plan)?);
    }
    announce(&format!("[{count}/{count}] Every kind of site with every other"));
    let meetings = matrix::meetings()?;
    for done in &all {
        done.table.write(&out.join(format!("{}.csv", done.plan.name)))?;
    }
    write_whole(&out.join(matrix::FILE), &matrix::csv(&meetings))?;
    let mut report = tables::report(&all)?;
    let _ = writeln!(
        report,
        "\nWho reaches whom: every kind of site with every other (`cyphonic-lab matrix` shows each pair)\n{}",
        matrix::summary(&meetings)
    );
    matrix::agree(&meetings)?;
    let compared: usize = all.iter().map(|done| done.compared).sum();
    let _ = writeln!(
        report,
        "\nBoth engines (turmoil and the event loop) put the same bytes on every wire in {compared} of {compared} runs \
         compared."
    );
    let files: Vec<String> = all.iter().map(|done| format!("{}.csv", done.plan.name)).collect();
    let _ = writeln!(report, "Results: {}, {}", files.join(", "), matrix::FILE);
    let _ = writeln!(report, "     in: {}", out.display());
    Ok(report)
}
