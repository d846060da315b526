//! The cost of set-up, until the reply to the first echo.

use std::fmt::Write as _;

use cyphonic_core::route::Pattern;
use cyphonic_scenarios::rows::{Phase, Setup};
use cyphonic_scenarios::{Line, Row, Table};

use super::layout::{LEGEND, grid, heading, label, location, place};

pub(super) fn print(text: &mut String, table: &Table) {
    let (mut rows, mut seen) = (Vec::new(), Vec::new());
    for line in &table.lines {
        if seen.contains(&&line.labels) {
            continue;
        }
        seen.push(&line.labels);
        let cell: Vec<&Line> = table.lines.iter().filter(|l| l.labels == line.labels).collect();
        let phases = [Phase::Login, Phase::Registration, Phase::Tunnel].map(|phase| pick(&cell, phase));
        let [Some(login), Some(registration), Some(tunnel)] = phases else { continue };
        let (framing, mode) = (label(table, line, "framing"), label(table, line, "relay_mode"));
        let signaling = label(table, line, "signaling");
        let relayed = tunnel.pattern == Some(Pattern::Relayed);
        if !relayed && mode == "terminating" {
            // The relay mode has an effect only if there is a relay.
            continue;
        }
        let (from, to) = (location(label(table, line, "a_kind")), location(label(table, line, "b_kind")));
        let mut row = vec![
            heading(framing).to_owned(),
            tunnel.pattern.map_or(String::new(), |p| p.to_string()),
            format!("{from} to {to}"),
            if relayed && framing != "udp4501" { mode.to_owned() } else { String::new() },
            if framing == "udp4501" { String::new() } else { signaling.to_owned() },
        ];
        for phase in [login, registration] {
            row.extend([format!("{:.1}", phase.round_trips), kilobytes(phase.bytes), kilobytes(phase.service_bytes)]);
        }
        row.extend([format!("{:.0}", tunnel.ms), format!("{:.1}", tunnel.round_trips)]);
        row.extend([floor(framing, relayed), kilobytes(tunnel.bytes), kilobytes(tunnel.search_bytes)]);
        row.extend([kilobytes(tunnel.service_bytes), kilobytes(tunnel.trs_bytes)]);
        rows.push((place(framing), tunnel.pattern.map(Pattern::number), row));
    }
    rows.sort_by_key(|row| (row.0, row.1));
    let header = [
        "method",
        "pattern",
        "networks",
        "relay",
        "signaling",
        "login RTT",
        "kB",
        "AS",
        "reg. RTT",
        "kB",
        "NMS",
        "tunnel ms",
        "RTT",
        "floor",
        "kB",
        "search",
        "NMS",
        "TRS",
    ];
    let _ = writeln!(
        text,
        "Set-up cost until the first echo's reply (the paper's future work)\n{}\n{LEGEND}\n\
         Scenario setup; any two hosts are 40 ms apart, there and back. RTT: round trips, counted from who waited for whom, the \
         echo's\nown among them (one, or two through a relay). kB: what left the nodes, whole IP packets; AS, NMS, TRS: what left \
         those, forwarded\npackets among it. Login and registration are of both nodes together. QUIC's bytes include its \
         handshakes, certificates,\nacknowledgements and path MTU probes; search: those probes alone (RFC 9000 §14.3). Floor: the fewest round trips of a tunnel by this method, \
         one to learn of the peer, one (two\nthrough a relay) for the handshake of QUIC, and the echo's. A handshake of QUIC has at \
         least three datagrams that are padded to\n1,200 bytes (RFC 9000 §14.1), {} kB with their IPv4 and UDP headers. Times and round \
         trips do not vary by seed; packets and\nbytes do, by a few, as certificates have different lengths and acknowledgements \
         meet or miss a packet.\n",
        grid(&header, 5, rows.into_iter().map(|(.., row)| row).collect()),
        kilobytes(3 * (1200 + 28)),
    );
}

fn pick<'a>(cell: &[&'a Line], phase: Phase) -> Option<&'a Setup> {
    cell.iter().find_map(|line| match &line.row {
        Row::Setup(setup) if setup.phase == phase => Some(setup),
        _ => None,
    })
}

/// The fewest round trips from the DNS query to the echo's reply. The NMS hands out the keys of the conventional
/// method, so that its tunnel needs no handshake.
fn floor(framing: &str, relayed: bool) -> String {
    let across = if relayed { 2 } else { 1 };
    let handshake = if framing == "udp4501" { 0 } else { across };
    (1 + handshake + across).to_string()
}

fn kilobytes(bytes: u64) -> String {
    if bytes == 0 { "–".to_owned() } else { format!("{:.1}", bytes as f64 / 1000.0) }
}
