//! What was measured on a real kernel.

use std::collections::BTreeMap;

use super::{Said, Verdict, average, median, words};
use crate::report::source::{Line, Sheet};
use crate::stats::{interval, signed_rank};

/// Tests of the paper's claim that are made: three patterns, two intervals.
const TESTS: f64 = 6.0;
/// A difference of less than this share counts as none, as in the simulated Table 4.
const EQUAL: f64 = 0.01;

/// The rows of the last run that has rows like these. Runs are named by their time.
fn last_run<'a>(sheet: &'a Sheet, wanted: &[(&str, &str)]) -> Vec<Line<'a>> {
    let lines: Vec<_> = sheet.with(wanted).into_iter().filter(|line| line.text("round") != "0").collect();
    let last = lines.iter().map(|line| line.text("run")).max().unwrap_or_default();
    lines.into_iter().filter(|line| line.text("run") == last).collect()
}

/// The median of each round, by round.
fn by_round(lines: &[Line<'_>], framing: &str, column: &str) -> BTreeMap<String, f64> {
    let mut rounds: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.text("framing") == framing) {
        if let Some(number) = line.number(column) {
            rounds.entry(line.text("round").to_owned()).or_default().push(number);
        }
    }
    rounds.into_iter().map(|(round, numbers)| (round, median(&numbers))).collect()
}

/// How much a framing's round trip is longer than the conventional one, round by round.
struct Longer {
    differences: Vec<f64>,
    conventional: f64,
    p: f64,
    effect: f64,
}

impl Longer {
    fn of(lines: &[Line<'_>], framing: &str) -> Self {
        let [conventional, other] = ["udp4501", framing].map(|framing| by_round(lines, framing, "rtt_ms"));
        let differences: Vec<f64> =
            other.iter().filter_map(|(round, ms)| Some(ms - conventional.get(round)?)).collect();
        let (p, effect) = signed_rank(&differences).unwrap_or((1.0, 0.0));
        Self { differences, conventional: median(&conventional.into_values().collect::<Vec<_>>()), p, effect }
    }

    fn words(&self) -> String {
        let difference = median(&self.differences);
        format!(
            "{difference:+.3} ms ({:+.0} %), effect {:+.2}, p = {:.3}",
            100.0 * difference / self.conventional,
            self.effect,
            self.p
        )
    }
}

/// Table 4 in containers.
pub(super) fn table4(sheet: &Sheet) -> Vec<Said<'static>> {
    let mut said = Vec::new();
    for (pattern, seconds, claim) in [
        ("1", "1", "the same in Docker, pattern 1, a ping every 1 s"),
        ("1", "0.1", "the same in Docker, pattern 1, a ping every 0.1 s"),
        ("2", "1", "the same in Docker, pattern 2, a ping every 1 s"),
        ("2", "0.1", "the same in Docker, pattern 2, a ping every 0.1 s"),
        ("3", "1", "the same in Docker, pattern 3, a ping every 1 s"),
        ("3", "0.1", "the same in Docker, pattern 3, a ping every 0.1 s"),
    ] {
        let lines = last_run(sheet, &[("pattern", pattern), ("interval_s", seconds)]);
        let [proposed, compact] = ["stream", "compact"].map(|framing| Longer::of(&lines, framing));
        let bounds = interval(&proposed.differences, median);
        let limit = EQUAL * proposed.conventional;
        let rounds = proposed.differences.len();
        let verdict = match bounds {
            None if rounds == 0 => Verdict::Missing,
            Some((low, high)) if low.abs().max(high.abs()) < limit => Verdict::Reproduced,
            Some((low, high)) if low * high > 0.0 && proposed.p * TESTS < 0.05 => Verdict::Differs,
            // The interval has both no difference and a difference in it.
            _ => Verdict::Undecided,
        };
        said.push(Said {
            place: "§4.3, Table 4",
            claim,
            how: "in each round the framings take turns; the medians of a round's pings are paired; exact Wilcoxon signed-rank \
                  test, two-sided; effect: rank-biserial correlation; six such tests, so p counts below 0.05 / 6 = 0.008; the \
                  paper states no interval, and ping's default is 1 s",
            paper: "equal (4.018 and 4.034 ms)".to_owned(),
            ours: if rounds == 0 {
                "not measured".to_owned()
            } else {
                format!(
                    "proposed less conventional ({:.3} ms), median of {rounds} rounds: {}; compact (ours): {}",
                    proposed.conventional,
                    proposed.words(),
                    compact.words()
                )
            },
            interval: words(bounds, 3, "ms (proposed, bootstrap over rounds)"),
            verdict,
        });
    }
    said
}

