//! Which node reaches which, and how: every kind of site with every other, in a grid for each method and policy.
//!
//! A cell's colour is the result of a pair. Two results that a policy should never have are in warm colours: relayed
//! although there is a direct path, and no tunnel although another policy gives one. A pair without a path under either
//! policy cannot log in, which no policy changes. A kind whose nodes share a LAN or a carrier is paired only with
//! itself; such kinds have their own row below each grid.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use plotters::element::Rectangle;
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{BLACK, Color, FontTransform, RGBColor, WHITE};

use crate::input::{InputError, Line, Origin, Table, read};
use crate::render::{Drawing, Width};
use crate::rows::{Course, Dialer, Meeting, Method, Oracle, Pattern, Policy};
use crate::sheet::{
    Area, Drawn, Fill, Hatch, SMALL, Sheet, TEXT, at, bold, frame, hatch, plated, polyline, pt, text, width, write,
};

/// The result of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    ByInitiator,
    ByResponder,
    Relayed,
    Needless,
    Stranded,
    NoLogin,
}

impl Fate {
    /// All, column by column of the legend.
    const ALL: [Self; 6] =
        [Self::ByInitiator, Self::ByResponder, Self::Relayed, Self::NoLogin, Self::Needless, Self::Stranded];

    const fn name(self) -> &'static str {
        match self {
            Self::ByInitiator => "Direct, dialed by the initiator",
            Self::ByResponder => "Direct, dialed by the responder",
            Self::Relayed => "Relayed, having no direct path",
            Self::Needless => "Relayed despite a direct path",
            Self::Stranded => "Stranded: logged in, but no tunnel",
            Self::NoLogin => "A node cannot log in",
        }
    }

    /// From the palette of Okabe and Ito, which colour-blind readers can tell apart.
    const fn color(self) -> RGBColor {
        match self {
            Self::ByInitiator => RGBColor(86, 180, 233),
            Self::ByResponder => RGBColor(0, 114, 178),
            Self::Relayed => RGBColor(222, 222, 222),
            Self::Needless => RGBColor(230, 159, 0),
            Self::Stranded => RGBColor(213, 94, 0),
            Self::NoLogin => WHITE,
        }
    }

    /// What tells it from another of the same lightness in a grey print. The sign of two others is in their cells.
    const fn hatch(self) -> Hatch {
        match self {
            Self::Needless => Hatch::Rising,
            Self::Relayed => Hatch::Dots,
            _ => Hatch::Plain,
        }
    }

    const fn ink(self) -> RGBColor {
        match self {
            Self::ByResponder | Self::Stranded => WHITE,
            _ => BLACK,
        }
    }
}

/// One cell.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cell {
    fate: Fate,
    setup_ms: Option<f64>,
}

/// By initiator and responder.
type Cells = BTreeMap<(String, String), Cell>;

/// All of it.
#[derive(Clone, Debug, PartialEq)]
struct Matrix {
    /// The kinds that meet all others, in the order of the file.
    mixed: Vec<String>,
    /// Those that meet only themselves.
    alone: Vec<String>,
    /// In the order of [`Method::ALL`], and in each of [`Policy::ALL`].
    panels: Vec<(Method, Policy, Cells)>,
}

pub(super) fn prepare(results: &Path) -> Result<Drawing, InputError> {
    let table = read::<Meeting>(results, Origin::Simulator, "matrix")?;
    let matrix = arrange(&table)?;
    let page = Page::of(&matrix);
    Ok(Drawing {
        title: "Paths between every kind of site and every other, both methods and policies".into(),
        caption: caption(&table),
        has_caption: true,
        width: Width::Page,
        height: LEGEND + 2.0 * page.panel_height(&matrix),
        paint: Box::new(move |sheet| paint(sheet, &page, &matrix)),
    })
}

/// Which row: method, policy, initiator and responder.
type Key<'a> = (Method, Policy, &'a str, &'a str);

