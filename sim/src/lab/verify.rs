//! Reruns what a folder of results holds and demands equal bytes.

use std::path::{Path, PathBuf};

use cyphonic_scenarios::{ResultsError, Table};

use super::batch::{self, Options};
use super::experiment::{self, Extent};
use super::extras::EXTRAS;
use super::reproduce;
use crate::error::LabError;
use crate::manifest::{self, Manifest};

/// Where the committed results are: all of them have to be there.
const COMMITTED: &str = "results/sim";

/// Reruns every experiment, those that take long only if asked for; the first difference is the error. Gives the report
/// to print. Of a folder other than `results/sim` it reruns what is there: people keep the part that they need.
pub fn verify(folder: &Path, is_full: bool, mut announce: impl FnMut(&str)) -> Result<String, LabError> {
    let extents = [Some(Extent::Usual), is_full.then_some(Extent::Full)];
    let mut plans = Vec::new();
    for extent in extents.into_iter().flatten() {
        plans.extend(experiment::plans(extent)?.into_iter().map(|plan| (plan, extent)));
    }
    let is_whole = folder == Path::new(COMMITTED);
    let mut absent: Vec<String> = Vec::new();
    let mut is_there = |name: &str| {
        let there = is_whole || folder.join(name).exists();
        absent.extend((!there).then(|| name.to_owned()));
        there
    };
    plans.retain(|(plan, _)| is_there(&format!("{}.csv", plan.name)));
    let mut extras = Vec::new();
    for extra in EXTRAS.iter().filter(|extra| is_full || extra.extent == Extent::Usual) {
        let there: Vec<PathBuf> =
            (extra.names)().into_iter().filter(|name| is_there(&name.display().to_string())).collect();
        if !there.is_empty() {
            extras.push((extra, there));
        }
    }
    let count = plans.len() + extras.iter().map(|(_, there)| there.len()).sum::<usize>();
    if count == 0 {
        return Err(LabError::Usage(format!(
            "{} has none of the files that `cyphonic-lab reproduce` writes: {}",
            folder.display(),
            absent.join(", ")
        )));
    }
    // Before anything runs: a missing or damaged file is told as such, not as a difference, and at once.
    let mut kept = Vec::new();
    for (plan, _) in &plans {
        let file = folder.join(format!("{}.csv", plan.name));
        let bytes = std::fs::read(&file).map_err(|source| ResultsError::Read { file: file.clone(), source })?;
        Table::parse(&file, &bytes, plan.measure)?;
        kept.push((file, bytes));
    }
    let read = |file: &Path| std::fs::read(file).map_err(|source| ResultsError::Read { file: file.to_owned(), source });
    for name in extras.iter().flat_map(|(_, there)| there) {
        read(&folder.join(name))?;
    }
    let steps = plans.len() + extras.len();
    let mut rows = 0;
    for (index, ((plan, extent), (file, kept))) in plans.iter().zip(&kept).enumerate() {
        announce(&format!("[{}/{steps}] {}", index + 1, plan.title));
        let table = batch::table(plan, &batch::outcomes(plan, &Options::default())?);
        rows += table.lines.len();
        let fresh = table.to_csv();
        same(file, kept, &fresh)?;
        came_from(is_whole, file, &reproduce::manifest_of(plan, *extent, file, &fresh)?)?;
    }
    for (index, (extra, there)) in extras.iter().enumerate() {
        announce(&format!("[{}/{steps}] {}", plans.len() + index + 1, extra.title));
        let made = (extra.make)()?;
        for (name, fresh) in made.files.iter().filter(|(name, _)| there.contains(name)) {
            let file = folder.join(name);
            rows += fresh.split(|byte| *byte == b'\n').count().saturating_sub(2);
            same(&file, &read(&file)?, fresh)?;
            came_from(is_whole, &file, &(extra.manifest)(extra.extent.command(), &file, fresh))?;
        }
    }
    let absent = if absent.is_empty() { String::new() } else { format!("Not there: {}.\n", absent.join(", ")) };
    Ok(format!("{count} files, {rows} rows: every byte is as a fresh run gives it.\n{absent}"))
}

fn same(file: &Path, kept: &[u8], fresh: &[u8]) -> Result<(), LabError> {
    if kept == fresh {
        return Ok(());
    }
    let [kept, fresh] = [kept, fresh].map(String::from_utf8_lossy);
    Err(LabError::Differs(difference(file, &kept, &fresh)))
}

/// The manifest of a committed file is that of its making. People's own folders may be without.
fn came_from(is_whole: bool, file: &Path, fresh: &Manifest) -> Result<(), LabError> {
    if is_whole { manifest::check(file, fresh) } else { Ok(()) }
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
