//! What the paper leaves open, answered by experiments of this project.

use std::collections::BTreeMap;

use super::{DETERMINISTIC, Said, Verdict, average, median, words};
use crate::report::source::{Line, Sheet};
use crate::stats::interval;

/// Mbit/s that `iperf3 -b 15M` offers.
const OFFERED: f64 = 15.0;
/// Bytes of payload of a datagram of the scenario relay.
const RELAYED_PAYLOAD: f64 = 1000.0;

/// The paper has no value for it.
fn open(claim: &'static str, how: &'static str, ours: String, interval: String) -> Said<'static> {
    let paper = "left open".to_owned();
    Said { place: "beyond the paper", claim, how, paper, ours, interval, verdict: Verdict::Answer }
}

/// Table 3 with the cipher of later public code.
pub(super) fn cipher(sheet: &Sheet) -> Vec<Said<'static>> {
    let of = |cipher: &str, field: &str| {
        let lines = sheet.with(&[("framing", "udp4501"), ("cipher", cipher), ("field", field)]);
        lines.first().and_then(|line| line.number("bytes")).unwrap_or(f64::NAN)
    };
    let [ctr, cbc] = ["aes-ctr", "aes-cbc-md5"].map(|cipher| of(cipher, "ip_payload"));
    vec![Said {
        place: "§4.3, Table 3",
        claim: "IP payload of a full packet with AES-CBC, padding and HMAC-MD5, as in later public code, conventional",
        how: "scenario table3 with another cipher under the end key; an option of simulated scenarios",
        paper: "1364 bytes".to_owned(),
        ours: format!(
            "{cbc:.0} bytes (IV {:.0}, padding {:.0}); in counter mode {ctr:.0}",
            of("aes-cbc-md5", "iv"),
            of("aes-cbc-md5", "padding")
        ),
        interval: DETERMINISTIC.to_owned(),
        verdict: if (cbc - 1364.0).abs() < 0.5 { Verdict::Reproduced } else { Verdict::Differs },
    }]
}

/// Why TCP in a tunnel does not fill a clean link.
pub(super) fn queue(sheet: &Sheet) -> Vec<Said<'static>> {
    let share = |framing: &str, congestion: &str, over: &str, queue: &str| {
        let cell = [("framing", framing), ("congestion", congestion), ("over", over), ("link_queue_ms", queue)];
        let part = |line: &Line<'_>| Some(100.0 * line.number("tcp_bytes")? * 8e-3 / line.number("tcp_ms")? / 10.0);
        sheet.with(&cell).first().and_then(part).unwrap_or(f64::NAN)
    };
    let of = |queue| {
        let all = [("udp4501", "none", "tunnel"), ("stream", "new-reno", "tunnel"), ("compact", "none", "underlay")];
        let [conventional, proposed, bare] =
            all.map(|(framing, congestion, over)| share(framing, congestion, over, queue));
        format!("{conventional:.0}, {proposed:.0} and {bare:.0} %")
    };
    vec![open(
        "the share of a clean link of 10 Mbit/s that a TCP transfer in the tunnel gets (conventional, proposed, and without a tunnel)",
        "4 MB, RTT 20 ms; only the length of the queue is varied: where nothing is dropped, headers and slow start remain",
        format!("{} with a queue of 100 ms, {} with 400 ms", of("100"), of("400")),
        DETERMINISTIC.to_owned(),
    )]
}

/// The second reading of 15 Mbit/s: what iperf3 offers, in datagrams.
pub(super) fn paced(sheet: &Sheet, paper: Option<&Sheet>) -> Vec<Said<'static>> {
    let of = |framing: &str, congestion: &str, rate: &str, payload: &str| {
        let cell =
            [("framing", framing), ("congestion", congestion), ("link_rate_mbps", rate), ("payload_bytes", payload)];
        let arrived = |line: &Line<'_>| Some(OFFERED * (1.0 - line.number("lost")? / line.number("sent")?));
        sheet.with(&cell).first().and_then(arrived).unwrap_or(f64::NAN)
    };
    let said = [
        ("udp4501", "none", "15 Mbit/s as what `iperf3 -u -b 15M` offers, conventional, simulated"),
        ("stream", "new-reno", "15 Mbit/s as what `iperf3 -u -b 15M` offers, proposed, simulated"),
    ]
    .map(|(framing, congestion, claim)| {
        let ours = of(framing, congestion, "15", "1208");
        second_reading(
            claim,
            "15 Mbit/s of UDP payload are offered for 10 s in datagrams of 1,208 bytes, over links of 15 and of 100 Mbit/s",
            paper,
            ours,
            format!(
                "{ours:.2} Mbit/s over links of 15 Mbit/s ({:.2} in datagrams of 512 bytes), {:.2} over 100 Mbit/s",
                of(framing, congestion, "15", "512"),
                of(framing, congestion, "100", "1208")
            ),
        )
    });
    said.into()
}