fn arrange(table: &Table<Meeting>) -> Result<Matrix, InputError> {
    let mut rows: BTreeMap<Key<'_>, &Line<Meeting>> = BTreeMap::new();
    let mut names: Vec<&str> = Vec::new();
    let mut mixing: BTreeSet<&str> = BTreeSet::new();
    for line in &table.lines {
        let row = &line.row;
        let (a, b) = (row.initiator.as_str(), row.responder.as_str());
        if let Some(problem) = contradiction(row) {
            return Err(table.error_at(line.number, problem));
        }
        if let Some(first) = rows.insert((row.method, row.policy, a, b), line) {
            let problem = format!("the same pair, method and policy as line {}", first.number);
            return Err(table.error_at(line.number, problem));
        }
        for name in [a, b] {
            if !names.contains(&name) {
                names.push(name);
            }
            if a != b {
                mixing.insert(name);
            }
        }
    }
    let (mixed, alone): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| mixing.contains(name));
    if mixed.is_empty() {
        return Err(table.error("no kind of site meets another: there is no grid to draw"));
    }
    let mut pairs: Vec<(&str, &str)> = mixed.iter().flat_map(|a| mixed.iter().map(|b| (*a, *b))).collect();
    pairs.extend(alone.iter().map(|name| (*name, *name)));
    let row = |(method, policy, a, b): Key<'_>| {
        let line = rows.get(&(method, policy, a, b)).ok_or_else(|| {
            let (method, policy) = (method.name().to_lowercase(), policy.name());
            table.error(format!("there is no row {a} to {b} of the {method} method and the {policy} policy"))
        })?;
        Ok(&line.row)
    };
    let mut panels = Vec::new();
    for (method, policy) in Method::ALL.into_iter().flat_map(|method| Policy::ALL.map(|policy| (method, policy))) {
        let mut cells = Cells::new();
        for (a, b) in &pairs {
            let (here, best) = (row((method, policy, a, b))?, row((method, Policy::Optimal, a, b))?);
            let cell = Cell { fate: fate(here, best), setup_ms: here.setup_ms };
            cells.insert(((*a).to_owned(), (*b).to_owned()), cell);
        }
        panels.push((method, policy, cells));
    }
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    Ok(Matrix { mixed: owned(mixed), alone: owned(alone), panels })
}

/// The field of a row that contradicts the others, if there is one.
fn contradiction(row: &Meeting) -> Option<&'static str> {
    let through = row.path != Course::None;
    let told = [row.pattern.is_some(), row.dialer.is_some(), row.setup_ms.is_some(), row.settled_ms.is_some()];
    if row.initiator.is_empty() || row.responder.is_empty() {
        Some("a kind of site has no name")
    } else if through != (row.echo_received > 0) {
        Some("there is a path exactly if echoes came back, and here one is without the other")
    } else if row.echo_received > row.echo_sent {
        Some("more echoes came back than were sent")
    } else if told.contains(&!through) {
        Some("pattern, dialer and times are there exactly if there is a path")
    } else if through && (row.path == Course::Relayed) != (row.pattern == Some(Pattern::Relayed)) {
        Some("pattern 3 is the relayed one, and the path says otherwise")
    } else if row.settled_ms < row.setup_ms {
        Some("the last tunnel came before the first")
    } else if row.path == Course::Direct && row.oracle == Oracle::Relay {
        Some("packets went directly, and the oracle sees no direct path")
    } else if row.policy == Policy::Paper && row.verdict.is_some() {
        Some("the paper's policy gives no verdict, and here is one")
    } else {
        None
    }
}

/// The result of a pair, from its row and that of the optimal policy.
fn fate(row: &Meeting, optimal: &Meeting) -> Fate {
    match (row.path, row.dialer, row.oracle) {
        (Course::Direct, Some(Dialer::Responder), _) => Fate::ByResponder,
        (Course::Direct, ..) => Fate::ByInitiator,
        (Course::Relayed, _, Oracle::Relay) => Fate::Relayed,
        (Course::Relayed, _, Oracle::Direct) => Fate::Needless,
        (Course::None, ..) if optimal.path == Course::None => Fate::NoLogin,
        (Course::None, ..) => Fate::Stranded,
    }
}

