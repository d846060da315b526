//! The parts that all tables share: grids, and the names of columns and sites.

use comfy_table::{CellAlignment, ContentArrangement, Table as Grid, TableComponent, presets};
use cyphonic_scenarios::{Line, Table};

/// The framings of every experiment, with the heading of each: the conventional method, the proposed one as in the
/// paper (Fig. 12), and the proposed one with our own framing.
pub(super) const COLUMNS: [(&str, &str); 3] =
    [("udp4501", "conventional"), ("stream", "proposed"), ("compact", "ours")];

/// The meaning of [`COLUMNS`], printed under the tables that have them.
pub(super) const LEGEND: &str = "conventional: udp4501; proposed: as in the paper, on a QUIC stream (Fig. 12), with NewReno; ours: compact, in QUIC \
                      DATAGRAM\nframes without the CYPHONIC header, without congestion control of QUIC's own.";

/// The width of the output in characters: `COLUMNS` of the environment, or the terminal's. None without a terminal.
pub(super) fn width() -> Option<u16> {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|&columns| columns > 0);
    said.or_else(|| terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| width.0))
}

/// Breaks a list into lines of the output's width.
pub(super) fn wrapped(begin: &str, list: &[String]) -> String {
    let most = width().map_or(usize::MAX, usize::from);
    let (mut text, mut line) = (String::new(), begin.to_owned());
    for (at, item) in list.iter().enumerate() {
        let item = format!("{item}{}", if at + 1 < list.len() { ", " } else { "" });
        if line.len() + item.trim_end().len() > most && !line.trim().is_empty() {
            text = text + line.trim_end() + "\n";
            "  ".clone_into(&mut line);
        }
        line += &item;
    }
    text + line.trim_end()
}

/// The width of a grid without wrapping. Each cell has a space on both sides.
pub(super) fn natural_width(header: &[&str], rows: &[Vec<String>]) -> usize {
    let of = |at: usize| rows.iter().map(|row| row[at].chars().count()).chain([header[at].chars().count()]).max();
    (0..header.len()).filter_map(of).map(|cell| cell + 2).sum()
}

/// A grid whose first `text` columns are left-aligned, the others right-aligned.
pub(in crate::lab) fn grid(header: &[&str], text: usize, rows: Vec<Vec<String>>) -> Grid {
    let mut grid = Grid::new();
    grid.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(width) = width() {
        grid.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    grid.set_style(TableComponent::HeaderLines, '─').set_style(TableComponent::MiddleHeaderIntersections, '─');
    grid.set_header(header);
    for row in rows {
        grid.add_row(row);
    }
    for (index, column) in grid.column_iter_mut().enumerate() {
        if index >= text {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    grid
}

pub(super) fn label<'a>(table: &'a Table, line: &'a Line, column: &str) -> &'a str {
    table.columns.iter().position(|c| c == column).map_or("", |index| line.labels[index].as_str())
}

/// The place of a framing in [`COLUMNS`]. A framing that is not listed comes last.
pub(super) fn place(framing: &str) -> usize {
    COLUMNS.iter().position(|(name, _)| *name == framing).unwrap_or(COLUMNS.len())
}

/// The heading of a framing.
pub(super) fn heading(framing: &str) -> &str {
    COLUMNS.iter().find(|(name, _)| *name == framing).map_or(framing, |(_, heading)| heading)
}

/// The paper's word for a kind of site.
pub(super) fn location(kind: &str) -> &str {
    match kind {
        "ipv6" => "IPv6",
        "ipv4-global" => "IPv4-G",
        "ipv4-private" => "IPv4-P",
        other => other,
    }
}
