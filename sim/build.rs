//! Names the sources: a digest over everything that results may depend on. Names the compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use xxhash_rust::xxh3::Xxh3;

/// From this package's folder. Files, and folders with all that is in them.
const SOURCES: [&str; 14] = [
    "../Cargo.toml",
    "../Cargo.lock",
    "../core/Cargo.toml",
    "../core/src",
    "../scenarios/Cargo.toml",
    "../scenarios/src",
    "../scenarios/wire/Cargo.toml",
    "../scenarios/wire/src",
    "../paper-figs/sequence/Cargo.toml",
    "../paper-figs/sequence/src",
    "../paper-figs/statistics/Cargo.toml",
    "../paper-figs/statistics/src",
    "Cargo.toml",
    "src",
];

fn main() {
    let mut digest = Xxh3::new();
    for place in SOURCES {
        println!("cargo::rerun-if-changed={place}");
        for file in files(Path::new(place)) {
            let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let name = file.to_string_lossy().into_owned();
            digest.update(&(name.len() as u64).to_be_bytes());
            digest.update(name.as_bytes());
            digest.update(&(bytes.len() as u64).to_be_bytes());
            digest.update(&bytes);
        }
    }
    println!("cargo::rustc-env=SOURCES={:032x}", digest.digest128());
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(compiler).arg("--version").output().expect("cargo names its compiler");
    println!("cargo::rustc-env=TOOLCHAIN={}", String::from_utf8_lossy(&version.stdout).trim());
}

/// A file, or every file in a folder, in order.
fn files(place: &Path) -> Vec<PathBuf> {
    if !place.is_dir() {
        return vec![place.to_owned()];
    }
    let entries = fs::read_dir(place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
    let mut inside: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    inside.sort();
    inside.iter().flat_map(|place| files(place)).collect()
}
