//! One report: every claim of the paper, how it was tested, and what came of it.
//!
//! The report is one HTML file without network: its figures are in it, its font too, and it runs no script. Every
//! number is computed from a CSV file, and the row of its claim names that file's command and digest, from the file's
//! manifest.

mod claims;
mod html;
mod source;

use std::path::{Path, PathBuf};

use crate::diagram::DIAGRAMS;
use crate::figure::{FIGURES, Failure};
use crate::output::{make_folder, write_file};

pub use claims::{Claim, Verdict, claims};

/// The report's file.
pub const FILE: &str = "report.html";

/// Writes `DIR/report.html`; gives its path and what is missing from it.
///
/// # Errors
/// A figure cannot be drawn, or the report cannot be written. Missing results are no error: the report says so.
pub fn write(results: &Path, out: &Path) -> Result<(PathBuf, Vec<String>), Failure> {
    let mut missing = Vec::new();
    let mut figures = Vec::new();
    for figure in FIGURES {
        match (figure.prepare)(results) {
            Ok(drawing) => figures.push((figure.name, drawing.caption().to_owned(), drawing.without_caption().svg()?)),
            Err(error) => missing.push(format!("{}: {error}", figure.name)),
        }
    }
    for diagram in DIAGRAMS {
        match diagram.draw(results) {
            Ok(drawn) => figures.push((diagram.name, drawn.caption, drawn.svg)),
            Err(error) => missing.push(format!("{}: {error}", diagram.name)),
        }
    }
    let text = html::page(&claims(results), &figures, &missing, &source::manifests(results), &source::runs(results));
    make_folder(out)?;
    let path = out.join(FILE);
    write_file(&path, text.as_bytes())?;
    Ok((path, missing))
}
