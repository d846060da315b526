//! The sheet of a figure, and functions that draw on it.
//!
//! Positions are whole units of 1/600 inch; [`pt`] turns points (1/72 inch) into them. Series differ in lightness
//! **and** in hatch, marker or line style, so that a figure can be read in grey print and by colour-blind readers.

use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind};
use plotters::element::{Circle, PathElement, Polygon, Rectangle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{BLACK, Color, FontStyle, RGBColor, TextStyle, WHITE};

use crate::backend::Surface;
use crate::font::font;

/// The drawing area.
pub(crate) type Sheet<'a> = DrawingArea<Surface<'a>, Shift>;

/// The result of drawing.
pub(crate) type Drawn<T = ()> = Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// Units per inch.
pub(crate) const RESOLUTION: u32 = 600;

/// Points to units.
pub(crate) fn pt(points: f64) -> i32 {
    (points * f64::from(RESOLUTION) / 72.0).round() as i32
}

/// Size of ordinary text, points.
pub(crate) const TEXT: f64 = 7.0;
/// Size of the smallest text, points.
pub(crate) const SMALL: f64 = 6.0;
/// Width of axes and outlines, points.
pub(crate) const THIN: f64 = 0.5;

/// Text of a size in points, anchored at its left top.
pub(crate) fn text(points: f64) -> TextStyle<'static> {
    font(points * f64::from(RESOLUTION) / 72.0, FontStyle::Normal).color(&BLACK)
}

/// Bold text of a size in points.
pub(crate) fn bold(points: f64) -> TextStyle<'static> {
    font(points * f64::from(RESOLUTION) / 72.0, FontStyle::Bold).color(&BLACK)
}

/// Anchored elsewhere.
pub(crate) fn at<'a>(style: &TextStyle<'a>, h_pos: HPos, v_pos: VPos) -> TextStyle<'a> {
    style.pos(Pos { h_pos, v_pos })
}

/// Width of a line of text, units.
pub(crate) fn width(text: &str, style: &TextStyle<'_>) -> i32 {
    style.font.layout_box(text).map_or(0, |((left, _), (right, _))| right - left)
}

/// Breaks text into lines of at most this many units, at spaces.
pub(crate) fn wrap(text: &str, style: &TextStyle<'_>, max_width: i32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if width(&format!("{line} {word}"), style) <= max_width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A rectangle of the sheet, in dots from the left and upper edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    /// The left edge.
    pub(crate) left: i32,
    /// The upper edge.
    pub(crate) top: i32,
    /// The right edge.
    pub(crate) right: i32,
    /// The lower edge.
    pub(crate) bottom: i32,
}

impl Area {
    /// From two opposite corners.
    pub(crate) fn new((x0, y0): (i32, i32), (x1, y1): (i32, i32)) -> Self {
        Self { left: x0.min(x1), top: y0.min(y1), right: x0.max(x1), bottom: y0.max(y1) }
    }

    pub(crate) fn width(self) -> i32 {
        self.right - self.left
    }

    pub(crate) fn middle(self) -> (i32, i32) {
        (i32::midpoint(self.left, self.right), i32::midpoint(self.top, self.bottom))
    }
}

/// The hatch over a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hatch {
    /// Nothing.
    Plain,
    /// Lines from bottom left to top right.
    Rising,
    /// Lines from top left to bottom right.
    Falling,
    /// Both.
    Crossed,
    /// Dots.
    Dots,
}

/// How an area is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    /// The colour of the area.
    pub(crate) color: RGBColor,
    /// The hatch on top of it.
    pub(crate) hatch: Hatch,
    /// The colour of the hatch.
    pub(crate) ink: RGBColor,
    /// The distance of two lines of the hatch, points.
    pub(crate) pitch: u8,
}

impl Fill {
    pub(crate) const fn new(color: RGBColor, hatch: Hatch, ink: RGBColor) -> Self {
        Self { color, hatch, ink, pitch: 3 }
    }
}

/// Fills an area and frames it.
pub(crate) fn filled(sheet: &Sheet<'_>, area: Area, fill: Fill) -> Drawn {
    let Area { left, top, right, bottom } = area;
    if right <= left || bottom <= top {
        return Ok(());
    }
    sheet.draw(&Rectangle::new([(left, top), (right, bottom)], fill.color.filled()))?;
    hatch(sheet, area, fill)?;
    frame(sheet, area, BLACK, THIN)
}

