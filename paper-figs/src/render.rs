//! Turns a drawing into the bytes of its files.
//!
//! The SVG is measured in inches and keeps its text as text. The PNG is drawn at 600 dots an inch, halved to 300 for
//! smooth edges, and says so in its header. Both contain only the drawing, without a date or a path, so the same rows
//! give the same bytes.

use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::drawing::IntoDrawingArea;
use plotters::style::WHITE;
use plotters::style::text_anchor::{HPos, VPos};

use crate::backend::Surface;
use crate::sheet::{Drawn, RESOLUTION, Sheet, TEXT, at, pt, text, wrap, write};

/// How wide a figure is, in a paper of two columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One column: 3.5 inches.
    Column,
    /// Both: 7.16 inches.
    Page,
}

impl Width {
    /// In points.
    pub const fn points(self) -> f64 {
        match self {
            Self::Column => 252.0,
            Self::Page => 515.52,
        }
    }
}

/// A figure whose rows have been read: ready to be drawn.
pub struct Drawing {
    /// The title, above the figure.
    pub(crate) title: String,
    /// The caption, below the figure.
    pub(crate) caption: String,
    /// Whether the caption is drawn; the SVG's description has it in any case.
    pub(crate) has_caption: bool,
    /// One column or two.
    pub(crate) width: Width,
    /// Height without the caption, points.
    pub(crate) height: f64,
    /// Draws the figure on a sheet of this size.
    pub(crate) paint: Box<dyn Fn(&Sheet<'_>) -> Drawn>,
}

/// The drawing library failed. It depends on no input from outside, so this is a bug.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw: {0}")]
pub struct RenderError(String);

fn failed(error: impl std::fmt::Display) -> RenderError {
    RenderError(error.to_string())
}

/// Between two lines of the caption, points.
const LEADING: f64 = 8.5;
/// Between the figure and its caption, and below the caption, points.
const GAP: f64 = 6.0;
/// How many dots of the sheet, in each direction, make one of the PNG.
const REDUCTION: u32 = 2;

impl Drawing {
    /// The text below the figure.
    pub fn caption(&self) -> &str {
        &self.caption
    }

    /// The same figure without the text below it: a paper has captions of its own.
    #[must_use]
    pub fn without_caption(self) -> Self {
        Self { has_caption: false, ..self }
    }

    fn caption_lines(&self) -> Vec<String> {
        if !self.has_caption {
            return Vec::new();
        }
        wrap(&self.caption, &text(TEXT), pt(self.width.points() - 2.0))
    }

    /// In units. Even, so that it can be halved.
    fn size(&self) -> (u32, u32) {
        let even = |points: f64| (pt(points) as u32).next_multiple_of(REDUCTION);
        let caption = self.caption_lines().len() as f64 * LEADING;
        (even(self.width.points()), even(self.height + GAP + caption + GAP / 2.0))
    }

    fn draw(&self, surface: Surface<'_>) -> Drawn {
        let sheet = surface.into_drawing_area();
        sheet.fill(&WHITE)?;
        let (body, below) = sheet.split_vertically(pt(self.height));
        (self.paint)(&body)?;
        let style = at(&text(TEXT), HPos::Left, VPos::Top);
        for (index, line) in self.caption_lines().iter().enumerate() {
            write(&below, line, &style, (pt(1.0), pt(GAP + LEADING * index as f64)))?;
        }
        sheet.present()
    }

    /// The figure as SVG.
    ///
    /// # Errors
    /// The drawing library fails.
    pub fn svg(&self) -> Result<String, RenderError> {
        let (width, height) = self.size();
        let mut svg = String::new();
        self.draw(Surface::Svg(SVGBackend::with_string(&mut svg, (width, height)))).map_err(failed)?;
        // The library writes sizes in pixels only and no title. Both are put into the opening tag, which is the first
        // line.
        let (tag, rest) = svg.split_once('\n').ok_or_else(|| failed("no SVG was written"))?;
        let inches = |units: u32| f64::from(units) / f64::from(RESOLUTION);
        let tag = tag.replacen(
            &format!("width=\"{width}\" height=\"{height}\""),
            &format!("width=\"{:.2}in\" height=\"{:.4}in\"", inches(width), inches(height)),
            1,
        );
        let (title, caption) = (escape(&self.title), escape(&self.caption));
        Ok(format!("{tag}\n<title>{title}</title>\n<desc>{caption}</desc>\n{rest}"))
    }

    /// The figure as PNG.
    ///
    /// # Errors
    /// The drawing library fails.
    pub fn png(&self) -> Result<Vec<u8>, RenderError> {
        let (width, height) = self.size();
        let mut pixels = vec![0; (width * height * 3) as usize];
        self.draw(Surface::Bitmap(BitMapBackend::with_buffer(&mut pixels, (width, height)))).map_err(failed)?;
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width / REDUCTION, height / REDUCTION);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let per_metre = (f64::from(RESOLUTION / REDUCTION) / 0.0254).round() as u32;
        let unit = png::Unit::Meter;
        encoder.set_pixel_dims(Some(png::PixelDimensions { xppu: per_metre, yppu: per_metre, unit }));
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&reduce(&pixels, width as usize)).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(bytes)
    }
}

