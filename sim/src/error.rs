//! What can go wrong in the lab and in the soak.

use std::process::ExitCode;

use cyphonic_scenarios::{ResultsError, ScenarioError};
use thiserror::Error;

use crate::measure::MeasureError;

/// Why a subcommand of the lab failed. Each kind has its own exit code.
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
