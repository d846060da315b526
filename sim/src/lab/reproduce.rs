//! Runs all experiments, writes their results, and prints the paper's tables beside ours.

use std::fmt::Write as _;
use std::path::Path;

use cyphonic_scenarios::write_whole;

use super::experiment::{Extent, experiment, plans};
use super::{matrix, tables};
use crate::error::LabError;

/// Runs all experiments of that extent; writes `DIR/NAME.csv` for each once all have run; gives the report to print.
/// The usual extent has the matrix as well.
pub fn reproduce(out: &Path, extent: Extent, mut announce: impl FnMut(&str)) -> Result<String, LabError> {
    super::writable(out)?;
    let mut all = Vec::new();
    let plans = plans(extent)?;
    let with_matrix = extent == Extent::Usual;
    let count = plans.len() + usize::from(with_matrix);
    for (index, plan) in plans.into_iter().enumerate() {
        announce(&format!("[{}/{count}] {}", index + 1, plan.title));
        all.push(experiment(plan)?);
    }
    let meetings = if with_matrix {
        announce(&format!("[{count}/{count}] Every kind of site with every other"));
        Some(matrix::meetings()?)
    } else {
        None
    };
    let mut files: Vec<String> = all.iter().map(|done| format!("{}.csv", done.plan.name)).collect();
    for (done, file) in all.iter().zip(&files) {
        done.table.write(&out.join(file))?;
    }
    let mut report = tables::report(&all)?;
    if let Some(meetings) = meetings {
        write_whole(&out.join(matrix::FILE), &matrix::csv(&meetings))?;
        files.push(matrix::FILE.to_owned());
        let _ = writeln!(
            report,
            "\nWho reaches whom: every kind of site with every other (`cyphonic-lab matrix` shows each pair)\n{}",
            matrix::summary(&meetings)
        );
        matrix::agree(&meetings)?;
    }
    let compared: usize = all.iter().map(|done| done.compared).sum();
    if compared > 0 {
        let _ = writeln!(
            report,
            "\nBoth engines (turmoil and the event loop) put the same bytes on every wire in {compared} of {compared} runs \
             compared."
        );
    }
    let _ = writeln!(report, "Results: {}", files.join(", "));
    let _ = writeln!(report, "     in: {}", out.display());
    Ok(report)
}
