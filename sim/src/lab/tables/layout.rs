//! What the tables have in common: grids, and how columns and sites are called.

use comfy_table::{CellAlignment, ContentArrangement, Table as Grid, TableComponent, presets};
use cyphonic_scenarios::{Line, Table};

/// The framings that every experiment runs, and what a heading calls them: the conventional method, the proposed one as
/// in the paper (Fig. 12), and the proposed one with our own framing.
pub(super) const COLUMNS: [(&str, &str); 3] =
    [("udp4501", "conventional"), ("stream", "proposed"), ("compact", "ours")];

/// What [`COLUMNS`] are, for people; under the tables that have them.
pub(super) const LEGEND: &str = "conventional: udp4501; proposed: as in the paper, on a QUIC stream (Fig. 12), with NewReno; ours: compact, in QUIC \
                      DATAGRAM\nframes without the CYPHONIC header, without congestion control of QUIC's own.";

/// A grid whose first `text` columns are left-aligned, the others right-aligned.
pub(in crate::lab) fn grid(header: &[&str], text: usize, rows: Vec<Vec<String>>) -> Grid {
    let mut grid = Grid::new();
    grid.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
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

/// Where a framing stands among [`COLUMNS`]; those that are not in it come last.
pub(super) fn place(framing: &str) -> usize {
    COLUMNS.iter().position(|(name, _)| *name == framing).unwrap_or(COLUMNS.len())
}

/// What a heading calls a framing.
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
