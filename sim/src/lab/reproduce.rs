//! Runs all experiments, writes their results, and prints the paper's tables beside ours.

use std::fmt::Write as _;
use std::path::Path;

use cyphonic_scenarios::{Plan, write_whole};

use super::experiment::{Extent, experiment, plans};
use super::extras::{EXTRAS, Extra};
use super::tables;
use crate::error::LabError;
use crate::manifest::{self, Manifest};

/// Runs all experiments of that extent; writes `DIR/NAME.csv` for each once all have run, and its manifest beside it;
/// gives the report to print.
/// The files of [`EXTRAS`] that belong to the extent are among them.
pub fn reproduce(out: &Path, extent: Extent, mut announce: impl FnMut(&str)) -> Result<String, LabError> {
    super::writable(out)?;
    let mut all = Vec::new();
    let plans = plans(extent)?;
    let extras: Vec<&Extra> = EXTRAS.iter().filter(|extra| extra.extent == extent).collect();
    let count = plans.len() + extras.len();
    for (index, plan) in plans.into_iter().enumerate() {
        announce(&format!("[{}/{count}] {}", index + 1, plan.title));
        all.push(experiment(plan)?);
    }
    let mut made = Vec::new();
    for extra in extras {
        announce(&format!("[{}/{count}] {}", all.len() + made.len() + 1, extra.title));
        made.push((extra, (extra.make)()?));
    }
    let mut files: Vec<String> = all.iter().map(|done| format!("{}.csv", done.plan.name)).collect();
    for (done, file) in all.iter().zip(&files) {
        let (file, bytes) = (out.join(file), done.table.to_csv());
        write_whole(&file, &bytes)?;
        manifest::write(&file, &manifest_of(&done.plan, extent, &file, &bytes)?)?;
    }
    let mut report = tables::report(&all)?;
    for (extra, made) in made {
        for (name, bytes) in made.files {
            let file = out.join(&name);
            write_whole(&file, &bytes)?;
            manifest::write(&file, &(extra.manifest)(extent.command(), &file, &bytes))?;
            files.push(name.display().to_string());
        }
        if !made.report.is_empty() {
            let _ = writeln!(report, "\n{}", made.report);
        }
        if let Some(failed) = made.failed {
            return Err(failed);
        }
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
