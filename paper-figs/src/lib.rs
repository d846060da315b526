//! CSV in, figures out.
//!
//! A figure has the name of the results file that it shows. It is drawn in three steps: [`input`] reads files into
//! typed [`rows`]; a module of [`figure`] arranges them, with statistics by [`stats`]; and [`render`] makes SVG and PNG
//! of the drawing. The results are the only input, so the same CSV gives the same bytes. This crate does not depend on
//! the simulator.

mod backend;
pub mod diagram;
pub mod figure;
mod font;
pub mod input;
pub mod output;
pub mod render;
pub mod report;
pub mod rows;
mod sheet;
pub mod stats;

pub use diagram::{DIAGRAMS, Diagram};
pub use figure::{FIGURES, Failure, Figure, Options};
