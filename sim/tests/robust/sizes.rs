//! Narrow links: what fits IPv6's least MTU crosses, what does not is refused with a word.

use cyphonic_sim::host::apps::ProbeOutcome;
use cyphonic_sim::run::StepOutcome;

use crate::common::scenario;
use crate::scene::{CELLS, play, story};

const FRAMINGS: [&str; 3] = ["stream", "datagram", "compact"];

#[test]
fn every_packet_of_1280_bytes_crosses_links_of_1280_bytes() {
    // ICMP payloads: an IPv6 header and an ICMP header of 48 bytes go before.
    let sizes = [56, 900, 1_100, 1_110, 1_113, 1_114, 1_115, 1_116, 1_117, 1_150, 1_200, 1_230, 1_231, 1_232];
    for cell in &CELLS {
        let framings: &[&str] = if cell.settings.contains("conventional") { &["udp4501"] } else { &FRAMINGS };
        for framing in framings {
            for narrow in [["a", "b"], ["a", ""], ["", "b"], ["", ""]] {
                let mut text = format!(
                    "title = \"Narrow\"\nabout = \"Sizes.\"\nmeasure = \"outcome\"\nframing = \"{framing}\"\n{}\n",
                    cell.settings
                );
                for (name, kind) in ["a", "b"].into_iter().zip(cell.pair) {
                    let mtu = if narrow.contains(&name) { 1280 } else { 1500 };
                    text += &format!(
                        "[[site]]\nname = \"{name}\"\nkind = \"{kind}\"\nlink = {{ delay_ms = 10, mtu = {mtu} }}\n"
                    );
                }
                text += "[[node]]\nname = \"alice\"\nsite = \"a\"\n[[node]]\nname = \"bob\"\nsite = \"b\"\n";
                text += "[[step]]\ndo = \"start\"\n";
                for size in sizes {
                    text += &format!(
                        "[[step]]\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\ncount = 2\ninterval_ms = 50\n\
                         payload_bytes = {size}\n"
                    );
                }
                let run = play(&scenario(&text), 1, |_| {});
                for (step, size) in sizes.iter().enumerate() {
                    let outcome = &run.steps[step + 1].outcome;
                    let StepOutcome::App(_, report) = outcome else { panic!("{outcome:?}") };
                    let answered = report.echo().map(|echo| echo.answered());
                    assert_eq!(
                        answered,
                        Some(2),
                        "{cell}, {framing}, narrow {narrow:?}, {size} bytes: {:?}\n{}",
                        report.echo().map(|echo| echo.probes.iter().map(|p| p.outcome).collect::<Vec<ProbeOutcome>>()),
                        story(&run)
                    );
                }
            }
        }
    }
}
