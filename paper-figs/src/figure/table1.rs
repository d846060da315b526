//! The result of every pair of networks, in a grid for each framing.
//!
//! A cell says which signaling pattern was chosen, who dialed, and whether echoes and the TCP transfer got through. A
//! pattern other than the paper's is marked.

use std::collections::BTreeMap;
use std::path::Path;

use cyphonic_statistics::mean;
use plotters::element::Rectangle;
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{BLACK, Color, FontTransform, RGBColor, WHITE};

use super::style::INK;
use crate::input::{InputError, Line, Origin, Table, read};
use crate::render::{Drawing, Width};
use crate::rows::{Dialer, Framing, Kind, Outcome, PaperPattern, Pattern};
use crate::sheet::{
    Area, Drawn, Fill, Hatch, SMALL, Sheet, TEXT, at, bold, filled, frame, legend, plated, polyline, pt, text, write,
};

/// The result of one pair over all seeds.
#[derive(Clone, Debug, PartialEq)]
struct Cell {
    pattern: Option<Pattern>,
    dialer: Option<Dialer>,
    echo_sent: u32,
    echo_received: u32,
    tcp_ok: bool,
    tcp_bytes: u64,
    /// The mean.
    tcp_ms: Option<f64>,
    paper: Pattern,
}

impl Cell {
    fn echo_ok(&self) -> bool {
        self.echo_sent > 0 && self.echo_received == self.echo_sent
    }

    fn as_in_paper(&self) -> bool {
        self.pattern == Some(self.paper)
    }
}

/// By initiator and responder.
type Grid = BTreeMap<(Kind, Kind), Cell>;

pub(super) fn prepare(results: &Path) -> Result<Drawing, InputError> {
    let outcomes = read::<Outcome>(results, Origin::Simulator, "table1")?;
    let printed = read::<PaperPattern>(results, Origin::Paper, "table1-signaling-patterns")?;
    let [conventional, proposed, compact] = Framing::SERIES.map(|framing| grid(framing, &outcomes, &printed));
    let grids = [conventional?, proposed?, compact?];
    Ok(Drawing {
        title: "Signaling pattern and success of every pair of networks".into(),
        caption: caption(&grids),
        has_caption: true,
        width: Width::Page,
        height: 2.0 * (TOP + 3.0 * HEIGHT + 8.0),
        paint: Box::new(move |sheet| paint(sheet, &grids)),
    })
}

fn grid(framing: Framing, outcomes: &Table<Outcome>, printed: &Table<PaperPattern>) -> Result<Grid, InputError> {
    let mut grid = Grid::new();
    for pair in Kind::ALL.into_iter().flat_map(|a| Kind::ALL.map(|b| (a, b))) {
        let names = format!("{} to {}", pair.0.name(), pair.1.name());
        let paper = printed.lines.iter().map(|line| &line.row).find(|row| (row.initiator, row.responder) == pair);
        let paper = paper.ok_or_else(|| printed.error(format!("there is no row {names}")))?.pattern;
        let of_pair = |line: &&Line<Outcome>| line.row.framing == framing && (line.row.a_kind, line.row.b_kind) == pair;
        let lines: Vec<_> = outcomes.lines.iter().filter(of_pair).collect();
        let [first, others @ ..] = lines.as_slice() else {
            return Err(outcomes.error(format!("there is no row of the framing {} for {names}", framing.name())));
        };
        if let Some(other) = others.iter().find(|other| other.cell != first.cell) {
            let problem = format!("another cell of the sweep than line {}: {}", first.number, other.cell);
            return Err(outcomes.error_at(other.number, format!("{problem}; this figure draws one")));
        }
        let choice = |line: &Line<Outcome>| (line.row.pattern, line.row.dialer);
        if let Some(other) = others.iter().find(|other| choice(other) != choice(first)) {
            let problem = format!("the pattern or dialer differs from that of line {}, the same pair", first.number);
            return Err(outcomes.error_at(other.number, problem));
        }
        let times: Vec<f64> = lines.iter().filter_map(|line| line.row.tcp_ms).collect();
        let cell = Cell {
            pattern: first.row.pattern,
            dialer: first.row.dialer,
            echo_sent: lines.iter().map(|line| line.row.echo_sent).sum(),
            echo_received: lines.iter().map(|line| line.row.echo_received).sum(),
            tcp_ok: lines.iter().all(|line| line.row.tcp_ok),
            tcp_bytes: lines.iter().map(|line| line.row.tcp_bytes).max().unwrap_or(0),
            tcp_ms: mean(&times),
            paper,
        };
        grid.insert(pair, cell);
    }
    Ok(grid)
}