fn caption(table: &Table<Meeting>) -> String {
    let tunnels = || table.lines.iter().map(|line| &line.row).filter(|row| row.path != Course::None);
    let all = tunnels().count();
    let lossy = tunnels().filter(|row| row.echo_received < row.echo_sent).count();
    let echoes = match lossy {
        0 => "every echo sent through it was answered".to_owned(),
        n => format!("every echo sent through it was answered in all but {n} of {all} cells"),
    };
    let later = match tunnels().filter(|row| row.settled_ms > row.setup_ms).count() {
        0 => String::new(),
        n => format!(" In {n} of {all} cells another tunnel replaced the first; the colour is that of the last."),
    };
    format!(
        "The path between every kind of site as initiator (rows) and every kind as responder (columns), under both \
         methods and both policies of choosing a path, simulated. Each link delays by 10 ms one way. The number is the \
         set-up time in ms, from the initiator’s first packet to its first tunnel. Where there is a tunnel, \
         {echoes}.{later} Whether a direct path exists follows from the rules of the networks in between alone. A pair \
         that is relayed although it has a direct path is relayed needlessly. A pair without a tunnel is stranded if the \
         optimal policy gives it one; otherwise a node cannot log in. Below each grid: kinds whose two nodes share a LAN \
         or a carrier, so that they meet no other kind. Source: results/sim/matrix.csv; the command cyphonic-lab matrix \
         explains every kind."
    )
}

/// The text of a panel: the number of its cells for each result.
fn counts(cells: &Cells) -> String {
    let count = |fates: &[Fate]| cells.values().filter(|cell| fates.contains(&cell.fate)).count();
    format!(
        "{} direct, {} relayed, {} needlessly relayed, {} stranded, {} cannot log in",
        count(&[Fate::ByInitiator, Fate::ByResponder]),
        count(&[Fate::Relayed]),
        count(&[Fate::Needless]),
        count(&[Fate::Stranded]),
        count(&[Fate::NoLogin]),
    )
}

/// Heights in points: the legend; a panel's headings; a row of cells; what is between a grid and the row below it, and
/// below that.
const LEGEND: f64 = 28.0;
const HEADINGS: f64 = 33.0;
const ROW: f64 = 11.0;
const BEFORE_ALONE: f64 = 5.0;
const AFTER: f64 = 10.0;
/// Widths in points: the word beside the rows; between two panels; a cell of a kind that meets only itself.
const WORD: f64 = 10.0;
const BETWEEN: f64 = 11.0;
const ALONE: f64 = 18.0;

/// How the page is divided, points.
#[derive(Clone, Copy, Debug)]
struct Page {
    /// The longest name of a kind that meets others.
    label: f64,
    /// The width of a grid.
    grid: f64,
}

impl Page {
    fn of(matrix: &Matrix) -> Self {
        let units = matrix.mixed.iter().map(|name| width(name, &text(SMALL))).max().unwrap_or(0);
        let label = f64::from(units) / f64::from(pt(1.0));
        let grid = (Width::Page.points() - WORD - label - 4.0 - BETWEEN) / 2.0 - 1.0;
        Self { label, grid }
    }

    fn panel_height(self, matrix: &Matrix) -> f64 {
        let alone = if matrix.alone.is_empty() { 0.0 } else { BEFORE_ALONE + ROW };
        HEADINGS + self.label + 4.0 + matrix.mixed.len() as f64 * ROW + alone + AFTER
    }

    /// The left edge of a grid.
    fn left(self, column: usize) -> f64 {
        WORD + self.label + 4.0 + column as f64 * (self.grid + BETWEEN)
    }
}

