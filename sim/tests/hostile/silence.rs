//! Networks that let nothing through any more, and tell nobody: what the probes of paths are for.

use cyphonic_core::event::Event;
use cyphonic_scenarios::Engine;
use cyphonic_sim::host::apps::ProbeOutcome;
use cyphonic_sim::net::TapMode;
use cyphonic_sim::run::Run;

use crate::common::{play_with, scenario};

/// Alice, who may be at home or on the way, and Bob, each behind a NAT. An echo every 100 ms for 30 s, from 5 s on.
fn play(interfaces: &str, step: &str) -> Run {
    let site = |name| {
        format!(
            "[[site]]\nname = \"{name}\"\nkind = \"ipv4-private\"\nlink = {{ delay_ms = 10 }}\nnat = {{ ports = \"random\" }}\n"
        )
    };
    let sites = ["home", "away", "b"].map(site).concat();
    let echoes =
        "[[step]]\ndo = \"echo\"\nat_ms = 5000\nfrom = \"alice\"\nto = \"bob\"\ncount = 300\ninterval_ms = 100\n";
    let text = format!(
        "title = \"t\"\nabout = \"a\"\nmeasure = \"outcome\"\npolicy = \"optimal\"\nhandover = \"seamless\"\n\
         duration_limit_s = 100\n{sites}[[node]]\nname = \"alice\"\ninterfaces = [{interfaces}]\n[[node]]\nname = \"bob\"\n\
         site = \"b\"\n[[step]]\ndo = \"start\"\n{echoes}[[step]]\nat_ms = 10000\ndo = {step}\n"
    );
    play_with(&scenario(&text), 1, Engine::Events, TapMode::Off)
}

/// How many echoes in a row had no answer.
fn longest(run: &Run) -> usize {
    let report = run.reports().find_map(|(_, report)| report.echo()).expect("echoes");
    let lost = |outcome: &ProbeOutcome| !matches!(outcome, ProbeOutcome::Answered { .. });
    report.probes.split(|probe| !lost(&probe.outcome)).map(<[_]>::len).max().unwrap_or(0)
}

#[test]
pub(crate) fn a_moved_nodes_new_path_is_proved_and_the_tunnel_stands() {
    let run = play("\"home\"", "\"move\"\nnode = \"alice\"\nto = \"away\"");
    let downs = run.events.iter().filter(|(_, _, event)| matches!(event, Event::TunnelDown { .. })).count();
    assert_eq!(downs, 0, "the tunnel ends");
    let longest = longest(&run);
    assert!(longest <= 5, "{longest} echoes in a row were lost");
}

#[test]
pub(crate) fn a_path_that_ends_in_silence_is_left_for_another_interface() {
    let run = play("\"home\", \"away\"", "\"link_down\"\nsite = \"home\"");
    let longest = longest(&run);
    assert!(longest <= 50, "{longest} echoes in a row were lost");
}
