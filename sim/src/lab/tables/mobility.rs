//! The cost of a move to datagrams: gaps and losses.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cyphonic_core::route::Pattern;
use cyphonic_scenarios::rows::{Handover, Mover, Used};
use cyphonic_scenarios::{Line, Row, Table};
use cyphonic_statistics::{quantile, sorted};

use super::layout::{LEGEND, grid, label};

/// The strategies of the sweep: framing, `handover` and heading.
const STRATEGIES: [(&str, &str, &str); 7] = [
    ("udp4501", "rebuild", "conventional, rebuild"),
    ("stream", "rebuild", "proposed, rebuild"),
    ("stream", "migrate", "proposed, migrate"),
    ("stream", "seamless", "proposed, seamless"),
    ("compact", "rebuild", "ours, rebuild"),
    ("compact", "migrate", "ours, migrate"),
    ("compact", "seamless", "ours, seamless"),
];

/// The interval of the scenario's datagrams, milliseconds.
const INTERVAL_MS: f64 = 10.0;

/// The row of a table: the moving node, and the patterns before and after that Table 1 has for the networks.
type Course = (String, String);

/// The longer gap of both directions, milliseconds, the least that the new path allows, and how the tunnel followed.
struct Gap {
    seed: u64,
    longer: f64,
    bound: Option<f64>,
    used: Option<Used>,
    pattern_after: Option<Pattern>,
}

/// The samples by loss and delay, then by course in the order of the file, then by strategy.
type Gaps = BTreeMap<(String, u64), Vec<(Course, BTreeMap<usize, Vec<Gap>>)>>;

pub(super) fn print(text: &mut String, table: &Table) {
    let gaps = gather(table);
    for ((loss, delay), courses) in &gaps {
        let loss = 200.0 * loss.parse::<f64>().unwrap_or(0.0);
        let rtt = 4 * delay / 1000;
        let _ = writeln!(
            text,
            "What a move costs datagrams at RTT {rtt} ms and {loss} % loss: longest gap, ms, median (95th percentile, greatest); \
             r: rebuilt"
        );
        let mut header = vec!["moves", "networks", "new RTT"];
        header.extend(STRATEGIES.iter().map(|(.., heading)| *heading));
        let rows = courses.iter().map(|((mover, networks), cells)| {
            let bounds: Vec<f64> = cells.values().flatten().filter_map(|gap| gap.bound).collect();
            let bound = quantile(&sorted(&bounds), 0.5).map_or("–".to_owned(), |ms| format!("{ms:.0}"));
            let cells = (0..STRATEGIES.len()).map(|at| cells.get(&at).map_or(String::new(), |gaps| summary(gaps)));
            [mover.clone(), networks.clone(), bound].into_iter().chain(cells).collect()
        });
        let _ = writeln!(text, "{}\n", grid(&header, 2, rows.collect()));
    }
    let (worse, cells) = worse(&gaps);
    let _ = writeln!(
        text,
        "{LEGEND}\nScenario mobility: a datagram every 10 ms in each direction, so no gap is below 10 ms; the longer gap of \
         both directions.\nnew RTT: of the path on which delivery began again, the bound for one node that moves; two that move \
         at once need half a round trip more.\nseamless is worse than another strategy of its framing by more than one interval, at \
         the 95th percentile, paired by seed, in {} of {cells} cells{}{}.\n",
        worse.len(),
        if worse.is_empty() { "" } else { ":\n  " },
        worse.join("\n  "),
    );
}

