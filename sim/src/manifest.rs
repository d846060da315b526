//! The provenance of a file of results: `NAME.manifest.json` beside `NAME.csv`.
//!
//! A manifest has the command that makes the file again, a digest of its scenario, every `--set`, the seeds, the
//! engines, and a digest of the file itself (SHA-256, as `sha256sum` prints it). It also names the build that wrote the
//! file: the program's version, a digest of its sources, and the toolchain.
//!
//! A later build that writes the same file leaves the manifest as it is. So `sources` names the build that made these
//! bytes first, and a change of the sources that changes no result changes no manifest.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use cyphonic_scenarios::{Engine, Plan, ResultsError, write_whole};
use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::hex;

/// What is known about the making of a file of results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The file, in the same folder.
    pub file: String,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// Its rows: lines without the header and without comments.
    pub rows: usize,
    /// The command that makes it again.
    pub command: String,
    /// Where the scenario comes from: a file, a built-in scenario, the source file that makes it, or a command that
    /// shows it.
    pub scenario: String,
    /// SHA-256 of the scenario's text, hexadecimal. If the program makes scenarios, it is that of all their texts
    /// joined; for a soak, that of the text that names the generator's version.
    pub scenario_sha256: String,
    /// Keys and values that were laid over it, as `KEY=VALUE`.
    pub set: Vec<String>,
    /// The number of cells of its sweep.
    pub cells: usize,
    /// The seeds, both ends included: `1..30`.
    pub seeds: String,
    /// The engines that drove the network.
    pub engines: Vec<String>,
    /// The build.
    pub build: Build,
}

/// The build that wrote a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// The program and its version.
    pub program: String,
    /// A digest of the sources that results depend on.
    pub sources: String,
    /// The compiler.
    pub toolchain: String,
}

impl Build {
    /// This program.
    pub fn this() -> Self {
        Self {
            program: format!("cyphonic-lab {}", env!("CARGO_PKG_VERSION")),
            sources: env!("SOURCES").to_owned(),
            toolchain: env!("TOOLCHAIN").to_owned(),
        }
    }
}

/// How a file of results was asked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The command.
    pub command: String,
    /// As [`Manifest::scenario`].
    pub scenario: &'a str,
    /// Its text.
    pub text: Vec<u8>,
    /// What was laid over it.
    pub sets: &'a [(String, String)],
    /// The number of cells.
    pub cells: usize,
    /// The seeds.
    pub seeds: RangeInclusive<u64>,
    /// The engines.
    pub engines: BTreeSet<&'static str>,
}

impl Request<'_> {
    /// The manifest of these bytes, written by this program.
    pub fn manifest(&self, csv: &Path, bytes: &[u8]) -> Manifest {
        let is_row = |line: &&[u8]| !line.is_empty() && !line.starts_with(b"#");
        Manifest {
            file: csv.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            sha256: sha256(bytes),
            rows: bytes.split(|byte| *byte == b'\n').filter(is_row).count().saturating_sub(1),
            command: self.command.clone(),
            scenario: self.scenario.to_owned(),
            scenario_sha256: sha256(&self.text),
            set: self.sets.iter().map(|(key, value)| format!("{key}={value}")).collect(),
            cells: self.cells,
            seeds: format!("{}..{}", self.seeds.start(), self.seeds.end()),
            engines: self.engines.iter().map(|&engine| engine.to_owned()).collect(),
            build: Build::this(),
        }
    }
}

/// The request for a built-in experiment.
pub fn of_plan<'a>(plan: &'a Plan, text: Vec<u8>, command: &str) -> Request<'a> {
    let mut engines: BTreeSet<_> = plan.cells.iter().map(|cell| cell.scenario.engine.name()).collect();
    if engines.contains(Engine::Turmoil.name()) {
        // `reproduce` runs a cell of turmoil on the event loop, too, and compares the bytes.
        engines.insert(Engine::Events.name());
    }
    Request {
        command: command.to_owned(),
        scenario: &plan.name,
        text,
        sets: &[],
        cells: plan.cells.len(),
        seeds: plan.seeds.clone(),
        engines,
    }
}

