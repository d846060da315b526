//! The inputs that the fuzzer kept, checked against its properties on a stable compiler in every test run.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

#[path = "../fuzz/properties/mod.rs"]
#[allow(unreachable_pub, reason = "the fuzzer has them from a library")]
mod properties;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_property_has_a_target_and_a_corpus() {
    let expected: BTreeSet<_> = properties::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&folder("fuzz_targets")), expected);
    assert_eq!(names(&folder("corpus")), expected);
    for name in &expected {
        assert!(!names(&folder("corpus").join(name)).is_empty(), "{name} has nothing to replay");
    }
}

#[test]
fn everything_that_the_fuzzer_kept_still_holds() {
    let mut broken = Vec::new();
    for (target, property) in properties::TARGETS {
        for entry in fs::read_dir(folder("corpus").join(target)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            if catch_unwind(AssertUnwindSafe(|| property(&bytes))).is_err() {
                broken.push(path);
            }
        }
    }
    assert!(broken.is_empty(), "see above what panicked for {broken:#?}");
}
