//! What a move costs: the share of moves after which packets flowed again within a time, for each strategy.
//!
//! The time is the longer gap of both directions, in round trips between two hosts, so that all delays are in one plot.
//! One panel for each framing of the proposed method; the conventional method is in both.

use std::collections::BTreeMap;
use std::path::Path;

use cyphonic_statistics::sorted;
use plotters::chart::ChartBuilder;
use plotters::style::text_anchor::{HPos, VPos};

use super::style::{Line, axes, curve, legend_line, to_sheet};
use crate::input::{InputError, Origin, Table, read};
use crate::render::{Drawing, Width};
use crate::rows::{Framing, Handover, Mover, Strategy};
use crate::sheet::{Drawn, Sheet, TEXT, at, bold, pt, write};

/// The gaps of one strategy in one framing.
struct Series {
    framing: Framing,
    strategy: Strategy,
    /// Gaps in round trips, in ascending order.
    gaps: Vec<f64>,
    /// Moves after which nothing flowed again.
    never: usize,
}

impl Series {
    fn line(&self) -> Line {
        match (self.framing, self.strategy) {
            (Framing::Udp4501, _) => Line::Broad,
            (_, Strategy::Rebuild) => Line::Dashed,
            (_, Strategy::Migrate) => Line::Dotted,
            (_, Strategy::Seamless) => Line::Solid,
        }
    }

    fn name(&self) -> String {
        match self.framing {
            Framing::Udp4501 => "Conventional".to_owned(),
            _ => self.strategy.name().to_owned(),
        }
    }

    /// The share of moves after which packets flowed within so many round trips.
    fn share(&self, trips: f64) -> f64 {
        let all = self.gaps.len() + self.never;
        self.gaps.partition_point(|gap| *gap <= trips) as f64 / all.max(1) as f64
    }
}

/// The panels, and what is above them.
const PANELS: [(Framing, &str); 2] =
    [(Framing::Stream, "(a) Proposed: on a QUIC stream"), (Framing::Compact, "(b) Ours: compact")];
/// The axis: from half a round trip to a hundred.
const AXIS: std::ops::Range<f64> = -0.31..2.0;
/// Into how many steps a curve is drawn: finer than the print can show.
const STEPS: usize = 400;
/// Links between two hosts, there and back.
const LINKS: f64 = 4.0;
/// Height of a line of the legend, points.
const LEGEND: f64 = 10.0;

pub(super) fn prepare(results: &Path) -> Result<Drawing, InputError> {
    let table = read::<Handover>(results, Origin::Simulator, "mobility")?;
    let series = series(&table)?;
    Ok(Drawing {
        title: "What a move costs".into(),
        caption: caption(&series),
        has_caption: true,
        width: Width::Page,
        height: 190.0,
        paint: Box::new(move |sheet| paint(sheet, &series)),
    })
}

fn series(table: &Table<Handover>) -> Result<Vec<Series>, InputError> {
    let mut found: BTreeMap<(Framing, Strategy), (Vec<f64>, usize)> = BTreeMap::new();
    for row in table.lines.iter().map(|line| &line.row).filter(|row| row.mover != Mover::None) {
        let (gaps, never) = found.entry((row.framing, row.handover)).or_default();
        match row.bound_ms {
            Some(_) => gaps.push(row.gap_ms.max(row.gap_back_ms) / (LINKS * row.link_delay_ms)),
            None => *never += 1,
        }
    }
    for (framing, _) in PANELS {
        for strategy in Strategy::ALL {
            if !found.contains_key(&(framing, strategy)) {
                let (framing, strategy) = (framing.name(), strategy.name());
                return Err(table.error(format!("there is no move in the framing {framing} under {strategy}")));
            }
        }
    }
    let series = |((framing, strategy), (gaps, never)): (_, (Vec<f64>, usize))| Series {
        framing,
        strategy,
        gaps: sorted(&gaps),
        never,
    };
    Ok(found.into_iter().map(series).collect())
}

fn caption(series: &[Series]) -> String {
    let never = series.iter().filter(|series| series.never > 0);
    let never = never.map(|series| {
        format!(" Never again ({}, {}): {}.", series.framing.title(), series.strategy.name(), series.never)
    });
    format!(
        "Share of moves after which datagrams flowed again in both directions within a time, in round trips between two hosts \
         (a path through the relay has two): all movers, changes of network, delays and losses of the scenario mobility, all seeds. A datagram every 10 ms, so that \
         at a round trip of 10 ms no gap is below one. Rebuild: another tunnel (the paper). Migrate: RFC 9000 §9, and \
         another tunnel where it has no answer. Seamless: another path beneath the connection.{}",
        never.collect::<String>()
    )
}

fn paint(sheet: &Sheet<'_>, series: &[Series]) -> Drawn {
    let (width, _) = sheet.dim_in_pixel();
    let (left, right) = sheet.split_horizontally(width / 2);
    for (area, (framing, title)) in [left, right].iter().zip(PANELS) {
        let shown: Vec<&Series> =
            series.iter().filter(|series| [Framing::Udp4501, framing].contains(&series.framing)).collect();
        panel(area, title, &shown)?;
    }
    Ok(())
}

fn panel(area: &Sheet<'_>, title: &str, series: &[&Series]) -> Drawn {
    let top = 14.0 + LEGEND * series.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .margin_top(pt(top))
        .margin_right(pt(8.0))
        .margin_left(pt(4.0))
        .y_label_area_size(pt(34.0))
        .x_label_area_size(pt(24.0))
        .build_cartesian_2d(AXIS, 0.0..1.0)?;
    axes(&mut chart.configure_mesh())
        .x_labels(5)
        .y_labels(6)
        .x_label_formatter(&|power| format!("{:.0}", 10_f64.powf(*power)))
        .y_label_formatter(&|share| format!("{share:.1}"))
        .x_desc("Longest gap (round trips between two hosts)")
        .y_desc("Share of moves")
        .draw()?;
    let sheet = area.strip_coord_spec();
    let to_sheet = to_sheet(area, &chart);
    for series in series {
        let step = (AXIS.end - AXIS.start) / STEPS as f64;
        let powers = (0..=STEPS).map(|at| AXIS.start + step * at as f64);
        let points = powers.map(|power| to_sheet(power, series.share(10_f64.powf(power)))).collect();
        curve(&sheet, points, series.line())?;
    }
    write(&sheet, title, &at(&bold(TEXT), HPos::Left, VPos::Center), (pt(38.0), pt(6.0)))?;
    for (index, series) in series.iter().enumerate() {
        let name = format!("{} (n = {})", series.name(), series.gaps.len() + series.never);
        legend_line(&sheet, &name, (pt(38.0), pt(16.0 + index as f64 * LEGEND)), series.line())?;
    }
    Ok(())
}
