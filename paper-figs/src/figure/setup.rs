//! The cost until the first echo: round trips, packets and bytes, each as a stack of the three phases.
//!
//! A run is one pair of nodes in one cell of the sweep with one seed. The pattern of its tunnel is also that of its
//! login and registration. A bar is the mean over its runs (pattern 2 has runs with the NAT on either side).

use std::collections::BTreeMap;
use std::path::Path;

use cyphonic_statistics::mean;
use plotters::chart::ChartBuilder;
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{BLACK, FontTransform, RGBColor, WHITE};

use super::style::{INK, PALE, axes, to_sheet};
use crate::input::{InputError, Line, Origin, Table, read};
use crate::render::{Drawing, Width};
use crate::rows::{Framing, Pattern, Phase, RelayMode, Setup};
use crate::sheet::{Area, Drawn, Fill, Hatch, SMALL, Sheet, TEXT, at, bold, filled, legend, polyline, pt, text, write};

const PHASES: [(Phase, &str, Fill); 3] = [
    (Phase::Login, "Login with the AS", Fill::new(WHITE, Hatch::Plain, BLACK)),
    (Phase::Registration, "Registration with the NMS", Fill::new(PALE, Hatch::Rising, RGBColor(90, 60, 10))),
    (Phase::Tunnel, "Tunnel, until the first echo’s reply", Fill::new(INK, Hatch::Plain, BLACK)),
];

/// The metric of a panel.
struct Metric {
    title: &'static str,
    unit: &'static str,
    value: fn(&Setup) -> f64,
    decimals: usize,
}

const METRICS: [Metric; 3] = [
    Metric { title: "(a) Round trips", unit: "Round trips", value: |row| row.round_trips, decimals: 1 },
    Metric { title: "(b) Packets", unit: "Packets that left a host", value: packets, decimals: 0 },
    Metric { title: "(c) Bytes", unit: "Size of IP packets (kB)", value: |row| bytes(row) / 1000.0, decimals: 0 },
];

/// Packets of nodes, services and relay, each counted where it was sent.
fn packets(row: &Setup) -> f64 {
    row.packets + row.service_packets + row.trs_packets
}

fn bytes(row: &Setup) -> f64 {
    row.bytes + row.service_bytes + row.trs_bytes
}

/// Which bar a run belongs to, in the order of bars.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    pattern: Pattern,
    framing: Framing,
    /// Only in pattern 3 of the proposed method.
    relay_mode: Option<RelayMode>,
    /// Only if it is not the paper's.
    signaling: Option<String>,
    /// Other columns of the sweep: each value has its own bar.
    cell: String,
}

impl Key {
    fn name(&self) -> String {
        let title = match self.framing {
            Framing::Compact => "Compact",
            framing => framing.title(),
        };
        let relay = match self.relay_mode {
            None => "",
            Some(RelayMode::Blind) => ", blind",
            Some(RelayMode::Terminating) => ", term.",
        };
        let signaling = match self.signaling.as_deref() {
            None => String::new(),
            Some("confirmed") => ", conf.".to_owned(),
            Some(other) => format!(", {other}"),
        };
        let cell = if self.cell.is_empty() { String::new() } else { format!(", {}", self.cell) };
        format!("{title}{relay}{signaling}{cell}")
    }
}

/// One run: for each metric, what each phase cost.
type Run = [[f64; PHASES.len()]; METRICS.len()];

/// One bar of each panel.
#[derive(Clone, Debug, PartialEq)]
struct Bar {
    key: Key,
    /// The mean over runs.
    mean: Run,
    /// For each metric the least and the greatest total of a run.
    spread: [(f64, f64); METRICS.len()],
}

pub(super) fn prepare(results: &Path) -> Result<Drawing, InputError> {
    let table = read::<Setup>(results, Origin::Simulator, "setup")?;
    let mut groups: BTreeMap<(Framing, &[String]), Vec<&Line<Setup>>> = BTreeMap::new();
    for line in &table.lines {
        groups.entry((line.row.framing, &line.run)).or_default().push(line);
    }
    let mut runs: BTreeMap<Key, Vec<Run>> = BTreeMap::new();
    for ((framing, _), lines) in &groups {
        let rows = phases(&table, lines)?;
        let tunnel = rows[2];
        let problem = "this tunnel has no pattern: it was never set up";
        let pattern = tunnel.row.pattern.ok_or_else(|| table.error_at(tunnel.number, problem))?;
        let matters = pattern == Pattern::Relayed && *framing != Framing::Udp4501;
        let relay_mode = tunnel.row.relay_mode.filter(|_| matters);
        let signaling = tunnel.row.signaling.clone().filter(|signaling| signaling != "paper");
        let key = Key { pattern, framing: *framing, relay_mode, signaling, cell: tunnel.cell.clone() };
        runs.entry(key).or_default().push(run(rows.map(|line| &line.row)));
    }
    for (pattern, framing) in Pattern::ALL.into_iter().flat_map(|p| Framing::SERIES.map(|f| (p, f))) {
        if !runs.keys().any(|key| (key.pattern, key.framing) == (pattern, framing)) {
            let (number, name) = (pattern.number(), framing.name());
            return Err(table.error(format!("there is no run of pattern {number} in the framing {name}")));
        }
    }
    let bars: Vec<Bar> = runs.into_iter().map(|(key, runs)| bar(key, &runs)).collect();
    Ok(Drawing {
        title: "Cost of signaling until the first echo".into(),
        caption: caption(&bars),
        has_caption: true,
        width: Width::Page,
        height: 252.0,
        paint: Box::new(move |sheet| paint(sheet, &bars)),
    })
}