/// Both readings of the 15 Mbit/s.
pub(super) fn narrow(sheet: &Sheet, paper: Option<&Sheet>) -> Vec<Said<'static>> {
    let printed = paper
        .and_then(|paper| paper.with(&[]).first().and_then(|line| line.number("received_mbps")))
        .unwrap_or(f64::NAN);
    let link = "iperf3 over TCP through the tunnel, over a link of 15 Mbit/s (containers)";
    let offered = "iperf3 -b 15M over TCP through the tunnel, over the containers' own link";
    let mut said = Vec::new();
    for (framing, column, how, claim) in [
        ("udp4501", "tunnel_tcp_mbps", link, "throughput with a link of 15 Mbit/s, conventional, in Docker"),
        ("stream", "tunnel_tcp_mbps", link, "throughput with a link of 15 Mbit/s, proposed, in Docker"),
        (
            "compact",
            "tunnel_tcp_mbps",
            link,
            "throughput with a link of 15 Mbit/s, proposed (ours, compact), in Docker",
        ),
        (
            "udp4501",
            "paced_tunnel_tcp_mbps",
            offered,
            "15 Mbit/s as what `iperf3 -b 15M` offers, conventional, in Docker",
        ),
        ("stream", "paced_tunnel_tcp_mbps", offered, "15 Mbit/s as what `iperf3 -b 15M` offers, proposed, in Docker"),
        (
            "compact",
            "paced_tunnel_tcp_mbps",
            offered,
            "15 Mbit/s as what `iperf3 -b 15M` offers, proposed (ours, compact), in Docker",
        ),
    ] {
        let lines = sheet.with(&[("framing", framing)]);
        let rates: Vec<f64> = lines.iter().filter_map(|line| line.number(column)).collect();
        let (ours, verdict) = if rates.is_empty() {
            ("not measured".to_owned(), Verdict::Missing)
        } else if (average(&rates) - printed).abs() < 0.5 {
            (format!("{:.1} Mbit/s ({} runs)", average(&rates), rates.len()), Verdict::Reproduced)
        } else {
            (format!("{:.1} Mbit/s ({} runs)", average(&rates), rates.len()), Verdict::Differs)
        };
        said.push(Said {
            place: "§4.3, of its reference [10]",
            claim,
            how,
            paper: format!("{printed} Mbit/s"),
            ours,
            interval: words(interval(&rates, average), 1, "Mbit/s"),
            verdict,
        });
    }
    said
}

/// Our node beside other tunnels.
pub(super) fn bench(sheet: &Sheet) -> Vec<Said<'static>> {
    let lines = last_run(sheet, &[]);
    let peers: BTreeMap<&str, Vec<Line<'_>>> = lines.iter().fold(BTreeMap::new(), |mut peers, line| {
        peers.entry(line.text("peer")).or_default().push(*line);
        peers
    });
    let share = |line: &Line<'_>| Some(100.0 * line.number("tcp_mbps")? / line.number("bare_tcp_mbps")?);
    let shares = |peer: &str| peers.get(peer).map(|lines| lines.iter().filter_map(share).collect()).unwrap_or_default();
    let mut order: Vec<(&str, Vec<f64>)> = peers.keys().filter(|p| **p != "none").map(|p| (*p, shares(p))).collect();
    order.sort_by(|a, b| median(&b.1).total_cmp(&median(&a.1)));
    let list = order.iter().map(|(peer, shares)| format!("{peer} {:.1} %", median(shares)));
    let ours: Vec<f64> = shares("cyphonic-compact");
    vec![Said {
        place: "beyond the paper",
        claim: "TCP throughput through our node and through other tunnels, as a share of that without a tunnel",
        how: "both ends and iperf3 share one machine; the tunnels take turns in rounds, and TCP without a tunnel is measured \
              just before each; real/bench/run.sh",
        paper: "no claim".to_owned(),
        ours: format!("{} (medians of the last run)", list.collect::<Vec<_>>().join(", ")),
        interval: words(interval(&ours, median), 1, "% (cyphonic-compact)"),
        verdict: Verdict::Answer,
    }]
}
