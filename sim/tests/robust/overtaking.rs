//! One far end is slower than all others, so packets of the others overtake its packets.
//!
//! A tunnel's set-up has packets from the NMS, the TRS and the peer. No RFC promises their order.

use std::time::Duration;

use crate::common::{NAT, V4};
use crate::scene::{CELLS, Cell, first_answer, play, story};

const LINK: &str = "{ delay_ms = 10 }";
/// How much slower the far end is.
const SLOWER: Duration = Duration::from_millis(60);
/// How often the set-up and the first echo may wait for the slow far end. Waiting for a retransmission takes longer: no
/// timer of the set-up is shorter than a second.
const WAITS: u32 = 10;
/// The proposed method waits for nothing that it can do without, with paths beneath QUIC and without them.
const FAST: [&str; 2] = [
    "method = \"proposed\"\nsignaling = \"fast\"\nhandover = \"rebuild\"",
    "method = \"proposed\"\nsignaling = \"fast\"\nhandover = \"seamless\"",
];

fn echo_after(path: &str) -> String {
    let wait = "[[step]]\ndo = \"wait\"\nms = 1000\n";
    let echo = "[[step]]\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\ncount = 4\ninterval_ms = 500\n";
    format!("{wait}{path}{echo}")
}

fn each_slow_path(cell: &Cell) {
    let baseline = first_answer(&play(&cell.scene(LINK, &echo_after("")), 1, |_| {}), 2);
    let baseline = baseline.unwrap_or_else(|| panic!("{cell}: no answer on equal paths"));
    let mut slowest = Duration::ZERO;
    for (site, to) in [("a", "nms"), ("a", "trs"), ("a", "b"), ("b", "nms"), ("b", "trs")] {
        for towards in ["up", "down", "both"] {
            let delay = SLOWER.as_millis();
            let path = format!(
                "[[step]]\ndo = \"path\"\nsite = \"{site}\"\nto = \"{to}\"\ntowards = \"{towards}\"\ndelay_ms = {delay}\n"
            );
            let run = play(&cell.scene(LINK, &echo_after(&path)), 1, |_| {});
            let took = first_answer(&run, 3);
            let in_time = took.is_some_and(|took| took <= baseline + WAITS * SLOWER);
            assert!(in_time, "{cell}, {site} to {to} {towards}: {took:?}, else {baseline:?}\n{}", story(&run));
            slowest = slowest.max(took.unwrap_or_default());
        }
    }
    println!("{cell}: {baseline:?}, with one slow path within {slowest:?}");
}

#[test]
fn no_packet_of_a_set_up_is_lost_because_others_overtook_it() {
    for cell in &CELLS {
        each_slow_path(cell);
    }
}

#[test]
fn no_packet_of_a_fast_set_up_is_lost_because_others_overtook_it() {
    for settings in FAST {
        for pair in [[V4, V4], [NAT, V4], [V4, NAT], [NAT, NAT]] {
            for policy in ["", "\npolicy = \"optimal\""] {
                let settings = format!("{settings}{policy}");
                each_slow_path(&Cell { settings: settings.leak(), pair });
            }
        }
    }
}
