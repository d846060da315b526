//! Runs all experiments, writes their results, and prints the paper's tables beside ours.

use std::fmt::Write as _;
use std::path::Path;

use cyphonic_scenarios::{Plan, write_whole};

use super::experiment::{Extent, experiment, plans};
use super::{matrix, tables};
use crate::error::LabError;
use crate::manifest::{self, Manifest};

/// Runs all experiments of that extent; writes `DIR/NAME.csv` for each once all have run, and its manifest beside it;
/// gives the report to print.
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
        let (file, bytes) = (out.join(file), done.table.to_csv());
        write_whole(&file, &bytes)?;
        manifest::write(&file, &manifest_of(&done.plan, extent, &file, &bytes)?)?;
    }
    let mut report = tables::report(&all)?;
    if let Some(meetings) = meetings {
        let (file, bytes) = (out.join(matrix::FILE), matrix::csv(&meetings));
        write_whole(&file, &bytes)?;
        manifest::write(&file, &matrix::manifest(extent.command(), &file, &bytes))?;
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

/// The manifest of an experiment that is built in.
pub(super) fn manifest_of(plan: &Plan, extent: Extent, file: &Path, bytes: &[u8]) -> Result<Manifest, LabError> {
    let text = manifest::text_of(&plan.name)?;
    Ok(manifest::of_plan(plan, text, extent.command()).manifest(file, bytes))
}
