//! The distribution of the round-trip time, beside the four statistics that the paper prints.
//!
//! Above, the share of echoes that came back within a time, for each framing. Below, on the same axis, the same echoes
//! as boxes, and the paper's range, mean and standard deviation of both methods.

use std::collections::BTreeMap;
use std::path::Path;

use cyphonic_statistics::{Summary, quantile, sorted};
use plotters::chart::ChartBuilder;
use plotters::element::Rectangle;
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{BLACK, Color, WHITE};

use super::style::{GREY, INK, Line, PALE, axes, curve, legend_line, to_sheet};
use crate::input::{InputError, Origin, Table, read};
use crate::render::{Drawing, Width};
use crate::rows::{Framing, Method, PaperRtt, Rtt, Statistic};
use crate::sheet::{
    Area, Drawn, Fill, Hatch, SMALL, Sheet, TEXT, at, bold, cased, diamond, filled, polyline, pt, text, width, write,
};

/// The paper's values for one method, milliseconds.
#[derive(Clone, Debug, PartialEq)]
struct Printed {
    min: f64,
    mean: f64,
    max: f64,
    stddev: f64,
}

/// The echoes of one cell of the sweep, over all its seeds.
struct Series {
    framing: Framing,
    /// The other columns of the cell.
    cell: String,
    sent: usize,
    /// Milliseconds, in ascending order.
    rtts: Vec<f64>,
    summary: Summary,
}

impl Series {
    fn name(&self) -> String {
        if self.cell.is_empty() {
            self.framing.title().to_owned()
        } else {
            format!("{}, {}", self.framing.title(), self.cell)
        }
    }
}

/// What is drawn.
struct Content {
    series: Vec<Series>,
    paper: [(Method, Printed); 2],
}

pub(super) fn prepare(results: &Path) -> Result<Drawing, InputError> {
    let echoes = read::<Rtt>(results, Origin::Simulator, "table4")?;
    let printed = read::<PaperRtt>(results, Origin::Paper, "table4-rtt")?;
    let [conventional, proposed] = Method::ALL.map(|method| Ok((method, paper(method, &printed)?)));
    let content = Content { series: series(&echoes)?, paper: [conventional?, proposed?] };
    let rows = content.series.len() as f64 * ROW + 2.0 * PAPER_ROW;
    Ok(Drawing {
        title: "Round-trip time through the tunnel".into(),
        caption: caption(&content.series),
        has_caption: true,
        width: Width::Column,
        height: UPPER + legend_height(&content.series) + rows + 26.0,
        paint: Box::new(move |sheet| paint(sheet, &content)),
    })
}

/// One for each cell of the sweep; the framings that every experiment runs are there, in their order.
fn series(echoes: &Table<Rtt>) -> Result<Vec<Series>, InputError> {
    let mut cells: BTreeMap<(Framing, &str), (usize, Vec<f64>)> = BTreeMap::new();
    for line in &echoes.lines {
        let (sent, rtts) = cells.entry((line.row.framing, &line.cell)).or_default();
        *sent += 1;
        rtts.extend(line.row.rtt_ms);
    }
    for framing in Framing::SERIES {
        if !cells.iter().any(|((of, _), (_, rtts))| *of == framing && !rtts.is_empty()) {
            let problem = format!("no echo in the framing {} came back: there is nothing to draw", framing.name());
            return Err(echoes.error(problem));
        }
    }
    let series = cells.into_iter().filter_map(|((framing, cell), (sent, rtts))| {
        let summary = Summary::of(&rtts)?;
        Some(Series { framing, cell: cell.to_owned(), sent, rtts: sorted(&rtts), summary })
    });
    Ok(series.collect())
}

fn paper(method: Method, printed: &Table<PaperRtt>) -> Result<Printed, InputError> {
    let value = |statistic| {
        let row = printed.lines.iter().find(|line| line.row.statistic == statistic).map(|line| &line.row);
        let row = row.ok_or_else(|| printed.error(format!("there is no row {statistic:?}").to_lowercase()))?;
        Ok(match method {
            Method::Conventional => row.conventional_ms,
            Method::Proposed => row.proposed_ms,
        })
    };
    Ok(Printed {
        min: value(Statistic::Min)?,
        mean: value(Statistic::Mean)?,
        max: value(Statistic::Max)?,
        stddev: value(Statistic::Stddev)?,
    })
}

