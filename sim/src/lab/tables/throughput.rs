//! The throughput of a TCP transfer, in each framing and under each congestion control.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cyphonic_scenarios::rows::Millis;
use cyphonic_scenarios::{Row, Table};
use cyphonic_statistics::{quantile, sorted};

use super::layout::{grid, heading, label, place};
use crate::lab::statistics::bootstrap;

/// Throughputs in Mbit/s, one for each seed. The outer key is the delay and the loss of a link. The inner key is the
/// framing's place in tables, the framing, and the congestion control.
type Rates = BTreeMap<(String, String), BTreeMap<(usize, String, String), Vec<f64>>>;

pub(super) fn print(text: &mut String, table: &Table) {
    let mut rates = Rates::new();
    for line in &table.lines {
        let Row::Outcome(outcome) = &line.row else { continue };
        let of = |column| label(table, line, column).to_owned();
        let rate = match outcome.tcp_ms.map(Millis::as_f64) {
            Some(ms) if outcome.tcp_ok && ms > 0.0 => outcome.tcp_bytes as f64 * 8e-3 / ms,
            _ => 0.0,
        };
        let way = (place(&of("framing")), of("framing"), of("congestion"));
        rates.entry((of("link_delay_ms"), of("link_loss"))).or_default().entry(way).or_default().push(rate);
    }
    let mut rows = Vec::new();
    for ((delay, loss), ways) in &rates {
        for ((_, framing, congestion), sample) in ways {
            let sample = sorted(sample);
            let median = |sample: &[f64]| quantile(&sorted(sample), 0.5).unwrap_or(0.0);
            let bounds = bootstrap("throughput", &sample, median);
            let interval = bounds.map_or(String::new(), |bounds| format!("{:.2} to {:.2}", bounds.low, bounds.high));
            let rtt = 4.0 * delay.parse::<f64>().unwrap_or(0.0);
            let percent = 100.0 * loss.parse::<f64>().unwrap_or(0.0);
            rows.push(vec![
                heading(framing).to_owned(),
                congestion.clone(),
                format!("{rtt:.0}"),
                format!("{percent}"),
                format!("{:.2}", median(&sample)),
                interval,
            ]);
        }
    }
    let header = ["method", "congestion", "RTT ms", "loss % a link", "Mbit/s, median", "95 %"];
    let _ = writeln!(
        text,
        "\nThroughput of a TCP transfer of 2 MB through a direct tunnel, links of 15 Mbit/s (paper §4.3: 11.16 of its [10])\n{}\n\
         Scenario throughput. The TCP inside is the simulator's (Reno, no SACK): compare framings, not a kernel's numbers.",
        grid(&header, 2, rows)
    );
}
