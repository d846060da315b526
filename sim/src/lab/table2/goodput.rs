//! Throughput: a TCP transfer over round-trip time × loss × rate × framing × congestion control.
//!
//! A framing is compared with the conventional method seed by seed. Without loss nothing is random, so one seed is
//! enough there.

use std::ops::RangeInclusive;

use cyphonic_scenarios::{Engine, first_cell};
use cyphonic_statistics::{quantile, sorted};

use super::{Finding, Property, SEED};
use crate::error::LabError;
use crate::lab::batch;
use crate::lab::statistics::bootstrap;
use crate::run::run;
use crate::world::Watch;

/// The last seed where packets are lost; the first is [`SEED`].
pub(super) const SEEDS: u64 = 30;
/// Bytes of a transfer.
const BYTES: u64 = 1_000_000;
/// Rate of both access links, Mbit/s.
const RATES: [u64; 2] = [10, 100];
/// One-way delay of an access link, milliseconds; a round trip is four times that.
const DELAYS: [u64; 2] = [5, 25];
/// Loss of an access link, in each direction.
const LOSSES: [&str; 2] = ["0.0", "0.01"];
/// The framing with which others are compared.
const REFERENCE: &str = "udp4501";
/// A share of its goodput that still counts as equal.
const EQUAL: f64 = 0.9;

/// Method, framing, congestion control, and whether it is as the paper has it.
const WAYS: [(&str, &str, &str, bool); 5] = [
    ("conventional", "udp4501", "none", true),
    ("proposed", "stream", "new-reno", true),
    ("proposed", "stream", "none", false),
    ("proposed", "compact", "none", false),
    ("proposed", "compact", "new-reno", false),
];

fn text(framing: &str, congestion: &str, course: Course) -> String {
    let Course { delay, loss, rate } = course;
    let congestion = if framing == "udp4501" { String::new() } else { format!("congestion = \"{congestion}\"") };
    let site = |name| {
        format!(
            "[[site]]\nname = \"{name}\"\nkind = \"ipv4-global\"\nlink = {{ delay_ms = {delay}, loss = {loss}, rate_mbps = {rate} }}\n"
        )
    };
    format!(
        r#"title = "Goodput"
about = "A TCP transfer through a direct tunnel."
measure = "outcome"
engine = "events"
duration_limit_s = 300
framing = "{framing}"
{congestion}

{}
{}
[[node]]
name = "alice"
site = "a"

[[node]]
name = "bob"
site = "b"

[[step]]
do = "start"

[[step]]
do = "tcp"
from = "alice"
to = "bob"
bytes = {BYTES}
"#,
        site("a"),
        site("b")
    )
}

/// A kind of path.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Course {
    delay: u64,
    loss: &'static str,
    rate: u64,
}

impl Course {
    fn all() -> Vec<Self> {
        let of = |rate| DELAYS.map(|delay| LOSSES.map(|loss| Self { delay, loss, rate }));
        RATES.map(of).into_iter().flatten().flatten().collect()
    }

    fn seeds(self) -> RangeInclusive<u64> {
        SEED..=if self.loss == LOSSES[0] { SEED } else { SEEDS }
    }
}

pub(super) fn texts() -> String {
    let of =
        |(_, framing, congestion, _)| Course::all().into_iter().map(move |course| text(framing, congestion, course));
    WAYS.into_iter().flat_map(of).collect()
}

/// Mbit/s; 0 if the transfer did not arrive.
fn rate(framing: &str, congestion: &str, course: Course, seed: u64) -> Result<f64, LabError> {
    let scenario = first_cell("table2", &text(framing, congestion, course))?;
    let run = run(&scenario, seed, Engine::Events, &Watch::default());
    let took = run.reports().find_map(|(_, report)| {
        let transfer = report.transfer().filter(|transfer| transfer.ok())?;
        let first = report.resolution.as_ref().and_then(|r| r.finished).unwrap_or(report.started);
        Some((transfer.completed? - first).as_secs_f64())
    });
    Ok(took.map_or(0.0, |took| BYTES as f64 * 8.0 / 1e6 / took))
}

pub(super) fn findings() -> Result<Vec<Finding>, LabError> {
    let mut cells = Vec::new();
    for course in Course::all() {
        for way in WAYS {
            cells.extend(course.seeds().map(|seed| (way, course, seed)));
        }
    }
    let rates = batch::each("table2", &cells, |&((_, framing, congestion, _), course, seed)| {
        rate(framing, congestion, course, seed)
    });
    let mut measured = Vec::new();
    for (cell, rate) in cells.into_iter().zip(rates) {
        measured.push((cell, rate?));
    }
    let of = |framing: &str, congestion: &str, course: Course| -> Vec<f64> {
        let mine = measured.iter().filter(|((way, at, _), _)| (way.1, way.2, *at) == (framing, congestion, course));
        mine.map(|(_, rate)| *rate).collect()
    };
    let median = |sample: &[f64]| quantile(&sorted(sample), 0.5).unwrap_or(0.0);
    let mut findings = Vec::new();
    for course in Course::all() {
        // The conventional method is the reference.
        let reference = of(REFERENCE, "none", course);
        for (method, framing, congestion, counts) in WAYS {
            let rates = of(framing, congestion, course);
            let ratios: Vec<f64> =
                rates.iter().zip(&reference).map(|(rate, reference)| rate / reference.max(f64::MIN_POSITIVE)).collect();
            let case = format!(
                "{framing}; congestion {congestion}; RTT {} ms; loss {} % each way of each link; {} Mbit/s",
                4 * course.delay,
                100.0 * course.loss.parse::<f64>().unwrap_or(0.0),
                course.rate
            );
            let bounds = bootstrap(&case, &ratios, median);
            let bounds =
                bounds.map_or(String::new(), |bounds| format!(" (95 %: {:.2} to {:.2})", bounds.low, bounds.high));
            findings.push(Finding {
                property: Property::Throughput,
                method,
                case,
                counts,
                holds: median(&ratios) >= EQUAL,
                value: format!(
                    "{:.2} Mbit/s; conventional {:.2}; ratio {:.2}{bounds}",
                    median(&rates),
                    median(&reference),
                    median(&ratios)
                ),
            });
        }
    }
    Ok(findings)
}
