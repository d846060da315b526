//! Communication on visited networks: each kind of firewall, each signaling pattern, each policy.

use cyphonic_scenarios::{Engine, first_cell};

use super::{Finding, Property, SEED};
use crate::error::LabError;
use crate::host::apps::EchoReport;
use crate::lab::batch;
use crate::measure::last_tunnel;
use crate::run::run;
use crate::world::Watch;

/// The firewalls of visited networks: a name, and the words of `[site.firewall]`.
pub(super) const FIREWALLS: [(&str, &str); 6] = [
    ("no firewall", ""),
    ("stateful", "firewall = { mode = \"stateful\" }"),
    ("only port 443 out", "firewall = { mode = \"only-443\" }"),
    ("only TCP 443 out", "firewall = { mode = \"only-tcp-443\" }"),
    ("web and DNS out", "firewall = { mode = \"web\" }"),
    ("QUIC is dropped", "firewall = { mode = \"stateful\", inspect = [{ quic = true, reaction = \"drop\" }] }"),
];

/// Where the two nodes are: a name, the visitor's kind of site, the peer's, and whether the peer visits such a network
/// too.
const PLACES: [(&str, &str, &str, bool); 5] = [
    ("pattern 1", "ipv4-global", "ipv4-global", false),
    ("pattern 2 to a peer behind a NAT", "ipv4-global", "ipv4-private", false),
    ("pattern 2 from behind a NAT", "ipv4-private", "ipv4-global", false),
    ("pattern 3", "ipv4-private", "ipv4-private", false),
    ("both nodes visit", "ipv4-global", "ipv4-global", true),
];

/// The methods and policies: method, words of the scenario, a name, and whether it is the paper's own.
const WAYS: [(&str, &str, &str, bool); 4] = [
    ("conventional", "framing = \"udp4501\"\npolicy = \"paper\"", "policy paper", true),
    ("conventional", "framing = \"udp4501\"\npolicy = \"optimal\"", "policy optimal", false),
    ("proposed", "framing = \"stream\"\npolicy = \"paper\"\nrelay_mode = \"terminating\"", "policy paper", true),
    ("proposed", "framing = \"compact\"\npolicy = \"optimal\"", "policy optimal", false),
];

/// The scenario of one case.
fn text(way: &str, firewall: &str, (_, visitor, peer, both): (&str, &str, &str, bool)) -> String {
    let far = if both { firewall } else { "" };
    format!(
        r#"title = "A visited network"
about = "Alice visits a network with a firewall, and talks to Bob."
measure = "outcome"
engine = "events"
duration_limit_s = 60
{way}
link = {{ delay_ms = 10 }}

[[site]]
name = "visited"
kind = "{visitor}"
{firewall}

[[site]]
name = "peer"
kind = "{peer}"
{far}

[[node]]
name = "alice"
site = "visited"

[[node]]
name = "bob"
site = "peer"

[[step]]
do = "start"
give_up_s = 8

[[step]]
do = "echo"
from = "alice"
to = "bob"
count = 3
interval_ms = 500
"#
    )
}

/// How many of three echoes are answered, and the signaling pattern, in a visited network with this firewall (words of
/// `[site.firewall]` in a key `firewall`), under these settings.
///
/// # Errors
/// The words make no scenario.
pub fn passes(settings: &str, firewall: &str, visitor: &str, peer: &str) -> Result<(usize, Option<u8>), LabError> {
    outcome(&text(settings, firewall, ("", visitor, peer, false)))
}

fn outcome(text: &str) -> Result<(usize, Option<u8>), LabError> {
    let scenario = first_cell("table2", text)?;
    let run = run(&scenario, SEED, Engine::Events, &Watch::default());
    let answered = run.reports().filter_map(|(_, report)| report.echo()).map(EchoReport::answered).sum();
    let pair = run.reports().next().map(|(pair, _)| *pair);
    let pattern = pair.and_then(|pair| last_tunnel(&scenario, &run, pair)).map(|(pattern, _)| pattern.number());
    Ok((answered, pattern))
}

/// Every case: its finding, without a result, and its scenario.
fn cases() -> Vec<(Finding, String)> {
    let mut all = Vec::new();
    for (method, way, name, counts) in WAYS {
        for (kind, firewall) in FIREWALLS {
            for place in PLACES {
                let case = format!("{kind}; {}; {name}", place.0);
                let (property, value) = (Property::Visited, String::new());
                all.push((Finding { property, method, case, counts, holds: false, value }, text(way, firewall, place)));
            }
        }
    }
    all
}

pub(super) fn texts() -> String {
    cases().into_iter().map(|(_, text)| text).collect()
}

pub(super) fn findings() -> Result<Vec<Finding>, LabError> {
    let cases = cases();
    let outcomes = batch::each("table2", &cases, |(_, text)| outcome(text));
    let mut findings = Vec::new();
    for ((finding, _), outcome) in cases.into_iter().zip(outcomes) {
        let (answered, pattern) = outcome?;
        let pattern = pattern.map_or("no tunnel".to_owned(), |pattern| format!("pattern {pattern}"));
        let value = format!("{answered} of 3 echoes; {pattern}");
        findings.push(Finding { holds: answered == 3, value, ..finding });
    }
    Ok(findings)
}
