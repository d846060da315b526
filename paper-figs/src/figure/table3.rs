//! The fields of a full packet, in each framing and in the paper's two columns.
//!
//! The payload is ten times all other fields, so a bar to scale would show nothing else. Bars show the other fields in
//! the order of the packet’s bytes. The payload is a number beside them.

use std::collections::BTreeMap;
use std::path::Path;

use plotters::chart::ChartBuilder;
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{BLACK, RGBColor, WHITE};

use super::style::axes;
use crate::input::{InputError, Line, Origin, Table, read};
use crate::render::{Drawing, Width};
use crate::rows::{Composition, Field, Framing, Method, PaperComposition};
use crate::sheet::{
    Area, Drawn, Fill, Hatch, SMALL, Sheet, TEXT, at, bold, filled, legend, plated, polyline, pt, text, width, write,
};

const DARK: RGBColor = RGBColor(60, 60, 60);

/// All fields except the payload, in the packet’s order. Neighbours differ much in lightness.
const PARTS: [(Field, &str, Fill); 9] = [
    (Field::RealIpHeader, "Real IP header", Fill::new(RGBColor(200, 200, 200), Hatch::Plain, DARK)),
    (Field::UdpHeader, "UDP header", Fill::new(RGBColor(70, 70, 70), Hatch::Plain, DARK)),
    (Field::QuicHeader, "All of QUIC (paper)", Fill::new(RGBColor(120, 165, 215), Hatch::Crossed, DARK)),
    (Field::QuicShortHeader, "QUIC short header", Fill::new(RGBColor(120, 165, 215), Hatch::Plain, DARK)),
    (Field::QuicFrameHeader, "QUIC frame header", Fill::new(RGBColor(25, 45, 85), Hatch::Plain, DARK)),
    (Field::CyphonicHeader, "CYPHONIC header", Fill::new(RGBColor(243, 180, 90), Hatch::Rising, RGBColor(110, 70, 0))),
    (Field::VirtualIpHeader, "Virtual IP header", Fill::new(WHITE, Hatch::Dots, DARK)),
    (Field::QuicTag, "QUIC AEAD tag", Fill::new(RGBColor(50, 95, 150), Hatch::Falling, WHITE)),
    (Field::Hmac, "HMAC", Fill::new(RGBColor(150, 90, 20), Hatch::Dots, WHITE)),
];

/// One bar.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    method: Method,
    /// The framing, or none if the paper printed it.
    framing: Option<Framing>,
    bytes: BTreeMap<Field, u32>,
}

impl Column {
    fn get(&self, field: Field) -> u32 {
        self.bytes.get(&field).copied().unwrap_or(0)
    }

    fn overhead(&self) -> u32 {
        PARTS.iter().map(|(field, ..)| self.get(*field)).sum()
    }
}

pub(super) fn prepare(results: &Path) -> Result<Drawing, InputError> {
    let measured = read::<Composition>(results, Origin::Simulator, "table3")?;
    let printed = read::<PaperComposition>(results, Origin::Paper, "table3-packet-size")?;
    let columns = [
        paper(Method::Conventional, &printed)?,
        framing(Method::Conventional, Framing::Udp4501, &measured)?,
        paper(Method::Proposed, &printed)?,
        framing(Method::Proposed, Framing::Stream, &measured)?,
        framing(Method::Proposed, Framing::Datagram, &measured)?,
        framing(Method::Proposed, Framing::Compact, &measured)?,
    ];
    Ok(Drawing {
        title: "Composition of a full packet".into(),
        caption: "Composition of the largest packet that crosses unfragmented, beside its IP payload: bars leave the \
                  payload out (it is about ten times the rest, and printed at the right), so their lengths are overheads. \
                  Fields are in the order of the packet’s bytes, the payload’s place being before the tag or the HMAC. \
                  Paper: Table 3, which gives QUIC’s share as one number; the others are measured from packets captured \
                  in the simulator."
            .into(),
        has_caption: true,
        width: Width::Page,
        height: 204.0,
        paint: Box::new(move |sheet| paint(sheet, &columns)),
    })
}

fn paper(method: Method, printed: &Table<PaperComposition>) -> Result<Column, InputError> {
    let mut bytes = BTreeMap::new();
    for Line { number, row, .. } in &printed.lines {
        let value = match method {
            Method::Conventional => row.conventional_bytes,
            Method::Proposed => row.proposed_bytes,
        };
        if bytes.insert(row.field, value.unwrap_or(0)).is_some() {
            return Err(printed.error_at(*number, "this field is there twice"));
        }
    }
    Ok(Column { method, framing: None, bytes })
}

