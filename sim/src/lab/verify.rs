//! Reruns what a folder of results holds and demands equal bytes.

use std::path::Path;

use cyphonic_scenarios::{ResultsError, Table};

use super::batch::{self, Options};
use super::experiment::{self, Extent};
use super::matrix;
use crate::error::LabError;

/// Reruns every experiment, those that take long only if asked for; the first difference is the error. Gives the report
/// to print.
pub fn verify(folder: &Path, is_full: bool, mut announce: impl FnMut(&str)) -> Result<String, LabError> {
    let mut plans = experiment::plans(Extent::Usual)?;
    if is_full {
        plans.extend(experiment::plans(Extent::Full)?);
    }
    let count = plans.len() + 1;
    // Before anything runs: a missing or damaged file is told as such, not as a difference, and at once.
    let mut kept = Vec::new();
    for plan in &plans {
        let file = folder.join(format!("{}.csv", plan.name));
        let bytes = std::fs::read(&file).map_err(|source| ResultsError::Read { file: file.clone(), source })?;
        Table::parse(&file, &bytes, plan.measure)?;
        kept.push((file, bytes));
    }
    let file = folder.join(matrix::FILE);
    let matrix_kept = std::fs::read(&file).map_err(|source| ResultsError::Read { file: file.clone(), source })?;
    let mut rows = 0;
    for (index, (plan, (file, kept))) in plans.iter().zip(&kept).enumerate() {
        announce(&format!("[{}/{count}] {}", index + 1, plan.title));
        let table = batch::table(plan, &batch::outcomes(plan, &Options::default())?);
        rows += table.lines.len();
        same(file, kept, &table.to_csv())?;
    }
    announce(&format!("[{count}/{count}] Every kind of site with every other"));
    let meetings = matrix::meetings()?;
    rows += meetings.len();
    same(&file, &matrix_kept, &matrix::csv(&meetings))?;
    Ok(format!("{count} files, {rows} rows: every byte is as a fresh run gives it.\n"))
}

fn same(file: &Path, kept: &[u8], fresh: &[u8]) -> Result<(), LabError> {
    if kept == fresh {
        return Ok(());
    }
    let [kept, fresh] = [kept, fresh].map(String::from_utf8_lossy);
    Err(LabError::Differs(difference(file, &kept, &fresh)))
}

fn difference(file: &Path, kept: &str, fresh: &str) -> String {
    let (mut a, mut b) = (kept.split_terminator('\n'), fresh.split_terminator('\n'));
    let mut line = 0;
    loop {
        line += 1;
        let (kept, fresh) = (a.next(), b.next());
        if kept != fresh || kept.is_none() {
            let show = |text: Option<&str>| text.map_or("(no such line)".to_owned(), |line| line.replace('\r', "\\r"));
            return format!(
                "{}:{line}: differs from a fresh run\n  file:  {}\n  fresh: {}\nIf the change is meant, make the results \
                 anew with `cyphonic-lab reproduce`.",
                file.display(),
                show(kept),
                show(fresh),
            );
        }
    }
}
