//! Reruns what a folder of results holds and demands equal bytes.

use std::path::Path;

use cyphonic_scenarios::Table;

use super::batch::{self, Options};
use super::{LabError, reproduce};

/// Reruns every experiment; the first difference is the error. Gives the report to print.
pub fn verify(folder: &Path, mut announce: impl FnMut(&str)) -> Result<String, LabError> {
    let plans = reproduce::plans()?;
    let count = plans.len();
    let mut rows = 0;
    for (index, plan) in plans.iter().enumerate() {
        announce(&format!("[{}/{count}] {}", index + 1, plan.title));
        let file = folder.join(format!("{}.csv", plan.name));
        // A damaged file is told as such, not as a difference.
        let kept = Table::read(&file, plan.measure)?;
        let fresh = batch::table(plan, &batch::outcomes(plan, &Options::default())?);
        rows += fresh.lines.len();
        let (kept, fresh) = (text(&kept), text(&fresh));
        let raw = std::fs::read_to_string(&file).unwrap_or_default();
        if raw != fresh {
            return Err(LabError::Differs(difference(&file, if raw == kept { &kept } else { &raw }, &fresh)));
        }
    }
    Ok(format!("{count} files, {rows} rows: every byte is as a fresh run gives it.\n"))
}

fn text(table: &Table) -> String {
    String::from_utf8(table.to_csv()).expect("tables are text")
}

fn difference(file: &Path, kept: &str, fresh: &str) -> String {
    let (mut a, mut b) = (kept.lines(), fresh.lines());
    let mut line = 0;
    loop {
        line += 1;
        let (kept, fresh) = (a.next(), b.next());
        if kept != fresh || kept.is_none() {
            let show = |text: Option<&str>| text.map_or("(no such line)".to_owned(), str::to_owned);
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