/// The text of a scenario that is built in, or of a file.
pub fn text_of(file: &str) -> Result<Vec<u8>, LabError> {
    if let Some((_, text)) = cyphonic_scenarios::EMBEDDED.iter().find(|(name, _)| *name == file) {
        return Ok(text.as_bytes().to_vec());
    }
    Ok(std::fs::read(file).map_err(|source| ResultsError::Read { file: file.into(), source })?)
}

/// The place of the manifest of a file of results.
pub fn beside(csv: &Path) -> PathBuf {
    csv.with_extension("manifest.json")
}

/// Writes a manifest beside its file, unless the one that is there differs in nothing but the build.
pub fn write(csv: &Path, manifest: &Manifest) -> Result<(), ResultsError> {
    let file = beside(csv);
    let before = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok());
    if before.is_some_and(|before| Manifest { build: manifest.build.clone(), ..before } == *manifest) {
        return Ok(());
    }
    let mut text = serde_json::to_string_pretty(manifest).expect("texts and numbers");
    text.push('\n');
    write_whole(&file, text.as_bytes())
}

/// Demands the manifest beside a file of results to be that of these bytes. The build may be another one.
pub fn check(csv: &Path, fresh: &Manifest) -> Result<(), LabError> {
    let file = beside(csv);
    let bytes = std::fs::read(&file).map_err(|source| ResultsError::Read { file: file.clone(), source })?;
    let kept = serde_json::from_slice::<Manifest>(&bytes).map_err(|error| {
        LabError::Differs(format!("{}: no manifest: {error}; make it anew with `{}`", file.display(), fresh.command))
    })?;
    let fresh = Manifest { build: kept.build.clone(), ..fresh.clone() };
    if kept == fresh {
        return Ok(());
    }
    let lines = |manifest: &Manifest| serde_json::to_string_pretty(manifest).expect("texts and numbers");
    let (kept, fresh_lines) = (lines(&kept), lines(&fresh));
    let differing = kept.lines().zip(fresh_lines.lines()).find(|(kept, fresh)| kept != fresh);
    let (kept, fresh_line) = differing.unwrap_or(("(fewer lines)", "(more lines)"));
    Err(LabError::Differs(format!(
        "{}: differs from a fresh run\n  file:  {}\n  fresh: {}\nIf the change is meant, make the results anew with `{}`.",
        file.display(),
        kept.trim(),
        fresh_line.trim(),
        fresh.command
    )))
}

/// SHA-256, hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request<'static> {
        Request {
            command: "cyphonic-lab reproduce".to_owned(),
            scenario: "x",
            text: b"title = \"x\"".to_vec(),
            sets: &[],
            cells: 1,
            seeds: 1..=30,
            engines: [Engine::Events.name()].into(),
        }
    }

    #[test]
    fn a_later_build_leaves_a_manifest_and_other_bytes_replace_it() {
        let folder = tempfile::tempdir().unwrap();
        let csv = folder.path().join("x.csv");
        let first = request().manifest(&csv, b"a,b\n1,2\n");
        assert_eq!((first.rows, first.seeds.as_str()), (1, "1..30"));
        write(&csv, &first).unwrap();
        let mut later = first.clone();
        later.build.sources = "another".to_owned();
        write(&csv, &later).unwrap();
        check(&csv, &later).unwrap();
        let read = || serde_json::from_slice::<Manifest>(&std::fs::read(beside(&csv)).unwrap()).unwrap();
        assert_eq!(read(), first, "the same bytes keep the build that made them");
        let other = Manifest { build: later.build, ..request().manifest(&csv, b"a,b\n1,3\n") };
        let told = check(&csv, &other).unwrap_err().to_string();
        assert!(told.contains("x.manifest.json: differs") && told.contains("sha256"), "{told}");
        write(&csv, &other).unwrap();
        assert_eq!(read(), other);
    }

    #[test]
    fn the_digest_is_what_sha256sum_prints() {
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
