//! `cyphonic-netns`: scenarios on a real kernel. What needs root says so and passes without it; `.ci/run` has it, and lays
//! every cell of Table 1 beside a simulated run (`cyphonic-lab compare table1`).

use std::path::Path;
use std::process::{Command, Output};

use cyphonic_scenarios::log::{Entry, What};

fn driver(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cyphonic-netns"));
    command.args(arguments).env("CYPHONIC", env!("CARGO_BIN_EXE_cyphonic")).output().unwrap()
}

/// What a run showed; nothing where there can be none.
fn run(name: &str, file: &Path) -> Option<Vec<Entry>> {
    let output = driver(&["run", file.to_str().unwrap(), "--json"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(6) {
        eprintln!("skipped: {name}: {said}");
        return None;
    }
    assert!(output.status.success(), "{said}");
    Some(Entry::read(&String::from_utf8(output.stdout).unwrap()).unwrap())
}

fn outcomes(entries: &[Entry]) -> Vec<String> {
    let outcome = |entry: &Entry| match &entry.what {
        What::Outcome { outcome, .. } => Some(outcome.clone()),
        _ => None,
    };
    entries.iter().filter_map(outcome).collect()
}

const NETWORK: &str = r#"
title = "Far away, behind a NAT and a firewall"
about = "A link with delay, overtaking, doubles and damage."
measure = "outcome"
method = "proposed"

[[site]]
name = "far"
kind = "ipv4-private"
[site.link]
delay_ms = 40
reorder = 0.05
duplicate = 0.05
corrupt = 0.01
[site.firewall]
mode = "only-443"

[[site]]
name = "near"
kind = "dual-stack"

[[node]]
name = "alice"
site = "far"

[[node]]
name = "bob"
site = "near"

[[step]]
do = "start"

[[step]]
do = "echo"
from = "alice"
to = "bob"
family = "ipv6"
count = 5
interval_ms = 50

[[step]]
do = "tcp"
from = "bob"
to = "alice"
bytes = 100_000
"#;

#[test]
fn links_are_as_long_and_as_bad_as_the_scenario_says_and_nothing_stays_behind() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("far.toml");
    std::fs::write(&file, NETWORK).unwrap();
    let Some(entries) = run("a bad link", &file) else { return };
    let outcomes = outcomes(&entries);
    assert_eq!(outcomes[1], "100000 bytes arrived unchanged", "{outcomes:?}");
    let at = |what: &str| {
        let is_it =
            |entry: &&Entry| matches!(&entry.what, What::Signal(s) if s.what == what && s.detail.contains("bob"));
        entries.iter().find(is_it).unwrap_or_else(|| panic!("{what}: {entries:?}")).at_ns
    };
    let up = |entry: &&Entry| entry.host == "alice" && matches!(entry.what, What::TunnelUp { pattern: 2, .. });
    let up = entries.iter().find(up).expect("a tunnel by pattern 2").at_ns;
    // There and back to the NMS, then a handshake and a request, each there and back: 40 ms a way at least.
    let took_ms = (up - at("Direction Request")) / 1_000_000;
    assert!((240..5_000).contains(&took_ms), "{took_ms} ms");
    assert!(!Path::new("/run/netns").join(format!("cyn{}-0-core", std::process::id())).exists());
}

#[test]
fn what_a_kernel_cannot_do_is_refused_by_name_with_an_exit_code_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("strange.toml");
    let strange = NETWORK.replace("[site.firewall]", "[site.nat]\nhairpin = \"internal-source\"\n[site.firewall]");
    std::fs::write(&file, strange).unwrap();
    let output = driver(&["run", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("site \"far\": nat.hairpin: "), "{said}");
    assert_eq!(driver(&["run", "no-such-scenario"]).status.code(), Some(2));
    assert_eq!(driver(&["up", "table1"]).status.code(), Some(2), "which of 18 cells?");
}