fn paint(sheet: &Sheet<'_>, page: &Page, matrix: &Matrix) -> Drawn {
    paint_legend(sheet)?;
    for ((index, letter), (method, policy, cells)) in ('a'..).enumerate().zip(&matrix.panels) {
        let (row, column) = (index / Policy::ALL.len(), index % Policy::ALL.len());
        let policy = match policy {
            Policy::Paper => "the paper’s policy",
            Policy::Optimal => "optimal policy",
        };
        let title = format!("({letter}) {} method, {policy}", method.name());
        paint_panel(sheet, page, (row, column), &title, matrix, cells)?;
    }
    Ok(())
}

fn paint_legend(sheet: &Sheet<'_>) -> Drawn {
    let style = at(&text(TEXT), HPos::Left, VPos::Center);
    for (index, fate) in Fate::ALL.into_iter().enumerate() {
        let (x, y) = (36.0 + (index / 2) as f64 * 165.0, 2.0 + (index % 2) as f64 * 12.0);
        let area = Area::new((pt(x), pt(y)), (pt(x + 14.0), pt(y + 9.0)));
        paint_lone_cell(sheet, area, &Cell { fate, setup_ms: None })?;
        write(sheet, fate.name(), &style, (area.right + pt(4.0), area.middle().1))?;
    }
    Ok(())
}

fn paint_panel(
    sheet: &Sheet<'_>,
    page: &Page,
    (row, column): (usize, usize),
    title: &str,
    matrix: &Matrix,
    cells: &Cells,
) -> Drawn {
    let (left, top) = (page.left(column), LEGEND + row as f64 * page.panel_height(matrix));
    let heading =
        |style, y, what: &str| write(sheet, what, &at(&style, HPos::Left, VPos::Top), (pt(left), pt(top + y)));
    heading(bold(TEXT + 1.0), 2.0, title)?;
    heading(text(SMALL + 0.5), 12.5, &counts(cells))?;
    let middle = pt(left + page.grid / 2.0);
    write(sheet, "Responder", &at(&text(TEXT), HPos::Center, VPos::Top), (middle, pt(top + 23.5)))?;

    let kinds = matrix.mixed.len() as f64;
    let (grid_top, cell) = (top + HEADINGS + page.label + 4.0, page.grid / kinds);
    let bottom = grid_top + kinds * ROW;
    let leftmost = column == 0;
    if leftmost {
        let upright = at(&text(TEXT), HPos::Center, VPos::Top).transform(FontTransform::Rotate270);
        write(sheet, "Initiator", &upright, (pt(1.0), pt(f64::midpoint(grid_top, bottom))))?;
    }
    for (row, a) in matrix.mixed.iter().enumerate() {
        let (x, y) = (left + (row as f64 + 0.5) * cell, grid_top + (row as f64 + 0.5) * ROW);
        let upright = at(&text(SMALL), HPos::Left, VPos::Center).transform(FontTransform::Rotate270);
        write(sheet, a, &upright, (pt(x), pt(grid_top - 2.5)))?;
        if leftmost {
            write(sheet, a, &at(&text(SMALL), HPos::Right, VPos::Center), (pt(left - 3.0), pt(y)))?;
        }
        for (column, b) in matrix.mixed.iter().enumerate() {
            let (x, y) = (left + column as f64 * cell, grid_top + row as f64 * ROW);
            let area = Area::new((pt(x), pt(y)), (pt(x + cell), pt(y + ROW)));
            paint_cell(sheet, area, &cells[&(a.clone(), b.clone())])?;
        }
    }
    frame(sheet, Area::new((pt(left), pt(grid_top)), (pt(left + page.grid), pt(bottom))), BLACK, 0.5)?;

    let share = page.grid / matrix.alone.len() as f64;
    for (index, name) in matrix.alone.iter().enumerate() {
        let (right, y) = (left + (index + 1) as f64 * share, bottom + BEFORE_ALONE);
        let area = Area::new((pt(right - ALONE), pt(y)), (pt(right), pt(y + ROW)));
        paint_lone_cell(sheet, area, &cells[&(name.clone(), name.clone())])?;
        let style = at(&text(SMALL), HPos::Right, VPos::Center);
        write(sheet, name, &style, (area.left - pt(3.0), area.middle().1))?;
    }
    Ok(())
}

