//! Shared by all figures: colours, axes and curves.

use plotters::chart::{ChartContext, MeshStyle};
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{BLACK, Color, RGBColor};

use crate::backend::Surface;
use crate::sheet::{Drawn, Fill, Hatch, Sheet, TEXT, THIN, at, polyline, pt, text, write};

/// The dark colour, for the proposed method.
pub(super) const INK: RGBColor = RGBColor(25, 45, 85);
/// The pale colour, for the conventional method.
pub(super) const PALE: RGBColor = RGBColor(243, 180, 90);
/// Lines that guide the eye.
const GRID: RGBColor = RGBColor(222, 222, 222);
/// The fill of the paper's values.
pub(super) const GREY: Fill = Fill::new(RGBColor(190, 190, 190), Hatch::Plain, BLACK);

/// Sets up the axes in the common style.
pub(super) fn axes<'m, 'a, 'b, 's>(
    mesh: &'m mut MeshStyle<'a, 'b, RangedCoordf64, RangedCoordf64, Surface<'s>>,
) -> &'m mut MeshStyle<'a, 'b, RangedCoordf64, RangedCoordf64, Surface<'s>> {
    mesh.axis_style(BLACK.stroke_width(pt(THIN) as u32))
        .bold_line_style(GRID.stroke_width(pt(THIN) as u32))
        .max_light_lines(0)
        .label_style(text(TEXT))
        .axis_desc_style(text(TEXT))
        .set_all_tick_mark_size(pt(2.0))
}

/// Where a point of a chart is on the chart's own area, in pixels.
pub(super) fn to_sheet<'c, 'a, 's>(
    area: &Sheet<'_>,
    chart: &'c ChartContext<'a, Surface<'s>, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
) -> impl Fn(f64, f64) -> (i32, i32) + use<'c, 'a, 's> {
    let (base_x, base_y) = area.get_base_pixel();
    move |x, y| {
        let (x, y) = chart.backend_coord(&(x, y));
        (x - base_x, y - base_y)
    }
}

/// The style of a curve. A broad pale line goes under thin, dark and broken ones, so that all are visible where they
/// coincide.
#[derive(Clone, Copy)]
pub(super) enum Line {
    Broad,
    Solid,
    Dashed,
    Dotted,
}

/// Draws a curve.
pub(super) fn curve(sheet: &Sheet<'_>, points: Vec<(i32, i32)>, line: Line) -> Drawn {
    let dashes = |points, on: f64, off: f64, color: RGBColor, thick: f64| {
        sheet.draw(&DashedPathElement::new(points, pt(on), pt(off), color.stroke_width(pt(thick) as u32)))
    };
    match line {
        Line::Broad => polyline(sheet, &points, PALE, 2.4),
        Line::Solid => polyline(sheet, &points, INK, 1.4),
        Line::Dashed => dashes(points, 3.2, 1.6, INK, 0.9),
        Line::Dotted => dashes(points, 0.8, 1.6, BLACK, 0.7),
    }
}

/// A line of a legend: a piece of the curve, and its name.
pub(super) fn legend_line(sheet: &Sheet<'_>, name: &str, (x, y): (i32, i32), line: Line) -> Drawn {
    curve(sheet, vec![(x, y), (x + pt(19.0), y)], line)?;
    write(sheet, name, &at(&text(TEXT), HPos::Left, VPos::Center), (x + pt(23.0), y))
}
