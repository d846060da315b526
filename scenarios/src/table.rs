//! A results file: a header, and a line for each row, with the sweep's values and the seed in front of it.
//!
//! It is written under another name and then renamed, so that a crash leaves the old file or the complete new one. A
//! file that ends without a newline, or has a line with too few fields, was cut off. It is refused and not read in
//! part.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::plan::{Plan, header};
use crate::rows::Row;
use crate::words::Measure;

/// The rows of one experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The measure.
    pub measure: Measure,
    /// The names of the sweep's columns.
    pub columns: Vec<String>,
    /// The rows, in the order of cells, then seeds.
    pub lines: Vec<Line>,
}

/// One row and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The values of the sweep's columns.
    pub labels: Vec<String>,
    /// The run's seed.
    pub seed: u64,
    /// The row.
    pub row: Row,
}

impl Line {
    /// Whether the row is about this value of the sweep.
    pub fn has(&self, columns: &[String], column: &str, value: &str) -> bool {
        columns.iter().zip(&self.labels).any(|(c, l)| c == column && l == value)
    }
}

/// Why results cannot be written or read.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each variant is described by its message, which names its fields")]
pub enum ResultsError {
    #[error("cannot create the folder {}: {source}; choose another with --out", .folder.display())]
    CreateFolder { folder: PathBuf, source: io::Error },
    #[error("cannot write {} in the folder {}: {source}; make it writable, or choose another with --out", .file.display(), .folder.display())]
    Write { folder: PathBuf, file: PathBuf, source: io::Error },
    #[error("cannot read {}: {source}; run the experiment again, or name another folder", .file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{}:{line}: the file is cut off: its last line has no end; run the experiment again", .file.display())]
    CutOff { file: PathBuf, line: usize },
    #[error("{}: the file is empty; run the experiment again", .file.display())]
    Empty { file: PathBuf },
    #[error("{}:{line}: {found} fields instead of {expected}: the file is damaged; run the experiment again", .file.display())]
    FieldCount { file: PathBuf, line: usize, expected: usize, found: usize },
    #[error("{}:1: the header ends in {found:?}, not in {expected:?}: these are no rows of the measure \"{measure}\", or of another version", .file.display())]
    Header { file: PathBuf, measure: Measure, expected: String, found: String },
    #[error("{}:{line}: {message}: the file is damaged; run the experiment again", .file.display())]
    Value { file: PathBuf, line: usize, message: String },
}

impl Table {
    /// An empty table for a plan.
    pub fn new(plan: &Plan) -> Self {
        Self { measure: plan.measure, columns: plan.columns.clone(), lines: Vec::new() }
    }

    /// Adds a row of a cell.
    ///
    /// # Panics
    /// If the row is of another measure, or the labels are not this table's columns.
    pub fn push(&mut self, labels: &[(String, String)], seed: u64, row: Row) {
        assert_eq!(row.measure(), self.measure, "a row of another measure");
        assert!(labels.iter().map(|(column, _)| column).eq(&self.columns), "labels of another plan");
        self.lines.push(Line { labels: labels.iter().map(|(_, value)| value.clone()).collect(), seed, row });
    }

    /// The header: the sweep's columns, `seed`, and the columns of the measure.
    pub fn header(&self) -> Vec<String> {
        header(&self.columns, self.measure)
    }

    /// The fields of each line, as its file has them; as many as [`Self::header`] has.
    pub fn records(&self) -> impl Iterator<Item = Vec<String>> {
        self.lines.iter().map(|line| {
            let row = line.row.record().expect("a row of numbers and names is a record");
            let row = row.iter().map(str::to_owned);
            line.labels.iter().cloned().chain([line.seed.to_string()]).chain(row).collect()
        })
    }

    /// The bytes of its file.
    pub fn to_csv(&self) -> Vec<u8> {
        let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
        for record in std::iter::once(self.header()).chain(self.records()) {
            writer.write_record(&record).expect("every record has the header's length, and memory takes it");
        }
        writer.into_inner().expect("memory takes it")
    }

