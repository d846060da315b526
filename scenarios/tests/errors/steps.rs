//! What is wrong with what happens.

use crate::{replaced, with};

#[test]
fn a_measure_asks_for_its_steps() {
    assert_eq!(
        replaced(r#"measure = "outcome""#, r#"measure = "composition""#),
        r#"x.toml:3:11: `measure`: to measure "composition" a step with do = "probe_mtu" is needed: add one"#
    );
    assert_eq!(
        replaced(r#"do = "echo""#, r#"do = "probe_mtu""#),
        r#"x.toml:3:11: `measure`: to measure "outcome" a step with do = "echo" or do = "tcp" is needed: add one"#
    );
}

#[test]
fn a_step_names_nodes_and_sites_that_are_there() {
    assert_eq!(
        replaced(r#"to = "bob""#, r#"to = "bobby""#),
        r#"x.toml:40:6: `step.1.to`: unknown node "bobby": did you mean "bob"? The nodes are "alice", "bob""#
    );
    assert_eq!(
        replaced(r#"to = "bob""#, r#"to = "alice""#),
        r#"x.toml:40:6: `step.1.to`: the node "alice" talks to itself: name another one"#
    );
    assert_eq!(
        with("[[step]]\ndo = \"move\"\nnode = \"alice\"\nto = \"hme\""),
        r#"x.toml:44:6: `step.2.to`: unknown site "hme": did you mean "home"? The sites are "home", "office""#
    );
}

#[test]
fn a_node_has_to_be_started_once_before_it_acts() {
    assert_eq!(
        replaced(r#"do = "start""#, "do = \"start\"\nnodes = [\"alice\"]"),
        r#"x.toml:41:6: `step.1.to`: the node "bob" was not started by an earlier step: put a step with do = "start" before this one"#
    );
    assert_eq!(
        replaced(r#"do = "start""#, "do = \"start\"\nnodes = [\"alice\", \"alice\"]"),
        r#"x.toml:36:19: `step.0.nodes.1`: the node "alice" is started already: leave it out of this step"#
    );
}

#[test]
fn steps_come_in_time() {
    assert_eq!(
        with("[[step]]\ndo = \"wait\"\nms = 1\nat_ms = 50\n[[step]]\ndo = \"wait\"\nms = 1\nat_ms = 20"),
        "x.toml:48:9: `step.3.at_ms`: 20 ms is before the step at 50 ms: steps come in the order of their times"
    );
    assert_eq!(
        replaced(r#"do = "echo""#, "do = \"echo\"\nat_ms = 299000\nspread_ms = 1000"),
        "x.toml:40:13: `step.1.spread_ms`: 300000 ms is not before the duration limit of 300 s: raise `duration_limit_s`"
    );
    assert_eq!(
        replaced(r#"do = "echo""#, "do = \"echo\"\nspread_ms = 1000"),
        "x.toml:39:13: `step.1.spread_ms`: a spread without a time: write `at_ms` too"
    );
    assert_eq!(
        replaced(r#"do = "echo""#, "do = \"echo\"\nat_ms = 300000"),
        "x.toml:39:9: `step.1.at_ms`: 300000 ms is not before the duration limit of 300 s: raise `duration_limit_s`"
    );
}

#[test]
fn a_payload_has_to_fit_the_virtual_interface() {
    assert_eq!(
        replaced(r#"do = "echo""#, "do = \"echo\"\npayload_bytes = 1300"),
        "x.toml:39:17: `step.1.payload_bytes`: 1300 bytes of payload make an inner packet larger than tun_mtu = 1280: at most 1232 fit"
    );
}

#[test]
fn a_step_about_the_network_has_a_place_where_there_is_something() {
    let step = |keys: &str| with(&format!("[[step]]\n{keys}"));
    assert_eq!(
        step("do = \"link_down\""),
        "x.toml:41:1: `step.2`: this step needs a place: write one of `site`, `service`, `carrier`"
    );
    assert_eq!(
        step("do = \"link\"\nsite = \"home\"\nservice = \"as\""),
        "x.toml:41:1: `step.2`: this step needs a place: write one of `site`, `service`, `carrier`"
    );
    assert_eq!(
        step("do = \"nat_reboot\"\nsite = \"office\""),
        "x.toml:43:8: `step.2.site`: the site \"office\" has no NAT: name another, or give it one"
    );
    assert_eq!(
        step("do = \"nat_reboot\"\nsite = \"home\"\nmapping = 5"),
        "x.toml:44:1: `step.2.mapping`: unknown key: the keys here are \"site\", \"carrier\", \"do\", \"at_ms\", \"spread_ms\", \"skip\""
    );
    assert_eq!(
        step("do = \"firewall\"\nsite = \"home\"\noff = true"),
        "x.toml:43:8: `step.2.site`: the site \"home\" has no firewall: give it one, perhaps an open one: firewall = { stateful = false }"
    );
    assert_eq!(
        step("do = \"firewall\"\nsite = \"office\"\noff = true\nmode = \"web\""),
        "x.toml:44:7: `step.2.off`: with `off` nothing else is said about the firewall: take the rest away"
    );
    assert_eq!(
        step("do = \"link\"\nsite = \"office\"\nmtu = 1000"),
        "x.toml:44:7: `step.2.mtu`: an MTU of 1000 is below 1280, the least that IPv6 allows: raise it"
    );
    assert_eq!(
        step("do = \"link\"\ncarrier = \"cgn\""),
        "x.toml:43:11: `step.2.carrier`: unknown carrier \"cgn\": there are no carriers"
    );
    assert_eq!(
        step("do = \"restart\"\nwhat = \"nmss\""),
        "x.toml:43:8: `step.2.what`: unknown value \"nmss\": did you mean \"nms\"? The values are \"as\", \"nms\", \"trs\", \"alice\", \"bob\""
    );
}