/// A page of PDF with one image: the pixels of a PNG of [`Drawing::png`], as large as the figure. The compressed data
/// of the PNG are those of the PDF (ISO 32000-1 §7.4.4.4), so the same figure gives the same bytes.
///
/// # Errors
/// These bytes are no PNG.
pub fn pdf(png: &[u8]) -> Result<Vec<u8>, RenderError> {
    let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |four| u32::from_be_bytes(*four));
    let (mut rest, mut size, mut data) = (png.get(8..).unwrap_or_default(), None, Vec::new());
    while rest.len() >= 12 {
        let length = number(rest) as usize;
        let body = rest.get(8..8 + length).ok_or_else(|| failed("a chunk of the PNG is cut off"))?;
        match &rest[4..8] {
            b"IHDR" => size = Some((number(body), number(body.get(4..).unwrap_or_default()))),
            b"IDAT" => data.extend_from_slice(body),
            _ => {}
        }
        rest = &rest[12 + length..];
    }
    let (width, height) = size.ok_or_else(|| failed("the PNG has no header"))?;
    let points = |pixels: u32| f64::from(pixels * 72) / f64::from(RESOLUTION / REDUCTION);
    let (wide, high) = (points(width), points(height));
    let draw = format!("{wide:.3} 0 0 {high:.3} 0 0 cm /I Do");
    let objects: [Vec<u8>; 5] = [
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
        format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {wide:.3} {high:.3}] /Resources << /XObject << /I 4 0 R >> >> \
             /Contents 5 0 R >>"
        )
        .into_bytes(),
        [
            format!(
                "<< /Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceRGB /BitsPerComponent 8 \
                 /Filter /FlateDecode /DecodeParms << /Predictor 15 /Colors 3 /BitsPerComponent 8 /Columns {width} >> \
                 /Length {} >>\nstream\n",
                data.len()
            )
            .as_bytes(),
            &data,
            b"\nendstream",
        ]
        .concat(),
        format!("<< /Length {} >>\nstream\n{draw}\nendstream", draw.len()).into_bytes(),
    ];
    let mut bytes = b"%PDF-1.4\n".to_vec();
    let mut places = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        places.push(format!("{:010} 00000 n \n", bytes.len()));
        bytes.extend_from_slice(format!("{} 0 obj\n", index + 1).as_bytes());
        bytes.extend_from_slice(object);
        bytes.extend_from_slice(b"\nendobj\n");
    }
    let table = bytes.len();
    let count = objects.len() + 1;
    let end = format!(
        "xref\n0 {count}\n0000000000 65535 f \n{}trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n",
        places.concat()
    );
    bytes.extend_from_slice(end.as_bytes());
    Ok(bytes)
}

/// Makes one pixel, their mean, of every square of [`REDUCTION`] by [`REDUCTION`].
fn reduce(pixels: &[u8], width: usize) -> Vec<u8> {
    const SIDE: usize = REDUCTION as usize;
    let mut reduced = Vec::with_capacity(pixels.len() / (SIDE * SIDE));
    for rows in pixels.chunks_exact(width * 3 * SIDE) {
        for x in (0..width).step_by(SIDE) {
            for channel in 0..3 {
                let square = (0..SIDE * SIDE).map(|i| rows[((i / SIDE) * width + x + i % SIDE) * 3 + channel]);
                let sum: usize = square.map(usize::from).sum();
                reduced.push(((sum + SIDE * SIDE / 2) / (SIDE * SIDE)) as u8);
            }
        }
    }
    reduced
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use plotters::style::BLACK;

    use super::*;
    use crate::sheet::polyline;

    fn drawing() -> Drawing {
        Drawing {
            title: "A & B".into(),
            caption: "Two lines cross, < and >.".into(),
            has_caption: true,
            width: Width::Column,
            height: 50.0,
            paint: Box::new(|sheet| {
                polyline(sheet, &[(0, 0), (pt(50.0), pt(50.0))], BLACK, 1.0)?;
                write(sheet, "crossing", &text(7.0), (pt(60.0), pt(20.0)))
            }),
        }
    }

    #[test]
    fn a_reduced_pixel_is_the_mean_of_its_square() {
        let pixels = [[0; 3], [255; 3], [7, 8, 9], [7, 8, 9], [0; 3], [255; 3], [7, 8, 9], [7, 8, 9]].concat();
        assert_eq!(reduce(&pixels, 4), [128, 128, 128, 7, 8, 9]);
    }

    #[test]
    fn an_svg_is_as_wide_as_a_column_and_keeps_its_text() {
        let svg = drawing().svg().unwrap();
        assert!(svg.starts_with("<svg width=\"3.50in\" height=\""), "{svg}");
        assert!(svg.contains("<title>A &amp; B</title>\n<desc>Two lines cross, &lt; and &gt;.</desc>"), "{svg}");
        assert!(svg.contains(">\ncrossing\n</text>"), "{svg}");
        assert!(svg.ends_with("</svg>\n"), "{svg}");
    }

    #[test]
    fn a_pdf_has_the_pixels_of_the_png_on_a_page_of_its_size() {
        let bytes = pdf(&drawing().png().unwrap()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("%PDF-1.4\n") && text.ends_with("%%EOF\n"));
        assert!(text.contains("/MediaBox [0 0 252.000 ") && text.contains("/Width 1050"), "{text}");
        // Each entry of the table is where its object begins.
        let table = text.rsplit("startxref\n").next().unwrap().lines().next().unwrap().parse::<usize>().unwrap();
        let entries = String::from_utf8_lossy(&bytes[table..]).into_owned();
        for (index, entry) in entries.lines().skip(3).take(5).enumerate() {
            let place: usize = entry[..10].parse().unwrap();
            assert!(bytes[place..].starts_with(format!("{} 0 obj", index + 1).as_bytes()), "{entry}");
        }
        assert!(pdf(b"no picture").is_err());
    }

    #[test]
    fn a_png_is_as_wide_as_a_column_at_300_dots_an_inch() {
        let bytes = drawing().png().unwrap();
        let reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        assert_eq!(reader.info().width, 1050);
        assert_eq!(reader.info().pixel_dims.unwrap().xppu, 11811);
    }
}
