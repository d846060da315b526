//! The daemons on real sockets, in network namespaces: `netns/lab.sh check`, a test for each pattern and method.
//!
//! That needs root, /dev/net/tun and a few tools. Where they lack a test says so and passes; `.ci/run` has them.

use std::path::Path;
use std::process::Command;

const TOOLS: [&str; 7] = ["ip", "nft", "socat", "tcpdump", "ping", "ss", "getent"];

/// Why the lab cannot run here.
fn obstacle() -> Option<String> {
    let output = |program: &str, arguments: &[&str]| Command::new(program).args(arguments).output().ok();
    let id = output("id", &["-u"])?;
    if id.stdout != b"0\n" {
        return Some("it needs root".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun".to_owned());
    }
    let lacks = |tool: &&&str| {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
        !found.is_ok_and(|output| output.status.success())
    };
    let missing: Vec<_> = TOOLS.iter().filter(lacks).copied().collect();
    if !missing.is_empty() {
        return Some(format!("missing: {}", missing.join(" ")));
    }
    let may = output("unshare", &["--net", "true"]).is_some_and(|output| output.status.success());
    (!may).then(|| "no network namespace can be made".to_owned())
}

fn check(pattern: &str, method: &str, policy: &str) {
    if let Some(obstacle) = obstacle() {
        eprintln!("skipped: pattern {pattern}, {method}, {policy} policy, on real sockets: {obstacle}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("bash")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/netns/lab.sh"))
        .args(["check", pattern, method])
        .env("CYPHONIC", env!("CARGO_BIN_EXE_cyphonic"))
        .env("LAB", format!("cy{pattern}{}{}{}", &method[..1], &policy[..1], std::process::id()))
        .env("LAB_POLICY", policy)
        .env("LAB_DIR", folder.path().join("lab"))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn pattern_1_conventional_on_real_sockets() {
    check("1", "conventional", "paper");
}

#[test]
fn pattern_1_proposed_on_real_sockets() {
    check("1", "proposed", "paper");
}

#[test]
fn pattern_2_conventional_on_real_sockets() {
    check("2", "conventional", "paper");
}

#[test]
fn pattern_2_proposed_on_real_sockets() {
    check("2", "proposed", "paper");
}

#[test]
fn pattern_3_conventional_on_real_sockets() {
    check("3", "conventional", "paper");
}

#[test]
fn pattern_3_proposed_on_real_sockets() {
    check("3", "proposed", "paper");
}

#[test]
fn behind_two_nats_the_optimal_policy_brings_both_methods_together_directly() {
    for method in ["conventional", "proposed"] {
        check("3", method, "optimal");
    }
}
