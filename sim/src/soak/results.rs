//! Results of a soak: one file for each shard, with one line for each seed. Shards can be joined.
//!
//! ```text
//! # cyphonic-lab soak 0.1.0, generator 1, sources 0f5c…; seeds 1..1000; shard 2/4
//! seed,digest,demanded,simulated_s,paths,violated
//! 2,6a1f…,15,147,564,
//! ```
//!
//! The digest covers all sources of the program (`sim/build.rs`), so that two programs with different sources never
//! share results, even with the same version. A line is written when its run is done. A file that ends within a line
//! has lost that run only.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use cyphonic_scenarios::{Engine, ResultsError, write_whole};

use super::check::Examined;
use super::coverage::{Coverage, Paths};
use super::generate::{GENERATOR, generate};
use crate::error::LabError;
use crate::hex;
use crate::manifest::{self, Build, Manifest};

const COLUMNS: &str = "seed,digest,demanded,simulated_s,paths,violated";
/// Most seeds that are named.
const NAMED: usize = 50;

/// The part of all seeds that is run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 1.
    pub index: u64,
    /// How many there are.
    pub of: u64,
}

impl Shard {
    /// Everything.
    pub const WHOLE: Self = Self { index: 1, of: 1 };

    /// Its seeds of a range: every `of`th.
    pub fn seeds(self, all: &RangeInclusive<u64>) -> impl Iterator<Item = u64> + use<> {
        all.clone().skip(self.index as usize - 1).step_by(self.of as usize)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// The identity of this program in results.
pub fn version() -> String {
    let (package, sources) = (env!("CARGO_PKG_VERSION"), env!("SOURCES"));
    format!("cyphonic-lab soak {package}, generator {GENERATOR}, sources {sources}")
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Results {
    /// See [`version`].
    pub version: String,
    /// The seeds of the whole soak.
    pub seeds: RangeInclusive<u64>,
    /// The part of them in this file.
    pub shard: Shard,
    /// The result of each seed, as in its line without the seed.
    pub lines: BTreeMap<u64, String>,
}

impl Results {
    /// Without results so far.
    pub fn new(version: String, seeds: RangeInclusive<u64>, shard: Shard) -> Self {
        Self { version, seeds, shard, lines: BTreeMap::new() }
    }

    /// The name of the file.
    pub fn file(shard: Shard) -> String {
        format!("soak-{}-of-{}.csv", shard.index, shard.of)
    }

    /// The first two lines.
    pub fn head(&self) -> String {
        let seeds = format!("{}..{}", self.seeds.start(), self.seeds.end());
        format!("# {}; seeds {seeds}; shard {}\n{COLUMNS}\n", self.version, self.shard)
    }

    /// One line.
    pub fn line(seed: u64, examined: &Examined) -> String {
        let violated = examined.violation.as_ref().map(|violation| violation.invariant.to_string()).unwrap_or_default();
        let Examined { digest, demanded, simulated_s, paths, .. } = examined;
        format!("{seed},{digest},{demanded},{simulated_s},{paths},{violated}\n")
    }

    /// Reads a file. An incomplete last line is left out.
    pub fn parse(text: &str) -> Result<Self, String> {
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let mut lines = whole.lines();
        let head = lines.next().and_then(|line| line.strip_prefix("# ")).ok_or("it does not begin as results do")?;
        let [version, seeds, shard] = head.split("; ").collect::<Vec<_>>()[..] else {
            return Err("its first line does not tell version, seeds and shard".to_owned());
        };
        let numbers = |text: &str, prefix: &str, between: &str| {
            let (a, b) = text.strip_prefix(prefix)?.split_once(between)?;
            Some((a.parse::<u64>().ok()?, b.parse::<u64>().ok()?))
        };
        let (first, last) = numbers(seeds, "seeds ", "..").ok_or("its first line has no seeds")?;
        let (index, of) = numbers(shard, "shard ", "/").ok_or("its first line has no shard")?;
        if lines.next() != Some(COLUMNS) || index == 0 || index > of {
            return Err("its columns are others".to_owned());
        }
        let mut results = Self::new(version.to_owned(), first..=last, Shard { index, of });
        for line in lines {
            let (seed, rest) = line.split_once(',').ok_or_else(|| format!("{line:?} is no result"))?;
            let seed = seed.parse().map_err(|_| format!("{seed:?} is no seed"))?;
            if !results.seeds.contains(&seed) || rest.split(',').count() != COLUMNS.split(',').count() - 1 {
                return Err(format!("{line:?} is no result of seeds {first}..{last}"));
            }
            results.lines.insert(seed, rest.to_owned());
        }
        Ok(results)
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, LabError> {
        let wrong = |what: String| LabError::Usage(format!("{}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(wrong)
    }

    /// As a file, by seed.
    pub fn render(&self) -> String {
        let mut text = self.head();
        for (seed, rest) in &self.lines {
            let _ = writeln!(text, "{seed},{rest}");
        }
        text
    }

    /// The seeds that failed, with what did not hold.
    pub fn failed(&self) -> Vec<(u64, &str)> {
        self.lines
            .iter()
            .filter_map(|(&seed, rest)| {
                rest.rsplit(',').next().filter(|word| !word.is_empty()).map(|word| (seed, word))
            })
            .collect()
    }

    /// The missing seeds, as ranges.
    pub fn missing(&self) -> Vec<RangeInclusive<u64>> {
        let mut missing: Vec<RangeInclusive<u64>> = Vec::new();
        for seed in self.shard.seeds(&self.seeds).filter(|seed| !self.lines.contains_key(seed)) {
            match missing.last_mut() {
                Some(range) if *range.end() + 1 == seed => *range = *range.start()..=seed,
                _ => missing.push(seed..=seed),
            }
        }
        missing
    }

    /// The coverage of the seeds in this file.
    pub fn coverage(&self) -> Coverage {
        let mut coverage = Coverage::default();
        for (&seed, rest) in &self.lines {
            let paths = rest.split(',').nth(3).and_then(Paths::parse).unwrap_or_default();
            coverage.add(&generate(seed).scenario().expect("the generator writes scenarios"), &paths);
        }
        coverage
    }

    /// The sum of a column of numbers.
    fn total(&self, column: usize) -> u64 {
        self.lines.values().filter_map(|rest| rest.split(',').nth(column)?.parse::<u64>().ok()).sum()
    }

    fn demands(&self) -> u64 {
        self.total(1)
    }

    fn simulated_hours(&self) -> u64 {
        self.total(2) / 3_600
    }

    /// A summary of a soak as CSV: its version, its sums, one digest over all of its lines, and its coverage.
    pub fn totals(&self, coverage: &Coverage) -> String {
        let missing: u64 = self.missing().iter().map(|range| range.end() - range.start() + 1).sum();
        let mut lines = ring::digest::Context::new(&ring::digest::SHA256);
        self.lines.iter().for_each(|(seed, rest)| lines.update(format!("{seed},{rest}\n").as_bytes()));
        let digest = hex(&lines.finish().as_ref()[..16]);
        let mut text = format!("# {}; seeds {}\n", self.version, range(&self.seeds));
        text.push_str("what,kind,pattern,method,count\n");
        for (what, count) in [
            ("runs", self.lines.len() as u64),
            ("failed", self.failed().len() as u64),
            ("missing", missing),
            ("simulated hours", self.simulated_hours()),
            ("demands", self.demands()),
        ] {
            let _ = writeln!(text, "{what},,,,{count}");
        }
        let _ = writeln!(text, "digest of all lines,,,,{digest}");
        text + &coverage.csv()
    }

    /// A text for people: the number of runs, failures, missing seeds, coverage.
    pub fn summary(&self, coverage: &Coverage) -> String {
        let mut text = format!("{} seeds done", self.lines.len());
        let (hours, demands) = (self.simulated_hours(), self.demands());
        let _ = writeln!(text, ", {hours} simulated hours, {demands} demands");
        let failed = self.failed();
        let _ = writeln!(text, "{} failed", failed.len());
        for (seed, word) in failed.iter().take(NAMED) {
            let _ = writeln!(text, "  seed {seed}: {word}");
        }
        if failed.len() > NAMED {
            let _ = writeln!(text, "  and {} more", failed.len() - NAMED);
        }
        let missing = self.missing();
        if !missing.is_empty() {
            let ranges: Vec<String> = missing.iter().take(NAMED).map(range).collect();
            let more: u64 = missing.iter().skip(NAMED).map(|range| range.end() - range.start() + 1).sum();
            let more = if more > 0 { format!(", and {more} more seeds") } else { String::new() };
            let _ = writeln!(text, "missing: {}{more}", ranges.join(", "));
        }
        text + "\n" + &coverage.render()
    }
}

pub(super) fn range(range: &RangeInclusive<u64>) -> String {
    if range.start() == range.end() { range.start().to_string() } else { format!("{}..{}", range.start(), range.end()) }
}

/// Joins shards. Files of other versions, seeds or numbers of shards are refused; missing seeds are named, and are no
/// error.
pub fn join(parts: Vec<(String, Results)>) -> Result<Results, LabError> {
    let mut parts = parts.into_iter();
    let (first, mut joined) = parts.next().ok_or_else(|| LabError::Usage("there is nothing to join".to_owned()))?;
    let shards = std::mem::replace(&mut joined.shard, Shard::WHOLE).of;
    for (name, part) in parts {
        if part.version != joined.version {
            let (a, b) = (&joined.version, &part.version);
            return Err(LabError::Usage(format!("two versions are never joined: {first} is of {a}, {name} of {b}")));
        }
        if part.seeds != joined.seeds {
            let (a, b) = (range(&joined.seeds), range(&part.seeds));
            return Err(LabError::Usage(format!(
                "{first} is of seeds {a}, {name} of seeds {b}: join what belongs together"
            )));
        }
        if part.shard.of != shards {
            let b = part.shard.of;
            return Err(LabError::Usage(format!(
                "{first} is one of {shards} shards, {name} one of {b}: join what belongs together"
            )));
        }
        for (seed, rest) in part.lines {
            let known = joined.lines.entry(seed).or_insert_with(|| rest.clone());
            if *known != rest {
                return Err(LabError::Differs(format!("seed {seed} came out as {known:?}, and in {name} as {rest:?}")));
            }
        }
    }
    Ok(joined)
}

/// `merge DIR...`: joins every shard in these folders, and gives a summary. It writes the joined results into the
/// folder `out`, and their sums into the file `totals`.
pub fn merge(
    folders: &[PathBuf],
    out: Option<&Path>,
    totals: Option<&Path>,
) -> Result<(String, Option<LabError>), LabError> {
    let mut parts = Vec::new();
    for folder in folders {
        let wrong = |error: std::io::Error| LabError::Usage(format!("{}: {error}", folder.display()));
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(wrong)? {
            let path = entry.map_err(wrong)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("soak-") && path.extension().is_some_and(|extension| extension == "csv") {
                files.push(path);
            }
        }
        files.sort();
        for path in files {
            parts.push((path.display().to_string(), Results::load(&path)?));
        }
    }
    if parts.is_empty() {
        let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        return Err(LabError::Usage(format!("no results (soak-I-of-N.csv) in {}", folders.join(", "))));
    }
    let joined = join(parts)?;
    if joined.version != version() {
        // The coverage is computed from the plans, which depend on the program.
        let (a, b) = (&joined.version, version());
        return Err(LabError::Usage(format!(
            "these are results of {a}, and this is {b}: join them with the program that made them"
        )));
    }
    let coverage = joined.coverage();
    let mut text = joined.summary(&coverage);
    if let Some(out) = out {
        write(&out.join("soak.csv"), &joined.render())?;
        let _ = writeln!(text, "\nWritten to {}", out.join("soak.csv").display());
    }
    if let Some(file) = totals {
        let totals = joined.totals(&coverage);
        write(file, &totals)?;
        manifest::write(file, &manifest_of(file, &joined.version, &joined.seeds, totals.as_bytes()))?;
        let _ = writeln!(text, "\nSums written to {}", file.display());
    }
    let failed = joined.failed().len();
    let error = (failed > 0).then(|| LabError::Failed(format!("{failed} seeds failed")));
    Ok((text, error))
}

/// The manifest of the sums of a soak. Its scenarios come from the generator, which the version names.
pub fn manifest_of(file: &Path, version: &str, seeds: &RangeInclusive<u64>, totals: &[u8]) -> Manifest {
    let generator = version.split("generator ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default();
    let scenario = format!("cyphonic-lab soak --show SEED, generator {generator}");
    let request = manifest::Request {
        command: format!(
            "cyphonic-lab soak --seeds {} --out DIR, then cyphonic-lab merge DIR --totals FILE",
            range(seeds)
        ),
        scenario: &scenario,
        text: version.as_bytes().to_vec(),
        sets: &[],
        cells: 1,
        seeds: seeds.clone(),
        engines: Engine::ALL.iter().map(|engine| engine.name()).collect(),
    };
    let manifest = request.manifest(file, totals);
    let sources = version.split("sources ").nth(1).unwrap_or_default().to_owned();
    Manifest { build: Build { sources, ..manifest.build }, ..manifest }
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), ResultsError> {
    write_whole(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(shard: Shard, seeds: &[u64]) -> Results {
        let mut results = Results::new("v".to_owned(), 1..=10, shard);
        results.lines.extend(seeds.iter().map(|&seed| (seed, format!("d{seed},1,100,57,"))));
        results
    }

    #[test]
    fn a_file_reads_as_it_was_written_and_a_broken_last_line_is_done_again() {
        let results = some(Shard { index: 2, of: 3 }, &[2, 5]);
        assert_eq!(Results::parse(&results.render()).unwrap(), results);
        let cut = results.render() + "8,d8,1,10";
        assert_eq!(Results::parse(&cut).unwrap(), results);
        assert!(Results::parse(&(results.render() + "11,d,1,1,57,\n")).is_err(), "not of these seeds");
        assert!(Results::parse("").is_err());
    }

    #[test]
    fn the_seeds_of_all_shards_are_all_seeds_and_each_once() {
        for of in 1..=4 {
            let mut all: Vec<u64> = (1..=of).flat_map(|index| Shard { index, of }.seeds(&(5..=27))).collect();
            all.sort_unstable();
            assert_eq!(all, (5..=27).collect::<Vec<_>>());
        }
    }

    #[test]
    fn totals_are_of_this_version_and_change_with_any_line() {
        let results = some(Shard::WHOLE, &[1, 2, 4]);
        let totals = results.totals(&results.coverage());
        assert!(
            totals.starts_with(
                "# v; seeds 1..10\nwhat,kind,pattern,method,count\nruns,,,,3\nfailed,,,,0\nmissing,,,,7\n"
            )
        );
        let mut other = results.clone();
        other.lines.insert(4, "d4,2,100,57,I7".to_owned());
        let digest = |totals: &str| totals.lines().find(|line| line.starts_with("digest")).unwrap().to_owned();
        assert_ne!(digest(&totals), digest(&other.totals(&results.coverage())));
        assert!(other.totals(&results.coverage()).contains("failed,,,,1\n"));
        assert!(totals.lines().any(|line| line.starts_with("start,")), "{totals}");
    }

    #[test]
    fn joining_names_what_is_missing_and_refuses_what_does_not_belong_together() {
        let (a, b) = (some(Shard { index: 1, of: 2 }, &[1, 3, 9]), some(Shard { index: 2, of: 2 }, &[2, 4, 6, 8, 10]));
        let parts = |a: &Results, b: &Results| vec![("a".to_owned(), a.clone()), ("b".to_owned(), b.clone())];
        let joined = join(parts(&a, &b)).unwrap();
        assert_eq!(joined.missing(), [5..=5, 7..=7]);
        assert!(joined.summary(&Coverage::default()).contains("missing: 5, 7\n"));
        let other = Results { version: "w".to_owned(), ..b.clone() };
        assert!(join(parts(&a, &other)).unwrap_err().to_string().contains("two versions"));
        let other = Results { seeds: 1..=11, ..b.clone() };
        assert!(join(parts(&a, &other)).unwrap_err().to_string().contains("seeds 1..11"));
        let other = Results { shard: Shard { index: 2, of: 3 }, ..b.clone() };
        assert!(join(parts(&a, &other)).unwrap_err().to_string().contains("one of 3"));
        let mut other = b;
        other.lines.insert(3, "d4,1,100,57,".to_owned());
        assert!(matches!(join(parts(&a, &other)), Err(LabError::Differs(_))));
        assert!(join(Vec::new()).is_err());
    }
}
