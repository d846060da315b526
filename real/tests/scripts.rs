//! The measuring scripts without a measurement: they can be read, judge their arguments before they touch anything, and
//! say what is missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const FOLDERS: [&str; 5] = ["", "bench", "bench/peers", "docker", "netns"];
const BENCH: &str = "bench/run.sh";
const DOCKER: &str = "docker/run.sh";

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The scripts of a folder.
fn scripts(folder: &str) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(here().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "sh"))
}

fn bash(arguments: &[&str]) -> Output {
    Command::new("bash").current_dir(here()).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn every_script_can_be_read() {
    for path in FOLDERS.into_iter().flat_map(scripts) {
        let output = bash(&["-n", path.to_str().unwrap()]);
        assert!(output.status.success(), "{}", said(&output));
    }
}

#[test]
fn the_list_has_every_peer_and_each_can_do_everything() {
    let output = bash(&[BENCH, "--list"]);
    assert!(output.status.success(), "{}", said(&output));
    let listed: BTreeSet<String> = said(&output).lines().map(str::to_owned).collect();
    let files: BTreeSet<String> =
        scripts("bench/peers").map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(listed, files);
    for framing in ["udp4501", "stream", "compact"] {
        assert!(listed.contains(&format!("cyphonic-{framing}")), "{listed:?}");
    }
    for peer in &listed {
        let output = bash(&["-c", &format!(". bench/peers/{peer}.sh && declare -F get prepare start version")]);
        assert!(output.status.success(), "{peer} lacks a function: {}", said(&output));
    }
}

#[test]
fn arguments_are_judged_before_anything_is_touched() {
    for (script, arguments, words) in [
        (BENCH, &["nobody"][..], "there is no peer \"nobody\""),
        (BENCH, &["--wings"], "there is no option \"--wings\""),
        (BENCH, &["--rounds", "0"], "--rounds takes a whole number from 1, not \"0\""),
        (BENCH, &["--out"], "--out takes a value"),
        (DOCKER, &["4"], "there is no command or pattern \"4\""),
        (DOCKER, &["1", "tcp"], "a framing is udp4501, stream or compact, not \"tcp\""),
        (DOCKER, &["rounds", "firewall"], "rounds are of pattern 1, 2 or 3, not \"firewall\""),
        (DOCKER, &["rounds", "1", "compact"], "too many arguments: compact"),
    ] {
        let output = bash(&[&[script], arguments].concat());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{script} {arguments:?}: {said}");
        assert!(said.contains(words), "{script} {arguments:?}: {said}");
    }
}

/// With a few programs in the path and nothing else.
#[test]
fn the_bench_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    for tool in ["basename", "dirname", "sed", "id"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
        let program = String::from_utf8(found.stdout).unwrap();
        std::os::unix::fs::symlink(program.trim(), folder.path().join(tool)).unwrap();
    }
    let mut command = Command::new("/bin/bash");
    command.current_dir(here()).env("PATH", folder.path()).args([BENCH, "none"]);
    let output = command.output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in ["FAILED: missing: ", "ip (apt install iproute2)", "iperf3 (apt install iperf3)", "apt-get (the peers"]
    {
        assert!(said.contains(words), "{words:?} in {said}");
    }
}
