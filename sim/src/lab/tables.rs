//! The paper's tables beside ours.

mod paper;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table as Grid, TableComponent, presets};
use cyphonic_core::route::Pattern;
use cyphonic_scenarios::rows::{Field, Millis, Outcome, Phase};
use cyphonic_scenarios::{Line, Row, Table};

use super::experiment::Done;
use crate::error::LabError;

/// Everything that `reproduce` prints. An experiment that came out otherwise than it must is an error.
pub fn report(all: &[Done]) -> Result<String, LabError> {
    let mut text = String::new();
    let table = |name: &str| all.iter().find(|done| done.plan.name == name).map(|done| &done.table);
    if let Some(table) = table("table1") {
        table1(&mut text, table)?;
    }
    if let Some(table) = table("table3") {
        table3(&mut text, table);
    }
    if let Some(table) = table("table4") {
        table4(&mut text, table);
    }
    if let Some(table) = table("setup") {
        setup(&mut text, table);
    }
    if let Some(table) = table("handover") {
        handover(&mut text, table)?;
    }
    Ok(text)
}

/// A grid whose first `text` columns are left-aligned, the others right-aligned.
pub(super) fn grid(header: &[&str], text: usize, rows: Vec<Vec<String>>) -> Grid {
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

/// Any rows as a grid: for `run`.
pub fn plain(table: &Table) -> String {
    let csv = table.to_csv();
    let text = String::from_utf8_lossy(&csv);
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let rows = lines.map(|line| line.split(',').map(str::to_owned).collect()).collect();
    grid(&header, table.columns.len(), rows).to_string()
}

fn label<'a>(table: &'a Table, line: &'a Line, column: &str) -> &'a str {
    table.columns.iter().position(|c| c == column).map_or("", |index| line.labels[index].as_str())
}

/// The paper's word for a kind of site.
fn location(kind: &str) -> &str {
    match kind {
        "ipv6" => "IPv6",
        "ipv4-global" => "IPv4-G",
        "ipv4-private" => "IPv4-P",
        other => other,
    }
}

fn table1(text: &mut String, table: &Table) -> Result<(), LabError> {
    let printed = paper::patterns();
    let mut ours: BTreeMap<(String, String), BTreeMap<String, Outcome>> = BTreeMap::new();
    for line in &table.lines {
        let Row::Outcome(outcome) = &line.row else { continue };
        let pair = (label(table, line, "a_kind").to_owned(), label(table, line, "b_kind").to_owned());
        ours.entry(pair).or_default().insert(label(table, line, "method").to_owned(), outcome.clone());
    }
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    for ((initiator, responder), number) in &printed {
        let key = (kind(initiator).to_owned(), kind(responder).to_owned());
        let Some(methods) = ours.get(&key) else { continue };
        let mut row = vec![initiator.clone(), responder.clone(), number.to_string()];
        for method in ["conventional", "proposed"] {
            let Some(outcome) = methods.get(method) else { continue };
            let found = outcome.pattern.map(Pattern::number);
            let through = outcome.echo_sent == outcome.echo_received && outcome.tcp_ok;
            if found != Some(*number) || !through {
                wrong.push(format!("{initiator} to {responder}, {method}"));
            }
            row.push(found.map_or("none".to_owned(), |n| n.to_string()));
            row.push(if found == Some(*number) { "same" } else { "DIFFERS" }.to_owned());
            row.push(match outcome.dialer {
                Some(cyphonic_core::route::Dialer::Initiator) => "initiator".to_owned(),
                Some(cyphonic_core::route::Dialer::Responder) => "responder".to_owned(),
                None => "nobody".to_owned(),
            });
            row.push(format!("{}/{}", outcome.echo_received, outcome.echo_sent));
            row.push(if outcome.tcp_ok { "1 MB ok" } else { "FAILED" }.to_owned());
        }
        rows.push(row);
    }
    let header =
        ["initiator", "responder", "paper", "conv.", "", "dialer", "echo", "TCP", "prop.", "", "dialer", "echo", "TCP"];
    let _ = writeln!(
        text,
        "Table 1. Signaling pattern by the networks of both nodes (paper §2.2.2)\n{}",
        grid(&header, 2, rows)
    );
    let _ = writeln!(
        text,
        "Ours: the tunnel that both nodes built on the simulated network, scenario table1; TCP: hash checked by the receiver.\n"
    );
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(LabError::Failed(format!("Table 1 does not hold for: {}", wrong.join("; "))))
    }
}

/// The scenario's word for the paper's.
fn kind(location: &str) -> &str {
    match location {
        "IPv6" => "ipv6",
        "IPv4-G" => "ipv4-global",
        "IPv4-P" => "ipv4-private",
        other => other,
    }
}

