//! Throughput: a TCP transfer over round-trip time × loss × framing × congestion control.

use cyphonic_scenarios::{Engine, first_cell};
use cyphonic_statistics::{quantile, sorted};

use super::{Finding, Property, SEED};
use crate::error::LabError;
use crate::lab::batch;
use crate::run::run;
use crate::world::Watch;

/// The last seed; the first is [`SEED`].
pub(super) const SEEDS: u64 = 3;
/// Bytes of a transfer.
const BYTES: u64 = 1_000_000;
/// Rate of both access links, Mbit/s.
const RATE: u64 = 10;
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

fn text(framing: &str, congestion: &str, delay: u64, loss: &str) -> String {
    let congestion = if framing == "udp4501" { String::new() } else { format!("congestion = \"{congestion}\"") };
    let site = |name| {
        format!(
            "[[site]]\nname = \"{name}\"\nkind = \"ipv4-global\"\nlink = {{ delay_ms = {delay}, loss = {loss}, rate_mbps = {RATE} }}\n"
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

pub(super) fn texts() -> String {
    let mut all = String::new();
    for (_, framing, congestion, _) in WAYS {
        for delay in DELAYS {
            for loss in LOSSES {
                all += &text(framing, congestion, delay, loss);
            }
        }
    }
    all
}

/// Median over seeds, Mbit/s; `None` if a transfer did not arrive.
fn median(framing: &str, congestion: &str, delay: u64, loss: &str) -> Result<Option<f64>, LabError> {
    let scenario = first_cell("table2", &text(framing, congestion, delay, loss))?;
    let mut rates = Vec::new();
    for seed in SEED..=SEEDS {
        let run = run(&scenario, seed, Engine::Events, &Watch::default());
        let took = run.reports().find_map(|(_, report)| {
            let transfer = report.transfer().filter(|transfer| transfer.ok())?;
            let first = report.resolution.as_ref().and_then(|r| r.finished).unwrap_or(report.started);
            Some((transfer.completed? - first).as_secs_f64())
        });
        let Some(took) = took else { return Ok(None) };
        rates.push(BYTES as f64 * 8.0 / 1e6 / took);
    }
    Ok(quantile(&sorted(&rates), 0.5))
}

pub(super) fn findings() -> Result<Vec<Finding>, LabError> {
    let mut cells = Vec::new();
    for delay in DELAYS {
        for loss in LOSSES {
            cells.extend(WAYS.map(|way| (way, delay, loss)));
        }
    }
    let medians = batch::each("table2", &cells, |&((_, framing, congestion, _), delay, loss)| {
        median(framing, congestion, delay, loss)
    });
    let mut measured = Vec::new();
    for (cell, median) in cells.into_iter().zip(medians) {
        measured.push((cell, median?.unwrap_or(0.0)));
    }
    let mut findings = Vec::new();
    for &(((method, framing, congestion, counts), delay, loss), rate) in &measured {
        // The conventional method is the reference.
        let reference = measured.iter().find(|((way, d, l), _)| way.1 == REFERENCE && (*d, *l) == (delay, loss));
        let reference = reference.map_or(0.0, |(_, rate)| *rate);
        let percent = 100.0 * loss.parse::<f64>().unwrap_or(0.0);
        findings.push(Finding {
            property: Property::Throughput,
            method,
            case: format!(
                "{framing}; congestion {congestion}; RTT {} ms; loss {percent} % each way of each link",
                4 * delay
            ),
            counts,
            holds: rate > 0.0 && rate >= EQUAL * reference,
            value: format!("{rate:.2} Mbit/s of {RATE}; conventional {reference:.2}"),
        });
    }
    Ok(findings)
}
