//! A copy of the project that builds without a network: every committed file, every package of `Cargo.lock`, and a
//! digest of each file.
//!
//! `git` lists the files and `cargo vendor` copies the packages. Cargo verifies the packages by the digests in
//! `Cargo.lock`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cyphonic_scenarios::{ResultsError, write_whole};

use crate::error::LabError;
use crate::manifest::{Build, sha256};

/// The folder of packages in an archive.
const VENDOR: &str = "vendor";
/// The digest of each file, as `sha256sum --check` reads it.
const SUMS: &str = "SHA256SUMS";

/// Writes the archive into a folder that is empty or absent, and gives what to print.
///
/// # Errors
/// The current folder is not in a clone of the project, the folder is not empty, or git or cargo fails.
pub fn archive(out: &Path) -> Result<String, LabError> {
    let root = PathBuf::from(said_by("git", Path::new("."), &["rev-parse", "--show-toplevel"])?.trim_end());
    if !root.join("Cargo.lock").exists() || !root.join("sim/Cargo.toml").exists() {
        let root = root.display();
        return Err(LabError::Usage(format!("{root} is no clone of this project: run `cyphonic-lab archive` in one")));
    }
    if fs::read_dir(out).is_ok_and(|mut inside| inside.next().is_some()) {
        return Err(LabError::Usage(format!("{} is not empty: choose another folder with --out", out.display())));
    }
    let out = std::path::absolute(out).map_err(|source| ResultsError::CreateFolder { folder: out.into(), source })?;
    super::writable(&out)?;
    let commit = said_by("git", &root, &["rev-parse", "HEAD"])?.trim_end().to_owned();
    let is_changed = !said_by("git", &root, &["status", "--porcelain"])?.is_empty();
    let listed = said_by("git", &root, &["ls-files", "-z"])?;
    let mut sums = String::new();
    let mut count = 0;
    for name in listed.split('\0').filter(|name| !name.is_empty() && root.join(name).is_file()) {
        let from = root.join(name);
        let bytes = fs::read(&from).map_err(|source| ResultsError::Read { file: from.clone(), source })?;
        let to = out.join(name);
        write_whole(&to, &bytes)?;
        keep_mode(&from, &to)?;
        let _ = writeln!(sums, "{}  {name}", sha256(&bytes));
        count += 1;
    }
    let vendor = out.join(VENDOR);
    let vendor = vendor.to_str().ok_or_else(|| LabError::Usage("name a folder in UTF-8 with --out".to_owned()))?;
    said_by("cargo", &root, &["vendor", "--quiet", "--locked", "--versioned-dirs", vendor])?;
    let packages = fs::read_dir(vendor).map_or(0, |inside| inside.filter_map(Result::ok).count());
    // Not what `cargo vendor` prints: that names the folder by its absolute path.
    let config = "[source.crates-io]\nreplace-with = \"vendored-sources\"\n\n[source.vendored-sources]\ndirectory = \"vendor\"\n";
    write_whole(&out.join(".cargo/config.toml"), format!("{config}\n[net]\noffline = true\n").as_bytes())?;
    write_whole(&out.join(SUMS), sums.as_bytes())?;
    let build = Build::this();
    let note = serde_json::json!({
        "commit": commit, "uncommitted_changes": is_changed, "files": count, "packages": packages,
        "program": build.program, "sources": build.sources, "toolchain": build.toolchain,
    });
    write_whole(&out.join("ARCHIVE.json"), format!("{note:#}\n").as_bytes())?;
    let changed = if is_changed { ", with changes that are not committed" } else { "" };
    Ok(format!(
        "{count} files of commit {commit}{changed}, and {packages} packages: {}\nIt builds without a network, with {}:\n  \
         cd {} && sha256sum --quiet --check {SUMS} && cargo run --release -- verify\n",
        out.display(),
        build.toolchain,
        out.display(),
    ))
}

/// A script stays one.
fn keep_mode(from: &Path, to: &Path) -> Result<(), ResultsError> {
    let copied = fs::metadata(from).and_then(|known| fs::set_permissions(to, known.permissions()));
    let folder = || to.parent().unwrap_or(to).to_owned();
    copied.map_err(|source| ResultsError::Write { folder: folder(), file: to.to_owned(), source })
}

/// What a program prints. Its failure is an error with what it said.
fn said_by(program: &str, folder: &Path, arguments: &[&str]) -> Result<String, LabError> {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let output = output.map_err(|error| LabError::Usage(format!("{program} does not start: {error}; install it")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(LabError::Usage(format!("`{program} {}` failed: {}", arguments.join(" "), said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
