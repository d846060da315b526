//! The distribution of the round-trip time, beside the four statistics that the paper prints.
//!
//! Above, the share of echoes that came back within a time, for both methods. Below, on the same axis, the same echoes
//! as boxes and as dots, each over the paper's range, mean and standard deviation.

use std::path::Path;

use plotters::chart::ChartBuilder;
use plotters::element::{Circle, DashedPathElement, Rectangle};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{BLACK, Color, WHITE};

use super::style::{GREY, INK, PALE, axes};
use crate::input::{InputError, Origin, Table, read};
use crate::render::{Drawing, Width};
use crate::rows::{Method, PaperRtt, Rtt, Statistic};
use crate::sheet::{
    Area, Drawn, Fill, Hatch, SMALL, Sheet, TEXT, at, bold, cased, diamond, filled, polyline, pt, text, width, write,
};
use crate::stats::{Summary, sorted};

/// What the paper prints for one method, milliseconds.
#[derive(Clone, Debug, PartialEq)]
struct Printed {
    min: f64,
    mean: f64,
    max: f64,
    stddev: f64,
}

/// One method's echoes.
struct Series {
    method: Method,
    sent: usize,
    /// Milliseconds, in the order of the echoes.
    rtts: Vec<f64>,
    summary: Summary,
    paper: Printed,
}

pub(super) fn prepare(results: &Path) -> Result<Drawing, InputError> {
    let echoes = read::<Rtt>(results, Origin::Simulator, "table4")?;
    let printed = read::<PaperRtt>(results, Origin::Paper, "table4-rtt")?;
    let [conventional, proposed] = Method::ALL.map(|method| series(method, &echoes, &printed));
    let series = [conventional?, proposed?];
    Ok(Drawing {
        title: "Round-trip time through the tunnel".into(),
        caption: caption(&series),
        width: Width::Column,
        height: 266.0,
        paint: Box::new(move |sheet| paint(sheet, &series)),
    })
}

fn series(method: Method, echoes: &Table<Rtt>, printed: &Table<PaperRtt>) -> Result<Series, InputError> {
    let of_method = || echoes.lines.iter().filter(|line| line.row.method == method);
    let rtts: Vec<f64> = of_method().filter_map(|line| line.row.rtt_ms).collect();
    let name = method.name().to_lowercase();
    let summary = Summary::of(&rtts)
        .ok_or_else(|| echoes.error(format!("no echo of the {name} method came back: there is nothing to draw")))?;
    let value = |statistic| {
        let row = printed.lines.iter().find(|line| line.row.statistic == statistic).map(|line| &line.row);
        let row = row.ok_or_else(|| printed.error(format!("there is no row {statistic:?}").to_lowercase()))?;
        Ok(match method {
            Method::Conventional => row.conventional_ms,
            Method::Proposed => row.proposed_ms,
        })
    };
    let paper = Printed {
        min: value(Statistic::Min)?,
        mean: value(Statistic::Mean)?,
        max: value(Statistic::Max)?,
        stddev: value(Statistic::Stddev)?,
    };
    Ok(Series { method, sent: of_method().count(), rtts, summary, paper })
}

fn caption(series: &[Series; 2]) -> String {
    let lost = series.iter().filter(|s| s.sent > s.rtts.len()).map(|s| {
        format!(" Lost in the {} method: {} of {}.", s.method.name().to_lowercase(), s.sent - s.rtts.len(), s.sent)
    });
    format!(
        "Round-trip time of echoes through the tunnel. Above: share of the simulated echoes answered within a time. \
         Below: simulated, box = quartiles and median, whiskers = minimum and maximum, diamond = mean, dots = single \
         echoes; paper (Table 4, printed values only), whiskers = minimum and maximum, bar = mean ± one standard \
         deviation, diamond = mean. The simulator has no CPU time: its values come from the protocol and the links’ \
         delays alone, the paper’s from Docker on a real machine, so compare shapes between methods, not milliseconds \
         with the paper.{}",
        lost.collect::<String>()
    )
}

/// Left edge of both plots, points: the labels of rows stand before it.
const LEFT: f64 = 66.0;
const RIGHT: f64 = 6.0;
const UPPER: f64 = 126.0;
const LEGEND: f64 = 13.0;
/// Height of the line of numbers over a box, of a box, and of the dots under it, points.
const NUMBERS: f64 = 11.0;
const BOX: f64 = 9.0;
const DOTS: f64 = 11.0;

