//! How long a TCP transfer takes in the middle of which its sender moves.

use std::collections::BTreeMap;
use std::path::Path;

use cyphonic_statistics::Summary;

use super::strips::{Scale, Strip, fill_of, height, paint};
use crate::input::{InputError, Origin, read};
use crate::render::{Drawing, Width};
use crate::rows::{Framing, Kind, Move};

/// Where to the node moved, if it did; other columns of the sweep; the framing.
type Key = (Option<Kind>, String, Framing);

pub(super) fn prepare(results: &Path) -> Result<Drawing, InputError> {
    let table = read::<Move>(results, Origin::Simulator, "handover")?;
    // Without a move it does not matter where to.
    let mut cells: BTreeMap<Key, (usize, Vec<f64>)> = BTreeMap::new();
    for line in &table.lines {
        let to = (!line.row.skip).then_some(line.row.cafe_kind);
        let (all, times) = cells.entry((to, line.cell.clone(), line.row.framing)).or_default();
        *all += 1;
        times.extend(line.row.tcp_ms.map(|ms| ms / 1000.0));
    }
    let lost: usize = cells.values().map(|(all, times)| all - times.len()).sum();
    let runs = table.lines.len();
    let mut strips: Vec<Strip> = Vec::new();
    let mut before = None;
    for ((to, cell, framing), (_, times)) in cells {
        let Some(summary) = Summary::of(&times) else { continue };
        let course = to.map_or("No move".to_owned(), |kind| format!("From IPv6 to {}", kind.name()));
        let course = if cell.is_empty() { course } else { format!("{course}, {cell}") };
        let group = if before.replace(course.clone()).as_ref() == Some(&course) { String::new() } else { course };
        strips.push(Strip { group, name: framing.title().to_owned(), fill: fill_of(framing), summary });
    }
    if strips.is_empty() {
        return Err(table.error("no transfer came to its end: there is nothing to draw"));
    }
    Ok(Drawing {
        title: "A TCP transfer with and without a move".into(),
        caption: format!(
            "Time of a TCP transfer of 4 MB over 10 Mbit/s in which the sender changes its network once, at a moment drawn \
             from the seed. Box = quartiles and median, whiskers = minimum and maximum, diamond = mean, over seeds. In {} of \
             {runs} runs the transfer ended with the right hash. Simulated.",
            runs - lost
        ),
        has_caption: true,
        width: Width::Column,
        height: height(&strips),
        paint: Box::new(move |sheet| paint(sheet, &strips, "Time of the transfer (s)", Scale::Linear)),
    })
}
