//! `config`: prints example configuration files and checks files.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use cyphonic_core::name::Fqdn;

use super::print;
use crate::error::Failure;
use crate::run::{named, read_rules, zone};
use crate::settings::{self, AuthSettings, NmsSettings, NodeSettings, Settings, TrsSettings};

#[derive(Subcommand)]
pub(super) enum ConfigCommands {
    /// Print a commented configuration file.
    Example {
        /// The role.
        role: Role,
    },
    /// Check that a file can be read, has every key that is needed, and that certificate, key and roots fit.
    Check {
        /// The role.
        role: Role,
        /// The file.
        file: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Role {
    As,
    Nms,
    Trs,
    Node,
}

pub(super) fn run(command: ConfigCommands) -> Result<(), Failure> {
    match command {
        ConfigCommands::Example { role } => print(&match role {
            Role::As => settings::example::<AuthSettings>(),
            Role::Nms => settings::example::<NmsSettings>(),
            Role::Trs => settings::example::<TrsSettings>(),
            Role::Node => settings::example::<NodeSettings>(),
        }),
        ConfigCommands::Check { role, file } => {
            let advice = match role {
                Role::As => {
                    let s = check::<AuthSettings>(&file)?;
                    credentials(&named(s.name, "as", &zone(s.zone))?, [s.certificate, s.key, s.roots, s.crl])?;
                    None
                }
                Role::Nms => {
                    let s = check::<NmsSettings>(&file)?;
                    credentials(&named(s.name, "nms", &zone(s.zone))?, [s.certificate, s.key, s.roots, s.crl])?;
                    s.rules.map(|file| read_rules(&file)).transpose()?;
                    s.policy.is_none().then_some(POLICY_IS_NEW)
                }
                Role::Trs => {
                    let s = check::<TrsSettings>(&file)?;
                    credentials(&named(s.name, "trs", &zone(s.zone))?, [s.certificate, s.key, s.roots, s.crl])?;
                    None
                }
                Role::Node => {
                    let s = check::<NodeSettings>(&file)?;
                    if let Some(name) = s.name {
                        credentials(&name.0, [s.certificate, s.key, s.roots, s.crl])?;
                    }
                    None
                }
            };
            let file = file.display();
            print(&format!("{file}: has every key that is needed, and certificate, key and roots fit\n"));
            if let Some(advice) = advice {
                print(&format!("{advice}\n"));
            }
        }
    }
    Ok(())
}

/// What to say of a default that was another one before.
const POLICY_IS_NEW: &str = "note: `policy` is not set. Its default is \"optimal\"; it was \"paper\" in 0.1.0.";

/// The settings of a file that can be read and has every key that the role needs. Keys from flags and variables do not
/// count here.
fn check<S: Settings + Default>(file: &Path) -> Result<S, Failure> {
    let settings = S::default().with_file(Some(file))?;
    match settings.lacks() {
        None => Ok(settings),
        Some(field) => settings::required::<S, S>(None, field),
    }
}

/// Checks that certificate, key, roots and the list of what was revoked, in this order, are there, and fit the name,
/// each other and the time.
fn credentials(name: &Fqdn, files: [Option<PathBuf>; 4]) -> Result<(), Failure> {
    let [certificate, key, roots, crl] = files;
    // A node that logs in with a password may have no certificate.
    let (Some(certificate), Some(key), Some(roots)) = (certificate, key, roots) else { return Ok(()) };
    crate::files::credentials(name, &certificate, &key, &roots, crl.as_deref()).map(drop)
}
