//! Round-trip times between containers: Table 4 on a real kernel.

use std::collections::BTreeMap;
use std::path::Path;

use cyphonic_statistics::{Summary, quantile, sorted};

use super::strips::{Scale, Strip, fill_of, height, paint};
use crate::input::{InputError, Origin, read};
use crate::render::{Drawing, Width};
use crate::rows::{Framing, Pattern, Ping};

/// A series: pattern, interval, cell of a sweep, framing.
type Series = (Pattern, String, String, Framing);

pub(super) fn prepare(results: &Path) -> Result<Drawing, InputError> {
    let table = read::<Ping>(results, Origin::Real, "pings")?;
    // Runs are named by their time.
    let mut last: BTreeMap<Pattern, &str> = BTreeMap::new();
    for row in table.lines.iter().map(|line| &line.row).filter(|row| row.round > 0) {
        let run = last.entry(row.pattern).or_default();
        *run = (*run).max(&row.run);
    }
    let mut cells: BTreeMap<Series, BTreeMap<u32, Vec<f64>>> = BTreeMap::new();
    for line in &table.lines {
        let row = &line.row;
        let (Some(rtt), 1..) = (row.rtt_ms, row.round) else { continue };
        if last.get(&row.pattern) != Some(&row.run.as_str()) {
            continue;
        }
        let cell = (row.pattern, row.interval_s.clone(), line.cell.clone(), row.framing);
        cells.entry(cell).or_default().entry(row.round).or_default().push(rtt);
    }
    if cells.is_empty() {
        return Err(table.error("no ping of a round was answered: there is nothing to draw"));
    }
    let mut strips: Vec<Strip> = Vec::new();
    let mut before = None;
    for ((pattern, interval, cell, framing), rounds) in cells {
        let medians: Vec<f64> = rounds.values().filter_map(|pings| quantile(&sorted(pings), 0.5)).collect();
        let Some(summary) = Summary::of(&medians) else { continue };
        let mut course = format!("Pattern {}: {}; a ping every {interval} s", pattern.number(), pattern.about());
        if !cell.is_empty() {
            course = format!("{course}, {cell}");
        }
        let group = if before.replace(course.clone()).as_ref() == Some(&course) { String::new() } else { course };
        let name = format!("{} (n = {})", framing.title(), medians.len());
        strips.push(Strip { group, name, fill: fill_of(framing), summary });
    }
    Ok(Drawing {
        title: "Round-trip time between two containers".into(),
        caption: "Median round-trip time of the pings of a round between two containers on one machine; n rounds. In each \
                  round the three framings take turns. Box = quartiles and median, whiskers = minimum and maximum, diamond = \
                  mean, over rounds. Of each pattern the last run."
            .into(),
        has_caption: true,
        width: Width::Column,
        height: height(&strips),
        paint: Box::new(move |sheet| paint(sheet, &strips, "Median round-trip time of a round (ms)", Scale::Linear)),
    })
}
