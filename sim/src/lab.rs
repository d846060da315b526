//! The lab: what the command line does, without the command line.
//!
//! | module | what it does |
//! |---|---|
//! | [`batch`] | runs every cell and seed of a plan |
//! | [`experiment`] | runs one experiment, on both engines where its scenario asks for the reference engine |
//! | [`matrix`] | runs every kind of site with every other |
//! | [`reproduce`], [`verify`] | run all experiments; `verify` compares the bytes with committed results |
//! | [`file`](mod@file) | runs one file: rows, sequence diagrams, captures |
//! | [`explain`] | shows why the NMS chose a route for two nodes |
//! | [`archive`] | a copy of the sources with all packages, which builds without a network |
//! | [`compare`] | compares simulated runs with real ones |
//! | [`tables`] | prints the paper's tables beside ours |
//! | [`statistics`] | summarises samples: order statistics, bootstrap intervals |
//!
//! Each run has one thread and its own world. Several run at once on several cores. Their rows are put in the order of
//! the plan, so the output does not depend on which run ends first.

pub mod archive;
pub mod batch;
pub mod compare;
pub mod experiment;
pub mod explain;
pub mod file;
pub mod matrix;
pub mod reproduce;
pub mod statistics;
pub mod tables;
pub mod verify;

use std::path::Path;

use cyphonic_scenarios::{ResultsError, write_whole};

/// Makes the folder and checks that files can be written there, before minutes of work are spent.
fn writable(folder: &Path) -> Result<(), ResultsError> {
    let file = folder.join(".cyphonic-lab");
    write_whole(&file, b"")?;
    let removed = std::fs::remove_file(&file);
    removed.map_err(|source| ResultsError::Write { folder: folder.to_owned(), file: ".cyphonic-lab".into(), source })
}
