//! The lab: what the command line does, without the command line.
//!
//! | module | what it does |
//! |---|---|
//! | [`batch`] | runs every cell and seed of a plan |
//! | [`experiment`] | runs one experiment, on both engines where its scenario asks for the reference engine |
//! | [`matrix`] | runs every kind of site with every other |
//! | [`extras`] | the files of `reproduce` that are no experiment of one scenario file |
//! | [`reproduce`], [`verify`] | run all experiments; `verify` compares the bytes with committed results |
//! | [`file`](mod@file) | runs one file: rows, sequence diagrams, captures |
//! | [`explain`] | shows why the NMS chose a route for two nodes |
//! | [`archive`] | a copy of the sources with all packages, which builds without a network |
//! | [`table2`] | computes each cell of Table 2 from runs |
//! | [`sequences`] | the messages of the paper's Figures 2 to 9, and the packets of Figure 12 |
//! | [`middlebox`] | what a box that inspects QUIC does to each policy |
//! | [`scale`] | signaling of 2 to 250 nodes, also after a restart of the NMS |
//! | [`view`] | one page of a run that one can look at |
//! | [`compare`] | compares simulated runs with real ones |
//! | [`tables`] | prints the paper's tables beside ours |
//! | [`statistics`] | bootstrap intervals whose draws have a name |
//!
//! Each run has one thread and its own world. Several run at once on several cores. Their rows are put in the order of
//! the plan, so the output does not depend on which run ends first.

pub mod archive;
pub mod batch;
pub mod compare;
pub mod experiment;
pub mod explain;
pub mod extras;
pub mod file;
pub mod matrix;
pub mod middlebox;
pub mod reproduce;
pub mod scale;
pub mod sequences;
pub mod statistics;
pub mod table2;
pub mod tables;
pub mod verify;
pub mod view;

use std::path::Path;

use cyphonic_scenarios::{ResultsError, write_whole};

/// Makes the folder and checks that files can be written there, before minutes of work are spent.
fn writable(folder: &Path) -> Result<(), ResultsError> {
    let file = folder.join(".cyphonic-lab");
    write_whole(&file, b"")?;
    let removed = std::fs::remove_file(&file);
    removed.map_err(|source| ResultsError::Write { folder: folder.to_owned(), file: ".cyphonic-lab".into(), source })
}
