//! Runs all experiments, writes their results, and prints the paper's tables beside ours.

use std::fmt::Write as _;
use std::path::Path;

use cyphonic_scenarios::write_whole;

use super::experiment::{experiment, plans};
use super::{matrix, tables};
use crate::error::LabError;

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