/// One framing's column. Several runs may have measured it if they agree.
fn framing(method: Method, framing: Framing, measured: &Table<Composition>) -> Result<Column, InputError> {
    let mut runs: BTreeMap<&[String], (u64, BTreeMap<Field, u32>)> = BTreeMap::new();
    for Line { number, run, row, .. } in measured.lines.iter().filter(|line| line.row.framing == framing) {
        let (_, bytes) = runs.entry(run).or_insert_with(|| (*number, BTreeMap::new()));
        if bytes.insert(row.field, row.bytes).is_some() {
            return Err(measured.error_at(*number, "this field of this packet is there twice"));
        }
    }
    let name = framing.name();
    let mut found: Option<BTreeMap<Field, u32>> = None;
    for (_, (number, mut bytes)) in runs {
        let total = bytes.remove(&Field::Total);
        let total = total.ok_or_else(|| measured.error_at(number, format!("this packet ({name}) has no total")))?;
        let sum: u32 = bytes.values().sum();
        if sum != total {
            let problem = format!("the fields of this packet ({name}) come to {sum} bytes, but its total is {total}");
            return Err(measured.error_at(number, problem));
        }
        if found.as_ref().is_some_and(|found| *found != bytes) {
            let problem = format!("this packet ({name}) differs from another of its framing: which should be drawn?");
            return Err(measured.error_at(number, problem));
        }
        found = Some(bytes);
    }
    let bytes = found.ok_or_else(|| measured.error(format!("there are no rows of the framing {name}")))?;
    Ok(Column { method, framing: Some(framing), bytes })
}

/// Points: right edge of the names, of the plot, and of the three columns of numbers.
const LEFT: f64 = 92.0;
const PLOT_RIGHT: f64 = 378.0;
const NUMBERS: [(f64, &str); 3] = [(412.0, "Overhead"), (462.0, "IP payload"), (508.0, "Total")];
/// Height of the axis with its numbers and name, of a row, and of the bar in it.
const AXIS: f64 = 22.0;
const ROW: f64 = 20.0;
const BAR: f64 = 11.0;
/// Between the two methods.
const BETWEEN: f64 = 6.0;
const TOP: f64 = 20.0;

fn paint(sheet: &Sheet<'_>, columns: &[Column; 6]) -> Drawn {
    let rows = columns.len() as f64 * ROW + BETWEEN + 3.0;
    let (upper, lower) = sheet.split_vertically(pt(TOP + rows + AXIS));
    let most = columns.iter().map(Column::overhead).max().unwrap_or(0);
    let mut chart = ChartBuilder::on(&upper)
        .margin_left(pt(LEFT))
        .margin_right(pt(Width::Page.points() - PLOT_RIGHT))
        .margin_top(pt(TOP))
        .x_label_area_size(pt(AXIS))
        .build_cartesian_2d(0.0..f64::from(most.max(1)) * 1.03, 0.0..1.0)?;
    axes(&mut chart.configure_mesh())
        .disable_y_mesh()
        .disable_y_axis()
        .x_labels(10)
        .x_label_formatter(&|x| format!("{x}"))
        .x_desc("Bytes of the packet, IP payload left out")
        .draw()?;
    let x_at = |bytes: u32| chart.backend_coord(&(f64::from(bytes), 0.0)).0;
    for (x, name) in NUMBERS {
        write(&upper, name, &at(&bold(TEXT), HPos::Right, VPos::Bottom), (pt(x), pt(TOP - 8.0)))?;
        write(&upper, "(bytes)", &at(&text(SMALL), HPos::Right, VPos::Bottom), (pt(x), pt(TOP - 1.0)))?;
    }
    let base = [(x_at(0), pt(TOP)), (x_at(0), pt(TOP + rows))];
    for (index, column) in columns.iter().enumerate() {
        let between = if column.method == Method::Proposed { BETWEEN } else { 0.0 };
        paint_column(&upper, column, pt(TOP + index as f64 * ROW + between), x_at)?;
    }
    polyline(&upper, &base, BLACK, 0.5)?;
    let entries = PARTS.map(|(_, name, fill)| (fill, name));
    legend(&lower, &entries, (pt(10.0), pt(7.0)), pt(101.0), 5)?;
    Ok(())
}

fn paint_column(sheet: &Sheet<'_>, column: &Column, top: i32, x_at: impl Fn(u32) -> i32) -> Drawn {
    let (bar_top, bar_bottom) = (top + pt(ROW - BAR - 1.0), top + pt(ROW - 1.0));
    let middle = i32::midpoint(bar_top, bar_bottom);
    let (name, style) = match column.framing {
        Some(framing) => (format!("{}, {}", column.method.name(), framing.name()), text(TEXT)),
        None => (format!("{}, paper", column.method.name()), bold(TEXT)),
    };
    write(sheet, &name, &at(&style, HPos::Right, VPos::Center), (pt(LEFT - 4.0), middle))?;
    let mut before = 0;
    for (field, _, fill) in PARTS {
        let bytes = column.get(field);
        if bytes == 0 {
            continue;
        }
        let area = Area::new((x_at(before), bar_top), (x_at(before + bytes), bar_bottom));
        filled(sheet, area, fill)?;
        let number = bytes.to_string();
        if width(&number, &text(SMALL)) + pt(5.0) <= area.width() {
            plated(sheet, &number, &text(SMALL), area.middle(), SMALL)?;
        } else {
            let style = at(&text(SMALL), HPos::Center, VPos::Bottom);
            write(sheet, &number, &style, (area.middle().0, bar_top + pt(0.3)))?;
        }
        before += bytes;
    }
    let payload = column.get(Field::IpPayload);
    for ((x, _), number) in NUMBERS.iter().zip([before, payload, before + payload]) {
        write(sheet, &number.to_string(), &at(&style, HPos::Right, VPos::Center), (pt(*x), middle))?;
    }
    Ok(())
}