fn gather(table: &Table) -> Gaps {
    let mut gaps = Gaps::new();
    for line in &table.lines {
        let Row::Handover(row) = &line.row else { continue };
        let strategy = (label(table, line, "framing"), label(table, line, "handover"));
        let Some(strategy) = STRATEGIES.iter().position(|(framing, handover, _)| (*framing, *handover) == strategy)
        else {
            continue;
        };
        let delay = (label(table, line, "link_delay_ms").parse::<f64>().unwrap_or(0.0) * 1000.0) as u64;
        let courses = gaps.entry((label(table, line, "link_loss").to_owned(), delay)).or_default();
        let course = course(table, line);
        let at = courses.iter().position(|(known, _)| *known == course).unwrap_or_else(|| {
            courses.push((course, BTreeMap::new()));
            courses.len() - 1
        });
        courses[at].1.entry(strategy).or_default().push(gap(line.seed, row));
    }
    gaps
}

fn gap(seed: u64, row: &Handover) -> Gap {
    let bound = row.bound_ms.map(|bound| bound.as_f64() * if row.mover == Mover::Both { 1.5 } else { 1.0 });
    let longer = row.gap_ms.max(row.gap_back_ms).as_f64();
    Gap { seed, longer, bound, used: row.used, pattern_after: row.pattern_after }
}

/// The nodes that move, and from where to where. A label of a site is `a-home-nat`: node, place, kind.
fn course(table: &Table, line: &Line) -> Course {
    let kind = |column: &str| label(table, line, column).rsplit('-').next().unwrap_or_default();
    let moves = |skip: &str| label(table, line, skip) == "false";
    let (alice, bob) = (moves("step_4_skip"), moves("step_5_skip"));
    let before = [kind("alice_site"), kind("bob_site")];
    let after = [if alice { kind("step_4_to") } else { before[0] }, if bob { kind("step_5_to") } else { before[1] }];
    let mover = match (alice, bob) {
        (false, false) => "nobody",
        (true, false) => "initiator",
        (false, true) => "responder",
        (true, true) => "both",
    };
    let networks = format!("{} {} → {} {}", before[0], before[1], after[0], after[1]);
    (mover.to_owned(), if alice || bob { networks } else { before.join(" ") })
}

fn summary(gaps: &[Gap]) -> String {
    let longer = sorted(&gaps.iter().map(|gap| gap.longer).collect::<Vec<_>>());
    let at = |p| quantile(&longer, p).unwrap_or(0.0);
    let rebuilt = gaps.iter().all(|gap| gap.used == Some(Used::Rebuild));
    let lost = gaps.iter().filter(|gap| gap.pattern_after.is_none()).count();
    let note = if lost > 0 { format!(" {lost} without a tunnel") } else { if rebuilt { " r" } else { "" }.to_owned() };
    format!("{:.0} ({:.0}, {:.0}){note}", at(0.5), at(0.95), at(1.0))
}

/// The cells in which `seamless` is worse than another strategy of its framing by more than an interval: at the 95th
/// percentile of the differences of each seed. And how many cells were compared.
fn worse(gaps: &Gaps) -> (Vec<String>, usize) {
    let (mut found, mut compared) = (Vec::new(), 0);
    for ((loss, delay), courses) in gaps {
        for ((mover, networks), cells) in courses {
            for (at, (framing, handover, heading)) in STRATEGIES.iter().enumerate() {
                let ours = STRATEGIES.iter().position(|(f, h, _)| (f, *h) == (framing, "seamless"));
                let Some((ours, others)) = ours.and_then(|ours| cells.get(&ours)).zip(cells.get(&at)) else { continue };
                if *handover == "seamless" {
                    continue;
                }
                compared += 1;
                let other = |seed| others.iter().find(|gap| gap.seed == seed).map(|gap| gap.longer);
                let more: Vec<f64> = ours.iter().filter_map(|gap| Some(gap.longer - other(gap.seed)?)).collect();
                let p95 = quantile(&sorted(&more), 0.95).unwrap_or(0.0);
                if p95 > INTERVAL_MS {
                    let rtt = 4 * delay / 1000;
                    found.push(format!("{heading}: {mover}, {networks}, RTT {rtt} ms, loss {loss}: {p95:.0} ms"));
                }
            }
        }
    }
    (found, compared)
}
