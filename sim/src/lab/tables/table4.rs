//! Table 4: round-trip times through the tunnel.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cyphonic_scenarios::rows::Millis;
use cyphonic_scenarios::{Row, Table};
use cyphonic_statistics::{Summary, mean, quantile, sorted};

use super::layout::{COLUMNS, LEGEND, grid, label};
use super::paper;
use crate::lab::statistics::{Interval, bootstrap};

/// The echoes of a framing.
struct Series {
    sent: usize,
    /// The round-trip times of each seed, milliseconds.
    by_seed: BTreeMap<u64, Vec<f64>>,
}

impl Series {
    fn of(table: &Table, framing: &str) -> Self {
        let mut series = Self { sent: 0, by_seed: BTreeMap::new() };
        for line in table.lines.iter().filter(|line| label(table, line, "framing") == framing) {
            let Row::Rtt(rtt) = &line.row else { continue };
            series.sent += 1;
            let seed = series.by_seed.entry(line.seed).or_default();
            seed.extend(rtt.rtt_ms.map(Millis::as_f64));
        }
        series
    }

    fn all(&self) -> Vec<f64> {
        self.by_seed.values().flatten().copied().collect()
    }

    fn means(&self) -> Vec<f64> {
        self.by_seed.values().filter_map(|rtts| mean(rtts)).collect()
    }

    /// The mean of this series minus that of `other`, for each seed that both have.
    fn less(&self, other: &Self) -> Vec<f64> {
        let pairs = self.by_seed.iter().filter_map(|(seed, mine)| Some((mine, other.by_seed.get(seed)?)));
        pairs.filter_map(|(mine, theirs)| Some(mean(mine)? - mean(theirs)?)).collect()
    }
}

pub(super) fn print(text: &mut String, table: &Table) {
    let printed = paper::rtts();
    let series = COLUMNS.map(|(framing, _)| Series::of(table, framing));
    let summaries = series.each_ref().map(|series| Summary::of(&series.all()));
    let ms = |value: Option<f64>| value.map_or("–".to_owned(), |ms| format!("{ms:.3}"));
    let mut rows = Vec::new();
    let mut row = |name: &str, of: &dyn Fn(&Summary) -> f64| {
        let paper = |method: usize| printed.get(name).map_or(String::new(), |values| format!("{:.3}", values[method]));
        let ours = summaries.each_ref().map(|summary| ms(summary.as_ref().map(of)));
        let [conventional, proposed, compact] = ours;
        rows.push(vec![name.to_owned(), paper(0), conventional, paper(1), proposed, compact]);
    };
    row("min", &|s| s.min);
    row("mean", &|s| s.mean);
    row("max", &|s| s.max);
    row("stddev", &|s| s.stddev.unwrap_or_default());
    row("median", &|s| s.median);
    row("95th percentile", &|s| s.p95);
    row("99th percentile", &|s| s.p99);
    let interval = |interval: Option<Interval>| interval.map_or(String::new(), |i| i.to_string());
    let [conventional, proposed, compact] = series
        .each_ref()
        .map(|series| interval(bootstrap("mean", &series.means(), |means| mean(means).unwrap_or(0.0))));
    rows.push(vec!["mean, 95 % interval".into(), String::new(), conventional, String::new(), proposed, compact]);
    let [_, proposed, compact] = series.each_ref().map(|framing| {
        let differences = sorted(&framing.less(&series[0]));
        let median = quantile(&differences, 0.5);
        let bounds = bootstrap("difference", &differences, |d| quantile(&sorted(d), 0.5).unwrap_or(0.0));
        median.zip(bounds).map_or(String::new(), |(median, bounds)| format!("{median:+.3} ({bounds})"))
    });
    rows.push(vec!["less conventional".into(), String::new(), String::new(), String::new(), proposed, compact]);
    let header = ["RTT, ms", "paper conv.", "conventional", "paper prop.", "proposed", "ours"];
    let _ =
        writeln!(text, "Table 4. Round-trip time of ping between two nodes (paper §4.3)\n{}", grid(&header, 1, rows));
    let sent: Vec<String> = series.iter().map(|series| series.sent.to_string()).collect();
    let _ = writeln!(
        text,
        "{LEGEND}\n{} echoes through the tunnel in {} seeds, scenario table4: every link 1 ms and up to 0.5 ms more, no loss, no \
         rate limit.\nIntervals: percentile bootstrap over seeds. Last row: median over seeds of a seed's mean less that of the \
         conventional\nmethod with the same seed. The simulator has no CPU time, so this isolates the protocol from the machine: \
         all framings cost the\nsame round trip, and what differs is jitter. The paper's numbers are those of its two containers; \
         real ones come from real sockets.\n",
        sent.join(", "),
        series[0].by_seed.len(),
    );
}
