//! What a move costs datagrams.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cyphonic_scenarios::rows::{Handover, Mover, Used};
use cyphonic_scenarios::{Row, Table};

use super::layout::{COLUMNS, LEGEND, grid, label, place};
use crate::lab::statistics::{quantile, sorted};

/// The row of a table: the mover, and the patterns before and after.
type Course = (Mover, String, String);

/// By course: of each framing and delay, the longer gap of both directions of each seed, milliseconds.
type Gaps = BTreeMap<Course, BTreeMap<(usize, u64), Vec<f64>>>;

pub(super) fn print(text: &mut String, table: &Table) {
    let mut losses: BTreeMap<String, Gaps> = BTreeMap::new();
    let (mut delays, mut rebuilt, mut runs) = (Vec::new(), 0_usize, 0_usize);
    for line in &table.lines {
        let Row::Handover(row) = &line.row else { continue };
        let delay = (label(table, line, "link_delay_ms").parse::<f64>().unwrap_or(0.0) * 1000.0) as u64;
        if !delays.contains(&delay) {
            delays.push(delay);
        }
        runs += usize::from(row.mover != Mover::None);
        rebuilt += usize::from(row.used == Some(Used::Rebuild));
        let key = (place(label(table, line, "framing")), delay);
        let gaps = losses.entry(label(table, line, "link_loss").to_owned()).or_default();
        gaps.entry(course(row)).or_default().entry(key).or_default().push(longer(row));
    }
    for (loss, gaps) in &losses {
        let loss = 200.0 * loss.parse::<f64>().unwrap_or(0.0);
        let _ = writeln!(
            text,
            "What a move costs datagrams, {loss} % loss: longest gap, ms, median (95th percentile, greatest)"
        );
        let mut header = vec!["mover".to_owned(), "before".to_owned(), "after".to_owned()];
        for (_, heading) in COLUMNS {
            header.extend(delays.iter().map(|delay| format!("{heading}, RTT {}", 4 * delay / 1000)));
        }
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let rows = gaps.iter().map(|((mover, before, after), cells)| {
            let mover = format!("{mover:?}").to_lowercase();
            let keys = (0..COLUMNS.len()).flat_map(|framing| delays.iter().map(move |delay| (framing, *delay)));
            let cells = keys.map(|key| cells.get(&key).map_or(String::new(), |gaps| summary(gaps)));
            [mover, before.clone(), after.clone()].into_iter().chain(cells).collect()
        });
        let _ = writeln!(text, "{}\n", grid(&header, 3, rows.collect()));
    }
    let _ = writeln!(
        text,
        "{LEGEND}\nScenario mobility: a datagram every 10 ms in each direction, so no gap is below 10 ms; the longer gap of \
         both directions.\nThe moment of the move and the jitter are drawn from the seed, the same for each framing. RTT: \
         between any two hosts, through the\nrelay twice as much. In {rebuilt} of {runs} runs with a move a new tunnel was built; \
         in the others none came up within the run.\n"
    );
}

fn course(row: &Handover) -> Course {
    let pattern = |pattern: Option<cyphonic_core::route::Pattern>| pattern.map_or("none".to_owned(), |p| p.to_string());
    (row.mover, pattern(row.pattern), pattern(row.pattern_after))
}

fn longer(row: &Handover) -> f64 {
    row.gap_ms.max(row.gap_back_ms).as_f64()
}

fn summary(gaps: &[f64]) -> String {
    let gaps = sorted(gaps);
    let at = |p| quantile(&gaps, p).unwrap_or(0.0);
    format!("{:.0} ({:.0}, {:.0})", at(0.5), at(0.95), at(1.0))
}
