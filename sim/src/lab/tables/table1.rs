//! Table 1: the signaling pattern of each pair of networks.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cyphonic_core::route::{Dialer, Pattern};
use cyphonic_scenarios::rows::Outcome;
use cyphonic_scenarios::{Row, Table};

use super::layout::{COLUMNS, LEGEND, grid, label};
use super::paper;
use crate::error::LabError;

pub(super) fn print(text: &mut String, table: &Table) -> Result<(), LabError> {
    let mut ours: BTreeMap<(&str, &str, &str), &Outcome> = BTreeMap::new();
    for line in &table.lines {
        let Row::Outcome(outcome) = &line.row else { continue };
        let key = (label(table, line, "framing"), label(table, line, "a_kind"), label(table, line, "b_kind"));
        ours.insert(key, outcome);
    }
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for ((initiator, responder), number) in &paper::patterns() {
        let mut row = vec![initiator.clone(), responder.clone(), number.to_string()];
        for (framing, heading) in COLUMNS {
            let Some(outcome) = ours.get(&(framing, kind(initiator), kind(responder))) else { continue };
            let found = outcome.pattern.map(Pattern::number);
            let same = found == Some(*number);
            if !same || outcome.echo_sent != outcome.echo_received || !outcome.tcp_ok {
                wrong.push(format!("{initiator} to {responder}, {heading}"));
            }
            let found = found.map_or("none".to_owned(), |n| n.to_string());
            row.push(format!("{found} {}", if same { "same" } else { "DIFFERS" }));
            row.push(match outcome.dialer {
                Some(Dialer::Initiator) => "initiator".to_owned(),
                Some(Dialer::Responder) => "responder".to_owned(),
                None => "nobody".to_owned(),
            });
            let tcp = if outcome.tcp_ok { "ok" } else { "FAILED" };
            row.push(format!("{}/{} {tcp}", outcome.echo_received, outcome.echo_sent));
        }
        rows.push(row);
    }
    let mut header = vec!["initiator", "responder", "paper"];
    header.extend(COLUMNS.iter().flat_map(|(_, heading)| [heading, "dialer", "echo TCP"]));
    let _ = writeln!(
        text,
        "Table 1. Signaling pattern by the networks of both nodes (paper §2.2.2)\n{}",
        grid(&header, 2, rows)
    );
    let _ = writeln!(
        text,
        "{LEGEND}\nThe tunnel that both nodes built on the simulated network, scenario table1; dialer: who dialed; echo: replies of \
         requests;\nTCP: 1 MB, its hash checked by the receiver. Nothing here varies by seed but the TCP transfer's time in the CSV \
         file.\n"
    );
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(LabError::Failed(format!("Table 1 does not hold for: {}", wrong.join("; "))))
    }
}

/// The scenario's word for a word of the paper.
fn kind(location: &str) -> &str {
    match location {
        "IPv6" => "ipv6",
        "IPv4-G" => "ipv4-global",
        "IPv4-P" => "ipv4-private",
        other => other,
    }
}