/// The three rows of one run, in the order of [`PHASES`].
fn phases<'a>(table: &Table<Setup>, lines: &[&'a Line<Setup>]) -> Result<[&'a Line<Setup>; PHASES.len()], InputError> {
    let row = |phase: Phase| {
        let mut of_phase = lines.iter().filter(|line| line.row.phase == phase);
        let missing = || format!("the run that begins here has no row of the phase {phase:?}").to_lowercase();
        let line = of_phase.next().ok_or_else(|| table.error_at(lines[0].number, missing()))?;
        match of_phase.next() {
            None => Ok(*line),
            Some(other) => {
                let problem = format!("the same run and phase as line {}: no column tells the two apart", line.number);
                Err(table.error_at(other.number, problem))
            }
        }
    };
    let [login, registration, tunnel] = PHASES.map(|(phase, ..)| row(phase));
    Ok([login?, registration?, tunnel?])
}

fn run(rows: [&Setup; PHASES.len()]) -> Run {
    METRICS.map(|metric| rows.map(metric.value))
}

fn bar(key: Key, runs: &[Run]) -> Bar {
    let mut bar = Bar { key, mean: Run::default(), spread: <_>::default() };
    for metric in 0..METRICS.len() {
        for phase in 0..PHASES.len() {
            let values: Vec<f64> = runs.iter().map(|run| run[metric][phase]).collect();
            bar.mean[metric][phase] = mean(&values).unwrap_or(0.0);
        }
        let totals = || runs.iter().map(|run| run[metric].iter().sum::<f64>());
        bar.spread[metric] = (totals().fold(f64::INFINITY, f64::min), totals().fold(0.0, f64::max));
    }
    bar
}

fn caption(bars: &[Bar]) -> String {
    let relays = if bars.iter().any(|bar| bar.key.relay_mode.is_some()) {
        " Blind: the TRS forwards one connection from end to end by its connection ID; term.: it ends a connection with \
         each node, and sees the plaintext."
    } else {
        ""
    };
    let signaling = if bars.iter().any(|bar| bar.key.signaling.is_some()) {
        " Conf.: the NMS waits for a Confirmation as in the conventional method; fast: nobody waits for what a peer is bound to \
         send."
    } else {
        ""
    };
    let spreads = if bars.iter().any(|bar| bar.spread.iter().any(|(least, most)| least < most)) {
        " Numbers are means over the pairs of networks with that pattern, whiskers their least and greatest total."
    } else {
        ""
    };
    format!(
        "Cost of signaling for one pair of nodes from power-on until the first echo through the tunnel, by phase, \
         simulated. Pattern 1: {}; 2: {}; 3: {}. Proposed: as in the paper, on a QUIC stream; compact: our own framing, \
         DATAGRAM frames without the CYPHONIC header. Round trips are counted from who waited for whom. Packets and \
         bytes count every IP packet of both nodes and the services where it left; what the TRS forwards, twice.{relays}{signaling}{spreads}",
        Pattern::Direct.about(),
        Pattern::OneNat.about(),
        Pattern::Relayed.about()
    )
}

/// Height of the legend over the panels, and of the names under the bars, points.
const LEGEND: f64 = 16.0;
const NAMES: f64 = 86.0;

fn paint(sheet: &Sheet<'_>, bars: &[Bar]) -> Drawn {
    let (top, panels) = sheet.split_vertically(pt(LEGEND));
    legend(&top, &PHASES.map(|(_, name, fill)| (fill, name)), (pt(84.0), pt(2.0)), pt(130.0), PHASES.len())?;
    for (index, panel) in panels.split_evenly((1, METRICS.len())).iter().enumerate() {
        paint_panel(panel, index, bars)?;
    }
    Ok(())
}

/// Between two bars of a pattern, and more between two patterns; the width of a bar is 1.
const PITCH: f64 = 1.25;
const BETWEEN: f64 = 0.9;

