//! `config`: prints example configuration files and checks files.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};

use super::print;
use crate::error::Failure;
use crate::settings::{self, AuthSettings, NmsSettings, NodeSettings, Settings, TrsSettings};

#[derive(Subcommand)]
pub(super) enum ConfigCommands {
    /// Print a commented configuration file.
    Example {
        /// The role.
        role: Role,
    },
    /// Check that a file can be read and has every key that is needed.
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
            match role {
                Role::As => check::<AuthSettings>(&file),
                Role::Nms => check::<NmsSettings>(&file),
                Role::Trs => check::<TrsSettings>(&file),
                Role::Node => check::<NodeSettings>(&file),
            }?;
            print(&format!("{}: can be read, and has every key that is needed\n", file.display()));
        }
    }
    Ok(())
}

/// Checks that a file can be read and has every key that the role needs. Keys from flags and variables do not count
/// here.
fn check<S: Settings + Default>(file: &Path) -> Result<(), Failure> {
    let settings = S::default().with_file(Some(file))?;
    match settings.lacks() {
        None => Ok(()),
        Some(field) => settings::required::<S, ()>(None, field),
    }
}
