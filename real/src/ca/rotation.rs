//! Rolling the CA over: another root and another intermediate authority, while daemons keep running.
//!
//! ```text
//! rotate            next/ is made; root.pem has both roots, crl.pem a list of each      certificates: old CA
//! rotate --switch   next/ becomes the authority, and the one before old/                certificates: new CA
//! rotate --finish   old/ becomes retired-N/ without its keys; root.pem has the new root certificates: new CA
//! ```
//!
//! Between the steps the operator copies root.pem to every machine, and then every name gets a certificate of the new
//! CA: daemons with `renew = "auto"` by themselves, in the last third of their certificate's time. Daemons read both
//! files without a restart. Both roots count in the whole time between, so the order in which machines get them does
//! not matter.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cyphonic_core::name::Fqdn;

use super::book::{entries, lock};
use super::{Ca, make_authority, now, pem_of};
use crate::error::{Code, Failure};
use crate::files;

/// The folders of the authority that follows, and of the one before.
pub(super) const NEXT: &str = "next";
pub(super) const OLD: &str = "old";

/// The files of an authority that move with it.
const MOVED: [&str; 5] = ["root.key", "ca.pem", "ca.key", "issued", "revoked"];

/// A step of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes the next CA, which is trusted from then on and signs nothing.
    Begin,
    /// The next CA signs certificates from now on.
    Switch,
    /// The CA before is not trusted any more.
    Finish,
}

fn refused(what: String, remedy: &str) -> Failure {
    Failure::new(Code::Usage, what, remedy)
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Code::Config, format!("{}: {error}", path.display()), "check that this user may write there")
}

/// Takes a step of a rotation in an authority's folder; what the operator has to do next. `force`: the CA before goes
/// though certificates of it still count.
pub fn rotate(folder: &Path, step: Step, force: bool) -> Result<String, Failure> {
    let _lock = lock(folder)?;
    let (next, old) = (folder.join(NEXT), folder.join(OLD));
    match step {
        Step::Begin => {
            if next.exists() || old.exists() {
                let what = format!("{}: a rotation is under way", folder.display());
                return Err(refused(what, "go on with `cyphonic ca rotate --switch`, or `--finish`"));
            }
            // Whole before it counts.
            let part = folder.join("next.part");
            let _ = std::fs::remove_dir_all(&part);
            make_authority(&part, Ca::open(folder)?.zone())?;
            std::fs::rename(&part, &next).map_err(|error| failed(&next, &error))?;
            trust(folder, &[folder.join("root.pem"), next.join("root.pem")])?;
            Ca::open(folder)?.write_lists()?;
            Ok("both CAs are trusted by root.pem from now on: copy root.pem and crl.pem to every machine, then \
                `cyphonic ca rotate --switch`"
                .to_owned())
        }
        Step::Switch => {
            if !next.exists() {
                let what = format!("{}: there is no next CA", folder.display());
                return Err(refused(what, "`cyphonic ca rotate` makes it"));
            }
            // Keys that cannot be read, for want of their passphrase, must not be found out halfway.
            if folder.join("ca.toml").exists() {
                Ca::open(folder)?;
            }
            // What is there already was moved by a try that was interrupted, and ca.toml moves last.
            super::make_folder(&old).map_err(|error| failed(&old, &error))?;
            let move_all = |from: &Path, to: &Path| {
                MOVED.iter().chain(&["ca.toml"]).try_for_each(|name| {
                    match std::fs::rename(from.join(name), to.join(name)) {
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                        moved => moved.map_err(|error| failed(&from.join(name), &error)),
                    }
                })
            };
            if !old.join("ca.toml").exists() {
                move_all(folder, &old)?;
            }
            move_all(&next, folder)?;
            std::fs::remove_dir_all(&next).map_err(|error| failed(&next, &error))?;
            files::sync_folder(&folder.join("ca.toml")).map_err(|error| failed(folder, &error))?;
            Ca::open(folder)?.write_lists()?;
            Ok("certificates come from the new CA from now on. Daemons with `renew = \"auto\"` get theirs by themselves; for \
                others `cyphonic ca issue NAME --renew`. Restart the AS if it has `ca`. Then `cyphonic ca rotate --finish`"
                .to_owned())
        }
        Step::Finish => {
            if !old.exists() || next.exists() {
                let what = format!("{}: there is no CA before this one", folder.display());
                return Err(refused(what, "`cyphonic ca rotate` and `--switch` come first"));
            }
            let ca = Ca::open(folder)?;
            let behind = ca.behind()?;
            if let (Some(first), false) = (behind.first(), force) {
                let what = format!("{} names have certificates of the CA before only, such as {first}", behind.len());
                return Err(refused(what, "renew them first; with --force they are shut out"));
            }
            let own = ca.own_root()?;
            files::write_derived(&folder.join("root.pem"), &pem_of(&[own]))?;
            let retired =
                (1..=u32::MAX).map(|number| folder.join(format!("retired-{number}"))).find(|path| !path.exists());
            let retired = retired.expect("a number is free");
            for key in ["root.key", "ca.key"] {
                let _ = std::fs::remove_file(old.join(key));
            }
            std::fs::rename(&old, &retired).map_err(|error| failed(&old, &error))?;
            Ca::open(folder)?.write_lists()?;
            Ok("the CA before is not trusted any more: copy root.pem and crl.pem to every machine".to_owned())
        }
    }
}

/// Writes root.pem of all these files.
fn trust(folder: &Path, parts: &[PathBuf]) -> Result<(), Failure> {
    let mut all = Vec::new();
    for part in parts {
        all.extend(files::certificates(part)?);
    }
    files::write_public(&folder.join("root.pem"), &pem_of(&all))
}

impl Ca {
    /// The names that have certificates of the CA before which still count, and none of this one.
    fn behind(&self) -> Result<Vec<Fqdn>, Failure> {
        let good = |folder: &Path| -> Result<BTreeSet<Fqdn>, Failure> {
            let revoked: BTreeSet<u64> = entries(&folder.join("revoked"))?.iter().map(|entry| entry.serial).collect();
            let issued = entries(&folder.join("issued"))?.into_iter();
            let good = issued.filter(|entry| entry.time >= now() && !revoked.contains(&entry.serial));
            Ok(good.map(|entry| entry.name).collect())
        };
        let (before, now) = (good(&self.folder.join(OLD))?, good(&self.folder)?);
        Ok(before.difference(&now).cloned().collect())
    }
}
