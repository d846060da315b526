//! Shared by all figures: colours and axes.

use plotters::chart::MeshStyle;
use plotters::coord::types::RangedCoordf64;
use plotters::style::{BLACK, Color, RGBColor};

use crate::backend::Surface;
use crate::sheet::{Fill, Hatch, TEXT, THIN, pt, text};

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
