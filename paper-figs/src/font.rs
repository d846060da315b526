//! The embedded font, Arimo, and setting its text in a bitmap.
//!
//! plotters finds a font by the name that it also writes into an SVG. So Arimo is registered under the whole list of
//! fonts that a viewer of the SVG may use in its place. All of them have Arimo's widths. In a bitmap plotters drops
//! each glyph's side bearing, so that letters are spaced unevenly. [`draw`] sets each glyph with its bearing.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use plotters::style::{FontDesc, FontFamily, FontStyle, register_font};

/// Names that an SVG viewer tries in turn.
const NAMES: &str = "Arimo, Liberation Sans, Helvetica, Arial, sans-serif";
const REGULAR: &[u8] = include_bytes!("../assets/Arimo-Regular.ttf");
const BOLD: &[u8] = include_bytes!("../assets/Arimo-Bold.ttf");

/// Ascent and descent together, in em. `ab_glyph` calls this the size of a font.
pub(crate) const EM: f64 = 2288.0 / 2048.0;

static FONTS: LazyLock<[FontRef<'static>; 2]> = LazyLock::new(|| {
    [(FontStyle::Normal, REGULAR), (FontStyle::Bold, BOLD)].map(|(style, bytes)| {
        assert!(register_font(NAMES, style, bytes).is_ok(), "the embedded font is a font");
        FontRef::try_from_slice(bytes).expect("the embedded font is a font")
    })
});

/// The font, with an em of this many units.
pub(crate) fn font(em: f64, style: FontStyle) -> FontDesc<'static> {
    LazyLock::force(&FONTS);
    FontDesc::new(FontFamily::Name(NAMES), em * EM, style)
}

/// Sets a line of text whose baseline begins at 0, 0. Gives each pixel, and how much of it is covered, from 0 to 1.
pub(crate) fn draw(text: &str, em: f64, style: FontStyle, mut pixel: impl FnMut(i32, i32, f32)) {
    let font = match style {
        FontStyle::Bold => &FONTS[1],
        _ => &FONTS[0],
    };
    let scale = PxScale::from((em * EM) as f32);
    let scaled = font.as_scaled(scale);
    let mut x = 0.0;
    for id in text.chars().map(|character| font.glyph_id(character)) {
        if let Some(outline) = font.outline_glyph(id.with_scale_and_position(scale, point(x, 0.0))) {
            let corner = outline.px_bounds().min;
            let (left, top) = (corner.x as i32, corner.y as i32);
            outline.draw(|dx, dy, cover| pixel(left + dx.cast_signed(), top + dy.cast_signed(), cover));
        }
        x += scaled.h_advance(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arimo's digits are 1139/2048 em wide, as Helvetica's.
    const DIGIT: f64 = 1139.0 / 2048.0;

    #[test]
    fn an_em_is_an_em_for_the_layout() {
        let ((left, _), (right, _)) = font(60.0, FontStyle::Normal).layout_box(&"0".repeat(100)).unwrap();
        assert!((f64::from(right - left) - 100.0 * DIGIT * 60.0).abs() < 5.0, "{}", right - left);
    }

    #[test]
    fn set_text_is_as_wide_and_high_as_its_layout_says() {
        let (mut right, mut top, mut bottom) = (0, 0, 0);
        draw("00000000000000000000H", 60.0, FontStyle::Normal, |x, y, cover| {
            if cover > 0.5 {
                (right, top, bottom) = (right.max(x), top.min(y), bottom.max(y));
            }
        });
        let expected = (20.0 * DIGIT + 0.65) * 60.0;
        assert!((f64::from(right) - expected).abs() < 5.0, "{right} is not {expected}");
        assert!((-44..=-42).contains(&top) && (-1..=1).contains(&bottom), "{top} {bottom}");
    }

    #[test]
    fn bold_is_another_font() {
        let width = |style| font(60.0, style).layout_box("Conventional").unwrap().1.0;
        assert!(width(FontStyle::Bold) > width(FontStyle::Normal));
    }

    #[test]
    fn every_sign_that_figures_use_is_in_the_font() {
        for font in FONTS.iter() {
            for sign in "ABCabc019 .,:;()/=±×–−→←≠≤≥’“”§µαβΔ".chars() {
                assert_ne!(font.glyph_id(sign).0, 0, "{sign}");
            }
        }
    }
}