fn table3(text: &mut String, table: &Table) {
    let printed = paper::sizes();
    let mut ours: BTreeMap<(String, Field), i64> = BTreeMap::new();
    for line in &table.lines {
        if let Row::Composition(c) = &line.row {
            ours.insert((label(table, line, "framing").to_owned(), c.field), i64::from(c.bytes));
        }
    }
    let of = |framing: &str, fields: &[Field]| -> i64 {
        fields.iter().filter_map(|field| ours.get(&(framing.to_owned(), *field))).sum()
    };
    let quic = [Field::QuicShortHeader, Field::QuicFrameHeader, Field::QuicTag];
    let lines: [(&str, &str, &[Field]); 11] = [
        ("Real IPv6 Header", "real_ipv6_header", &[Field::RealIpHeader]),
        ("UDP Header", "udp_header", &[Field::UdpHeader]),
        ("QUIC Header", "quic_header", &quic),
        ("  short header", "", &[Field::QuicShortHeader]),
        ("  frame header", "", &[Field::QuicFrameHeader]),
        ("  AEAD tag", "", &[Field::QuicTag]),
        ("CYPHONIC Header", "cyphonic_header", &[Field::CyphonicHeader]),
        ("Virtual IPv6 Header", "virtual_ipv6_header", &[Field::VirtualIpHeader]),
        ("IP Payload", "ip_payload", &[Field::IpPayload]),
        ("HMAC", "hmac", &[Field::Hmac]),
        ("Sum", "sum", &[Field::Total]),
    ];
    let mut rows = Vec::new();
    for (name, key, fields) in lines {
        let paper = |method: usize| printed.get(key).map(|sizes| sizes[method]);
        let mut row = vec![name.to_owned(), bytes(paper(0))];
        let conventional = of("udp4501", fields);
        row.push(bytes(Some(conventional)));
        row.push(difference(paper(0), conventional));
        row.push(bytes(paper(1)));
        for framing in ["stream", "datagram", "compact"] {
            let size = of(framing, fields);
            row.push(bytes(Some(size)));
            row.push(difference(paper(1), size));
        }
        rows.push(row);
    }
    let header = [
        "bytes",
        "paper conv.",
        "udp4501",
        "diff",
        "paper prop.",
        "stream",
        "diff",
        "datagram",
        "diff",
        "compact",
        "diff",
    ];
    let _ = writeln!(
        text,
        "Table 3. What the largest packet is made of, 1,500-byte links, IPv6 (paper §4.3)\n{}",
        grid(&header, 1, rows)
    );
    let least = of("stream", &quic);
    let _ = writeln!(
        text,
        "Ours: the largest inner packet that crossed in one packet of the underlay, found by probing (scenario table3), taken\n\
         apart on the wire with the session's secrets; each column sums to what was on the wire.\n\
         The paper's QUIC header of 20 bytes cannot be met: the AEAD tag alone has 16, a short header with the 8-byte\n\
         connection ID that lets a server tell clients apart has 10 or more, and a STREAM frame with an offset has 4 or more.\n\
         Even with no connection ID at all it would be 21 (1 + 1 + 3 + 16). Measured: {least} with STREAM, {} with DATAGRAM.\n\
         DATAGRAM framings leave a few bytes of 1,500 unused: quinn-proto reserves room for the longest packet number.\n",
        of("compact", &quic)
    );
}

fn bytes(value: Option<i64>) -> String {
    match value {
        None | Some(0) => "–".to_owned(),
        Some(value) => value.to_string(),
    }
}

fn difference(paper: Option<i64>, ours: i64) -> String {
    match paper {
        None => String::new(),
        Some(paper) if paper == ours => "0".to_owned(),
        Some(paper) => format!("{:+}", ours - paper),
    }
}

/// Minimum, mean, maximum and sample standard deviation.
pub fn statistics(values: &[f64]) -> Option<[f64; 4]> {
    let n = values.len() as f64;
    let min = values.iter().copied().reduce(f64::min)?;
    let max = values.iter().copied().reduce(f64::max)?;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    let deviation = if values.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 };
    Some([min, mean, max, deviation])
}

fn table4(text: &mut String, table: &Table) {
    let printed = paper::rtts();
    let of = |method: &str| -> Vec<f64> {
        let mine = table.lines.iter().filter(|line| label(table, line, "method") == method);
        mine.filter_map(|line| match &line.row {
            Row::Rtt(rtt) => rtt.rtt_ms.map(Millis::as_f64),
            _ => None,
        })
        .collect()
    };
    let (conventional, proposed) = (of("conventional"), of("proposed"));
    let ours = [statistics(&conventional), statistics(&proposed)];
    let mut rows = Vec::new();
    for (index, name) in ["min", "mean", "max", "stddev"].iter().enumerate() {
        let mut row = vec![(*name).to_owned()];
        for (method, ours) in ours.iter().enumerate() {
            let paper = printed.get(*name).map(|values| values[method]);
            let ours = ours.map(|values| values[index]);
            row.push(paper.map_or(String::new(), |v| format!("{v:.3}")));
            row.push(ours.map_or("–".to_owned(), |v| format!("{v:.3}")));
            row.push(paper.zip(ours).map_or(String::new(), |(p, o)| format!("{:+.3}", o - p)));
        }
        rows.push(row);
    }
    let header = ["RTT, ms", "paper conv.", "ours", "diff", "paper prop.", "ours", "diff"];
    let _ =
        writeln!(text, "Table 4. Round-trip time of ping between two nodes (paper §4.3)\n{}", grid(&header, 1, rows));
    let _ = writeln!(
        text,
        "Ours: {} and {} echoes through the tunnel, scenario table4: every link 1 ms and up to 0.5 ms more, no loss, no rate\n\
         limit. The simulator has no CPU time, so this isolates the protocol from the machine: both methods cost the same round\n\
         trip, and what differs is jitter. The paper's numbers are those of its two containers; real ones come from real sockets.\n",
        conventional.len(),
        proposed.len()
    );
}

