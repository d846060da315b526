//! `cyphonic-netns`: scenarios on a real kernel. Without root a test prints that it needs it, and passes. `.ci/run` has
//! root, and compares every cell of Table 1 with a simulated run (`cyphonic-lab compare table1`).

use std::path::Path;
use std::process::{Command, Output};

use cyphonic_scenarios::log::{Entry, What};

fn driver(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cyphonic-netns"));
    command.args(arguments).env("CYPHONIC", env!("CARGO_BIN_EXE_cyphonic")).output().unwrap()
}

/// The events of a run. None if there can be no run.
fn run(name: &str, file: &Path, sets: &[&str]) -> Option<Vec<Entry>> {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let output = driver(&["run", file.to_str().unwrap(), "--json"].into_iter().chain(sets).collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(6) {
        assert!(std::env::var_os("CYPHONIC_SKIP_NOTHING").is_none(), "skipped: {name}: {said}");
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
kind = "ipv4-global"

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
    let Some(entries) = run("a bad link", &file, &[]) else { return };
    let outcomes = outcomes(&entries);
    assert_eq!(outcomes[1], "100000 bytes arrived unchanged", "{outcomes:?}");
    let at = |what: &str| {
        let is_it =
            |entry: &&Entry| matches!(&entry.what, What::Signal(s) if s.what == what && s.detail.contains("bob"));
        entries.iter().find(is_it).unwrap_or_else(|| panic!("{what}: {entries:?}")).at_ns
    };
    let up = |entry: &&Entry| entry.host == "alice" && matches!(entry.what, What::TunnelUp { pattern: 2, .. });
    let up = entries.iter().find(up).expect("a tunnel by pattern 2").at_ns;
    // One round trip to the NMS, then a handshake and a request, one round trip each: at least 40 ms one way.
    let took_ms = (up - at("Direction Request")) / 1_000_000;
    assert!((240..5_000).contains(&took_ms), "{took_ms} ms");
    assert!(!Path::new("/run/netns").join(format!("cyn{}-0-core", std::process::id())).exists());
}

#[test]
fn access_rules_are_kept_on_a_kernel_and_a_connection_that_they_forbid_fails_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ruled.toml");
    std::fs::write(&file, NETWORK).unwrap();
    let rules = "rules={default=\"closed\", allow=[{from=[\"alice\"], to=[\"bob\"], services=[\"icmp\"]}]}";
    let Some(entries) = run("rules", &file, &[rules]) else { return };
    let outcomes = outcomes(&entries);
    assert_eq!(outcomes[0], "5 of 5 echoes answered", "{outcomes:?}");
    assert_eq!(outcomes[1], "100000 bytes did not arrive");
    // At once: the node answers the first segment by an ICMP error. Without it the kernel asks for two minutes.
    let ends = entries.iter().filter(|entry| matches!(entry.what, What::Outcome { .. })).map(|entry| entry.at_ns);
    let ends: Vec<_> = ends.collect();
    assert!(ends[1] - ends[0] < 3_000_000_000, "{ends:?}");
}

/// The lab that was built beside the driver: it plays the same scenario in the simulator, and compares the two.
fn lab() -> Option<std::path::PathBuf> {
    let lab = Path::new(env!("CARGO_BIN_EXE_cyphonic-netns")).with_file_name("cyphonic-lab");
    lab.is_file().then_some(lab)
}

#[test]
fn rules_change_while_a_tunnel_stands_and_the_simulator_agrees_on_every_message() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("netns/ruled.toml");
    let Some(entries) = run("a change of rules", &file, &[]) else { return };
    let answered = ["3 of 3", "0 of 3", "0 of 3", "3 of 3"].map(|answered| format!("{answered} echoes answered"));
    assert_eq!(outcomes(&entries), answered);
    let told = |entry: &&Entry| matches!(&entry.what, What::Signal(signal) if signal.what == "Access Ended");
    assert_eq!(entries.iter().filter(told).count(), 2, "both ends of the tunnel: {entries:?}");
    let Some(lab) = lab() else { return };
    let log = tempfile::NamedTempFile::new().unwrap();
    let lines: String = entries.iter().map(Entry::to_line).collect();
    std::fs::write(log.path(), lines).unwrap();
    let compared = Command::new(lab).arg("compare").arg(&file).arg("--real").arg(log.path()).output().unwrap();
    let said = [compared.stdout, compared.stderr].concat();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn a_nat_forgets_a_firewall_closes_and_opens_and_a_node_moves_while_the_run_goes_on() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("netns/changes.toml");
    let sets = [
        "method=\"proposed\"",
        "site.office.kind=\"ipv4-global\"",
        // The ports are different each time. So the mapping itself is gone, and not only an entry of a filter.
        "site.home.nat={mapping=\"address-and-port-dependent\", ports=\"random\"}",
    ];
    let Some(entries) = run("changes", &file, &sets) else { return };
    let answered: Vec<String> = [3, 3, 0, 0, 3, 3, 3, 3].iter().map(|n| format!("{n} of 3 echoes answered")).collect();
    assert_eq!(outcomes(&entries), answered);
    let patterns = entries.iter().filter_map(|entry| match entry.what {
        What::TunnelUp { pattern, .. } if entry.host == "alice" => Some(pattern),
        _ => None,
    });
    assert!(patterns.clone().count() >= 2 && patterns.clone().all(|pattern| pattern == 2), "{entries:?}");
}

#[test]
fn a_transfer_goes_on_while_its_nodes_move_one_by_one_at_once_and_without_the_nms() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("netns/moving.toml");
    let Some(entries) = run("moving", &file, &[]) else { return };
    let outcomes = outcomes(&entries);
    assert!(outcomes.iter().any(|outcome| outcome == "30000000 bytes arrived unchanged"), "{outcomes:?}");
    let ends = entries.iter().filter(|entry| matches!(entry.what, What::TunnelDown { .. })).count();
    assert_eq!(ends, 0, "one tunnel stands throughout: {entries:?}");
    let ups = entries.iter().filter(|entry| entry.host == "alice" && matches!(entry.what, What::TunnelUp { .. }));
    assert_eq!(ups.count(), 1, "{entries:?}");
}

#[test]
fn large_packets_get_through_a_narrow_link_once_the_hosts_know_it() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("netns/narrow.toml");
    let Some(entries) = run("narrow", &file, &[]) else { return };
    assert_eq!(outcomes(&entries), ["3 of 5 echoes answered", "300000 bytes arrived unchanged"]);
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
    assert_eq!(driver(&["up", "table1"]).status.code(), Some(2), "which of 27 cells?");
}