    /// Writes its file, whole or not at all.
    pub fn write(&self, file: &Path) -> Result<(), ResultsError> {
        write_whole(file, &self.to_csv())
    }

    /// Reads a file back.
    pub fn read(file: &Path, measure: Measure) -> Result<Self, ResultsError> {
        let bytes = fs::read(file).map_err(|source| ResultsError::Read { file: file.to_owned(), source })?;
        Self::parse(file, &bytes, measure)
    }

    /// Takes the bytes of a file; `file` is what errors call it.
    pub fn parse(file: &Path, bytes: &[u8], measure: Measure) -> Result<Self, ResultsError> {
        let file = || file.to_owned();
        let line_of = |record: &csv::StringRecord| record.position().map_or(1, |at| at.line() as usize);
        match bytes {
            [] => return Err(ResultsError::Empty { file: file() }),
            [.., b'\n'] => {}
            _ => return Err(ResultsError::CutOff { file: file(), line: bytes.split(|b| *b == b'\n').count() }),
        }
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
        let mut table = Self { measure, columns: Vec::new(), lines: Vec::new() };
        let mut expected = 0;
        for record in reader.records() {
            let record = record.map_err(|error| {
                let line = error.position().map_or(1, |at| at.line() as usize);
                ResultsError::Value { file: file(), line, message: error.to_string() }
            })?;
            if expected == 0 {
                expected = record.len();
                let found: Vec<String> = record.iter().map(str::to_owned).collect();
                table.columns = columns_of(&found, measure).map_err(|(expected, found)| ResultsError::Header {
                    file: file(),
                    measure,
                    expected,
                    found,
                })?;
                continue;
            }
            let line = line_of(&record);
            if record.len() != expected {
                return Err(ResultsError::FieldCount { file: file(), line, expected, found: record.len() });
            }
            let parsed = table.line(&record).map_err(|message| ResultsError::Value { file: file(), line, message })?;
            table.lines.push(parsed);
        }
        Ok(table)
    }

    fn line(&self, record: &csv::StringRecord) -> Result<Line, String> {
        let labels = self.columns.len();
        let seed = &record[labels];
        let row: csv::StringRecord = record.iter().skip(labels + 1).collect();
        Ok(Line {
            labels: record.iter().take(labels).map(str::to_owned).collect(),
            seed: seed.parse().map_err(|_| format!("{seed:?} is no seed"))?,
            row: Row::parse(self.measure, &row).map_err(|error| match error.kind() {
                csv::ErrorKind::Deserialize { err, .. } => {
                    let column = err.field().and_then(|field| Row::columns(self.measure).get(field as usize));
                    // Our own types' errors quote the value, but csv does not give its place.
                    column.map_or_else(|| err.kind().to_string(), |column| format!("column {column}: {}", err.kind()))
                }
                _ => error.to_string(),
            })?,
        })
    }
}

/// The sweep's columns of a header; or how it should end, and how it ends.
fn columns_of(found: &[String], measure: Measure) -> Result<Vec<String>, (String, String)> {
    let expected = header(&[], measure);
    let start = found.len().saturating_sub(expected.len());
    if found[start..] == expected {
        Ok(found[..start].to_vec())
    } else {
        Err((expected.join(","), found[start..].join(",")))
    }
}

/// Writes a file as `.name.part` and renames it. Missing folders are made.
pub fn write_whole(file: &Path, bytes: &[u8]) -> Result<(), ResultsError> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(|source| ResultsError::CreateFolder { folder: folder.to_owned(), source })?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let part = folder.join(format!(".{name}.part"));
    let write = fs::write(&part, bytes).and_then(|()| fs::rename(&part, file));
    write.map_err(|source| {
        // The first error is reported. The partial file is useless.
        let _ = fs::remove_file(&part);
        ResultsError::Write { folder: folder.to_owned(), file: PathBuf::from(name.as_ref()), source }
    })
}
