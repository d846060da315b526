//! The same seed gives the same bytes on every wire, on both engines (I9). None of these bytes is an application's
//! (I10).

mod common;

use std::collections::BTreeMap;

use common::{ECHO, NAT, V4, play_with, scene_with};
use cyphonic_core::event::Event;
use cyphonic_core::name::{Fqdn, PathId};
use cyphonic_scenarios::{Document, Engine, Plan, Scenario};
use cyphonic_sim::host::apps::MARKER;
use cyphonic_sim::net::{TapMode, TapSummary};
use cyphonic_sim::run::Run;

/// The shipped experiments, made small, with losses.
const EXPERIMENTS: [(&str, &[(&str, &str)]); 4] = [
    ("setup", &[("site.a.link.loss", "0.02"), ("site.b.link.jitter_ms", "0.7")]),
    ("table1", &[("step.1.count", "1"), ("step.2.bytes", "20_000"), ("site.a.link.loss", "0.02")]),
    ("table4", &[("step.3.count", "3")]),
    (
        "handover",
        &[
            ("step.1.bytes", "1_500_000"),
            ("step.2.at_ms", "900"),
            ("step.2.spread_ms", "100"),
            ("site.office.link.loss", "0.005"),
        ],
    ),
];

/// Traffic of every kind.
const MORE: &str = r#"
[[step]]
do = "udp"
from = "bob"
to = "alice"
count = 20
interval_ms = 5
payload_bytes = 1000

[[step]]
do = "tcp"
from = "alice"
to = "bob"
bytes = 100_000
"#;

fn cells(name: &str, settings: &[(&str, &str)]) -> Vec<(String, Scenario)> {
    let document = Document::embedded(name).unwrap();
    let settings: Vec<_> = settings.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    let plan = Plan::expand(&document, &settings).unwrap_or_else(|error| panic!("{error}"));
    plan.cells.into_iter().map(|cell| (format!("{name} {:?}", cell.labels), cell.scenario)).collect()
}

/// The first wire on which two runs differ.
fn difference(a: &Run, b: &Run) -> Option<String> {
    let (a, b): (&BTreeMap<String, TapSummary>, _) = (&a.taps, &b.taps);
    assert!(a.keys().eq(b.keys()));
    a.iter().zip(b).find(|(a, b)| a != b).map(|((name, a), (_, b))| format!("{name}: {a:?} and {b:?}"))
}

#[test]
fn a_seed_decides_every_byte_on_every_wire_whatever_the_engine() {
    for (name, settings) in EXPERIMENTS {
        for (cell, scenario) in cells(name, settings) {
            let mut digests = Vec::new();
            for seed in 1..=3 {
                let play = |engine| play_with(&scenario, seed, engine, TapMode::Digest);
                let (first, second, turmoil) = (play(Engine::Events), play(Engine::Events), play(Engine::Turmoil));
                let replay = format!("{cell} seed {seed}");
                assert_eq!(difference(&first, &second), None, "{replay}: two runs in one process");
                assert_eq!(difference(&first, &turmoil), None, "{replay}: two engines");
                assert_eq!([first.digest(), first.digest()], [second.digest(), turmoil.digest()], "{replay}");
                assert_eq!(first.events, turmoil.events, "{replay}");
                digests.push(first.digest());
            }
            digests.sort();
            digests.dedup();
            assert_eq!(digests.len(), 3, "{cell}: another seed, other bytes");
        }
    }
}

#[test]
fn no_wire_ever_carries_an_applications_plaintext() {
    let methods = ["conventional", "proposed"].map(|method| format!("method = \"{method}\""));
    let framings = ["stream", "datagram", "compact"].map(|framing| format!("framing = \"{framing}\""));
    let terminating = "relay_mode = \"terminating\"".to_owned();
    for settings in methods.into_iter().chain(framings).chain([terminating]) {
        for pair in [[V4, V4], [NAT, V4], [NAT, NAT]] {
            let scene = scene_with(&settings, pair, "{ loss = 0.01 }", &format!("{ECHO}{MORE}"));
            let run = play_with(&scene, 1, Engine::Events, TapMode::Keep);
            assert!(run.events.iter().any(|(_, _, e)| matches!(e, Event::TunnelUp(_))), "{settings} {pair:?}");
            let transfer = run.reports().find_map(|(_, report)| report.transfer()).expect("a transfer");
            assert!(transfer.ok(), "{settings} {pair:?}: {transfer:?}");
            let network = run.world.network();
            let packets: Vec<_> = network.directions().flat_map(|wire| network.take_tapped(wire)).collect();
            let count =
                |needle: &[u8; 16]| packets.iter().filter(|p| p.packet.windows(16).any(|w| w == needle)).count();
            assert_eq!(count(&MARKER), 0, "{settings} {pair:?}");
            // The search itself works: it finds the path's identifier in the header of each conventional capsule.
            let [alice, bob] = ["alice.cyphonic.test", "bob.cyphonic.test"].map(|name| name.parse::<Fqdn>().unwrap());
            let named = count(&PathId::of(&alice, &bob).0);
            assert_eq!(named > 70, settings.contains("conventional"), "{settings} {pair:?}: {named} capsules");
        }
    }
}