fn caption(grids: &[Grid; 3]) -> String {
    let cells = || grids.iter().flat_map(BTreeMap::values);
    let through = cells().filter(|cell| cell.echo_ok() && cell.tcp_ok).count();
    let differing = cells().filter(|cell| !cell.as_in_paper()).count();
    let megabytes = cells().map(|cell| cell.tcp_bytes).max().unwrap_or(0) as f64 / 1e6;
    let paper = match differing {
        0 => "Every pattern is that of the paper’s Table 1.".to_owned(),
        n => {
            let verb = if n == 1 { "differs" } else { "differ" };
            format!("Outlined: {n} of {} {verb} from the paper’s Table 1, whose pattern follows ≠.", cells().count())
        }
    };
    format!(
        "Signaling pattern of every pair of networks, simulated: the conventional method, the proposed one as in the paper (on a \
         QUIC stream), and the proposed one with our own framing (compact: a DATAGRAM frame without the CYPHONIC header). A is the initiator, B the responder; \
         the arrow goes from the node that dialed. Echo: replies received of requests sent; TCP: a transfer of {megabytes} \
         MB from A to B and its time, marked as through if all bytes came with the right hash. In {through} of {} cells \
         both got through. {paper}",
        cells().count()
    )
}

fn fill(pattern: Pattern) -> Fill {
    match pattern {
        Pattern::Direct => Fill::new(RGBColor(236, 240, 246), Hatch::Plain, INK),
        Pattern::OneNat => Fill::new(RGBColor(243, 180, 90), Hatch::Rising, RGBColor(110, 70, 0)),
        Pattern::Relayed => Fill::new(RGBColor(50, 95, 150), Hatch::Crossed, INK),
    }
}

/// Of a cell, points.
const WIDTH: f64 = 71.0;
const HEIGHT: f64 = 43.0;
/// Of the band that shows the pattern.
const BAND: f64 = 17.0;
/// Room for the names of rows and columns.
const LEFT: f64 = 42.0;
const TOP: f64 = 40.0;

fn paint(sheet: &Sheet<'_>, grids: &[Grid; 3]) -> Drawn {
    let quarters = sheet.split_evenly((2, 2));
    for ((area, framing), grid) in quarters.iter().zip(Framing::SERIES).zip(grids) {
        paint_grid(area, framing, grid)?;
    }
    // The legend is in the last quarter.
    let names = Pattern::ALL.map(|pattern| format!("Pattern {}: {}", pattern.number(), pattern.about()));
    for (index, (pattern, name)) in Pattern::ALL.into_iter().zip(&names).enumerate() {
        let corner = (pt(LEFT), pt(TOP + index as f64 * 16.0));
        legend(&quarters[3], &[(fill(pattern), name)], corner, pt(100.0), 1)?;
    }
    Ok(())
}