/// The same over TCP.
pub(super) fn paced_tcp(sheet: &Sheet, paper: Option<&Sheet>) -> Vec<Said<'static>> {
    let of = |framing: &str, congestion: &str, rate: &str| {
        let cell = [("framing", framing), ("congestion", congestion), ("link_rate_mbps", rate)];
        let arrived = |line: &Line<'_>| Some(line.number("tcp_bytes")? * 8e-3 / line.number("tcp_ms")?);
        sheet.with(&cell).first().and_then(arrived).unwrap_or(f64::NAN)
    };
    let said = [
        ("udp4501", "none", "15 Mbit/s as what `iperf3 -b 15M` offers TCP, conventional, simulated"),
        ("stream", "new-reno", "15 Mbit/s as what `iperf3 -b 15M` offers TCP, proposed, simulated"),
    ]
    .map(|(framing, congestion, claim)| {
        let ours = of(framing, congestion, "15");
        second_reading(
            claim,
            "a sender writes 15 Mbit/s to TCP, once a millisecond, over links of 15 and of 100 Mbit/s; \
             the TCP is the simulator's, without SACK, so the number is not a kernel's (real/narrow.csv has that)",
            paper,
            ours,
            format!("{ours:.2} Mbit/s over links of 15 Mbit/s, {:.2} over 100 Mbit/s", of(framing, congestion, "100")),
        )
    });
    said.into()
}

fn second_reading(
    claim: &'static str,
    how: &'static str,
    paper: Option<&Sheet>,
    value: f64,
    ours: String,
) -> Said<'static> {
    let printed = paper.and_then(|paper| paper.with(&[]).first().and_then(|line| line.number("received_mbps")));
    let printed = printed.unwrap_or(f64::NAN);
    Said {
        place: "§4.3, of its reference [10]",
        claim,
        how,
        paper: format!("{printed} Mbit/s"),
        ours,
        interval: DETERMINISTIC.to_owned(),
        verdict: if (value - printed).abs() < 0.5 { Verdict::Reproduced } else { Verdict::Differs },
    }
}

/// Whole set-ups by seed, milliseconds.
fn set_ups(sheet: &Sheet, framing: &str, kind: &str, loss: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    let cell = [("framing", framing), ("a_kind", kind), ("link_loss", loss), ("link_jitter_ms", "0")];
    for line in sheet.with(&cell) {
        *sums.entry(line.text("seed").to_owned()).or_insert(0.0) += line.number("ms").unwrap_or(f64::NAN);
    }
    sums
}

/// Set-up under loss.
pub(super) fn setup_loss(sheet: &Sheet) -> Vec<Said<'static>> {
    let said = [
        ("ipv6", "how much longer set-up takes in the proposed method with 5 % loss a link, pattern 1"),
        ("ipv4-private", "how much longer set-up takes in the proposed method with 5 % loss a link, pattern 3"),
    ]
    .map(|(kind, claim)| {
        let [conventional, proposed] = ["udp4501", "stream"].map(|framing| set_ups(sheet, framing, kind, "0.05"));
        let more: Vec<f64> = proposed.iter().filter_map(|(seed, ms)| Some(ms - conventional.get(seed)?)).collect();
        let of = |sums: &BTreeMap<String, f64>| median(&sums.values().copied().collect::<Vec<_>>());
        open(
            claim,
            "login, registration and tunnel until the first echo's answer, 30 seeds, paired by seed",
            format!(
                "{:+.0} ms (median of the differences; medians {:.0} and {:.0} ms)",
                median(&more),
                of(&conventional),
                of(&proposed)
            ),
            words(interval(&more, median), 0, "ms"),
        )
    });
    said.into()
}

