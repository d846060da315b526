//! What the paper leaves open: set-up under loss, idle hours, paced traffic, and what a relay carries.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cyphonic_scenarios::rows::{Field, Millis, Traffic};
use cyphonic_scenarios::{Over, Row, Table};
use cyphonic_statistics::{mean, quantile, sorted};

use super::layout::{grid, heading, label, place};
use crate::lab::statistics::{Interval, bootstrap};

/// Bytes of payload of a datagram of the scenario relay.
const RELAYED_PAYLOAD: f64 = 1000.0;
/// Mbit/s that the scenario paced offers.
const OFFERED: f64 = 15.0;

fn median(sample: &[f64]) -> f64 {
    quantile(&sorted(sample), 0.5).unwrap_or(0.0)
}

fn words(interval: Option<Interval>, digits: usize) -> String {
    interval.map_or(String::new(), |i| format!("{:.digits$} to {:.digits$}", i.low, i.high))
}

/// The pattern that two sites of this kind have.
fn pattern(kind: &str) -> &'static str {
    if kind == "ipv6" { "1" } else { "3" }
}

/// Whole set-ups by seed: the phases of a run are added.
type Sums = BTreeMap<u64, f64>;
/// The set-ups of a kind of link, by the framing's place in tables and the framing.
type SetUps = BTreeMap<(usize, String), Sums>;
/// The first cells of a row, and the rate by the length of the queue.
type Rates = (Vec<String>, BTreeMap<u32, String>);
/// A framing, and the packets and bytes of each run in it.
type Hours = (String, Vec<f64>, Vec<f64>);
/// The hosts of a run, by name. The key before is the number of datagrams that were offered.
type Loads = BTreeMap<u32, BTreeMap<String, Traffic>>;

/// What a transfer gets of a clean link, by the length of the queue.
pub(super) fn print_queue(text: &mut String, table: &Table) {
    let mut rows: BTreeMap<(usize, String), Rates> = BTreeMap::new();
    let mut queues = std::collections::BTreeSet::new();
    for line in &table.lines {
        let Row::Outcome(outcome) = &line.row else { continue };
        let of = |column| label(table, line, column);
        let congestion = if of("framing") == "udp4501" { "" } else { of("congestion") };
        let is_bare = outcome.tcp_over == Some(Over::Underlay);
        let (framing, congestion) =
            if is_bare { ("without a tunnel", "") } else { (heading(of("framing")), congestion) };
        let name = || (vec![framing.to_owned(), congestion.to_owned()], BTreeMap::new());
        // The baseline comes last.
        let rank = if is_bare { usize::MAX } else { place(of("framing")) };
        let (_, shares) = rows.entry((rank, of("congestion").to_owned())).or_insert_with(name);
        let rate = outcome.tcp_ms.map_or(0.0, |ms| outcome.tcp_bytes as f64 * 8e-3 / ms.as_f64());
        let queue = number(of("link_queue_ms"));
        shares.insert(queue, format!("{rate:.2}"));
        queues.insert(queue);
    }
    let header: Vec<String> = queues.iter().map(|queue| format!("{queue} ms")).collect();
    let header: Vec<&str> = ["method", "congestion"].into_iter().chain(header.iter().map(String::as_str)).collect();
    let rows =
        rows.into_values().map(|(name, shares)| name.into_iter().chain(shares.into_values()).collect()).collect();
    let _ = writeln!(
        text,
        "\nMbit/s of a TCP transfer of 4 MB over clean links of 10 Mbit/s, by the length of their queue\n{}\n\
         Scenario queue. A short queue drops what slow start sends too much, and the TCP inside has no SACK to repair it.",
        grid(&header, 2, rows)
    );
}

/// Table 3 with the cipher of later public code.
pub(super) fn print_cipher(text: &mut String, table: &Table) {
    let bytes = |field| {
        let lines = table.lines.iter().filter(|line| line.has(&table.columns, "cipher", "aes-cbc-md5"));
        let rows = lines.filter_map(|line| match &line.row {
            Row::Composition(row) if row.field == field => Some(row.bytes),
            _ => None,
        });
        rows.sum::<u32>()
    };
    let _ = writeln!(
        text,
        "\nWith AES-CBC and HMAC-MD5, which later public code of the conventional method used, a full packet carries {} bytes \
         of IP\npayload: the IV takes {}, the padding at least {}, and of 1,500 bytes {} are used (scenario cipher).",
        bytes(Field::IpPayload),
        bytes(Field::Iv),
        bytes(Field::Padding),
        bytes(Field::Total)
    );
}

