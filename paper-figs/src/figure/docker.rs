//! Round-trip times between containers: Table 4 on a real kernel.

use std::collections::BTreeMap;
use std::path::Path;

use cyphonic_statistics::Summary;

use super::strips::{Scale, Strip, fill_of, height, paint};
use crate::input::{InputError, Origin, read};
use crate::render::{Drawing, Width};
use crate::rows::{Framing, Pattern, Pings};

pub(super) fn prepare(results: &Path) -> Result<Drawing, InputError> {
    let table = read::<Pings>(results, Origin::Real, "table4")?;
    let mut cells: BTreeMap<(Pattern, String, Framing), Vec<f64>> = BTreeMap::new();
    for line in &table.lines {
        let row = &line.row;
        if !(row.min_ms <= row.mean_ms && row.mean_ms <= row.max_ms) {
            return Err(table.error_at(line.number, "the mean is not between minimum and maximum"));
        }
        cells.entry((row.pattern, line.cell.clone(), row.framing)).or_default().push(row.mean_ms);
    }
    let mut strips: Vec<Strip> = Vec::new();
    let mut before = None;
    for ((pattern, cell, framing), means) in cells {
        let Some(summary) = Summary::of(&means) else { continue };
        let mut course = format!("Pattern {}: {}", pattern.number(), pattern.about());
        if !cell.is_empty() {
            course = format!("{course}, {cell}");
        }
        let group = if before.replace(course.clone()).as_ref() == Some(&course) { String::new() } else { course };
        let name = format!("{} (n = {})", framing.title(), means.len());
        strips.push(Strip { group, name, fill: fill_of(framing), summary });
    }
    Ok(Drawing {
        title: "Round-trip time between two containers".into(),
        caption: "Mean round-trip time of 100 pings between two containers on one machine, one value for each run; n runs. Box = \
                  quartiles and median, whiskers = minimum and maximum, diamond = mean, over runs. The runs differ in the \
                  machine’s load and in the program’s version, so compare framings within a pattern."
            .into(),
        has_caption: true,
        width: Width::Column,
        height: height(&strips),
        paint: Box::new(move |sheet| paint(sheet, &strips, "Mean round-trip time of a run (ms)", Scale::Linear)),
    })
}
