//! Reruns what a folder of results holds and demands equal bytes.

use std::path::Path;

use cyphonic_scenarios::{ResultsError, Table};

use super::batch::{self, Options};
use super::{LabError, reproduce};

/// Reruns every experiment; the first difference is the error. Gives the report to print.
pub fn verify(folder: &Path, mut announce: impl FnMut(&str)) -> Result<String, LabError> {
    let plans = reproduce::plans()?;
    let count = plans.len();
    // Before anything runs: a missing or damaged file is told as such, not as a difference, and at once.
    let mut kept = Vec::new();
    for plan in &plans {
        let file = folder.join(format!("{}.csv", plan.name));
        let bytes = std::fs::read(&file).map_err(|source| ResultsError::Read { file: file.clone(), source })?;
        Table::parse(&file, &bytes, plan.measure)?;
        kept.push((file, bytes));
    }
    let mut rows = 0;
    for (index, (plan, (file, kept))) in plans.iter().zip(&kept).enumerate() {
        announce(&format!("[{}/{count}] {}", index + 1, plan.title));
        let table = batch::table(plan, &batch::outcomes(plan, &Options::default())?);
        rows += table.lines.len();
        let fresh = table.to_csv();
        if *kept != fresh {
            let [kept, fresh] = [kept, &fresh].map(|bytes| String::from_utf8_lossy(bytes));
            return Err(LabError::Differs(difference(file, &kept, &fresh)));
        }
    }
    Ok(format!("{count} files, {rows} rows: every byte is as a fresh run gives it.\n"))
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