/// A cell outside of a grid.
fn paint_lone_cell(sheet: &Sheet<'_>, area: Area, cell: &Cell) -> Drawn {
    paint_cell(sheet, area, cell)?;
    // Some cells have a frame as a part of their sign.
    if cell.fate == Fate::Needless { Ok(()) } else { frame(sheet, area, BLACK, 0.5) }
}

/// The colour, and the number or a sign that survives grey printing.
fn paint_cell(sheet: &Sheet<'_>, area: Area, cell: &Cell) -> Drawn {
    let Area { left, top, right, bottom } = area;
    let (middle_x, middle_y) = area.middle();
    let (fate, ink) = (cell.fate, cell.fate.ink());
    let inset =
        |by: f64| Area { left: left + pt(by), top: top + pt(by), right: right - pt(by), bottom: bottom - pt(by) };
    let inner = inset(0.3);
    let corners = [(inner.left, inner.top), (inner.right, inner.bottom)];
    sheet.draw(&Rectangle::new(corners, fate.color().filled()))?;
    hatch(sheet, inner, Fill { pitch: 2, ..Fill::new(fate.color(), fate.hatch(), RGBColor(70, 70, 70)) })?;
    match fate {
        Fate::Stranded => {
            let reach = pt(2.6);
            for reach_y in [reach, -reach] {
                let ends = [(middle_x - reach, middle_y - reach_y), (middle_x + reach, middle_y + reach_y)];
                polyline(sheet, &ends, ink, 1.2)?;
            }
        }
        Fate::NoLogin => {
            let grey = RGBColor(150, 150, 150);
            polyline(sheet, &[(middle_x - pt(1.8), middle_y), (middle_x + pt(1.8), middle_y)], grey, 0.7)?;
        }
        Fate::Needless => frame(sheet, inset(0.55), BLACK, 0.6)?,
        Fate::ByInitiator | Fate::ByResponder | Fate::Relayed => {}
    }
    let Some(ms) = cell.setup_ms else { return Ok(()) };
    let number = format!("{ms:.0}");
    // Numbers of four digits and more are as large as fits.
    let room = f64::from(right - left - pt(1.6)) / f64::from(width(&number, &text(SMALL)));
    let style = text(SMALL * room.min(1.0)).color(&ink);
    if fate.hatch() != Hatch::Plain {
        return plated(sheet, &number, &style, (middle_x, middle_y), SMALL * room.min(1.0));
    }
    write(sheet, &number, &at(&style, HPos::Center, VPos::Center), (middle_x, middle_y))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Verdict;

    /// Lightness of a grey print, 0 to 255 (ITU-R BT.709).
    fn grey(color: RGBColor) -> f64 {
        0.2126 * f64::from(color.0) + 0.7152 * f64::from(color.1) + 0.0722 * f64::from(color.2)
    }

    #[test]
    fn a_grey_print_tells_every_result_from_every_other() {
        for (index, a) in Fate::ALL.into_iter().enumerate() {
            for b in &Fate::ALL[index + 1..] {
                let has_sign = |fate| [Fate::Stranded, Fate::NoLogin].contains(&fate);
                let differ = (grey(a.color()) - grey(b.color())).abs() > 40.0
                    || a.hatch() != b.hatch()
                    || has_sign(a) != has_sign(*b);
                assert!(differ, "{a:?} and {b:?} look the same in grey");
            }
        }
    }

    fn direct() -> Meeting {
        Meeting {
            initiator: "public".into(),
            responder: "nat".into(),
            method: Method::Proposed,
            policy: Policy::Paper,
            pattern: Some(Pattern::OneNat),
            dialer: Some(Dialer::Responder),
            path: Course::Direct,
            setup_ms: Some(100.0),
            settled_ms: Some(100.0),
            echo_sent: 8,
            echo_received: 7,
            oracle: Oracle::Direct,
            verdict: None,
        }
    }

    fn relayed(oracle: Oracle) -> Meeting {
        let dialer = Some(Dialer::Initiator);
        Meeting { pattern: Some(Pattern::Relayed), path: Course::Relayed, dialer, oracle, ..direct() }
    }

    fn apart() -> Meeting {
        let nothing = Meeting { pattern: None, dialer: None, setup_ms: None, settled_ms: None, ..direct() };
        Meeting { path: Course::None, echo_received: 0, ..nothing }
    }

    #[test]
    fn a_fate_is_told_from_path_dialer_oracle_and_the_optimal_policy() {
        let by_initiator = Meeting { dialer: Some(Dialer::Initiator), ..direct() };
        let cases = [
            (by_initiator, direct(), Fate::ByInitiator),
            (direct(), apart(), Fate::ByResponder),
            (relayed(Oracle::Relay), direct(), Fate::Relayed),
            (relayed(Oracle::Direct), direct(), Fate::Needless),
            (apart(), direct(), Fate::Stranded),
            (apart(), relayed(Oracle::Relay), Fate::Stranded),
            (apart(), apart(), Fate::NoLogin),
        ];
        for (row, optimal, expected) in cases {
            assert_eq!(fate(&row, &optimal), expected, "{row:?} {optimal:?}");
        }
    }

    #[test]
    fn a_row_that_can_be_true_is_taken() {
        for row in [direct(), relayed(Oracle::Direct), relayed(Oracle::Relay), apart()] {
            assert_eq!(contradiction(&row), None, "{row:?}");
        }
    }

    #[test]
    fn every_contradiction_within_a_row_is_found() {
        let cases = [
            (Meeting { responder: String::new(), ..direct() }, "a kind of site has no name"),
            (Meeting { echo_received: 0, ..direct() }, "one is without the other"),
            (Meeting { echo_received: 1, ..apart() }, "one is without the other"),
            (Meeting { echo_received: 9, ..direct() }, "more echoes came back"),
            (Meeting { dialer: None, ..direct() }, "exactly if there is a path"),
            (Meeting { setup_ms: Some(1.0), ..apart() }, "exactly if there is a path"),
            (Meeting { pattern: Some(Pattern::Relayed), ..direct() }, "pattern 3 is the relayed one"),
            (Meeting { pattern: Some(Pattern::Direct), ..relayed(Oracle::Relay) }, "pattern 3 is the relayed one"),
            (Meeting { settled_ms: Some(99.0), ..direct() }, "came before the first"),
            (Meeting { oracle: Oracle::Relay, ..direct() }, "the oracle sees no direct path"),
            (Meeting { verdict: Some(Verdict::No), ..direct() }, "gives no verdict"),
        ];
        for (row, expected) in cases {
            let found = contradiction(&row).unwrap_or("nothing");
            assert!(found.contains(expected), "{found:?} for {row:?}");
        }
    }

    #[test]
    fn every_cell_is_counted_once() {
        let cell = |index: usize, fate| ((index.to_string(), String::new()), Cell { fate, setup_ms: None });
        let cells: Cells = Fate::ALL.into_iter().enumerate().map(|(index, fate)| cell(index, fate)).collect();
        assert_eq!(counts(&cells), "2 direct, 1 relayed, 1 needlessly relayed, 1 stranded, 1 cannot log in");
    }

    #[test]
    fn no_two_fates_look_alike() {
        for (index, one) in Fate::ALL.into_iter().enumerate() {
            for other in &Fate::ALL[index + 1..] {
                assert!(one.color() != other.color() && one.name() != other.name(), "{one:?} {other:?}");
            }
        }
    }
}
