//! What the soak reached: how often each event occurred, over kinds of sites, patterns and methods.

use std::collections::BTreeMap;
use std::path::Path;

use cyphonic_statistics::Summary;
use plotters::style::BLACK;

use super::strips::{Scale, Strip, height, paint};
use super::style::PALE;
use crate::input::{InputError, Origin, read};
use crate::render::{Drawing, Width};
use crate::rows::Covered;
use crate::sheet::{Fill, Hatch};

pub(super) fn prepare(results: &Path) -> Result<Drawing, InputError> {
    let table = read::<Covered>(results, Origin::Simulator, "soak")?;
    let sum = |what: &str| {
        let line = table.lines.iter().find(|line| line.row.what == what && line.row.kind.is_empty());
        line.map(|line| line.row.count.clone()).ok_or_else(|| table.error(format!("there is no row {what}")))
    };
    let (runs, failed) = (sum("runs")?, sum("failed")?);
    let mut events: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for line in table.lines.iter().filter(|line| !line.row.kind.is_empty()) {
        let count: f64 = line.row.count.parse().map_err(|_| table.error_at(line.number, "this count is no number"))?;
        events.entry(&line.row.what).or_default().push(count);
    }
    let fill = Fill::new(PALE, Hatch::Plain, BLACK);
    let strip = |(name, counts): (&str, Vec<f64>)| {
        let name = format!("{} ({})", name.replace('_', " "), counts.len());
        Some(Strip { group: String::new(), name, fill, summary: Summary::of(&counts)? })
    };
    let strips: Vec<Strip> = events.into_iter().filter_map(strip).collect();
    if strips.is_empty() {
        return Err(table.error("no event was counted: there is nothing to draw"));
    }
    Ok(Drawing {
        title: "Coverage of the soak".into(),
        caption: format!(
            "How often each event occurred in {runs} random networks, of which {failed} failed. Each event has one count for \
             each combination of a kind of site, a pattern and a method (their number is in brackets). Box = quartiles and \
             median of these counts, whiskers = minimum and maximum, diamond = mean; logarithmic. A whisker at 1 or below \
             would be a combination that was hardly reached."
        ),
        has_caption: true,
        width: Width::Column,
        height: height(&strips),
        paint: Box::new(move |sheet| paint(sheet, &strips, "Occurrences of a combination", Scale::Log)),
    })
}
