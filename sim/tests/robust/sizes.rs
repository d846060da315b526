//! Narrow links: packets of IPv6's least MTU pass, and larger ones are refused with an error.

use cyphonic_core::event::DropReason;
use cyphonic_sim::host::apps::ProbeOutcome;
use cyphonic_sim::run::{Run, StepOutcome};
use std::fmt::Write;

use crate::common::{START, two_sites};
use crate::scene::{BLIND, CELLS, CONVENTIONAL, Cell, play, story};

const FRAMINGS: [&str; 3] = ["stream", "datagram", "compact"];
const V6: &str = "ipv6";

/// Sends echoes of these payloads, one size after the other, in every cell and framing, over links of 1,280 bytes at
/// the sites of `narrow`. `judge` gets the outcome of each.
fn every_way(extra: &str, cells: &[Cell], sizes: &[usize], judge: impl Fn(&Run, &[ProbeOutcome]) -> bool) {
    for cell in cells {
        let framings: &[&str] = if cell.settings.contains("conventional") { &["udp4501"] } else { &FRAMINGS };
        for framing in framings {
            for narrow in [["a", "b"], ["a", ""], ["", "b"], ["", ""]] {
                let settings = format!("framing = \"{framing}\"\n{}\n{extra}", cell.settings);
                let site = |name, kind| {
                    let mtu = if narrow.contains(&name) { 1280 } else { 1500 };
                    format!("kind = \"{kind}\"\nlink = {{ delay_ms = 10, mtu = {mtu} }}")
                };
                let [a, b] = [site("a", cell.pair[0]), site("b", cell.pair[1])];
                let mut steps = START.to_owned();
                for size in sizes {
                    write!(
                        steps,
                        "[[step]]\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\ncount = 2\ninterval_ms = 50\n\
                         payload_bytes = {size}\n"
                    )
                    .unwrap();
                }
                let run = play(&two_sites(&settings, [&a, &b], &steps), 1, |_| {});
                for (index, size) in sizes.iter().enumerate() {
                    let outcomes = outcomes(&run, index + 1);
                    assert!(
                        judge(&run, &outcomes),
                        "{cell}, {framing}, narrow {narrow:?}, {size} bytes: {outcomes:?}\n{}",
                        story(&run)
                    );
                }
            }
        }
    }
}

fn outcomes(run: &Run, step: usize) -> Vec<ProbeOutcome> {
    let StepOutcome::App(_, report) = &run.steps[step].outcome else { panic!("{:?}", run.steps[step]) };
    report.echo().map(|echo| echo.probes.iter().map(|probe| probe.outcome).collect()).unwrap_or_default()
}

fn answered(outcome: &ProbeOutcome) -> bool {
    matches!(outcome, ProbeOutcome::Answered { .. })
}

/// ICMP payloads. An IPv6 header and an ICMP header add 48 bytes.
const SIZES: [usize; 14] =
    [56, 900, 1_100, 1_110, 1_113, 1_114, 1_115, 1_116, 1_117, 1_150, 1_200, 1_230, 1_231, 1_232];

#[test]
fn every_packet_of_1280_bytes_crosses_links_of_1280_bytes() {
    every_way("", &CELLS, &SIZES, |_, outcomes| outcomes.len() == 2 && outcomes.iter().all(answered));
}

#[test]
fn every_packet_of_1280_bytes_crosses_ipv6_links_of_1280_bytes() {
    let cells = [CONVENTIONAL, BLIND].map(|settings| Cell { settings, pair: [V6, V6] });
    // In the conventional method the first packet that a router refuses is lost. Its host learns from that to fragment.
    every_way("", &cells, &SIZES, |_, outcomes| outcomes.last().is_some_and(answered));
}

#[test]
fn a_larger_packet_crosses_too_or_its_sender_is_told_what_would_fit() {
    let told = |outcome: &ProbeOutcome| matches!(outcome, ProbeOutcome::TooBig { mtu } if (1_280..1_500).contains(mtu));
    // The first echo crosses before the path MTU is discovered.
    every_way("tun_mtu = 1500", &CELLS, &[56, 1_240, 1_300, 1_340, 1_400, 1_452], |run, outcomes| {
        // Bob's leg to a terminating relay may be narrower than Alice's. Then Bob gets the error, for his reply.
        let bob = run.drops.contains_key(&("bob".to_owned(), DropReason::TooBig));
        outcomes.len() == 2 && outcomes.iter().all(|outcome| answered(outcome) || told(outcome) || bob)
    });
}
