//! Applications' packets that are too large for a tunnel: hosts act on a Packet Too Big as a kernel does (RFC 1191,
//! RFC 8201).

mod common;

use cyphonic_scenarios::Engine;
use cyphonic_sim::host::apps::ProbeOutcome;
use cyphonic_sim::run::Run;

use common::{play, scenario};

/// Alice and Bob, whose virtual interfaces have an MTU of 1,400 bytes; Bob's access link takes 1,300.
fn run(steps: &str) -> Run {
    let text = format!(
        "title = \"t\"\nabout = \"a\"\nmeasure = \"outcome\"\npolicy = \"optimal\"\ntun_mtu = 1400\nduration_limit_s = 120\n\
         [[site]]\nname = \"a\"\nkind = \"ipv4-global\"\n[[site]]\nname = \"b\"\nkind = \"ipv4-global\"\n\
         link = {{ mtu = 1300 }}\n[[node]]\nname = \"alice\"\nsite = \"a\"\n[[node]]\nname = \"bob\"\nsite = \"b\"\n\
         [[step]]\ndo = \"start\"\n{steps}"
    );
    play(&scenario(&text), 1, Engine::Events)
}

fn large_echoes(family: &str) -> String {
    format!(
        "[[step]]\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\ncount = 5\npayload_bytes = 1352\nfamily = \"{family}\"\n"
    )
}

#[test]
fn large_echoes_get_through_once_both_hosts_know_the_path() {
    for family in ["ipv6", "ipv4"] {
        let run = run(&large_echoes(family));
        let report = run.reports().find_map(|(_, report)| report.echo()).unwrap();
        let answered: Vec<bool> =
            report.probes.iter().map(|probe| matches!(probe.outcome, ProbeOutcome::Answered { .. })).collect();
        // The first echo is too large, then its answer. Linux loses the same two.
        assert_eq!(answered, [false, false, true, true, true], "{family}");
    }
}

#[test]
fn a_connection_takes_the_segment_size_of_the_path() {
    for family in ["ipv6", "ipv4"] {
        for (from, to) in [("alice", "bob"), ("bob", "alice")] {
            let run = run(&format!(
                "[[step]]\ndo = \"tcp\"\nfrom = \"{from}\"\nto = \"{to}\"\nbytes = 300_000\nfamily = \"{family}\"\n"
            ));
            let report = run.reports().find_map(|(_, report)| report.transfer()).unwrap();
            assert_eq!(report.result, Some(Ok(())), "{family} from {from}: {report:?}");
        }
    }
}
