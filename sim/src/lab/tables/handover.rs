//! The cost of a move to a TCP transfer.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cyphonic_scenarios::rows::{Millis, Outcome};
use cyphonic_scenarios::{Row, Table};
use cyphonic_statistics::{quantile, sorted};

use super::layout::{COLUMNS, LEGEND, grid, heading, label, location, place};
use crate::error::LabError;
use crate::lab::statistics::bootstrap;

/// The runs of a cell, by seed.
type Runs<'a> = BTreeMap<u64, &'a Outcome>;

pub(super) fn print(text: &mut String, table: &Table) -> Result<(), LabError> {
    // By framing, whether the node stays, and the network that it moves to.
    let mut cells: BTreeMap<(usize, bool, &str), Runs<'_>> = BTreeMap::new();
    for line in &table.lines {
        let Row::Outcome(outcome) = &line.row else { continue };
        let moves = label(table, line, "skip") != "true";
        let key = (place(label(table, line, "framing")), moves, label(table, line, "cafe_kind"));
        cells.entry(key).or_default().insert(line.seed, outcome);
    }
    let (mut rows, mut broken) = (Vec::new(), Vec::new());
    for (&(framing, moves, kind), runs) in &cells {
        let method = COLUMNS.get(framing).map_or("", |(name, _)| heading(name));
        let course = if moves { format!("IPv6 to {}", location(kind)) } else { "none".to_owned() };
        let ok = runs.values().filter(|outcome| outcome.tcp_ok).count();
        if ok < runs.len() {
            broken.push(format!("{method}, move: {course}"));
        }
        let times = sorted(&runs.values().filter_map(|o| o.tcp_ms.map(Millis::as_f64)).collect::<Vec<_>>());
        let at = |p| quantile(&times, p).map_or(String::new(), |ms| format!("{ms:.0}"));
        let baseline = cells.iter().find(|((other, moves, _), _)| *other == framing && !moves).map(|(_, runs)| runs);
        let cost = baseline.filter(|_| moves).map_or(String::new(), |baseline| cost(runs, baseline));
        let pattern = runs.values().next_back().and_then(|o| o.pattern).map_or(String::new(), |p| p.to_string());
        rows.push(vec![
            method.to_owned(),
            course,
            pattern,
            format!("{ok}/{}", runs.len()),
            at(0.5),
            at(0.05),
            at(0.95),
            cost,
        ]);
    }
    let header =
        ["method", "move", "pattern after", "flows alive", "median ms", "5 %", "95 %", "more than without a move"];
    let _ = writeln!(
        text,
        "Handover: a node changes its network in the middle of a TCP transfer of 4 MB (paper §2.1)\n{}\n{LEGEND}\n\
         Scenario handover: the node registers again and rebuilds the tunnel; its virtual address, and so the flow, stays. \
         When it\nmoves is drawn from the seed. Last column: median over seeds of a run's time less that of the same seed \
         without a move, with\nits 95 % interval (percentile bootstrap over seeds).",
        grid(&header, 2, rows)
    );
    if broken.is_empty() {
        Ok(())
    } else {
        Err(LabError::Failed(format!("a TCP flow did not survive a move: {}", broken.join("; "))))
    }
}

/// The cost of the move in milliseconds: each seed compared with the same seed without a move.
fn cost(runs: &Runs<'_>, baseline: &Runs<'_>) -> String {
    let ms = |outcome: &Outcome| outcome.tcp_ms.map(Millis::as_f64);
    let pairs = runs.iter().filter_map(|(seed, run)| Some(ms(run)? - ms(baseline.get(seed)?)?));
    let differences = sorted(&pairs.collect::<Vec<_>>());
    let bounds = bootstrap("handover", &differences, |d| quantile(&sorted(d), 0.5).unwrap_or(0.0));
    quantile(&differences, 0.5)
        .zip(bounds)
        .map_or(String::new(), |(median, bounds)| format!("{median:+.0} ({:.0} to {:.0})", bounds.low, bounds.high))
}
