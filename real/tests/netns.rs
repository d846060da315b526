//! The daemons on real sockets, in network namespaces: `netns/lab.sh check`, a test for each pattern and method.
//!
//! The tests need root, /dev/net/tun and a few tools. Without them a test prints why and passes. `.ci/run` has them.

mod lab;

fn check(pattern: &str, method: &str, policy: &str) {
    if let Some(obstacle) = lab::obstacle() {
        lab::skipped(&format!("pattern {pattern}, {method}, {policy} policy, on real sockets: {obstacle}"));
        return;
    }
    let name = format!("cy{pattern}{}{}{}", &method[..1], &policy[..1], std::process::id());
    let output = lab::check(&name, &["check", pattern, method], &[("LAB_POLICY", policy)]);
    assert!(output.status.success(), "{}{}", lab::text(&output.stdout), lab::text(&output.stderr));
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