fn setup(text: &mut String, table: &Table) {
    let mut rows = Vec::new();
    let mut seen = Vec::new();
    let pick = |cell: &[&Line], phase: Phase| -> Option<(f64, f64, u64, u64, Option<Pattern>)> {
        cell.iter().find_map(|line| match &line.row {
            Row::Setup(s) if s.phase == phase => Some((s.ms, s.round_trips, s.packets, s.bytes, s.pattern)),
            _ => None,
        })
    };
    for line in &table.lines {
        if seen.contains(&&line.labels) {
            continue;
        }
        seen.push(&line.labels);
        let cell: Vec<&Line> = table.lines.iter().filter(|l| l.labels == line.labels).collect();
        let Some((.., pattern)) = pick(&cell, Phase::Tunnel) else { continue };
        let method = label(table, line, "method");
        let relayed = pattern == Some(Pattern::Relayed);
        let mode = label(table, line, "relay_mode");
        if !relayed && mode == "terminating" {
            // Without a relay its mode changes nothing.
            continue;
        }
        let (from, to) = (location(label(table, line, "a_kind")), location(label(table, line, "b_kind")));
        let mut row = vec![
            method.to_owned(),
            pattern.map_or(String::new(), |p| p.to_string()),
            format!("{from} to {to}"),
            if relayed && method == "proposed" { mode.to_owned() } else { String::new() },
        ];
        for phase in [Phase::Login, Phase::Registration, Phase::Tunnel] {
            let Some((ms, round_trips, packets, bytes, _)) = pick(&cell, phase) else { continue };
            if phase == Phase::Tunnel {
                row.push(format!("{ms:.0}"));
            }
            row.push(format!("{round_trips:.1}"));
            row.push(packets.to_string());
            row.push(bytes.to_string());
        }
        rows.push(row);
    }
    rows.sort_by(|a, b| (&a[0], &a[1]).cmp(&(&b[0], &b[1])));
    let header = [
        "method",
        "pattern",
        "networks",
        "relay",
        "login RTT",
        "packets",
        "bytes",
        "reg. RTT",
        "packets",
        "bytes",
        "tunnel ms",
        "RTT",
        "packets",
        "bytes",
    ];
    let _ = writeln!(
        text,
        "Set-up cost until the first echo's reply (the paper's future work)\n{}\n\
         Counted on the wires, scenario setup: every IP packet of both nodes and all services once; one round trip between any\n\
         two hosts is 40 ms. Login and registration are of both nodes together; the tunnel includes the echo itself, one round\n\
         trip (two through a relay). QUIC's packets include its handshakes, certificates, acknowledgements and path MTU probes.\n",
        grid(&header, 4, rows)
    );
}

fn handover(text: &mut String, table: &Table) -> Result<(), LabError> {
    let mut cells: BTreeMap<(String, String), Vec<&Outcome>> = BTreeMap::new();
    for line in &table.lines {
        if let Row::Outcome(outcome) = &line.row {
            let key = (label(table, line, "method").to_owned(), label(table, line, "cafe_kind").to_owned());
            cells.entry(key).or_default().push(outcome);
        }
    }
    let mut rows = Vec::new();
    let mut broken = Vec::new();
    for ((method, kind), outcomes) in cells {
        let ok = outcomes.iter().filter(|o| o.tcp_ok).count();
        if ok < outcomes.len() {
            broken.push(format!("{method}, to {}", location(&kind)));
        }
        let times: Vec<f64> = outcomes.iter().filter_map(|o| o.tcp_ms.map(Millis::as_f64)).collect();
        let pattern = outcomes.last().and_then(|o| o.pattern).map_or(String::new(), |p| p.to_string());
        let mean = statistics(&times).map_or(String::new(), |s| format!("{:.0}", s[1]));
        rows.push(vec![
            method,
            format!("IPv6 to {}", location(&kind)),
            pattern,
            format!("{ok}/{}", outcomes.len()),
            mean,
        ]);
    }
    let header = ["method", "move", "pattern after", "TCP flows that lived on", "mean ms for 4 MB"];
    let _ = writeln!(
        text,
        "Handover: a node changes its network in the middle of a TCP transfer (paper §2.1)\n{}\n\
         Scenario handover: the node registers again and rebuilds the tunnel; its virtual address, and so the flow, stays.",
        grid(&header, 2, rows)
    );
    if broken.is_empty() {
        Ok(())
    } else {
        Err(LabError::Failed(format!("a TCP flow did not survive a move: {}", broken.join("; "))))
    }
}
