//! Signaling with many nodes: until when all are registered, and how many bytes that takes.
//!
//! The points are medians over seeds. Both axes of (a) and the horizontal one of (b) are logarithmic.

use std::collections::BTreeMap;
use std::path::Path;

use cyphonic_statistics::{quantile, sorted};
use plotters::chart::ChartBuilder;
use plotters::style::WHITE;
use plotters::style::text_anchor::{HPos, VPos};

use super::style::{Line, axes, curve, legend_line, to_sheet};
use crate::input::{InputError, Origin, read};
use crate::render::{Drawing, Width};
use crate::rows::Scale;
use crate::sheet::{Drawn, Sheet, TEXT, at, bold, diamond, pt, write};

/// The points of one line: the number of nodes, seconds, and kilobytes for each node.
type Points = Vec<(f64, f64, f64)>;
/// Method, phase and number of nodes; the seconds and kilobytes of each seed.
type Cells = BTreeMap<(String, String, u64), (Vec<f64>, Vec<f64>)>;

/// Method and phase of each line, its name, and its style. The styles differ in lightness, width and dashes.
const LINES: [(&str, &str, &str, Line); 4] = [
    ("conventional", "start", "Conventional, all start", Line::Broad),
    ("proposed", "start", "Proposed, all start", Line::Solid),
    ("conventional", "nms_restart", "Conventional, NMS restarted", Line::Dotted),
    ("proposed", "nms_restart", "Proposed, NMS restarted", Line::Dashed),
];
/// Height of a line of the legend, points.
const LEGEND: f64 = 10.0;

pub(super) fn prepare(results: &Path) -> Result<Drawing, InputError> {
    let table = read::<Scale>(results, Origin::Simulator, "scale")?;
    let mut cells = Cells::new();
    for row in table.lines.iter().map(|line| &line.row) {
        let (seconds, bytes) = cells.entry((row.method.clone(), row.phase.clone(), row.nodes as u64)).or_default();
        seconds.push(row.ms / 1e3);
        bytes.push((row.bytes + row.service_bytes) / row.nodes.max(1.0) / 1e3);
    }
    let median = |sample: &[f64]| quantile(&sorted(sample), 0.5).unwrap_or(0.0);
    let mut lines: Vec<Points> = Vec::new();
    for (method, phase, name, _) in LINES {
        let mine = cells.iter().filter(|((m, p, _), _)| (m.as_str(), p.as_str()) == (method, phase));
        let points: Points =
            mine.map(|((.., nodes), (seconds, bytes))| (*nodes as f64, median(seconds), median(bytes))).collect();
        if points.is_empty() {
            return Err(table.error(format!("there are no rows for: {name}")));
        }
        lines.push(points);
    }
    Ok(Drawing {
        title: "Signaling with many nodes".into(),
        caption: "Until all nodes are registered, when all start at once, and after the NMS was restarted and has lost its \
                  memory: (a) the time, (b) the bytes of IP packets between a node and the services, both ways, for each \
                  node. Medians over seeds. A round trip has 40 ms; the services’ links carry 1 Gbit/s, and the simulator \
                  has no processor time. After a restart a node first has to notice it."
            .into(),
        has_caption: true,
        width: Width::Page,
        height: 190.0,
        paint: Box::new(move |sheet| paint(sheet, &lines)),
    })
}

fn paint(sheet: &Sheet<'_>, lines: &[Points]) -> Drawn {
    let (width, _) = sheet.dim_in_pixel();
    let (left, right) = sheet.split_horizontally(width / 2);
    let time = |point: &(f64, f64, f64)| point.1.max(1e-3).log10();
    panel(&left, ("(a) Time until all are registered", "Time (s)"), lines, &time, &|power| {
        let value = 10_f64.powf(power);
        if value < 0.95 { format!("{value:.1}") } else { format!("{value:.0}") }
    })?;
    panel(&right, ("(b) Bytes for each node", "Size of IP packets (kB)"), lines, &|point| point.2, &|value| {
        format!("{value:.0}")
    })
}

fn panel(
    area: &Sheet<'_>,
    (title, axis): (&str, &str),
    lines: &[Points],
    y_of: &dyn Fn(&(f64, f64, f64)) -> f64,
    label: &dyn Fn(f64) -> String,
) -> Drawn {
    let points = || lines.iter().flatten();
    let (low, high) = points().map(y_of).fold((f64::MAX, f64::MIN), |(low, high), y| (low.min(y), high.max(y)));
    let low = if low > 0.0 { 0.0 } else { low };
    let margin = 0.06 * (high - low).max(1e-9);
    let most = points().map(|point| point.0).fold(1.0, f64::max).log10();
    let mut chart = ChartBuilder::on(area)
        .margin_top(pt(14.0 + LEGEND * lines.len() as f64))
        .margin_right(pt(8.0))
        .margin_left(pt(4.0))
        .y_label_area_size(pt(34.0))
        .x_label_area_size(pt(24.0))
        .build_cartesian_2d(0.0..most * 1.03, (low - if low < 0.0 { margin } else { 0.0 })..high + margin)?;
    axes(&mut chart.configure_mesh())
        .x_labels(5)
        .y_labels(6)
        .x_label_formatter(&|power| format!("{:.0}", 10_f64.powf(*power)))
        .y_label_formatter(&|value| label(*value))
        .x_desc("Nodes")
        .y_desc(axis)
        .draw()?;
    let sheet = area.strip_coord_spec();
    let to_sheet = to_sheet(area, &chart);
    for (points, (.., style)) in lines.iter().zip(LINES) {
        let through: Vec<(i32, i32)> = points.iter().map(|point| to_sheet(point.0.log10(), y_of(point))).collect();
        curve(&sheet, through.clone(), style)?;
        for place in through {
            diamond(&sheet, place, pt(1.6), WHITE)?;
        }
    }
    write(&sheet, title, &at(&bold(TEXT), HPos::Left, VPos::Center), (pt(38.0), pt(6.0)))?;
    for (index, (.., name, style)) in LINES.into_iter().enumerate() {
        legend_line(&sheet, name, (pt(38.0), pt(16.0 + index as f64 * LEGEND)), style)?;
    }
    Ok(())
}