/// An idle hour.
pub(super) fn idle(sheet: &Sheet) -> Vec<Said<'static>> {
    let of = |framing: &str, skip: &str, column: [&str; 2]| -> Vec<f64> {
        let cell =
            [("framing", framing), ("policy", "paper"), ("a_kind", "ipv4-private"), ("skip", skip), ("host", "alice")];
        let sum = |line: &Line<'_>| Some(line.number(column[0])? + line.number(column[1])?);
        sheet.with(&cell).iter().filter_map(sum).collect()
    };
    let packets = ["sent_packets", "received_packets"];
    let bytes = ["sent_bytes", "received_bytes"];
    let said = [
        ("true", "what an idle hour costs a registered node behind a NAT (conventional and proposed)"),
        ("false", "the same with a tunnel through a blind relay"),
    ]
    .map(|(skip, claim)| {
        let proposed = of("stream", skip, packets);
        open(
            claim,
            "IP packets of one node, both directions, in one hour that begins ten minutes after set-up; 30 seeds",
            format!(
                "{:.0} and {:.0} packets, {:.0} and {:.0} kB (means)",
                average(&of("udp4501", skip, packets)),
                average(&proposed),
                average(&of("udp4501", skip, bytes)) / 1e3,
                average(&of("stream", skip, bytes)) / 1e3
            ),
            words(interval(&proposed, average), 0, "packets (proposed)"),
        )
    });
    said.into()
}

/// Signaling of many nodes.
pub(super) fn scale(sheet: &Sheet) -> Vec<Said<'static>> {
    let of = |method: &str, phase: &str, number: &dyn Fn(&Line<'_>) -> Option<f64>| -> Vec<f64> {
        let lines = sheet.with(&[("method", method), ("phase", phase), ("nodes", "250")]);
        lines.iter().filter_map(number).collect()
    };
    let seconds = |line: &Line<'_>| Some(line.number("ms")? / 1e3);
    let bytes = |line: &Line<'_>| Some((line.number("bytes")? + line.number("service_bytes")?) / 250.0 / 1e3);
    let said = [
        ("start", "until 250 nodes that start at once are registered (conventional and proposed)"),
        ("nms_restart", "until 250 nodes are registered again after a restart of the NMS (conventional and proposed)"),
    ]
    .map(|(phase, claim)| {
        let proposed = of("proposed", phase, &seconds);
        open(
            claim,
            "each node is behind a NAT of its own, RTT 40 ms; 30 seeds; the simulator has no processor time",
            format!(
                "{:.2} and {:.2} s; {:.1} and {:.1} kB for each node (medians)",
                median(&of("conventional", phase, &seconds)),
                median(&proposed),
                median(&of("conventional", phase, &bytes)),
                median(&of("proposed", phase, &bytes))
            ),
            words(interval(&proposed, median), 2, "s (proposed)"),
        )
    });
    said.into()
}

/// What a relay carries.
pub(super) fn relay(sheet: &Sheet) -> Vec<Said<'static>> {
    let most = |framing: &str, mode: &str| {
        let cell = [("framing", framing), ("relay_mode", mode), ("count", "20000"), ("host", "bob")];
        let rate = |line: &Line<'_>| Some(line.number("datagrams")? * RELAYED_PAYLOAD * 8e-3 / line.number("span_ms")?);
        sheet.with(&cell).first().and_then(rate).unwrap_or(f64::NAN)
    };
    let [blind, terminating] = ["blind", "terminating"].map(|mode| most("stream", mode));
    vec![open(
        "what a TRS with a link of 10 Mbit/s carries at most, as payload (conventional; proposed blind and terminating)",
        "2,500 datagrams of 1,000 bytes a second are offered; the simulator has no processor time, so the link is the limit",
        format!("{:.2}; {blind:.2} and {terminating:.2} Mbit/s", most("udp4501", "blind")),
        DETERMINISTIC.to_owned(),
    )]
}
