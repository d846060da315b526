//! What it costs where UDP is blocked: goodput and round trips by UDP, by TCP port 443, and through an HTTP proxy.

use std::collections::BTreeMap;
use std::path::Path;

use cyphonic_statistics::Summary;

use super::strips::{Scale, Strip, fill_of, height, paint};
use crate::input::{InputError, Origin, read};
use crate::render::{Drawing, Width};
use crate::rows::{BlockedEcho, BlockedTransfer, Framing};
use crate::sheet::Fill;

/// Microseconds of a link's delay, loss in millionths, other swept keys, and the way.
type Key = (u64, u64, String, Way);

/// How the services and the relay are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Udp,
    Tcp443,
    Proxy,
}

impl Way {
    /// By the mode of the firewall.
    fn of(mode: &str) -> Option<Self> {
        match mode {
            "stateful" => Some(Self::Udp),
            "only-tcp-443" => Some(Self::Tcp443),
            "web-proxy" => Some(Self::Proxy),
            _ => None,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp443 => "TCP 443",
            Self::Proxy => "TCP, HTTP proxy",
        }
    }

    /// The fills of three framings: they differ in lightness and in hatch.
    const fn fill(self) -> Fill {
        fill_of(match self {
            Self::Udp => Framing::Udp4501,
            Self::Tcp443 => Framing::Stream,
            Self::Proxy => Framing::Compact,
        })
    }
}

fn key(delay_ms: f64, loss: f64, cell: &str, mode: &str) -> Option<Key> {
    Some(((delay_ms * 1e3).round() as u64, (loss * 1e6).round() as u64, cell.to_owned(), Way::of(mode)?))
}

/// One box for each way of each path.
fn strips(samples: BTreeMap<Key, Vec<f64>>) -> Vec<Strip> {
    let mut before = None;
    let strip = |((delay, loss, cell, way), sample): (Key, Vec<f64>)| {
        let summary = Summary::of(&sample)?;
        let mut course = format!("RTT {} ms, loss {} %", 8.0 * delay as f64 / 1e3, loss as f64 / 1e4);
        if !cell.is_empty() {
            course = format!("{course}, {cell}");
        }
        let group = if before.replace(course.clone()).as_ref() == Some(&course) { String::new() } else { course };
        Some(Strip { group, name: way.title().to_owned(), fill: way.fill(), summary })
    };
    samples.into_iter().filter_map(strip).collect()
}

pub(super) fn prepare_goodput(results: &Path) -> Result<Drawing, InputError> {
    let table = read::<BlockedTransfer>(results, Origin::Simulator, "blocked")?;
    let mut samples: BTreeMap<Key, Vec<f64>> = BTreeMap::new();
    for line in &table.lines {
        let row = &line.row;
        // A transfer that did not end has no goodput.
        let rate = row.tcp_ms.filter(|ms| *ms > 0.0).map_or(0.0, |ms| row.tcp_bytes * 8.0 / ms);
        if let Some(key) = key(row.link_delay_ms, row.a_loss, &line.cell, &row.a_mode) {
            samples.entry(key).or_default().push(rate);
        }
    }
    let strips = strips(samples);
    Ok(Drawing {
        title: "Goodput where UDP is blocked".into(),
        caption: "Goodput of a TCP transfer of 1 MB through the relay, over links of 15 Mbit/s: by UDP, by UDP proxied in \
                  HTTP over TCP port 443, and by the same through an HTTP proxy, whose way makes the round trip half as \
                  long again. Loss is that of the node’s own link, in each direction; full queues drop packets, too. \
                  Box = quartiles and median, whiskers = minimum and maximum, diamond = mean, over seeds. Both TCPs, \
                  the inner one and the outer one, are the simulator’s (Reno, without SACK, retransmission timeout of \
                  1 s at least), so compare ways, not a kernel’s numbers."
            .into(),
        has_caption: true,
        width: Width::Column,
        height: height(&strips),
        paint: Box::new(move |sheet| paint(sheet, &strips, "Goodput (kbit/s)", Scale::Log)),
    })
}

pub(super) fn prepare_rtt(results: &Path) -> Result<Drawing, InputError> {
    let table = read::<BlockedEcho>(results, Origin::Simulator, "blocked-rtt")?;
    let mut samples: BTreeMap<Key, Vec<f64>> = BTreeMap::new();
    let (mut lost, mut sent) = ([0; 3], [0; 3]);
    for line in &table.lines {
        let row = &line.row;
        let Some(key) = key(row.link_delay_ms, row.a_loss, &line.cell, &row.a_mode) else { continue };
        sent[key.3 as usize] += 1;
        match row.rtt_ms {
            Some(rtt) => samples.entry(key).or_default().push(rtt),
            None => lost[key.3 as usize] += 1,
        }
    }
    let strips = strips(samples);
    let share = |way: Way| format!("{} {} of {}", way.title(), lost[way as usize], sent[way as usize]);
    let shares = [Way::Udp, Way::Tcp443, Way::Proxy].map(share).join(", ");
    Ok(Drawing {
        title: "Round trips where UDP is blocked".into(),
        caption: format!(
            "Round-trip times of echoes, one in 100 ms, through the relay: by UDP, by UDP proxied in HTTP over TCP port 443, \
             and by the same through an HTTP proxy, whose way makes the round trip half as long again. Loss is that of \
             the node’s own link, in each direction. \
             Behind a lost segment of TCP all later ones wait. Box = quartiles and median, whiskers = minimum and maximum, \
             diamond = mean, over answered echoes. Lost: {shares}. The outer TCP is the simulator’s (Reno, without SACK, \
             retransmission timeout of 1 s at least)."
        ),
        has_caption: true,
        width: Width::Column,
        height: height(&strips),
        paint: Box::new(move |sheet| paint(sheet, &strips, "Round-trip time (ms)", Scale::Log)),
    })
}