/// Draws the hatch of a fill over an area.
pub(crate) fn hatch(sheet: &Sheet<'_>, area: Area, fill: Fill) -> Drawn {
    let Area { left, top, right, bottom } = area;
    let step = pt(f64::from(fill.pitch));
    let stroke = fill.ink.stroke_width(pt(THIN) as u32);
    let line = |from: (i32, i32), to: (i32, i32)| sheet.draw(&PathElement::new([from, to], stroke));
    // The diagonals are x + y = c and x − y = c for every multiple of the step, so they continue from one area to the
    // next.
    let slanted = |step: i32, rising: bool| -> Drawn {
        let (low, high) = if rising { (left + top, right + bottom) } else { (left - bottom, right - top) };
        for c in (low.div_euclid(step) * step..high).step_by(step as usize).filter(|c| *c > low) {
            let y_at = |x: i32| if rising { c - x } else { x - c };
            let (x0, x1) = if rising {
                (left.max(c - bottom), right.min(c - top))
            } else {
                (left.max(c + top), right.min(c + bottom))
            };
            line((x0, y_at(x0)), (x1, y_at(x1)))?;
        }
        Ok(())
    };
    let diagonal_step = step * 7 / 5;
    match fill.hatch {
        Hatch::Plain => Ok(()),
        Hatch::Rising => slanted(diagonal_step, true),
        Hatch::Falling => slanted(diagonal_step, false),
        Hatch::Crossed => {
            slanted(diagonal_step, true)?;
            slanted(diagonal_step, false)
        }
        Hatch::Dots => {
            let radius = pt(0.45);
            for (row, y) in (top + step / 2..=bottom - radius).step_by(step as usize).enumerate() {
                let shift = if row % 2 == 0 { step / 2 } else { step };
                for x in (left + shift..=right - radius).step_by(step as usize) {
                    sheet.draw(&Circle::new((x, y), radius, fill.ink.filled()))?;
                }
            }
            Ok(())
        }
    }
}

/// Draws the edge of an area.
pub(crate) fn frame(sheet: &Sheet<'_>, area: Area, color: RGBColor, points: f64) -> Drawn {
    let Area { left, top, right, bottom } = area;
    let corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top), (right, top)];
    polyline(sheet, &corners, color, points)
}

/// Draws a line through points.
pub(crate) fn polyline(sheet: &Sheet<'_>, through: &[(i32, i32)], color: RGBColor, points: f64) -> Drawn {
    sheet.draw(&PathElement::new(through.to_vec(), color.stroke_width(pt(points) as u32)))
}

/// Draws text.
pub(crate) fn write(sheet: &Sheet<'_>, string: &str, style: &TextStyle<'_>, position: (i32, i32)) -> Drawn {
    sheet.draw_text(string, style, position)
}

/// Draws centred text on a plate of white, so that it can be read on any hatch.
pub(crate) fn plated(sheet: &Sheet<'_>, string: &str, style: &TextStyle<'_>, (x, y): (i32, i32), em: f64) -> Drawn {
    let (half_width, half_height) = (width(string, style) / 2 + pt(0.15 * em), pt(0.5 * em));
    let corners = [(x - half_width, y - half_height), (x + half_width, y + half_height)];
    sheet.draw(&Rectangle::new(corners, WHITE.filled()))?;
    write(sheet, string, &at(style, HPos::Center, VPos::Center), (x, y))
}

/// Draws a line with an outline, which is visible on a dark fill too.
pub(crate) fn cased(sheet: &Sheet<'_>, through: &[(i32, i32)], points: f64) -> Drawn {
    polyline(sheet, through, WHITE, points + 1.0)?;
    polyline(sheet, through, BLACK, points)
}

/// Draws a diamond.
pub(crate) fn diamond(sheet: &Sheet<'_>, (x, y): (i32, i32), radius: i32, color: RGBColor) -> Drawn {
    let corners = [(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)];
    sheet.draw(&Polygon::new(corners, color.filled()))?;
    let outline = [corners[0], corners[1], corners[2], corners[3], corners[0], corners[1]];
    polyline(sheet, &outline, BLACK, THIN)
}

/// Draws a legend of fills in columns of equal width, row by row.
pub(crate) fn legend(
    sheet: &Sheet<'_>,
    entries: &[(Fill, &str)],
    (left, top): (i32, i32),
    column: i32,
    columns: usize,
) -> Drawn {
    let (swatch, row) = ((pt(14.0), pt(7.5)), pt(11.0));
    let style = at(&text(TEXT), HPos::Left, VPos::Center);
    for (y, entries) in (top..).step_by(row as usize).zip(entries.chunks(columns)) {
        for (x, (fill, name)) in (left..).step_by(column as usize).zip(entries) {
            filled(sheet, Area::new((x, y), (x + swatch.0, y + swatch.1)), *fill)?;
            write(sheet, name, &style, (x + swatch.0 + pt(4.0), y + swatch.1 / 2))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_text_fits_and_loses_no_word() {
        let (style, limit) = (text(7.0), pt(100.0));
        let words = "the simulator has no time of its own: what differs here comes from the protocol alone";
        let lines = wrap(words, &style, limit);
        assert!(lines.len() > 1 && lines.iter().all(|line| width(line, &style) <= limit), "{lines:?}");
        assert_eq!(lines.join(" "), words);
    }
}