fn caption(series: &[Series]) -> String {
    let lost = series.iter().filter(|s| s.sent > s.rtts.len());
    let lost = lost.map(|s| format!(" Lost ({}): {} of {}.", s.name(), s.sent - s.rtts.len(), s.sent));
    format!(
        "Round-trip time of echoes through the tunnel; proposed: as in the paper, on a QUIC stream; compact: our own framing. \
         Above: share of the simulated echoes answered within a time, all seeds together. \
         Below: simulated, box = quartiles and median, whiskers = minimum and maximum, diamond = mean; paper (Table 4, \
         printed values only), whiskers = minimum and maximum, bar = mean ± one standard \
         deviation, diamond = mean. The simulator has no CPU time: its values come from the protocol and the links’ \
         delays alone, the paper’s from Docker on a real machine, so compare shapes between framings, not milliseconds \
         with the paper.{}",
        lost.collect::<String>()
    )
}

/// Left edge of both plots, points: the labels of rows stand before it.
const LEFT: f64 = 66.0;
const RIGHT: f64 = 6.0;
const UPPER: f64 = 126.0;
/// Height of a line of the legend.
const LEGEND: f64 = 10.0;
/// Height of the line of numbers over a box, and of a box, points.
const NUMBERS: f64 = 11.0;
const BOX: f64 = 9.0;
/// Height of a series of ours, and of one of the paper, points.
const ROW: f64 = NUMBERS + BOX + 6.0;
const PAPER_ROW: f64 = NUMBERS + BOX + 5.0;
/// Into how many steps a distribution is drawn: finer than the print can show.
const STEPS: usize = 400;

/// One line for each series.
fn legend_height(series: &[Series]) -> f64 {
    LEGEND * series.len() as f64 + 3.0
}

fn paint(sheet: &Sheet<'_>, content: &Content) -> Drawn {
    let ours = content.series.iter().map(|series| series.summary.max);
    let max = ours.chain(content.paper.iter().map(|(_, paper)| paper.max)).fold(0.0, f64::max);
    let range = 0.0..if max > 0.0 { max * 1.06 } else { 1.0 };
    let (upper, lower) = sheet.split_vertically(pt(UPPER + legend_height(&content.series)));
    distribution(&upper, &content.series, range.clone())?;
    boxes(&lower, content, range)
}

const fn line(framing: Framing) -> Line {
    match framing {
        Framing::Udp4501 => Line::Broad,
        Framing::Stream => Line::Dashed,
        Framing::Datagram | Framing::Compact => Line::Dotted,
    }
}

fn distribution(area: &Sheet<'_>, series: &[Series], range: std::ops::Range<f64>) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .margin_top(pt(legend_height(series)))
        .margin_right(pt(RIGHT))
        .margin_bottom(pt(4.0))
        .margin_left(pt(LEFT - 34.0))
        .y_label_area_size(pt(34.0))
        .x_label_area_size(pt(4.0))
        .build_cartesian_2d(range.clone(), 0.0..1.0)?;
    axes(&mut chart.configure_mesh())
        .x_labels(8)
        .y_labels(6)
        .x_label_formatter(&|_| String::new())
        .y_label_formatter(&|share| format!("{share:.1}"))
        .y_desc("Share of echoes")
        .draw()?;
    let sheet = area.strip_coord_spec();
    let to_sheet = to_sheet(area, &chart);
    for Series { framing, rtts, .. } in series {
        let mut steps = vec![to_sheet(range.start, 0.0)];
        let count = rtts.len().min(STEPS);
        for step in 0..count {
            let rtt = quantile(rtts, step as f64 / (count.max(2) - 1) as f64).unwrap_or(range.start);
            steps.extend([step, step + 1].map(|below| to_sheet(rtt, below as f64 / count as f64)));
        }
        steps.push(to_sheet(range.end, 1.0));
        curve(&sheet, steps, line(*framing))?;
    }
    // The legend is above the plot, so that it covers no curve.
    for (index, series) in series.iter().enumerate() {
        let name = format!("{} (n = {})", series.name(), series.rtts.len());
        legend_line(&sheet, &name, (pt(LEFT - 34.0), pt(4.0 + index as f64 * LEGEND)), line(series.framing))?;
    }
    Ok(())
}