fn paint_panel(panel: &Sheet<'_>, index: usize, bars: &[Bar]) -> Drawn {
    let metric = &METRICS[index];
    // The left edge of each bar.
    let mut lefts = Vec::new();
    let mut x = 0.5;
    for (bar, before) in bars.iter().zip(std::iter::once(None).chain(bars.iter().map(Some))) {
        if before.is_some_and(|before| before.key.pattern != bar.key.pattern) {
            x += BETWEEN;
        }
        lefts.push(x);
        x += PITCH;
    }
    let most = bars.iter().map(|bar| bar.spread[index].1).fold(0.0, f64::max);
    let end = x + 0.5 - (PITCH - 1.0);
    let mut chart = ChartBuilder::on(panel)
        .margin_top(pt(18.0))
        .margin_right(pt(5.0))
        .margin_left(pt(2.0))
        .y_label_area_size(pt(31.0))
        .x_label_area_size(pt(NAMES))
        .build_cartesian_2d(0.0..end, 0.0..if most > 0.0 { most * 1.1 } else { 1.0 })?;
    axes(&mut chart.configure_mesh())
        .disable_x_mesh()
        .x_labels(0)
        .y_labels(7)
        .y_label_formatter(&|y| format!("{y}"))
        .y_desc(metric.unit)
        .draw()?;
    let to_panel = to_sheet(panel, &chart);
    write(panel, metric.title, &at(&bold(TEXT + 1.0), HPos::Left, VPos::Top), (pt(33.0), pt(4.0)))?;

    for (bar, left) in bars.iter().zip(&lefts) {
        let mut low = 0.0;
        for ((_, _, fill), value) in PHASES.iter().zip(bar.mean[index]) {
            filled(panel, Area::new(to_panel(*left, low), to_panel(left + 1.0, low + value)), *fill)?;
            low += value;
        }
        let (least, most) = bar.spread[index];
        let (middle, mut top) = to_panel(left + 0.5, low);
        if least < most {
            let (from, to) = (to_panel(0.0, least).1, to_panel(0.0, most).1);
            let cap = |y| [(middle - pt(2.0), y), (middle + pt(2.0), y)];
            for (color, points) in [(WHITE, 1.7), (BLACK, 0.7)] {
                for line in [[(middle, from), (middle, to)], cap(from), cap(to)] {
                    polyline(panel, &line, color, points)?;
                }
            }
            top = to;
        }
        let total = short(low, metric.decimals);
        write(panel, &total, &at(&text(SMALL), HPos::Center, VPos::Bottom), (middle, top - pt(0.5)))?;
        let upright = at(&text(SMALL + 0.5), HPos::Right, VPos::Center).transform(FontTransform::Rotate270);
        write(panel, &bar.key.name(), &upright, (middle, to_panel(0.0, 0.0).1 + pt(3.0)))?;
    }
    for pattern in Pattern::ALL {
        let of_pattern =
            || bars.iter().zip(&lefts).filter(|(bar, _)| bar.key.pattern == pattern).map(|(_, left)| *left);
        let (first, last) = (of_pattern().fold(f64::INFINITY, f64::min), of_pattern().fold(0.0, f64::max));
        let (left, right) = (to_panel(first, 0.0), to_panel(last + 1.0, 0.0));
        let y = left.1 + pt(NAMES - 14.0);
        polyline(panel, &[(left.0, y), (right.0, y)], BLACK, 0.5)?;
        let style = at(&text(TEXT), HPos::Center, VPos::Top);
        let name = format!("Pattern {}", pattern.number());
        write(panel, &name, &style, (i32::midpoint(left.0, right.0), y + pt(3.0)))?;
    }
    Ok(())
}

/// At most so many decimals and four digits, and no zeros at the end of the decimals: as wide as a bar.
fn short(value: f64, decimals: usize) -> String {
    let decimals = match value {
        ..9.995 => decimals,
        ..99.95 => decimals.min(1),
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(phase: Phase, packets: f64) -> Setup {
        Setup {
            framing: Framing::Stream,
            relay_mode: None,
            signaling: None,
            phase,
            pattern: None,
            ms: 0.0,
            round_trips: packets / 4.0,
            packets: packets / 2.0,
            bytes: packets * 50.0,
            service_packets: packets / 4.0,
            service_bytes: packets * 25.0,
            trs_packets: packets / 4.0,
            trs_bytes: packets * 25.0,
        }
    }

    #[test]
    fn a_run_has_each_metric_of_each_phase() {
        let rows = [row(Phase::Login, 4.0), row(Phase::Registration, 8.0), row(Phase::Tunnel, 2.0)];
        assert_eq!(run(rows.each_ref()), [[1.0, 2.0, 0.5], [4.0, 8.0, 2.0], [0.4, 0.8, 0.2]]);
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (7.5, 2, "7.5"),
            (8.25, 2, "8.25"),
            (10.0, 2, "10"),
            (10.25, 2, "10.2"),
            (123.4, 1, "123"),
            (100.0, 0, "100"),
            (0.04, 1, "0"),
        ];
        for (value, decimals, expected) in cases {
            assert_eq!(short(value, decimals), expected);
        }
    }

    #[test]
    fn a_bar_is_the_mean_of_its_runs_and_spans_their_totals() {
        let (pattern, framing) = (Pattern::OneNat, Framing::Stream);
        let key = Key { pattern, framing, relay_mode: None, signaling: None, cell: String::new() };
        let runs = [[[1.0, 2.0, 3.0]; 3], [[1.0, 4.0, 7.0]; 3]];
        let bar = bar(key, &runs);
        assert_eq!(bar.mean, [[1.0, 3.0, 5.0]; 3]);
        assert_eq!(bar.spread, [(6.0, 12.0); 3]);
    }
}