fn paint_grid(sheet: &Sheet<'_>, framing: Framing, grid: &Grid) -> Drawn {
    let (middle_x, middle_y) = (pt(LEFT + 1.5 * WIDTH), pt(TOP + 1.5 * HEIGHT));
    write(sheet, framing.title(), &at(&bold(TEXT + 1.0), HPos::Center, VPos::Top), (middle_x, pt(4.0)))?;
    write(sheet, "Responder B", &at(&text(TEXT), HPos::Center, VPos::Top), (middle_x, pt(18.0)))?;
    let upright = at(&text(TEXT), HPos::Center, VPos::Top).transform(FontTransform::Rotate270);
    write(sheet, "Initiator A", &upright, (pt(3.0), middle_y))?;
    for (index, kind) in Kind::ALL.into_iter().enumerate() {
        let offset = index as f64 + 0.5;
        let column = (pt(LEFT + offset * WIDTH), pt(TOP - 3.0));
        write(sheet, kind.name(), &at(&bold(TEXT), HPos::Center, VPos::Bottom), column)?;
        let row = (pt(LEFT - 4.0), pt(TOP + offset * HEIGHT));
        write(sheet, kind.name(), &at(&bold(TEXT), HPos::Right, VPos::Center), row)?;
    }
    for (row, a) in Kind::ALL.into_iter().enumerate() {
        for (column, b) in Kind::ALL.into_iter().enumerate() {
            let (left, top) = (LEFT + column as f64 * WIDTH, TOP + row as f64 * HEIGHT);
            let area = Area::new((pt(left), pt(top)), (pt(left + WIDTH), pt(top + HEIGHT)));
            if let Some(cell) = grid.get(&(a, b)) {
                paint_cell(sheet, area, cell)?;
            }
        }
    }
    Ok(())
}

fn paint_cell(sheet: &Sheet<'_>, area: Area, cell: &Cell) -> Drawn {
    let Area { left, top, right, bottom } = area;
    sheet.draw(&Rectangle::new([(left, top), (right, bottom)], WHITE.filled()))?;
    let band = Area { right: left + pt(BAND), ..area };
    let number = match cell.pattern {
        Some(pattern) => {
            filled(sheet, band, fill(pattern))?;
            pattern.number().to_string()
        }
        None => "–".to_owned(),
    };
    plated(sheet, &number, &bold(12.0), band.middle(), 12.0)?;
    frame(sheet, area, BLACK, 0.5)?;

    let x = band.right + pt(3.0);
    let line = |index: f64| top + pt(9.0 + index * 12.5);
    let style = at(&text(SMALL + 0.5), HPos::Left, VPos::Center);
    let arrow = match cell.dialer {
        Some(Dialer::Initiator) => "A → B",
        Some(Dialer::Responder) => "A ← B",
        None => "no tunnel",
    };
    write(sheet, arrow, &at(&bold(TEXT), HPos::Left, VPos::Center), (x, line(0.0)))?;
    if !cell.as_in_paper() {
        let note = format!("≠ {}", cell.paper.number());
        plated(sheet, &note, &bold(SMALL), (band.middle().0, bottom - pt(7.0)), SMALL)?;
        frame(
            sheet,
            Area { left: left + pt(0.7), top: top + pt(0.7), right: right - pt(0.7), bottom: bottom - pt(0.7) },
            BLACK,
            1.6,
        )?;
    }
    mark(sheet, cell.echo_ok(), (x, line(1.0)))?;
    write(sheet, &format!("echo {}/{}", cell.echo_received, cell.echo_sent), &style, (x + pt(8.0), line(1.0)))?;
    mark(sheet, cell.tcp_ok, (x, line(2.0)))?;
    let time = match cell.tcp_ms {
        None => "failed".to_owned(),
        Some(ms) if ms < 9999.5 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.1} s", ms / 1000.0),
    };
    write(sheet, &format!("TCP {time}"), &style, (x + pt(8.0), line(2.0)))
}

/// A tick, or a cross.
fn mark(sheet: &Sheet<'_>, good: bool, (x, y): (i32, i32)) -> Drawn {
    let at = |dx: f64, dy: f64| (x + pt(dx), y + pt(dy));
    if good {
        return polyline(sheet, &[at(0.5, 0.2), at(2.3, 2.2), at(6.0, -2.8)], BLACK, 1.0);
    }
    polyline(sheet, &[at(0.8, -2.5), at(5.8, 2.5)], BLACK, 1.4)?;
    polyline(sheet, &[at(0.8, 2.5), at(5.8, -2.5)], BLACK, 1.4)
}
