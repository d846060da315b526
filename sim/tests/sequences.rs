//! The sequences of the paper's Figures 2 to 9, drawn from runs of the real protocol.
//!
//! Each test runs a small scene and prints the messages in order. The printed diagram is the snapshot beside this file,
//! in `sequences/`. A node called alice asks for a node called bob. Messages of the same instant are in the order AS,
//! NMS, TRS, alice, bob. Capsules are not signaling, so they are not shown. To look at a change: `cargo insta review`,
//! or run with `INSTA_UPDATE=always` and read the difference.

mod common;

use std::collections::BTreeSet;

use common::{ECHO, NAT, V4, arrows, play, scene, scene_with};
use cyphonic_core::event::{Event, Signal};
use cyphonic_core::name::Party;
use cyphonic_scenarios::Engine;
use cyphonic_sim::run::Run;

/// All links have the same delay, so that messages are in the order of cause and effect.
const LINK: &str = "{ delay_ms = 10 }";
const LOSSY: &str = "{ delay_ms = 10, loss = 0.05 }";
const CONVENTIONAL: &str = "method = \"conventional\"";
const PROPOSED: &str = "method = \"proposed\"";
const FAST: &str = "method = \"proposed\"\nsignaling = \"fast\"";
const TERMINATING: &str = "method = \"proposed\"\nrelay_mode = \"terminating\"";

/// The part of the run from the start until Alice is registered, Bob's own left out.
fn joining(run: &Run) -> String {
    let bobs = |signal: &Signal| [&signal.from, &signal.to].into_iter().any(|party| is(party, "bob"));
    lines(arrows(run).take_while(|signal| signal.what != "Direction Request").filter(|signal| !bobs(signal)))
}

/// The part of the run from Alice's Direction Request on.
fn building(run: &Run) -> String {
    lines(arrows(run).skip_while(|signal| signal.what != "Direction Request"))
}

fn is(party: &Party, name: &str) -> bool {
    matches!(party, Party::Node(node) if node.short() == name)
}

fn lines<'a>(signals: impl Iterator<Item = &'a Signal>) -> String {
    signals.fold(String::new(), |lines, signal| lines + &signal.to_string() + "\n")
}

fn joined(settings: &str) -> String {
    joining(&play(&scene(settings, [V4, V4], LINK), 1, Engine::Events))
}

fn built(settings: &str, sites: [&str; 2]) -> String {
    building(&play(&scene(settings, sites, LINK), 1, Engine::Events))
}

/// Compares a diagram with its snapshot: `sequences/NAME.snap`.
fn shows(name: &str, about: &str, diagram: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("sequences");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_description(about);
    settings.bind(|| insta::assert_snapshot!(name, diagram));
}

#[test]
fn figure_2_a_node_logs_in_over_tls_and_registers_under_its_common_key() {
    shows("figure-2", "Conventional: login and registration", &joined(CONVENTIONAL));
}

#[test]
fn figure_2_a_password_takes_the_place_of_the_certificate() {
    let diagram = joined("method = \"conventional\"\nlogin = \"password\"");
    assert_eq!(diagram, joined(CONVENTIONAL).replace("certificate", "password"));
}

#[test]
fn figure_3_the_initiator_sends_the_end_key_once_the_responder_confirmed() {
    shows("figure-3", "Conventional, pattern 1", &built(CONVENTIONAL, [V4, V4]));
}

#[test]
fn figure_4_the_initiator_behind_a_nat_dials_as_in_pattern_1() {
    shows("figure-4-initiator", "Conventional, pattern 2, the initiator behind a NAT", &built(CONVENTIONAL, [NAT, V4]));
}

#[test]
fn figure_4_the_responder_behind_a_nat_dials_after_the_initiator_was_told() {
    shows("figure-4-responder", "Conventional, pattern 2, the responder behind a NAT", &built(CONVENTIONAL, [V4, NAT]));
}

#[test]
fn figure_5_the_relay_gets_the_tunnel_key_and_both_nodes_meet_at_it() {
    shows("figure-5", "Conventional, pattern 3", &built(CONVENTIONAL, [NAT, NAT]));
}

#[test]
fn figure_6_a_node_logs_in_and_registers_over_quic_and_gets_no_key() {
    shows("figure-6", "Proposed: login and registration", &joined(PROPOSED));
}

#[test]
fn figure_7_the_initiator_dials_and_no_key_comes_from_the_nms() {
    shows("figure-7", "Proposed, pattern 1", &built(PROPOSED, [V4, V4]));
}

#[test]
fn figure_8_the_initiator_behind_a_nat_dials() {
    shows("figure-8-initiator", "Proposed, pattern 2, the initiator behind a NAT", &built(PROPOSED, [NAT, V4]));
}

