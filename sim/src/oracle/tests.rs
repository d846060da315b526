use cyphonic_scenarios::{first_cell, two_nodes};

use super::*;

/// Two homes, each with these keys, and a node in each.
fn scene(top: &str, sites: [&str; 2]) -> Scenario {
    let echo = "[[step]]\ndo = \"start\"\n[[step]]\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\n";
    let text = two_nodes(top, sites, echo);
    first_cell("scene", &text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn verdict(scenario: &Scenario) -> Verdict {
    judge(scenario, End::start(scenario, 0), End::start(scenario, 1))
}

/// The results of alice dialing bob and of bob dialing alice, over IPv4.
fn over_v4(top: &str, sites: [&str; 2]) -> [Result<Success, Obstacle>; 2] {
    over(Family::Ipv4, top, sites)
}

fn over(family: Family, top: &str, sites: [&str; 2]) -> [Result<Success, Obstacle>; 2] {
    let scenario = scene(top, sites);
    let verdict = verdict(&scenario);
    let of = |dialer| {
        let mine = |attempt: &&Attempt| (attempt.dialer, attempt.medium) == (dialer, Medium::Core(family));
        verdict.attempts.iter().find(mine).expect("every way is judged").result
    };
    [of(0), of(1)]
}

const P: &str = "kind = \"ipv4-global\"";
const F: &str = "kind = \"ipv4-global\"\nfirewall = {}";
const FC: &str = "kind = \"ipv4-private\"\nnat = { filtering = \"endpoint-independent\" }";
const RC: &str = "kind = \"ipv4-private\"\nnat = { filtering = \"address-dependent\" }";
const PR: &str = "kind = \"ipv4-private\"";
const SY: &str = "kind = \"ipv4-private\"\nnat = { mapping = \"address-and-port-dependent\" }";
const ALL: [(&str, &str); 6] = [("P", P), ("F", F), ("FC", FC), ("RC", RC), ("PR", PR), ("SY", SY)];

#[test]
fn the_table_of_who_dials_whom_comes_out() {
    let row = |(dialer, from): (&str, &str)| {
        let cells = ALL.map(|(_, to)| match over_v4("", [from, to])[0] {
            Ok(Success::Open) => "yes",
            Ok(Success::Punched) => "punched",
            Err(_) => "no",
        });
        format!("{dialer:2} {}\n", cells.join(" "))
    };
    let table: Vec<String> = ALL.into_iter().map(row).collect();
    let expected = "\
P  yes punched yes punched punched no
F  yes punched yes punched punched no
FC yes punched yes punched punched no
RC yes punched yes punched punched no
PR yes punched yes punched punched no
SY yes no yes punched no no
";
    assert_eq!(table.concat(), expected);
}

/// The nine NATs of RFC 4787: three mappings, each with three filters.
#[test]
fn of_the_81_pairs_of_nats_those_are_direct_of_which_one_lets_the_other_in() {
    const WORDS: [&str; 3] = ["endpoint-independent", "address-dependent", "address-and-port-dependent"];
    let nats: Vec<(usize, usize)> = (0..3).flat_map(|m| (0..3).map(move |f| (m, f))).collect();
    let site = |(m, f): (usize, usize)| {
        let keys = format!("mapping = \"{}\", filtering = \"{}\", ports = \"random\"", WORDS[m], WORDS[f]);
        format!("kind = \"ipv4-private\"\nnat = {{ {keys} }}")
    };
    // A filter by address and port admits only an endpoint-independent dialer. A filter by address admits any dialer
    // with one address. An open one admits all.
    let dials = |(dm, df): (usize, usize), (lm, lf): (usize, usize)| match lm {
        0 => lf < 2 || dm == 0,
        _ => lf == 0 && df < 2,
    };
    let mut direct = 0;
    for a in &nats {
        for b in &nats {
            let is_direct = verdict(&scene("", [&site(*a), &site(*b)])).is_direct();
            assert_eq!(is_direct, dials(*a, *b) || dials(*b, *a), "{a:?} {b:?}");
            direct += usize::from(is_direct);
        }
    }
    assert_eq!(direct, 45);
}

#[test]
fn a_direct_path_needs_one_who_may_dial() {
    let is_direct = |sites| verdict(&scene("", sites)).is_direct();
    assert!(is_direct([SY, P]) && is_direct([P, SY]) && is_direct([SY, RC]) && is_direct([PR, PR]));
    assert!(!is_direct([SY, SY]) && !is_direct([SY, PR]) && !is_direct([SY, F]));
    let scenario = scene("", [P, SY]);
    assert!(!verdict(&scenario).may_dial(0, Medium::Core(Family::Ipv4)));
    assert!(verdict(&scenario).may_dial(1, Medium::Core(Family::Ipv4)));
}

#[test]
fn in_one_site_everybody_meets_on_the_lan() {
    let mut scenario = scene("", [SY, SY]);
    scenario.nodes[1].interfaces[0].site = 0;
    let verdict = verdict(&scenario);
    assert!(verdict.may_dial(0, Medium::Lan) && verdict.may_dial(1, Medium::Lan) && verdict.attempts.len() == 2);
}

#[test]
fn families_meet_only_in_one_that_works() {
    let both = [Err(Obstacle::NoFamily); 2];
    let (v6, dual) = ("kind = \"ipv6\"", "kind = \"dual-stack\"");
    assert_eq!(over_v4("", [v6, P]), both);
    assert_eq!(over(Family::Ipv6, "", [v6, P]), both);
    assert_eq!(over(Family::Ipv6, "", [v6, dual]), [Ok(Success::Open); 2]);
    let broken = "kind = \"dual-stack\"\nbroken = \"ipv6\"";
    assert_eq!(over(Family::Ipv6, "", [broken, dual]), [Err(Obstacle::Broken); 2]);
    assert_eq!(over(Family::Ipv4, "", [broken, dual]), [Ok(Success::Open); 2]);
}

#[test]
fn translators_of_ipv6_are_nats_or_none() {
    let (v6, npt, nat66) = ("kind = \"ipv6\"", "kind = \"ipv6\"\nnptv6 = {}", "kind = \"ipv6\"\nnat66 = {}");
    assert_eq!(over(Family::Ipv6, "", [v6, npt]), [Ok(Success::Open); 2]);
    assert_eq!(over(Family::Ipv6, "", [v6, nat66]), [Ok(Success::Punched), Ok(Success::Open)]);
    let nat64 = "kind = \"ipv6\"\nnat64 = { mapping = \"address-dependent\" }";
    assert_eq!(over_v4("", [nat64, P]), [Ok(Success::Open), Err(Obstacle::ListenerUnsteady)]);
}

#[test]
fn a_pool_of_addresses_hides_a_symmetric_dialer_unless_it_is_paired() {
    let pool =
        "kind = \"ipv4-private\"\nnat = { mapping = \"address-dependent\", addresses = 2, pooling = \"arbitrary\" }";
    assert_eq!(over_v4("", [pool, RC])[0], Err(Obstacle::DialerAddress));
    assert_eq!(over_v4("", [&pool.replace("arbitrary", "paired"), RC])[0], Ok(Success::Punched));
    // Endpoint-independent mapping has one address, however many the NAT has.
    let steady = pool.replace("address-dependent", "endpoint-independent");
    assert_eq!(over_v4("", [&steady, RC])[0], Ok(Success::Punched));
}

#[test]
fn a_nat_that_replies_through_the_same_mapping_is_dialed_if_nothing_filters() {
    let keys = "mapping = \"address-dependent\", reuses_inbound = true, filtering = ";
    let nat = |filtering: &str| format!("kind = \"ipv4-private\"\nnat = {{ {keys}\"{filtering}\" }}");
    assert_eq!(over_v4("", [P, &nat("endpoint-independent")])[0], Ok(Success::Open));
    assert_eq!(over_v4("", [P, &nat("address-dependent")])[0], Err(Obstacle::ListenerUnsteady));
}

#[test]
fn firewalls_let_out_only_what_they_know() {
    let only = "kind = \"ipv4-global\"\nfirewall = { mode = \"only-443\" }";
    // Both methods may send to port 443. If a NAT gives the listener another port, the dialer may not send to it.
    assert_eq!(over_v4("", [only, F])[0], Ok(Success::Punched));
    let random = "kind = \"ipv4-private\"\nnat = { ports = \"random\", filtering = \"endpoint-independent\" }";
    assert_eq!(over_v4("", [only, random]), [Err(Obstacle::DialerEgress), Err(Obstacle::ListenerEgress)]);
    // A conversation that begins outside goes on, even if no conversation may begin inside.
    let lets_in = "kind = \"ipv4-global\"\nfirewall = { stateful = false, egress = [\"udp/443\", \"tcp/443\"] }";
    assert_eq!(over_v4("", [random, lets_in])[0], Ok(Success::Open));
    let blocked = [Err(Obstacle::NoSignaling); 2];
    assert_eq!(over_v4("", ["kind = \"ipv4-global\"\nfirewall = { mode = \"web\" }", P]), blocked);
    assert_eq!(over_v4("method = \"conventional\"", [only, P]), blocked, "4501 is not 443");
    assert_eq!(over_v4("method = \"conventional\"\nport = 443", [only, P]), [Ok(Success::Open), Ok(Success::Punched)]);
}

#[test]
fn inspection_is_about_how_a_method_begins_and_with_whom() {
    let inspecting =
        |rule: &str| format!("kind = \"ipv4-global\"\nfirewall = {{ stateful = false, inspect = [{rule}] }}");
    let quic = inspecting("{ quic = true, reaction = \"drop\" }");
    assert_eq!(over_v4("", [&quic, P]), [Err(Obstacle::NoSignaling); 2]);
    assert_eq!(over_v4("method = \"conventional\"", [&quic, P]), [Ok(Success::Open); 2]);
    let bob = inspecting("{ sni = \"bob.cyphonic.test\", reaction = \"reject\" }");
    assert_eq!(over_v4("", [&bob, P]), [Err(Obstacle::Inspected), Ok(Success::Open)]);
    assert_eq!(over_v4("", [P, &bob]), [Err(Obstacle::Inspected), Ok(Success::Open)]);
    let slow = inspecting("{ alpn = \"h3\", reaction = \"throttle\", rate_kbps = 64.0 }");
    assert_eq!(over_v4("", [&slow, P]), [Ok(Success::Open); 2]);
}

#[test]
fn a_carrier_adds_its_rules_and_turns_packets_back_only_as_from_outside() {
    let carrier = |keys: &str| format!("[[carrier]]\nname = \"cgn\"\n{keys}\n");
    let home = format!("{FC}\ncarrier = \"cgn\"");
    // The strictest filter and every mapping count.
    assert_eq!(over_v4(&carrier(""), [P, &home])[0], Ok(Success::Punched));
    let symmetric = carrier("mapping = \"address-and-port-dependent\"");
    assert_eq!(over_v4(&symmetric, [P, &home]), [Err(Obstacle::ListenerUnsteady), Ok(Success::Open)]);
    let shared = |hairpin: &str| over_v4(&carrier(&format!("hairpin = \"{hairpin}\"")), [&home, &home]);
    assert_eq!(shared("off"), [Err(Obstacle::NoHairpin); 2]);
    assert_eq!(shared("internal-source"), [Err(Obstacle::InternalHairpin); 2]);
    assert_eq!(shared("external-source"), [Ok(Success::Punched); 2]);
    // IPv6 passes the carrier without a NAT.
    let dual = "kind = \"dual-stack-private-v4\"\ncarrier = \"cgn\"";
    assert_eq!(over(Family::Ipv6, &carrier(""), [dual, dual]), [Ok(Success::Open); 2]);
}

#[test]
fn reasons_are_sentences() {
    let scenario = scene("", [P, SY]);
    let attempt = verdict(&scenario).attempts[2];
    assert_eq!(attempt.medium.to_string(), "IPv4");
    let Err(obstacle) = attempt.result else { panic!("{attempt:?}") };
    assert_eq!(obstacle.to_string(), "the listener's NAT has another port for each peer, and a filter is in the way");
}
