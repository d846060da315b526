//! CSV in, figures out.
//!
//! A figure bears the name of the results file that it shows, and is drawn in three steps: [`input`] reads files into
//! typed [`rows`]; a module of [`figure`] arranges them, asking [`stats`] where numbers must be summed up; and
//! [`render`] turns the drawing into SVG and PNG. The results are the only input, so the same CSV gives the same bytes.
//! Nothing here knows the simulator.

mod backend;
pub mod figure;
mod font;
pub mod input;
pub mod output;
pub mod render;
pub mod rows;
mod sheet;
pub mod stats;

pub use figure::{FIGURES, Failure, Figure};
