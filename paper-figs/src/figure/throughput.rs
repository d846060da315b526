//! The goodput of a TCP transfer, by path, framing and congestion control.

use std::collections::BTreeMap;
use std::path::Path;

use cyphonic_statistics::Summary;

use super::strips::{Scale, Strip, fill_of, height, paint};
use crate::input::{InputError, Origin, read};
use crate::render::{Drawing, Width};
use crate::rows::{Framing, Transfer};

/// Microseconds of delay, and loss in millionths: numbers with an order.
type Course = (u64, u64);

pub(super) fn prepare(results: &Path) -> Result<Drawing, InputError> {
    let table = read::<Transfer>(results, Origin::Simulator, "throughput")?;
    let mut cells: BTreeMap<(Course, String, Framing, String), Vec<f64>> = BTreeMap::new();
    for line in &table.lines {
        let row = &line.row;
        let course = ((row.link_delay_ms * 1e3).round() as u64, (row.link_loss * 1e6).round() as u64);
        let key = (course, line.cell.clone(), row.framing, row.congestion.clone());
        // A transfer that did not end has no goodput.
        let rate = row.tcp_ms.filter(|ms| *ms > 0.0).map_or(0.0, |ms| row.tcp_bytes * 8e-3 / ms);
        cells.entry(key).or_default().push(rate);
    }
    let mut strips: Vec<Strip> = Vec::new();
    let mut before = None;
    for (((delay, loss), cell, framing, congestion), rates) in cells {
        let Some(summary) = Summary::of(&rates) else { continue };
        let mut course = format!("RTT {} ms, loss {} % a link", 4.0 * delay as f64 / 1e3, loss as f64 / 1e4);
        if !cell.is_empty() {
            course = format!("{course}, {cell}");
        }
        let group = if before.replace(course.clone()).as_ref() == Some(&course) { String::new() } else { course };
        let name = match framing {
            Framing::Udp4501 => framing.title().to_owned(),
            _ => format!("{}, {congestion}", framing.title()),
        };
        strips.push(Strip { group, name, fill: fill_of(framing), summary });
    }
    Ok(Drawing {
        title: "Goodput of a TCP transfer".into(),
        caption: "Goodput of a TCP transfer of 2 MB through a direct tunnel, over links of 15 Mbit/s. Box = quartiles and \
                  median, whiskers = minimum and maximum, diamond = mean, over seeds. After the framing: the congestion \
                  control of the outer QUIC connection. The TCP inside is the simulator’s (Reno, without SACK), so compare \
                  framings, not a kernel’s numbers. The paper’s reference [10] reports 11.16 Mbit/s with 15 Mbit/s."
            .into(),
        has_caption: true,
        width: Width::Column,
        height: height(&strips),
        paint: Box::new(move |sheet| paint(sheet, &strips, "Goodput (Mbit/s)", Scale::Linear)),
    })
}
