//! What a claim is computed from: rows of a CSV file by the names of its columns, and the file's manifest.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

/// A CSV file, as texts.
pub(super) struct Sheet {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    /// The line that makes it again, and the digest that it had then.
    pub(super) made: Option<Made>,
    /// The digest of the file as it was read: SHA-256 in hexadecimal.
    pub(super) sha256: String,
}

/// The parts of a manifest that a report names.
#[derive(Clone, Deserialize)]
pub(super) struct Made {
    /// The name of the file of results.
    pub(super) file: String,
    /// The digest of the file.
    pub(super) sha256: String,
    /// The command that makes the file again.
    pub(super) command: String,
    /// The seeds of its runs.
    pub(super) seeds: String,
    /// The build that wrote it first.
    pub(super) build: Build,
}

/// The build that wrote a file.
#[derive(Clone, Deserialize)]
pub(super) struct Build {
    /// The digest of its sources.
    pub(super) sources: String,
    /// The version of the compiler.
    pub(super) toolchain: String,
}

impl Sheet {
    /// Reads a file of the results folder; none if it is missing or damaged.
    pub(super) fn read(results: &Path, name: &str) -> Option<Self> {
        let path = results.join(name);
        let bytes = std::fs::read(&path).ok().filter(|bytes| bytes.ends_with(b"\n"))?;
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(&bytes[..]);
        let texts = |record: &csv::StringRecord| record.iter().map(str::to_owned).collect::<Vec<_>>();
        let header = texts(reader.headers().ok()?);
        let rows = reader.records().map(|record| record.map(|record| texts(&record))).collect::<Result<Vec<_>, _>>();
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let sha256 = digest.as_ref().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        Some(Self { header, rows: rows.ok()?, made: made(&path), sha256 })
    }

    /// The rows in which each of these columns has this value.
    pub(super) fn with<'a>(&'a self, wanted: &[(&str, &str)]) -> Vec<Line<'a>> {
        let lines = self.rows.iter().map(|row| Line { sheet: self, row });
        lines.filter(|line| wanted.iter().all(|(column, value)| line.text(column) == *value)).collect()
    }
}

/// A row.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    sheet: &'a Sheet,
    row: &'a [String],
}

impl<'a> Line<'a> {
    /// The text of a column; empty if there is none.
    pub(super) fn text(&self, column: &str) -> &'a str {
        let index = self.sheet.header.iter().position(|name| name == column);
        index.and_then(|index| self.row.get(index)).map_or("", String::as_str)
    }

    /// The number in a column.
    pub(super) fn number(&self, column: &str) -> Option<f64> {
        self.text(column).parse().ok()
    }
}

fn made(csv: &Path) -> Option<Made> {
    let bytes = std::fs::read(csv.with_extension("manifest.json")).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// A run of a script that measures on a real machine, from its manifest. Several runs append to one file.
#[derive(Clone, Deserialize)]
pub(super) struct Run {
    /// Its name, which rows have in the column `run`.
    pub(super) run: String,
    /// When it began. Rows with a date belong to the run during which they were written.
    from: String,
    /// When it ended.
    until: String,
    /// Its command.
    pub(super) command: String,
    /// The commit of the sources.
    pub(super) commit: String,
    /// The processor.
    #[serde(default)]
    pub(super) cpu: String,
    /// How many of them.
    #[serde(default)]
    pub(super) cores: u32,
    /// The kernel.
    pub(super) kernel: String,
    /// The version of Docker; empty without it.
    #[serde(default)]
    pub(super) docker: String,
    /// The load of the machine meanwhile; empty if it was not recorded.
    #[serde(default)]
    pub(super) load_1min: String,
}

/// Every run on a real machine, by name.
pub(super) fn runs(results: &Path) -> Vec<Run> {
    let Ok(entries) = std::fs::read_dir(results.join("real")) else { return Vec::new() };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let manifests = files.filter(|path| path.to_string_lossy().ends_with(".manifest.json"));
    let read = |path: std::path::PathBuf| serde_json::from_slice::<Run>(&std::fs::read(path).ok()?).ok();
    let mut runs: Vec<Run> = manifests.filter_map(read).collect();
    runs.sort_by(|a, b| a.run.cmp(&b.run));
    runs
}

impl Sheet {
    /// The runs that wrote its rows, each with its command.
    pub(super) fn runs(&self, all: &[Run]) -> BTreeSet<(String, String)> {
        let of = |line: Line<'_>| {
            let date = line.text("date");
            let by_date = all.iter().find(|run| run.from.as_str() <= date && date <= run.until.as_str());
            all.iter()
                .find(|run| run.run == line.text("run"))
                .or(by_date)
                .map(|run| (run.run.clone(), run.command.clone()))
        };
        self.with(&[]).into_iter().filter_map(of).collect()
    }
}

/// Every manifest of simulated results, by file.
pub(super) fn manifests(results: &Path) -> Vec<Made> {
    let mut all = Vec::new();
    for folder in [results.join("sim"), results.join("sim/sequences")] {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        let csv = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "csv"));
        all.extend(csv.filter_map(|path| made(&path)));
    }
    all.sort_by(|a, b| a.file.cmp(&b.file));
    all
}