fn boxes(area: &Sheet<'_>, content: &Content, range: std::ops::Range<f64>) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .margin_right(pt(RIGHT))
        .margin_left(pt(LEFT))
        .x_label_area_size(pt(22.0))
        .build_cartesian_2d(range, 0.0..1.0)?;
    axes(&mut chart.configure_mesh())
        .disable_y_mesh()
        .disable_y_axis()
        .x_labels(8)
        .x_desc("Round-trip time (ms)")
        .draw()?;
    let (base_x, base_y) = area.get_base_pixel();
    let x_at = |ms: f64| chart.backend_coord(&(ms, 0.0)).0 - base_x;
    let sheet = area.strip_coord_spec();
    let mut top = chart.plotting_area().get_pixel_range().1.start - base_y + pt(3.0);
    for (index, series) in content.series.iter().enumerate() {
        let summary = &series.summary;
        let fill = match series.framing {
            Framing::Udp4501 => Fill::new(PALE, Hatch::Plain, BLACK),
            Framing::Stream => Fill::new(INK, Hatch::Plain, WHITE),
            Framing::Datagram | Framing::Compact => Fill::new(WHITE, Hatch::Rising, BLACK),
        };
        row_label(&sheet, series.framing.title(), "simulated", top)?;
        numbers(&sheet, summary.min, summary.mean, summary.max, summary.stddev, top)?;
        let middle = top + pt(NUMBERS + BOX / 2.0);
        let half = pt(BOX / 2.0);
        whiskers(&sheet, x_at(summary.min), x_at(summary.max), middle)?;
        filled(&sheet, Area::new((x_at(summary.q1), middle - half), (x_at(summary.q3), middle + half)), fill)?;
        let median = x_at(summary.median);
        cased(&sheet, &[(median, middle - half), (median, middle + half)], 1.1)?;
        diamond(&sheet, (x_at(summary.mean), middle), pt(2.6), WHITE)?;
        top += pt(ROW);

        // The paper's values are below the first series of their method.
        let first_of_method = content.series[..index].iter().all(|s| s.framing.method() != series.framing.method());
        let printed = content.paper.iter().find(|(method, _)| *method == series.framing.method());
        let Some((method, paper)) = printed.filter(|_| first_of_method) else { continue };
        row_label(&sheet, method.name(), "paper", top)?;
        numbers(&sheet, paper.min, paper.mean, paper.max, Some(paper.stddev), top)?;
        let middle = top + pt(NUMBERS + BOX / 2.0);
        whiskers(&sheet, x_at(paper.min), x_at(paper.max), middle)?;
        let bar = [paper.mean - paper.stddev, paper.mean + paper.stddev].map(|ms| x_at(ms.max(0.0)));
        filled(&sheet, Area::new((bar[0], middle - pt(2.0)), (bar[1], middle + pt(2.0))), GREY)?;
        diamond(&sheet, (x_at(paper.mean), middle), pt(2.6), WHITE)?;
        top += pt(PAPER_ROW);
    }
    Ok(())
}

fn row_label(sheet: &Sheet<'_>, title: &str, source: &str, top: i32) -> Drawn {
    let x = pt(LEFT - 4.0);
    write(sheet, title, &at(&bold(TEXT), HPos::Right, VPos::Top), (x, top + pt(3.0)))?;
    write(sheet, source, &at(&text(TEXT), HPos::Right, VPos::Top), (x, top + pt(12.0)))
}

fn numbers(sheet: &Sheet<'_>, min: f64, mean: f64, max: f64, stddev: Option<f64>, top: i32) -> Drawn {
    let stddev = stddev.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.3}"));
    let line = format!("min {min:.3}   mean {mean:.3}   max {max:.3}   s.d. {stddev}");
    let (style, corner) = (text(SMALL), (pt(LEFT + 4.0), top + pt(2.5)));
    let plate = [(corner.0 - pt(2.0), top), (corner.0 + width(&line, &style) + pt(2.0), top + pt(NUMBERS - 2.0))];
    sheet.draw(&Rectangle::new(plate, WHITE.filled()))?;
    write(sheet, &line, &at(&style, HPos::Left, VPos::Top), corner)
}

fn whiskers(sheet: &Sheet<'_>, from: i32, to: i32, y: i32) -> Drawn {
    polyline(sheet, &[(from, y), (to, y)], BLACK, 0.8)?;
    [from, to].into_iter().try_for_each(|x| polyline(sheet, &[(x, y - pt(3.0)), (x, y + pt(3.0))], BLACK, 0.8))
}