fn paint(sheet: &Sheet<'_>, series: &[Series; 2]) -> Drawn {
    let max = series.iter().flat_map(|s| [s.summary.max, s.paper.max]).fold(0.0, f64::max);
    let range = 0.0..if max > 0.0 { max * 1.06 } else { 1.0 };
    let (upper, lower) = sheet.split_vertically(pt(UPPER));
    distribution(&upper, series, range.clone())?;
    boxes(&lower, series, range)
}

fn distribution(area: &Sheet<'_>, series: &[Series; 2], range: std::ops::Range<f64>) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .margin_top(pt(LEGEND))
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
    let (base_x, base_y) = area.get_base_pixel();
    let to_sheet = |x: f64, y: f64| {
        let (x, y) = chart.backend_coord(&(x, y));
        (x - base_x, y - base_y)
    };
    for Series { method, rtts, .. } in series {
        let count = rtts.len() as f64;
        let mut steps = vec![to_sheet(range.start, 0.0)];
        for (index, rtt) in sorted(rtts).into_iter().enumerate() {
            steps.extend([index, index + 1].map(|below| to_sheet(rtt, below as f64 / count)));
        }
        steps.push(to_sheet(range.end, 1.0));
        curve(&sheet, *method, steps)?;
    }
    // Over the plot, so that it is in no curve's way.
    let (mut x, y) = (pt(LEFT - 34.0), pt(4.0));
    for series in series {
        let name = format!("{} (n = {})", series.method.name(), series.rtts.len());
        curve(&sheet, series.method, vec![(x, y), (x + pt(19.0), y)])?;
        write(&sheet, &name, &at(&text(TEXT), HPos::Left, VPos::Center), (x + pt(23.0), y))?;
        x += pt(23.0) + width(&name, &text(TEXT)) + pt(12.0);
    }
    Ok(())
}

/// Broad and pale under thin, dark and broken: both are seen where they coincide.
fn curve(sheet: &Sheet<'_>, method: Method, points: Vec<(i32, i32)>) -> Drawn {
    match method {
        Method::Conventional => polyline(sheet, &points, PALE, 2.4),
        Method::Proposed => {
            let style = INK.stroke_width(pt(0.9) as u32);
            sheet.draw(&DashedPathElement::new(points, pt(3.2), pt(1.6), style))
        }
    }
}

fn boxes(area: &Sheet<'_>, series: &[Series; 2], range: std::ops::Range<f64>) -> Drawn {
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
    for Series { method, rtts, summary, paper, .. } in series {
        let fill = match method {
            Method::Conventional => Fill::new(PALE, Hatch::Plain, BLACK),
            Method::Proposed => Fill::new(INK, Hatch::Plain, WHITE),
        };
        row_label(&sheet, *method, "simulated", top)?;
        numbers(&sheet, summary.min, summary.mean, summary.max, summary.stddev, top)?;
        let middle = top + pt(NUMBERS + BOX / 2.0);
        let half = pt(BOX / 2.0);
        whiskers(&sheet, x_at(summary.min), x_at(summary.max), middle)?;
        filled(&sheet, Area::new((x_at(summary.q1), middle - half), (x_at(summary.q3), middle + half)), fill)?;
        let median = x_at(summary.median);
        cased(&sheet, &[(median, middle - half), (median, middle + half)], 1.1)?;
        diamond(&sheet, (x_at(summary.mean), middle), pt(2.6), WHITE)?;
        for (index, rtt) in rtts.iter().enumerate() {
            // Spread over five heights so that equal echoes are seen as several.
            let y = middle + half + pt(3.0 + (index * 2 % 5) as f64 * 1.5);
            sheet.draw(&Circle::new((x_at(*rtt), y), pt(0.6), INK.filled()))?;
        }
        top += pt(NUMBERS + BOX + DOTS + 3.0);

        row_label(&sheet, *method, "paper", top)?;
        numbers(&sheet, paper.min, paper.mean, paper.max, Some(paper.stddev), top)?;
        let middle = top + pt(NUMBERS + BOX / 2.0);
        whiskers(&sheet, x_at(paper.min), x_at(paper.max), middle)?;
        let bar = [paper.mean - paper.stddev, paper.mean + paper.stddev].map(|ms| x_at(ms.max(0.0)));
        filled(&sheet, Area::new((bar[0], middle - pt(2.0)), (bar[1], middle + pt(2.0))), GREY)?;
        diamond(&sheet, (x_at(paper.mean), middle), pt(2.6), WHITE)?;
        top += pt(NUMBERS + BOX + 5.0);
    }
    Ok(())
}

fn row_label(sheet: &Sheet<'_>, method: Method, source: &str, top: i32) -> Drawn {
    let x = pt(LEFT - 4.0);
    write(sheet, method.name(), &at(&bold(TEXT), HPos::Right, VPos::Top), (x, top + pt(3.0)))?;
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
