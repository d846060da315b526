//! Our node beside other tunnels on one machine.

use std::collections::BTreeMap;
use std::path::Path;

use cyphonic_statistics::Summary;
use plotters::style::{BLACK, WHITE};

use super::strips::{Scale, Strip, fill_of, height, paint};
use super::style::GREY;
use crate::input::{InputError, Origin, read};
use crate::render::{Drawing, Width};
use crate::rows::{Bench, Framing};
use crate::sheet::{Fill, Hatch};

/// The peer that is no tunnel.
const NONE: &str = "none";

/// What one figure shows of each row.
struct Shown {
    title: &'static str,
    /// The beginning of the caption.
    what: &'static str,
    axis: &'static str,
    /// Whether more is better, and so comes first.
    is_more_better: bool,
    value: fn(&Bench) -> Option<f64>,
}

pub(super) fn prepare_tcp(results: &Path) -> Result<Drawing, InputError> {
    draw(
        results,
        &Shown {
            title: "TCP through tunnels",
            what: "Throughput of TCP through a tunnel, as a share of the throughput without it, which was measured just before.",
            axis: "Share of the throughput without a tunnel (%)",
            is_more_better: true,
            value: |row| {
                let is_tunnel = row.peer != NONE && row.bare_tcp_mbps > 0.0;
                is_tunnel.then(|| 100.0 * row.tcp_mbps / row.bare_tcp_mbps)
            },
        },
    )
}

pub(super) fn prepare_cost(results: &Path) -> Result<Drawing, InputError> {
    draw(
        results,
        &Shown {
            title: "Processor time of tunnels",
            what: "Processor time of a tunnel’s processes at both ends for each gigabyte of TCP.",
            axis: "Processor time for a gigabyte (s)",
            is_more_better: false,
            value: |row| row.cpu_s_per_gb,
        },
    )
}

pub(super) fn prepare_rtt(results: &Path) -> Result<Drawing, InputError> {
    draw(
        results,
        &Shown {
            title: "Round-trip time of tunnels",
            what: "Median of 100 round-trip times, a ping every 20 ms.",
            axis: "Median round-trip time of a round (ms)",
            is_more_better: false,
            value: |row| Some(row.ping_median_ms),
        },
    )
}

fn draw(results: &Path, shown: &Shown) -> Result<Drawing, InputError> {
    let table = read::<Bench>(results, Origin::Real, "bench")?;
    let mut peers: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    // Runs are named by their time.
    let last = table.lines.iter().map(|line| line.row.run.as_str()).max().unwrap_or_default();
    for line in table.lines.iter().filter(|line| line.row.run == last) {
        let Some(value) = (shown.value)(&line.row) else { continue };
        let name =
            if line.cell.is_empty() { line.row.peer.clone() } else { format!("{}, {}", line.row.peer, line.cell) };
        peers.entry(name).or_default().push(value);
    }
    let mut strips: Vec<Strip> = peers
        .into_iter()
        .filter_map(|(peer, values)| {
            let summary = Summary::of(&values)?;
            let (name, fill) = label(&peer);
            Some(Strip { group: String::new(), name: format!("{name} (n = {})", values.len()), fill, summary })
        })
        .collect();
    if strips.is_empty() {
        return Err(table.error("no row has a value: there is nothing to draw"));
    }
    strips.sort_by(|a, b| {
        let order = a.summary.median.total_cmp(&b.summary.median);
        if shown.is_more_better { order.reverse() } else { order }
    });
    Ok(Drawing {
        title: shown.title.into(),
        caption: format!(
            "{} All tunnels take turns in n rounds on one machine, which both ends and the load generator share. Box = \
             quartiles and median, whiskers = minimum and maximum, diamond = mean. The last run, best first.",
            shown.what
        ),
        has_caption: true,
        width: Width::Column,
        height: height(&strips),
        paint: Box::new({
            let axis = shown.axis;
            move |sheet| paint(sheet, &strips, axis, Scale::Linear)
        }),
    })
}

/// The name and the fill of a peer: our framings as everywhere, others white.
fn label(peer: &str) -> (String, Fill) {
    let ours = Framing::SERIES.into_iter().find(|framing| peer.strip_prefix("cyphonic-") == Some(framing.name()));
    match ours {
        Some(framing) => (format!("CYPHONIC, {}", framing.name()), fill_of(framing)),
        None if peer == NONE => ("No tunnel".into(), GREY),
        None => (peer.into(), Fill::new(WHITE, Hatch::Plain, BLACK)),
    }
}
