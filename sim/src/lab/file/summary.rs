//! A summary of many rows. For each cell of the sweep and each measured time, it has the number of rows, the number of
//! missing ones, the median, and the tail.

use std::collections::BTreeMap;

use cyphonic_scenarios::Table;
use cyphonic_statistics::{quantile, sorted};

use crate::lab::tables::grid;

/// Fewer rows than this are read faster than a summary of them.
const FEWEST: usize = 5;

/// The summary of a table, printed above its rows. Empty if there is nothing to summarise.
pub(super) fn summary(table: &Table) -> String {
    let header = table.header();
    // First the labels of the cell, then the seed, then the measured columns.
    let labels = table.columns.len();
    let times: Vec<usize> =
        (labels + 1..header.len()).filter(|&at| header[at].ends_with("_ms") || header[at] == "ms").collect();
    // Columns that separate rows of one cell that must not be pooled.
    let kinds: Vec<usize> =
        (labels + 1..header.len()).filter(|&at| matches!(header[at].as_str(), "phase" | "step")).collect();
    let mut samples: BTreeMap<(Vec<String>, usize), (u64, Vec<f64>)> = BTreeMap::new();
    let mut order = Vec::new();
    for record in table.records() {
        let of: Vec<String> = (0..labels).chain(kinds.iter().copied()).map(|at| record[at].clone()).collect();
        for &at in &times {
            let key = (of.clone(), at);
            let (missing, sample) = samples.entry(key.clone()).or_insert_with(|| {
                order.push(key);
                (0, Vec::new())
            });
            match record[at].parse() {
                Ok(value) => sample.push(value),
                Err(_) => *missing += 1,
            }
        }
    }
    let rows: Vec<Vec<String>> = order
        .into_iter()
        .filter_map(|key| {
            let (missing, sample) = &samples[&key];
            let n = *missing as usize + sample.len();
            if n < FEWEST || sample.is_empty() {
                return None;
            }
            let sample = sorted(sample);
            let at = |p| quantile(&sample, p).map(|value| format!("{value:.3}")).unwrap_or_default();
            let numbers = [n.to_string(), missing.to_string(), at(0.5), at(0.95), at(0.99)];
            Some(key.0.into_iter().chain([header[key.1].clone()]).chain(numbers).collect())
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let names = (0..labels).chain(kinds.iter().copied()).map(|at| header[at].clone());
    let names: Vec<String> = names.chain(["of", "n", "lost", "median", "p95", "p99"].map(str::to_owned)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    format!("{}\n\n", grid(&names, labels + kinds.len() + 1, rows))
}