#[test]
fn figure_8_the_responder_behind_a_nat_dials() {
    shows("figure-8-responder", "Proposed, pattern 2, the responder behind a NAT", &built(PROPOSED, [V4, NAT]));
}

#[test]
fn figure_9_two_connections_end_at_the_relay_which_binds_them() {
    shows("figure-9", "Proposed, pattern 3, as the paper has it", &built(TERMINATING, [NAT, NAT]));
}

#[test]
fn through_a_blind_relay_the_nodes_shake_hands_with_each_other() {
    shows("blind", "Proposed, pattern 3, through a relay that cannot read (ours)", &built(PROPOSED, [NAT, NAT]));
}

#[test]
fn fast_signaling_sends_packets_behind_the_tunnel_request() {
    shows("fast-direct", "Proposed, pattern 1, fast signaling (ours)", &built(FAST, [V4, V4]));
}

#[test]
fn fast_signaling_relays_on_standing_legs_that_the_request_binds() {
    let steps = format!("[[step]]\ndo = \"wait\"\nms = 500\n{ECHO}");
    let run = play(&scene_with(FAST, [NAT, NAT], LINK, &steps), 1, Engine::Events);
    shows("fast-relayed", "Proposed, pattern 3, fast signaling, with standing legs (ours)", &building(&run));
}

/// Both methods, all patterns, both relay modes.
fn every_scene() -> impl Iterator<Item = (&'static str, [&'static str; 2])> {
    let pairs = [[V4, V4], [NAT, V4], [V4, NAT], [NAT, NAT], ["ipv6", V4]];
    let methods = [CONVENTIONAL, PROPOSED].into_iter();
    let scenes = methods.flat_map(move |method| pairs.into_iter().map(move |pair| (method, pair)));
    scenes.chain([(TERMINATING, [NAT, NAT])])
}

#[test]
fn both_engines_draw_the_same_diagram() {
    for (settings, pair) in every_scene() {
        let scene = scene(settings, pair, LINK);
        let [events, turmoil] = [Engine::Events, Engine::Turmoil].map(|engine| lines(arrows(&play(&scene, 1, engine))));
        assert!(events.lines().count() > 10, "{settings} {pair:?}:\n{events}");
        assert_eq!(events, turmoil, "{settings} {pair:?}");
    }
}

#[test]
fn with_one_packet_in_twenty_lost_everything_is_said_all_the_same_and_the_tunnel_comes_up() {
    let mut lost = 0;
    for (settings, pair) in every_scene() {
        let whole = set(&play(&scene(settings, pair, LINK), 1, Engine::Events));
        let lossy = scene(settings, pair, LOSSY);
        for seed in 1..=10 {
            let run = play(&lossy, seed, Engine::Events);
            let replay = format!("{settings} {pair:?} seed {seed}:\n{}", history(&run));
            assert!(run.complete, "not complete: {replay}");
            let up = |host: &str| run.events.iter().any(|(_, h, e)| h == host && matches!(e, Event::TunnelUp(_)));
            assert!(up("alice") && up("bob"), "no tunnel: {replay}");
            let said = set(&run);
            // If every Tunnel Response is lost, the responder's first Keep Alive takes its place.
            let missing: Vec<_> = whole.difference(&said).filter(|line| !line.contains("Tunnel Response")).collect();
            // If Bob's last handshake packet to the TRS is lost, Alice may be there before him, and is refused once. A
            // node that has lost its registration for a moment reminds the NMS of its tunnels.
            let excused = |line: &str| line.contains("Error { no relay }") || line.contains("Peer Report");
            let more: Vec<_> = said.difference(&whole).filter(|line| !excused(line)).collect();
            assert!(missing.is_empty() && more.is_empty(), "missing {missing:?}, more {more:?}: {replay}");
            let network = run.world.network();
            lost += network.directions().map(|d| network.wire_stats(d).drops.total()).sum::<u64>();
        }
    }
    assert!(lost > 100, "only {lost} packets were lost");
}

fn set(run: &Run) -> BTreeSet<String> {
    arrows(run).map(ToString::to_string).collect()
}

/// Every event, for the analysis of a failure.
fn history(run: &Run) -> String {
    let line = |(at, host, event): &(_, String, Event)| match event {
        Event::Signal(signal) => format!("{at} {signal}{}\n", if signal.repeated { " (again)" } else { "" }),
        other => format!("{at} {host}: {other:?}\n"),
    };
    let network = run.world.network();
    let wires = network.directions().map(|d| format!("{}: {:?}\n", network.wire_name(d), network.wire_stats(d)));
    run.events.iter().map(line).chain(wires).chain([format!("dropped {:?}\n", run.drops)]).collect()
}
