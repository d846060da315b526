//! Table 2's cells can come out otherwise: each test swaps a defence, a firewall or a key, and the finding changes.

use cyphonic_scenarios::Method;
use cyphonic_sim::lab::table2::{Finding, Property, Relay, Services, Taken, impostor, passes, readable, verdict};

const CONVENTIONAL: &str = "framing = \"udp4501\"";
const PROPOSED: &str = "framing = \"stream\"\nrelay_mode = \"terminating\"";
const ONLY_443: &str = "firewall = { mode = \"only-443\" }";
const NO_QUIC: &str = "firewall = { mode = \"stateful\", inspect = [{ quic = true, reaction = \"drop\" }] }";
const GLOBAL: &str = "ipv4-global";

#[test]
fn a_firewall_decides_who_communicates_and_another_one_decides_otherwise() {
    let through = |settings, firewall| passes(settings, firewall, GLOBAL, GLOBAL).unwrap();
    assert_eq!(through(CONVENTIONAL, ""), (3, Some(1)));
    assert_eq!(through(CONVENTIONAL, ONLY_443), (0, None));
    assert_eq!(through(PROPOSED, ONLY_443), (3, Some(1)));
    assert_eq!(through(CONVENTIONAL, NO_QUIC), (3, Some(1)));
    assert_eq!(through(PROPOSED, NO_QUIC), (0, None), "the paper: not affected by firewalls");
}

#[test]
fn an_impostor_needs_the_services_help_and_in_the_proposed_method_a_certificate_as_well() {
    assert_eq!(impostor(CONVENTIONAL, Services::Honest).unwrap(), 0);
    assert_eq!(impostor(CONVENTIONAL, Services::Hostile).unwrap(), 3);
    assert_eq!(impostor(PROPOSED, Services::Honest).unwrap(), 0);
    assert_eq!(impostor(PROPOSED, Services::Hostile).unwrap(), 0);
}

#[test]
fn keys_decide_who_reads_a_tunnel() {
    let read = |method, relay, pattern, taken| readable(method, relay, pattern, taken).unwrap();
    let conventional = |pattern, taken| read(Method::Conventional, Relay::Blind, pattern, taken);
    assert_eq!(conventional(1, Taken::All), 10);
    assert_eq!(conventional(1, Taken::AllLater), 0, "a new login has another common key");
    assert_eq!(conventional(3, Taken::Relay), 0);
    assert_eq!(conventional(3, Taken::RelayWithTemporary), 10, "the other reading of the paper");
    assert_eq!(read(Method::Proposed, Relay::Terminating, 1, Taken::All), 0);
    assert_eq!(read(Method::Proposed, Relay::Terminating, 3, Taken::Relay), 10);
    assert_eq!(read(Method::Proposed, Relay::Blind, 3, Taken::All), 0);
}

#[test]
fn a_verdict_follows_its_findings_and_no_others() {
    let finding = |holds, counts| Finding {
        property: Property::Visited,
        method: "proposed",
        case: String::new(),
        counts,
        holds,
        value: String::new(),
    };
    let of = |findings: &[Finding]| verdict(findings, Property::Visited, "proposed");
    assert_eq!(of(&[finding(true, true), finding(true, true)]), "yes");
    assert_eq!(of(&[finding(true, true), finding(false, true)]), "partial");
    assert_eq!(of(&[finding(false, true)]), "no");
    assert_eq!(of(&[finding(true, true), finding(false, false)]), "yes", "a variant does not count");
    let login = |holds| Finding { property: Property::Certificates, ..finding(holds, true) };
    assert_eq!(verdict(&[login(false)], Property::Certificates, "proposed"), "required");
    assert_eq!(verdict(&[login(false), login(true)], Property::Certificates, "proposed"), "optional");
}