/// Set-up under loss and jitter.
pub(super) fn print_losses(text: &mut String, table: &Table) {
    let mut cells: BTreeMap<(String, String, String), SetUps> = BTreeMap::new();
    for line in &table.lines {
        let Row::Setup(setup) = &line.row else { continue };
        let of = |column| label(table, line, column).to_owned();
        let framings = cells.entry((of("a_kind"), of("link_loss"), of("link_jitter_ms"))).or_default();
        let sums = framings.entry((place(&of("framing")), of("framing"))).or_default();
        *sums.entry(line.seed).or_default() += setup.ms;
    }
    let mut rows = Vec::new();
    for ((kind, loss, jitter), framings) in &cells {
        let reference = framings.first_key_value().map(|(_, sums)| sums.clone()).unwrap_or_default();
        for ((place, framing), sums) in framings {
            let sample = sorted(&sums.values().copied().collect::<Vec<_>>());
            let more: Vec<f64> = sums.iter().filter_map(|(seed, ms)| Some(ms - reference.get(seed)?)).collect();
            let bounds = (*place > 0).then(|| bootstrap("setup-loss", &more, median)).flatten();
            rows.push(vec![
                pattern(kind).to_owned(),
                format!("{}", 100.0 * loss.parse::<f64>().unwrap_or(0.0)),
                jitter.clone(),
                heading(framing).to_owned(),
                format!("{:.0}", median(&sample)),
                format!("{:.0}", quantile(&sample, 0.95).unwrap_or(0.0)),
                if *place > 0 { format!("{:+.0}", median(&more)) } else { String::new() },
                words(bounds, 0),
            ]);
        }
    }
    let header = ["pattern", "loss %", "jitter ms", "method", "median ms", "95th", "more than conventional", "95 %"];
    let _ = writeln!(
        text,
        "\nSet-up under loss and jitter: login, registration and tunnel together\n{}\n\
         Scenario setup-loss. Loss and jitter of every link. The last two columns: the difference to the conventional \
         method,\nmedian over pairs of equal seeds.",
        grid(&header, 4, rows)
    );
}

/// An idle hour.
pub(super) fn print_idle(text: &mut String, table: &Table) {
    let mut cells: BTreeMap<(String, String, bool), BTreeMap<usize, Hours>> = BTreeMap::new();
    for line in &table.lines {
        let Row::Traffic(row) = &line.row else { continue };
        if row.host != "alice" {
            continue;
        }
        let of = |column| label(table, line, column);
        let key = (of("policy").to_owned(), of("a_kind").to_owned(), of("skip") == "false");
        let framing = of("framing");
        let cell = cells.entry(key).or_default().entry(place(framing));
        let (_, packets, bytes) = cell.or_insert_with(|| (framing.to_owned(), Vec::new(), Vec::new()));
        packets.push((row.sent_packets + row.received_packets) as f64);
        bytes.push((row.sent_bytes + row.received_bytes) as f64 / 1e3);
    }
    let mut rows = Vec::new();
    let average = |sample: &[f64]| mean(sample).unwrap_or(0.0);
    for ((policy, kind, has_tunnel), framings) in &cells {
        for (framing, packets, bytes) in framings.values() {
            let state =
                if *has_tunnel { format!("tunnel, pattern {}", pattern(kind)) } else { "registered".to_owned() };
            rows.push(vec![
                policy.clone(),
                kind.clone(),
                state,
                heading(framing).to_owned(),
                format!("{:.0}", average(packets)),
                words(bootstrap("idle", packets, average), 0),
                format!("{:.0}", average(bytes)),
                words(bootstrap("idle", bytes, average), 0),
            ]);
        }
    }
    let header = ["policy", "node's network", "state", "method", "packets an hour", "95 %", "kB an hour", "95 %"];
    let _ = writeln!(
        text,
        "\nWhat an idle hour costs one node: IP packets and their bytes, both directions, mean over seeds\n{}\n\
         Scenario idle. Equal ends of an interval: the seed makes no difference. Under policy optimal pattern 3 is \
         where the pair\nwould be under Table 1: both nodes behind NATs.",
        grid(&header, 4, rows)
    );
}

