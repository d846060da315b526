//! Samples as boxes, one below another, on one axis: quartiles and median, minimum and maximum, mean.

use std::ops::Range;

use cyphonic_statistics::Summary;
use plotters::chart::ChartBuilder;
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{BLACK, WHITE};

use super::style::{INK, PALE, axes};
use crate::rows::Framing;
use crate::sheet::{
    Area, Drawn, Fill, Hatch, Sheet, TEXT, at, bold, cased, diamond, filled, polyline, pt, text, width, write,
};

/// One box.
pub(super) struct Strip {
    /// The heading above this box and the following ones. Empty if the heading before still holds.
    pub(super) group: String,
    /// The label of this box.
    pub(super) name: String,
    /// How the box is filled.
    pub(super) fill: Fill,
    /// The statistics that the box shows.
    pub(super) summary: Summary,
}

/// How the axis is divided.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// Powers of ten; values below 1 stand at 1.
    Log,
}

/// The fill of a framing: it differs in lightness and in hatch.
pub(super) const fn fill_of(framing: Framing) -> Fill {
    match framing {
        Framing::Udp4501 => Fill::new(PALE, Hatch::Plain, BLACK),
        Framing::Stream => Fill::new(INK, Hatch::Plain, WHITE),
        Framing::Datagram => Fill::new(WHITE, Hatch::Dots, BLACK),
        Framing::Compact => Fill::new(WHITE, Hatch::Rising, BLACK),
    }
}

/// The height of a strip, points: a line of text of 8 points, and space.
const ROW: f64 = 12.0;
/// The height of a heading of strips, points.
const GROUP: f64 = 12.0;
/// The height of a box, points. It leaves space between the boxes of two strips.
const BOX: f64 = 7.0;
/// The height of the axis with its labels, points.
const AXIS: f64 = 26.0;

/// The height of all strips, points.
pub(super) fn height(strips: &[Strip]) -> f64 {
    let groups = strips.iter().filter(|strip| !strip.group.is_empty()).count();
    strips.len() as f64 * ROW + groups as f64 * GROUP + AXIS + 4.0
}

/// Draws all strips with the axis below them.
pub(super) fn paint(sheet: &Sheet<'_>, strips: &[Strip], axis: &str, scale: Scale) -> Drawn {
    let names = strips.iter().map(|strip| width(&strip.name, &text(TEXT))).max().unwrap_or(0);
    let left = names + pt(8.0);
    let greatest = strips.iter().map(|strip| strip.summary.max).fold(0.0, f64::max).max(1e-9);
    let place = move |value: f64| if scale == Scale::Log { value.max(1.0).log10() } else { value };
    let range: Range<f64> = 0.0..place(greatest) * 1.04;
    let mut chart = ChartBuilder::on(sheet)
        .margin_left(left)
        .margin_right(pt(8.0))
        .x_label_area_size(pt(AXIS - 4.0))
        .build_cartesian_2d(range, 0.0..1.0)?;
    let labels = |value: &f64| match scale {
        Scale::Linear => format!("{}", (value * 1e6).round() / 1e6),
        Scale::Log => format!("{}", 10_f64.powf(*value).round()),
    };
    axes(&mut chart.configure_mesh())
        .disable_y_mesh()
        .disable_y_axis()
        .x_labels(7)
        .x_label_formatter(&labels)
        .x_desc(axis)
        .draw()?;
    let (base_x, base_y) = sheet.get_base_pixel();
    let x_at = |value: f64| chart.backend_coord(&(place(value), 0.0)).0 - base_x;
    let sheet = sheet.strip_coord_spec();
    let mut top = chart.plotting_area().get_pixel_range().1.start - base_y + pt(1.0);
    for strip in strips {
        if !strip.group.is_empty() {
            write(&sheet, &strip.group, &at(&bold(TEXT), HPos::Left, VPos::Center), (pt(2.0), top + pt(GROUP / 2.0)))?;
            top += pt(GROUP);
        }
        let middle = top + pt(ROW / 2.0);
        write(&sheet, &strip.name, &at(&text(TEXT), HPos::Right, VPos::Center), (left - pt(4.0), middle))?;
        let Summary { min, q1, median, q3, max, mean, .. } = strip.summary;
        polyline(&sheet, &[(x_at(min), middle), (x_at(max), middle)], BLACK, 0.8)?;
        for end in [min, max] {
            polyline(&sheet, &[(x_at(end), middle - pt(2.5)), (x_at(end), middle + pt(2.5))], BLACK, 0.8)?;
        }
        let half = pt(BOX / 2.0);
        filled(&sheet, Area::new((x_at(q1), middle - half), (x_at(q3), middle + half)), strip.fill)?;
        cased(&sheet, &[(x_at(median), middle - half), (x_at(median), middle + half)], 1.1)?;
        diamond(&sheet, (x_at(mean), middle), pt(2.0), WHITE)?;
        top += pt(ROW);
    }
    Ok(())
}
