//! The lab: what the command line does, without the command line.
//!
//! [`batch`] runs every cell and seed of a plan, [`reproduce`] and [`verify`] run all experiments, [`single`] runs one
//! file, [`explain`] tells why its nodes met as they did, [`matrix`] crosses all kinds of sites, [`compare`] lays simulated
//! and real runs side by side, [`tables`] prints. Each run is single-threaded and its own world; several run at once on several cores, and
//! their rows are put in the order of the plan, so the output does not depend on who was first.

pub mod batch;
pub mod compare;
pub mod explain;
pub mod matrix;
pub mod reproduce;
pub mod single;
pub mod tables;
pub mod verify;

use std::path::Path;
use std::process::ExitCode;

use cyphonic_scenarios::{ResultsError, ScenarioError, write_whole};
use thiserror::Error;

use crate::measure::MeasureError;

/// What can go wrong in the lab; each kind has its own exit code.
#[derive(Debug, Error)]
pub enum LabError {
    /// The scenario, or an option about it, makes no sense.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// An option makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A run did not show what it was to show.
    #[error("{run}: {error}")]
    Measure {
        /// Which run.
        run: String,
        /// What is missing.
        error: MeasureError,
    },
    /// An experiment came out otherwise than the paper or the protocol demands.
    #[error("{0}")]
    Failed(String),
    /// Results cannot be written or read.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// Results differ from what a rerun gives, or a simulated run from a real one.
    #[error("{0}")]
    Differs(String),
    /// There can be no real run here.
    #[error("{0}")]
    Real(String),
}

impl LabError {
    /// 2 usage or scenario, 3 a run failed, 4 results cannot be written or read, 5 results differ, 6 no real run here.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Scenario(_) | Self::Usage(_) => 2,
            Self::Measure { .. } | Self::Failed(_) => 3,
            Self::Results(_) => 4,
            Self::Differs(_) => 5,
            Self::Real(_) => 6,
        })
    }
}

/// Makes the folder, and tries whether files can be written there: better told before minutes of work than after.
fn writable(folder: &Path) -> Result<(), ResultsError> {
    let file = folder.join(".cyphonic-lab");
    write_whole(&file, b"")?;
    let removed = std::fs::remove_file(&file);
    removed.map_err(|source| ResultsError::Write { folder: folder.to_owned(), file: ".cyphonic-lab".into(), source })
}
