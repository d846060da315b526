//! The scenarios of this folder: all are built in, all make sense, each says what it should.

use std::collections::BTreeSet;
use std::path::Path;

use cyphonic_core::message::{Framing, RelayMode};
use cyphonic_core::route::{Location, Pattern, table1};
use cyphonic_scenarios::{Action, Document, EMBEDDED, Measure, Method, Plan, Scenario, SiteKind};

fn embedded(name: &str) -> Plan {
    Plan::expand(&Document::embedded(name).unwrap(), &[]).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_file_of_the_folder_is_built_in_with_its_text() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let is_scenario = path.extension().is_some_and(|e| e == "toml") && name != "Cargo" && name != "clippy";
        if is_scenario {
            files.insert((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    let known: BTreeSet<_> = EMBEDDED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    for (name, _) in &files {
        assert!(known.iter().any(|(known, _)| known == name), "scenarios/src/embedded.rs does not have {name}");
    }
    assert!(known == files, "the text of a file is not that which is built in");
    assert!(EMBEDDED.is_sorted());
}

#[test]
fn the_readme_has_a_row_of_every_file() {
    let readme = include_str!("../README.md");
    for (name, _) in EMBEDDED {
        assert!(readme.contains(&format!("| [{name}.toml]({name}.toml) | ")), "scenarios/README.md: no row of {name}");
    }
}

#[test]
fn every_scenario_opens_with_title_and_about_and_expands() {
    for (name, text) in EMBEDDED {
        assert!(text.starts_with("title = "), "{name}");
        assert!(text.lines().nth(1).unwrap().starts_with("about = "), "{name}");
        let plan = embedded(name);
        assert_eq!(plan.name, *name);
        assert!(!plan.title.is_empty() && plan.about.len() > 100 && !plan.about.contains('\n'), "{name}");
    }
}

/// The conventional method; the proposed one as in the paper; the proposed one with our own framing.
const COLUMNS: [Framing; 3] = [Framing::Udp4501, Framing::Stream, Framing::Compact];

#[test]
fn every_experiment_has_the_papers_method_beside_ours() {
    // The fallback to TCP is the project's own, and only the proposed method has it.
    let of_the_fallback = ["blocked", "blocked-rtt"];
    for (name, _) in EMBEDDED.iter().filter(|(name, _)| !of_the_fallback.contains(name)) {
        let plan = embedded(name);
        assert_eq!(plan.columns[0], "framing", "{name}");
        for framing in COLUMNS {
            assert!(
                plan.cells.iter().any(|cell| cell.scenario.framing == framing),
                "{name} without {}",
                framing.name()
            );
        }
        for scenario in plan.cells.iter().map(|cell| &cell.scenario) {
            let own = match scenario.framing {
                Framing::Udp4501 => Method::Conventional,
                Framing::Stream | Framing::Datagram | Framing::Compact => Method::Proposed,
            };
            assert_eq!(scenario.method, own, "{name}");
        }
    }
}

#[test]
fn table_1_is_nine_pairs_in_each_framing_in_the_order_of_the_paper() {
    let plan = embedded("table1");
    assert_eq!(plan.header()[..4], ["framing", "a_kind", "b_kind", "seed"]);
    let location = |kind| match kind {
        SiteKind::Ipv6 => Location::V6,
        SiteKind::Ipv4Global => Location::V4Global,
        SiteKind::Ipv4Private => Location::V4Private,
        other => panic!("{other}"),
    };
    let patterns = |framing| {
        let cells = plan.cells.iter().filter(move |cell| cell.scenario.framing == framing);
        let kinds = cells.map(|cell| (cell.scenario.sites[0].kind, cell.scenario.sites[1].kind));
        kinds.map(|(a, b)| table1(location(a), location(b)).number()).collect::<Vec<_>>()
    };
    // results/paper/table1-signaling-patterns.csv, top to bottom.
    for framing in COLUMNS {
        assert_eq!(patterns(framing), [1, 3, 3, 3, 1, 2, 3, 2, 3], "{}", framing.name());
    }
}

#[test]
fn table_3_is_every_framing_at_1500_bytes() {
    let plan = embedded("table3");
    assert_eq!(plan.measure, Measure::Composition);
    let framings: Vec<Framing> = plan.cells.iter().map(|cell| cell.scenario.framing).collect();
    assert_eq!(framings, [Framing::Udp4501, Framing::Stream, Framing::Datagram, Framing::Compact]);
    assert_eq!(plan.cells[0].scenario.method, Method::Conventional);
    assert!(plan.cells.iter().all(|c| c.scenario.sites.iter().all(|s| s.link.up.mtu == 1500)));
}

#[test]
fn table_4_is_100_echoes_over_ipv6_in_each_framing_with_30_seeds() {
    let plan = embedded("table4");
    assert_eq!(plan.cells.iter().map(|cell| cell.scenario.framing).collect::<Vec<_>>(), COLUMNS);
    assert_eq!(plan.seeds, 1..=30);
    for cell in &plan.cells {
        let echoes = cell.scenario.steps.iter().filter_map(|step| match &step.action {
            Action::Echo(echo) => Some(echo.count),
            _ => None,
        });
        assert_eq!(echoes.collect::<Vec<_>>(), [100]);
        assert!(cell.scenario.sites.iter().all(|site| site.kind == SiteKind::Ipv6));
        assert!(cell.scenario.duration_limit.as_secs() > 110);
    }
}

#[test]
fn setup_has_every_pattern_in_every_framing_and_relay_mode() {
    let plan = embedded("setup");
    let location = |kind| if kind == SiteKind::Ipv4Private { Location::V4Private } else { Location::V4Global };
    let mut seen = BTreeSet::new();
    for cell in &plan.cells {
        let s = &cell.scenario;
        let pattern = table1(location(s.sites[0].kind), location(s.sites[1].kind));
        seen.insert((s.framing, s.relay_mode == RelayMode::Terminating, pattern));
        let delays = s.sites.iter().map(|site| &site.link).chain([&s.services.auth.link, &s.services.nms.link]);
        assert!(delays.flat_map(|link| [&link.up, &link.down]).all(|way| way.delay.as_millis() == 10));
    }
    let patterns = [Pattern::Direct, Pattern::OneNat, Pattern::Relayed];
    for pattern in patterns {
        for framing in COLUMNS {
            assert!(seen.contains(&(framing, false, pattern)), "{} {pattern}", framing.name());
            let terminating = seen.contains(&(framing, true, pattern));
            assert_eq!(terminating, framing != Framing::Udp4501, "{} {pattern}", framing.name());
        }
    }
}

#[test]
fn mobility_has_every_mover_change_of_pattern_and_strategy() {
    let plan = embedded("mobility");
    assert_eq!((plan.measure, plan.seeds, plan.cells.len()), (Measure::Handover, 1..=30, 7 * 21 * 3 * 2));
    let (mut seen, mut strategies) = (BTreeSet::new(), BTreeSet::new());
    for cell in &plan.cells {
        let s = &cell.scenario;
        let location = |site: usize| match s.sites[site].kind {
            SiteKind::Ipv6 => Location::V6,
            SiteKind::Ipv4Private => Location::V4Private,
            _ => Location::V4Global,
        };
        let to =
            [4, 5].map(|step| if let Action::Move { to, .. } = s.steps[step].action { Some(to.site) } else { None });
        let before = [0, 1].map(|node| s.nodes[node].interfaces[0].site);
        let after = [0, 1].map(|node| to[node].unwrap_or(before[node]));
        let pattern = |sites: [usize; 2]| table1(location(sites[0]), location(sites[1])).number();
        assert!([0, 1].iter().all(|node| to[*node].is_none_or(|to| to != before[*node])), "a move leads elsewhere");
        assert_eq!(s.steps[4].spread.as_millis(), 1000, "the moment of the move is drawn");
        seen.insert((to.map(|to| to.is_some()), pattern(before), pattern(after)));
        strategies.insert(format!("{:?} {:?}", s.framing, s.handover));
        assert!(s.sites.iter().all(|site| site.link == s.services.nms.link), "one delay everywhere");
    }
    assert_eq!(strategies.len(), 7, "{strategies:?}");
    for moves in [[true, false], [false, true], [true, true]] {
        for (before, after) in [(1, 1), (1, 3), (2, 2), (2, 3), (3, 3), (3, 1)] {
            assert!(seen.contains(&(moves, before, after)), "{moves:?} {before} to {after}");
        }
    }
}

#[test]
fn in_handover_the_move_comes_while_the_transfer_is_under_way() {
    let plan = embedded("handover");
    let is_baseline = |s: &Scenario| matches!(s.steps[2].action, Action::Wait(none) if none.is_zero());
    assert_eq!(plan.cells.iter().filter(|cell| is_baseline(&cell.scenario)).count(), COLUMNS.len());
    assert_eq!((plan.seeds, plan.cells.len()), (1..=30, 9));
    for cell in plan.cells {
        let s = &cell.scenario;
        let Action::Tcp { bytes, .. } = s.steps[1].action else { panic!("{:?}", s.steps[1]) };
        let rate = s.sites[0].link.up.rate_bps.unwrap();
        let moved = s.steps[2].at.unwrap() + s.steps[2].spread;
        assert!(is_baseline(s) || matches!(s.steps[2].action, Action::Move { node: 0, .. }));
        assert!(moved.as_millis_f64() < bytes as f64 * 8000.0 / rate as f64);
    }
}
