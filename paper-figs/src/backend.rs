//! One drawing surface for both formats, so that a figure is drawn by one function and looks the same in both.
//!
//! plotters draws to a [`DrawingBackend`], and its two backends differ: SVG and bitmap scale a font differently and
//! place its baseline differently, and the bitmap joins thick lines badly. [`Surface`] makes them equal. A text style's
//! size is that of [`crate::font::font`]. Its anchor `Top` is the top of capitals, `Center` their middle, and `Bottom`
//! the foot of descenders.

use std::io;

use plotters::backend::{BitMapBackend, SVGBackend};
use plotters_backend::text_anchor::{HPos, Pos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontFamily,
    FontStyle, FontTransform,
};

use crate::font::{self, EM};

/// The number by which plotters divides a size when it writes SVG.
const SVG_DIVISOR: f64 = 1.24;

/// Arimo's height of capitals, and the depth of its descenders, in em.
const CAPITALS: f64 = 0.716;
const DESCENDERS: f64 = 0.21;

/// An SVG document or a bitmap of 8-bit RGB.
pub(crate) enum Surface<'a> {
    Svg(SVGBackend<'a>),
    Bitmap(BitMapBackend<'a>),
}

macro_rules! either {
    ($surface:expr, $backend:ident => $call:expr) => {
        match $surface {
            Surface::Svg($backend) => $call.map_err(plain),
            Surface::Bitmap($backend) => $call.map_err(plain),
        }
    };
}

impl DrawingBackend for Surface<'_> {
    type ErrorType = io::Error;

    fn get_size(&self) -> (u32, u32) {
        match self {
            Self::Svg(svg) => svg.get_size(),
            Self::Bitmap(bitmap) => bitmap.get_size(),
        }
    }

    fn ensure_prepared(&mut self) -> Result<(), DrawingErrorKind<io::Error>> {
        either!(self, backend => backend.ensure_prepared())
    }

    fn present(&mut self) -> Result<(), DrawingErrorKind<io::Error>> {
        either!(self, backend => backend.present())
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Result<(), DrawingErrorKind<io::Error>> {
        either!(self, backend => backend.draw_pixel(point, color))
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Result<(), DrawingErrorKind<io::Error>> {
        either!(self, backend => backend.draw_line(from, to, style))
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Result<(), DrawingErrorKind<io::Error>> {
        either!(self, backend => backend.draw_rect(upper_left, bottom_right, style, fill))
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Result<(), DrawingErrorKind<io::Error>> {
        match self {
            Self::Svg(svg) => svg.draw_path(path, style).map_err(plain),
            Self::Bitmap(bitmap) => {
                let path: Vec<_> = path.into_iter().collect();
                for ends in path.windows(2) {
                    bitmap.draw_line(ends[0], ends[1], style).map_err(plain)?;
                }
                // A square on each corner fills the notch that the lines leave.
                let r = style.stroke_width().cast_signed() / 2;
                for (x, y) in path.iter().skip(1).rev().skip(1) {
                    bitmap.draw_rect((x - r, y - r), (x + r - 1, y + r - 1), style, true).map_err(plain)?;
                }
                Ok(())
            }
        }
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        center: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Result<(), DrawingErrorKind<io::Error>> {
        either!(self, backend => backend.draw_circle(center, radius, style, fill))
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        vertices: I,
        style: &S,
    ) -> Result<(), DrawingErrorKind<io::Error>> {
        either!(self, backend => backend.fill_polygon(vertices, style))
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        (x, y): BackendCoord,
    ) -> Result<(), DrawingErrorKind<io::Error>> {
        let em = style.size() / EM;
        let baseline = em
            * match style.anchor().v_pos {
                VPos::Top => CAPITALS,
                VPos::Center => CAPITALS / 2.0,
                VPos::Bottom => -DESCENDERS,
            };
        let transform = style.transform();
        let place = |dx: i32, dy: i32| {
            let (dx, dy) = transform.transform(dx, dy);
            (x + dx, y + dy)
        };
        match self {
            Self::Svg(svg) => {
                // SVG's top of text is 0.76 em above the baseline.
                let position = place(0, (baseline - 0.76 * em).round() as i32);
                let anchor = Pos { v_pos: VPos::Top, ..style.anchor() };
                svg.draw_text(text, &Resized { style, size: em * SVG_DIVISOR, anchor }, position).map_err(plain)
            }
            Self::Bitmap(bitmap) => {
                let ((left, _), (right, _)) =
                    style.layout_box(text).map_err(|error| DrawingErrorKind::FontError(Box::new(error)))?;
                let start = match style.anchor().h_pos {
                    HPos::Left => 0,
                    HPos::Center => (left - right) / 2,
                    HPos::Right => left - right,
                };
                let (baseline, color) = (baseline.round() as i32, style.color());
                let (width, height) = bitmap.get_size();
                let mut drawn = Ok(());
                font::draw(text, em, style.style(), |dx, dy, cover| {
                    let (x, y) = place(start + dx, baseline + dy);
                    let inside = (0..width.cast_signed()).contains(&x) && (0..height.cast_signed()).contains(&y);
                    if drawn.is_ok() && inside && cover > 0.0 {
                        drawn = bitmap.draw_pixel((x, y), color.mix(f64::from(cover.min(1.0)))).map_err(plain);
                    }
                });
                drawn
            }
        }
    }
}

/// A text style with another size and anchor.
struct Resized<'a, S> {
    style: &'a S,
    size: f64,
    anchor: Pos,
}

impl<S: BackendTextStyle> BackendTextStyle for Resized<'_, S> {
    type FontError = S::FontError;

    fn color(&self) -> BackendColor {
        self.style.color()
    }

    fn size(&self) -> f64 {
        self.size
    }

    fn transform(&self) -> FontTransform {
        self.style.transform()
    }

    fn style(&self) -> FontStyle {
        self.style.style()
    }

    fn anchor(&self) -> Pos {
        self.anchor
    }

    fn family(&self) -> FontFamily<'_> {
        self.style.family()
    }

    fn layout_box(&self, text: &str) -> Result<((i32, i32), (i32, i32)), S::FontError> {
        self.style.layout_box(text)
    }

    fn draw<E, F: FnMut(i32, i32, BackendColor) -> Result<(), E>>(
        &self,
        text: &str,
        pos: BackendCoord,
        draw: F,
    ) -> Result<Result<(), E>, S::FontError> {
        self.style.draw(text, pos, draw)
    }
}

/// One error type for both.
fn plain<E: std::error::Error + Send + Sync + 'static>(error: DrawingErrorKind<E>) -> DrawingErrorKind<io::Error> {
    match error {
        DrawingErrorKind::DrawingError(error) => DrawingErrorKind::DrawingError(io::Error::other(error)),
        DrawingErrorKind::FontError(error) => DrawingErrorKind::FontError(error),
    }
}
