//! Reads CSV files as typed rows, with errors that name the place and the remedy.
//!
//! A results file of the simulator has the sweep's columns, then `seed`, then the columns of its kind of row; a file of
//! the paper's printed values has only its own columns. Columns are found by name. Columns that are not the row's own
//! are kept as [`Line::run`]. Rows that agree in all of them (the seed is one) came from the same run of an experiment.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// One kind of row.
pub trait Row: DeserializeOwned {
    /// Its columns.
    const COLUMNS: &'static [&'static str];
    /// All columns that the program which makes the file writes for each row of this kind: none of them is the sweep's.
    const KIND: &'static [&'static str] = &[];
    /// Columns of the sweep whose values a figure pools, other than the seed. Each other column of the sweep makes
    /// separate cells: see [`Line::cell`].
    const POOLED: &'static [&'static str] = &[];
}

/// One row, and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Line<R> {
    /// The line of the file, from 1.
    pub number: u64,
    /// The values of all columns that are not the row's own: the sweep's, and the seed.
    pub run: Vec<String>,
    /// Those of them that make cells, as `column=value`: rows that differ here belong to different series. Mostly
    /// empty.
    pub cell: String,
    /// The row.
    pub row: R,
}

/// All rows of a file, at least one.
#[derive(Clone, Debug)]
pub struct Table<R> {
    /// Which file.
    pub path: PathBuf,
    /// Its rows in order.
    pub lines: Vec<Line<R>>,
    origin: Origin,
}

/// The origin of a file, which determines how to make it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The simulator.
    Simulator,
    /// Committed by hand: the values that the paper prints.
    Paper,
    /// Measured on real machines.
    Real,
}

impl Origin {
    /// The file of this origin within the results folder.
    pub fn path(self, results: &Path, stem: &str) -> PathBuf {
        let folder = match self {
            Self::Simulator => "sim",
            Self::Paper => "paper",
            Self::Real => "real",
        };
        results.join(folder).join(format!("{stem}.csv"))
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Simulator => "make it with `cargo run --release`",
            Self::Real => "measure it with `real/docker/run.sh`, or `real/bench/run.sh`",
            Self::Paper => "it belongs to the repository: restore it with `git checkout -- results/paper`",
        }
    }
}

/// A file from which no figure can be drawn: the file, the line, the problem, and the remedy.
#[derive(Debug, thiserror::Error)]
pub struct InputError {
    path: PathBuf,
    line: Option<u64>,
    problem: String,
    origin: Origin,
}

impl InputError {
    /// About a file that is no table of rows.
    pub(crate) fn of(path: &Path, line: Option<u64>, problem: String, origin: Origin) -> Self {
        Self { path: path.to_owned(), line, problem, origin }
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}; {}", self.problem, self.origin.remedy())
    }
}

impl<R> Table<R> {
    /// An error about the whole file.
    pub fn error(&self, problem: impl Into<String>) -> InputError {
        InputError { path: self.path.clone(), line: None, problem: problem.into(), origin: self.origin }
    }

    /// An error about one line of it.
    pub fn error_at(&self, line: u64, problem: impl Into<String>) -> InputError {
        InputError { line: Some(line), ..self.error(problem) }
    }
}

/// Reads a whole file.
///
/// # Errors
/// It cannot be read, is empty or cut off, lacks a column, or has a field that cannot be what its column says.
pub fn read<R: Row>(results: &Path, origin: Origin, stem: &str) -> Result<Table<R>, InputError> {
    let mut table = Table { path: origin.path(results, stem), lines: Vec::new(), origin };
    let bytes = std::fs::read(&table.path).map_err(|error| table.error(format!("cannot be read: {error}")))?;
    table.lines = parse(&table, &bytes)?;
    Ok(table)
}

fn parse<R: Row>(table: &Table<R>, bytes: &[u8]) -> Result<Vec<Line<R>>, InputError> {
    match bytes.last() {
        None => return Err(table.error("the file is empty")),
        // A number that was cut off is still a number, so the file must end with a newline.
        Some(last) if *last != b'\n' => {
            let line = bytes.split(|byte| *byte == b'\n').count() as u64;
            return Err(table.error_at(line, "the file is cut off: its last line has no end"));
        }
        Some(_) => {}
    }
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(bytes);
    let header = reader.headers().map_err(|error| explain(table, None, &error))?.clone();
    for column in R::COLUMNS {
        match header.iter().filter(|name| name == column).count() {
            0 => return Err(table.error_at(1, format!("there is no column `{column}`"))),
            1 => {}
            _ => return Err(table.error_at(1, format!("there are several columns `{column}`"))),
        }
    }
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| explain(table, None, &error))?;
        let number = record.position().map_or(0, csv::Position::line);
        let row =
            record.deserialize(Some(&header)).map_err(|error| explain(table, Some((&header, &record)), &error))?;
        let labels = || header.iter().zip(&record).filter(|(name, _)| !R::COLUMNS.contains(name));
        let is_pooled = |name: &str| name == "seed" || R::POOLED.contains(&name) || R::KIND.contains(&name);
        let cell = labels().filter(|(name, _)| !is_pooled(name)).map(|(name, value)| format!("{name}={value}"));
        let cell = cell.collect::<Vec<_>>().join(", ");
        let of_sweep = labels().filter(|(name, _)| !R::KIND.contains(name));
        lines.push(Line { number, run: of_sweep.map(|(_, value)| value.to_owned()).collect(), cell, row });
    }
    if lines.is_empty() {
        return Err(table.error_at(1, "there are no rows below the header"));
    }
    Ok(lines)
}

/// Turns an error of the csv crate into words about the file.
fn explain<R>(
    table: &Table<R>,
    at: Option<(&csv::StringRecord, &csv::StringRecord)>,
    error: &csv::Error,
) -> InputError {
    let line = error.position().map(csv::Position::line);
    let problem = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!("{len} fields instead of {expected_len}"),
        csv::ErrorKind::Utf8 { .. } => "this is no text".to_owned(),
        csv::ErrorKind::Deserialize { err, .. } => {
            let field = err.field().and_then(|index| {
                let (header, record) = at?;
                Some(format!("`{}` in column `{}`: ", record.get(index as usize)?, header.get(index as usize)?))
            });
            format!("{}{}", field.unwrap_or_default(), err.kind())
        }
        _ => error.to_string(),
    };
    InputError { line, ..table.error(problem) }
}

#[cfg(test)]
mod tests;
