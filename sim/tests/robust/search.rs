//! The search for the path MTU: cases in which a probe ends the path, and cases in which it only finds the limit.

use std::fmt::Write;
use std::time::Duration;

use cyphonic_core::time::Instant;
use cyphonic_scenarios::Scenario;
use cyphonic_sim::host::apps::EchoReport;

use crate::common::{NAT, START, V4, two_sites};
use crate::scene::{BLIND, TERMINATING, first_answer, play, story, tunnels_up};

/// Alice behind a NAT of this behaviour with a narrow link, and Bob. Alice sends an echo every two seconds, answered or
/// not, and one more after a quiet minute.
fn narrow(settings: &str, link: &str, nat: &str, bob: &str) -> Scenario {
    let alice = format!("kind = \"{NAT}\"\nfirewall = {{}}\nlink = {link}\nnat = {nat}");
    let bob = format!("kind = \"{bob}\"\nlink = {{ delay_ms = 10 }}");
    let mut steps = START.to_owned();
    for (wait, from, to) in [(5_000, "alice", "bob"), (60_000, "bob", "alice"), (5_000, "alice", "bob")] {
        write!(steps, "[[step]]\ndo = \"wait\"\nms = {wait}\n").unwrap();
        write!(steps, "[[step]]\ndo = \"echo\"\nfrom = \"{from}\"\nto = \"{to}\"\ncount = 10\ninterval_ms = 1000\n")
            .unwrap();
    }
    two_sites(settings, [&alice, &bob], &steps)
}

const WAYS: [(&str, &str); 4] =
    [(BLIND, V4), (BLIND, NAT), (TERMINATING, NAT), ("method = \"proposed\"\npolicy = \"optimal\"", NAT)];

#[test]
fn where_a_probe_ends_the_mapping_the_next_tunnel_lasts() {
    let nat = "{ icmp_errors = \"end-mapping\", ports = \"sequential\" }";
    for (settings, bob) in WAYS {
        let scenario = narrow(settings, "{ delay_ms = 10, mtu = 1280 }", nat, bob);
        let run = play(&scenario, 1, |_| {});
        let reports: Vec<_> = run.reports().filter_map(|(_, report)| report.echo()).collect();
        assert!(reports[0].answered() >= 4, "{settings}, {bob}: {}", story(&run));
        for (step, echo) in [(4, reports[1]), (6, reports[2])] {
            let first = first_answer(&run, step);
            assert!(
                first.is_some_and(|first| first < Duration::from_millis(200)),
                "{settings}, {bob}: {}",
                story(&run)
            );
            assert_eq!(echo.answered(), 10, "{settings}, {bob}: {}", story(&run));
        }
    }
}

#[test]
fn a_search_that_finds_sizes_too_large_ends_no_tunnel() {
    for (settings, bob) in WAYS {
        for link in ["{ delay_ms = 10, mtu = 1360 }", "{ delay_ms = 10, mtu = 1360, black_hole = true }"] {
            let run = play(&narrow(settings, link, "{}", bob), 1, |_| {});
            let echoes = run.reports().filter_map(|(_, report)| report.echo());
            assert!(echoes.map(EchoReport::answered).eq([10, 10, 10]), "{settings}, {bob}, {link}: {}", story(&run));
            assert_eq!(tunnels_up(&run, "alice", Instant::ZERO), 1, "{settings}, {bob}, {link}: {}", story(&run));
        }
    }
}
