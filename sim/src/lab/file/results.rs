//! A file of results that is being written. Until it is complete it has another name, and a note beside it says how far
//! it is. The same command continues there after it was stopped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use cyphonic_scenarios::{Measure, Plan, ResultsError, Table, write_whole};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::LabError;

/// A file of results that is being written.
pub(super) struct Results {
    measure: Measure,
    folder: PathBuf,
    whole: PathBuf,
    part: PathBuf,
    note_file: PathBuf,
    note: Note,
    file: File,
}

/// The progress of an incomplete file.
#[derive(Serialize, Deserialize)]
struct Note {
    /// The identity of the runs. Another scenario, other seeds or another version have other results.
    of: String,
    /// Runs whose rows are in the file.
    runs: u64,
    /// The length of the file with these rows, bytes.
    bytes: u64,
}

impl Results {
    /// Begins, or continues where the same command was stopped. Complete results are replaced only if that is wanted.
    pub(super) fn open(
        folder: &Path,
        plan: &Plan,
        seeds: &RangeInclusive<u64>,
        overwrite: bool,
    ) -> Result<Self, LabError> {
        let whole = folder.join(format!("{}.csv", plan.name));
        if whole.exists() && !overwrite {
            return Err(LabError::Usage(format!(
                "{} is there already: choose another folder with --out, or replace it with --overwrite",
                whole.display()
            )));
        }
        crate::lab::writable(folder)?;
        let (part, note_file) = (whole.with_extension("csv.part"), whole.with_extension("csv.part.json"));
        let cells: Vec<_> = plan.cells.iter().map(|cell| (&cell.labels, format!("{:?}", cell.scenario))).collect();
        let of = format!("{:?}", (env!("CARGO_PKG_VERSION"), seeds, cells));
        let of = format!("{:016x}", xxh3_64(of.as_bytes()));
        let before = fs::read(&note_file).ok().and_then(|bytes| serde_json::from_slice::<Note>(&bytes).ok());
        let note = before.filter(|note| note.of == of && part.metadata().is_ok_and(|part| part.len() >= note.bytes));
        let failed = |source| unwritten(folder, &part, source);
        let file = OpenOptions::new().create(true).write(true).truncate(false).open(&part).map_err(failed)?;
        let begins = note.is_none();
        let note = note.unwrap_or(Note { of, runs: 0, bytes: 0 });
        file.set_len(note.bytes).map_err(failed)?;
        (&file).seek(SeekFrom::End(0)).map_err(failed)?;
        let mut results = Self { measure: plan.measure, folder: folder.to_owned(), whole, part, note_file, note, file };
        if begins {
            results.write(&Table::new(plan).to_csv(), 0)?;
        }
        Ok(results)
    }

    /// The number of runs whose rows are in the file.
    pub(super) fn done(&self) -> u64 {
        self.note.runs
    }

    /// Adds rows. `runs` is the number of runs made so far.
    pub(super) fn append(&mut self, rows: &Table, runs: u64) -> Result<(), LabError> {
        let csv = rows.to_csv();
        let header = csv.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        self.write(&csv[header..], runs)
    }

    fn write(&mut self, bytes: &[u8], runs: u64) -> Result<(), LabError> {
        let written = self.file.write_all(bytes).and_then(|()| self.file.flush());
        written.map_err(|source| unwritten(&self.folder, &self.part, source))?;
        self.note.bytes += bytes.len() as u64;
        self.note.runs = runs;
        let note = serde_json::to_vec(&self.note).expect("numbers and a name");
        Ok(write_whole(&self.note_file, &note)?)
    }

    /// Gives the complete file its name. Returns all of its rows.
    pub(super) fn finish(self) -> Result<Made, LabError> {
        let done = self.file.sync_all().and_then(|()| fs::rename(&self.part, &self.whole));
        done.map_err(|source| unwritten(&self.folder, &self.whole, source))?;
        let _ = fs::remove_file(&self.note_file);
        let bytes = fs::read(&self.whole).map_err(|source| ResultsError::Read { file: self.whole.clone(), source })?;
        Ok(Made { table: Table::parse(&self.whole, &bytes, self.measure)?, file: self.whole, bytes })
    }
}

/// Complete results.
pub(super) struct Made {
    /// Their file.
    pub(super) file: PathBuf,
    /// The file's bytes.
    pub(super) bytes: Vec<u8>,
    /// The file's rows.
    pub(super) table: Table,
}

fn unwritten(folder: &Path, file: &Path, source: io::Error) -> ResultsError {
    ResultsError::Write { folder: folder.to_owned(), file: file.to_owned(), source }
}