/// What arrives of 15 Mbit/s, in datagrams and over TCP.
pub(super) fn print_paced(text: &mut String, datagrams: &Table, tcp: &Table) {
    let mut rows: BTreeMap<(u32, u32, usize, String), Vec<String>> = BTreeMap::new();
    for line in &datagrams.lines {
        let Row::Flow(flow) = &line.row else { continue };
        let of = |column| label(datagrams, line, column);
        let (rate, payload) = (of("link_rate_mbps"), of("payload_bytes"));
        let arrived = OFFERED * (flow.sent - flow.lost) as f64 / flow.sent.max(1) as f64;
        let key = (number(rate), u32::MAX - number(payload), place(of("framing")), of("congestion").to_owned());
        let name = format!("UDP, {payload} bytes");
        rows.insert(key, row(rate, name, of("framing"), of("congestion"), arrived));
    }
    for line in &tcp.lines {
        let Row::Outcome(outcome) = &line.row else { continue };
        let of = |column| label(tcp, line, column);
        let arrived = outcome.tcp_ms.map_or(0.0, |ms| outcome.tcp_bytes as f64 * 8e-3 / Millis::as_f64(ms));
        let key = (number(of("link_rate_mbps")), u32::MAX, place(of("framing")), of("congestion").to_owned());
        rows.insert(key, row(of("link_rate_mbps"), "TCP".to_owned(), of("framing"), of("congestion"), arrived));
    }
    let header = ["links Mbit/s", "offered", "method", "congestion", "arrives Mbit/s"];
    let _ = writeln!(
        text,
        "\nWhat arrives of 15 Mbit/s that an application offers (`iperf3 -b 15M`; paper §4.3: 11.16 of its [10])\n{}\n\
         Scenarios paced and paced-tcp. Payload of UDP or TCP. Nothing is random: every seed gives this.",
        grid(&header, 4, rows.into_values().collect())
    );
}

fn number(text: &str) -> u32 {
    text.parse().unwrap_or(0)
}

fn row(rate: &str, offered: String, framing: &str, congestion: &str, arrived: f64) -> Vec<String> {
    let congestion = if framing == "udp4501" { String::new() } else { congestion.to_owned() };
    vec![rate.to_owned(), offered, heading(framing).to_owned(), congestion, format!("{arrived:.2}")]
}

/// What a relay carries.
pub(super) fn print_relay(text: &mut String, table: &Table) {
    let mut cells: BTreeMap<(usize, String, String), Loads> = BTreeMap::new();
    for line in &table.lines {
        let Row::Traffic(row) = &line.row else { continue };
        let of = |column| label(table, line, column);
        let cell = cells.entry((place(of("framing")), of("framing").to_owned(), of("relay_mode").to_owned()));
        let hosts = cell.or_default().entry(number(of("count"))).or_default();
        hosts.insert(row.host.clone(), row.clone());
    }
    let mut rows = Vec::new();
    for ((_, framing, mode), loads) in &cells {
        let (Some((_, light)), Some((_, full))) = (loads.first_key_value(), loads.last_key_value()) else { continue };
        let (Some(trs), Some(bob), Some(most)) = (light.get("trs"), light.get("bob"), full.get("bob")) else {
            continue;
        };
        let datagrams = bob.datagrams.max(1) as f64;
        let rate = most.datagrams as f64 * RELAYED_PAYLOAD * 8e-3 / most.span_ms.as_f64();
        rows.push(vec![
            heading(framing).to_owned(),
            if framing == "udp4501" { String::new() } else { mode.clone() },
            format!("{:.2}", (trs.sent_packets + trs.received_packets) as f64 / datagrams),
            format!("{:.0}", (trs.sent_bytes + trs.received_bytes) as f64 / datagrams),
            format!("{rate:.2}"),
        ]);
    }
    let header = ["method", "relay", "packets at the TRS", "bytes at the TRS", "most Mbit/s"];
    let _ = writeln!(
        text,
        "\nWhat a relay carries: for each datagram of 1,000 bytes, and at most through a link of 10 Mbit/s\n{}\n\
         Scenario relay. Packets and bytes in and out, at 50 datagrams a second, acknowledgements included. Then 2,500 \
         a second\nare offered. The simulator has no processor time: a terminating relay also opens and seals each packet.",
        grid(&header, 2, rows)
    );
}
