//! Sweeps, `--set`, addresses and defaults.

use std::time::Duration;

use cyphonic_core::message::{Framing, RelayMode};
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{
    Action, Congestion, Dependence, Document, Engine, Family, Hairpin, HostClock, LinkAt, Login, Measure, Method,
    NatAt, Plan, Policy, PortChoice, Queue, Reaction, Refusal, Role, Scenario, ServiceName, SiteKind, SiteV4, SiteV6,
    Trait,
};
use proptest::prelude::*;

const BARE: &str = r#"
title = "t"
about = "a"
measure = "rtt"

[[site]]
name = "a"
kind = "ipv6"

[[site]]
name = "b"
kind = "ipv4-private"

[[node]]
name = "alice"
site = "a"

[[node]]
name = "bob"
site = "b"

[[step]]
do = "start"

[[step]]
do = "echo"
from = "alice"
to = "bob"
"#;

fn plan(more: &str, sets: &[(&str, &str)]) -> Plan {
    let sets: Vec<(String, String)> = sets.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let document = Document::parse("x.toml", &format!("{BARE}{more}")).unwrap();
    Plan::expand(&document, &sets).unwrap_or_else(|error| panic!("{error}"))
}

fn one(more: &str, sets: &[(&str, &str)]) -> Scenario {
    let mut plan = plan(more, sets);
    assert_eq!(plan.cells.len(), 1);
    plan.cells.remove(0).scenario
}

fn values(plan: &Plan) -> Vec<String> {
    let words = |cell: &cyphonic_scenarios::Cell| cell.labels.iter().map(|(_, v)| v.clone()).collect::<Vec<_>>();
    plan.cells.iter().map(|cell| words(cell).join(" ")).collect()
}

#[test]
fn what_is_left_out_has_its_default() {
    let s = one("", &[]);
    assert_eq!((s.seeds.clone(), s.engine, s.measure), (1..=1, Engine::Turmoil, Measure::Rtt));
    assert_eq!((s.method, s.framing, s.port), (Method::Proposed, Framing::Compact, 443));
    assert_eq!((s.login, s.policy, s.relay_mode), (Login::Certificate, Policy::Paper, RelayMode::Blind));
    assert_eq!((s.tun_mtu, s.duration_limit), (1280, Duration::from_secs(300)));
    let way = &s.sites[0].link.up;
    assert_eq!((way.delay, way.jitter, way.queue), (ms(1), ms(0), Queue::Time(ms(100))));
    assert_eq!((way.loss, way.rate_bps, way.mtu), (0.0, None, 1500));
    assert_eq!((way.burst_loss, way.reorder, way.duplicate, way.corrupt), (None, 0.0, 0.0, 0.0));
    assert!(!way.black_hole);
    assert_eq!(s.services.nms.link, s.sites[0].link);
    assert_eq!(s.sites[0].firewall, None);
    assert_eq!(s.steps[0].action, Action::Start { nodes: vec![0, 1], give_up: None });
    let Action::Echo(echo) = s.steps[1].action else { panic!("{:?}", s.steps[1]) };
    assert_eq!((echo.count, echo.interval, echo.payload_bytes, echo.pair.family), (1, ms(1000), 56, Family::Ipv6));
    assert_eq!(s.node("bob"), s.node("bob.cyphonic.test"));
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn the_method_follows_from_the_framing_and_the_port_from_the_method() {
    for (framing, method, port) in [
        ("udp4501", Method::Conventional, 4501),
        ("stream", Method::Proposed, 443),
        ("datagram", Method::Proposed, 443),
        ("compact", Method::Proposed, 443),
    ] {
        let s = one("", &[("framing", framing)]);
        assert_eq!((s.method, s.framing.name(), s.port), (method, framing, port));
    }
    assert_eq!(one("", &[("method", "conventional")]).framing, Framing::Udp4501);
}

#[test]
fn the_congestion_control_follows_from_the_framing_unless_it_is_named() {
    let of = |framing, more: &str| one(more, &[("framing", framing)]).congestion;
    assert_eq!(["udp4501", "datagram", "compact"].map(|framing| of(framing, "")), [Congestion::None; 3]);
    assert_eq!(of("stream", ""), Congestion::NewReno);
    assert_eq!(one("", &[("framing", "stream"), ("congestion", "none")]).congestion, Congestion::None);
    assert_eq!(one("", &[("congestion", "new-reno")]).congestion, Congestion::NewReno);
}

#[test]
fn a_step_with_a_spread_starts_at_a_moment_of_the_seed_and_a_skipped_one_does_nothing() {
    let step = "[[step]]\ndo = \"move\"\nat_ms = 2500\nspread_ms = 100\nnode = \"alice\"\nto = \"b\"";
    let s = one(step, &[]);
    let ms: Vec<u64> = (1..=200).map(|seed| s.steps[2].starts(seed, 2).unwrap().as_nanos() / 1_000_000).collect();
    assert!(ms.iter().all(|ms| (2500..=2600).contains(ms)), "{ms:?}");
    assert!(ms.iter().any(|ms| *ms < 2510) && ms.iter().any(|ms| *ms > 2590), "{ms:?}");
    let mean = ms.iter().sum::<u64>() as f64 / 200.0;
    assert!((2540.0..2560.0).contains(&mean), "{mean}");
    assert_eq!(s.steps[2].starts(7, 2), one(step, &[("framing", "stream")]).steps[2].starts(7, 2));
    assert_eq!(s.steps[1].starts(7, 1), None);
    let skipped = one(&format!("{step}\nskip = true"), &[]);
    assert_eq!(skipped.steps[2].action, Action::Wait(Duration::ZERO));
    assert_eq!(skipped.steps[2].starts(7, 2), s.steps[2].starts(7, 2));
}

#[test]
fn addresses_are_given_out_by_order() {
    let s = one("[[site]]\nname = \"c\"\nkind = \"dual-stack\"\n[[node]]\nname = \"carol\"\nsite = \"c\"", &[]);
    assert_eq!(s.services.nms.v6.to_string(), "2001:db8::3");
    assert_eq!(s.services.trs.v4.to_string(), "192.0.2.4");
    assert_eq!(s.nodes[0].interfaces[0].v6.unwrap().to_string(), "2001:db8:1::2");
    assert_eq!(s.sites[0].router_v6().unwrap().to_string(), "2001:db8:1::1");
    let Some(SiteV4::Private { lan, nat }) = &s.sites[1].v4 else { panic!("{:?}", s.sites[1]) };
    assert_eq!((lan.to_string(), nat.outside.to_string()), ("192.168.2.0/24".into(), "203.0.113.1".into()));
    assert_eq!(s.nodes[1].interfaces[0].v4.unwrap().to_string(), "192.168.2.2");
    assert_eq!(s.sites[1].router_v4().unwrap().to_string(), "192.168.2.1");
    assert_eq!(s.nodes[2].interfaces[0].v4.unwrap().to_string(), "203.0.113.18");
    assert_eq!(s.nodes[2].interfaces[0].v6.unwrap().to_string(), "2001:db8:2::2");
}

#[test]
fn prefixes_of_the_file_come_first_and_two_homes_may_have_the_same_lan() {
    let s = one(
        "[[site]]\nname = \"c\"\nkind = \"dual-stack\"\nv4 = \"203.0.113.0/28\"\nv6 = \"2001:db8:1::/48\"\n\
         [[site]]\nname = \"d\"\nkind = \"ipv4-private\"\nv4 = \"192.168.2.0/24\"",
        &[],
    );
    assert_eq!(s.sites[0].v6.as_ref().unwrap().prefix().to_string(), "2001:db8:2::/64");
    let Some(SiteV4::Private { nat, .. }) = &s.sites[1].v4 else { panic!("{:?}", s.sites[1]) };
    assert_eq!(nat.outside.to_string(), "203.0.113.17");
    assert_eq!(s.sites[1].v4.as_ref().unwrap().prefix(), s.sites[3].v4.as_ref().unwrap().prefix());
}

#[test]
fn a_node_that_moves_has_an_address_there_and_its_old_one_when_it_comes_back() {
    let s = one(
        "[[step]]\ndo = \"move\"\nat_ms = 2500\nnode = \"alice\"\nto = \"b\"\n[[step]]\ndo = \"move\"\nnode = \"alice\"\nto = \"a\"",
        &[],
    );
    let Action::Move { node: 0, to } = s.steps[2].action else { panic!("{:?}", s.steps[2]) };
    assert_eq!((to.site, to.v4.unwrap().to_string(), to.v6), (1, "192.168.2.3".to_owned(), None));
    assert_eq!((s.steps[2].at, s.steps[3].at), (Some(Instant::from_millis(2500)), None));
    assert_eq!(s.steps[3].action, Action::Move { node: 0, to: s.nodes[0].interfaces[0] });
}

#[test]
fn a_link_is_the_same_both_ways_but_for_what_one_way_says() {
    let more = "[[site]]\nname = \"c\"\nkind = \"ipv6\"\nlink = { delay_ms = 5, rate_mbps = 1.5, up = { loss = 0.1, delay_ms = 7.25 } }";
    let s = one(more, &[]);
    let link = &s.sites[2].link;
    assert_eq!((link.up.delay, link.up.loss), (Duration::from_micros(7250), 0.1));
    assert_eq!((link.down.delay, link.down.loss), (ms(5), 0.0));
    assert_eq!((link.up.rate_bps, link.down.rate_bps), (Some(1_500_000), Some(1_500_000)));
}

#[test]
fn the_first_key_of_a_sweep_changes_slowest_whatever_its_name() {
    let plan = plan("[sweep]\nport = [2, 1]\n\"site.a.kind\" = [\"ipv6\", \"dual-stack\"]\nengine = [\"events\"]", &[]);
    assert_eq!(plan.columns, ["port", "a_kind", "engine"]);
    let expected = ["2 ipv6 events", "2 dual-stack events", "1 ipv6 events", "1 dual-stack events"];
    assert_eq!(values(&plan), expected);
    assert_eq!(
        plan.header(),
        ["port", "a_kind", "engine", "seed", "step", "initiator", "responder", "probe", "rtt_ms"]
    );
    assert_eq!(plan.cells[1].scenario.sites[0].kind, SiteKind::DualStack);
    assert_eq!(plan.cells[1].scenario.port, 2);
}

#[test]
fn keys_of_a_sweep_need_no_quotes_and_keep_their_order() {
    let plan = plan("[sweep]\nsite.b.link.delay_ms = [1, 2.5]\nmethod = [\"proposed\"]\nsite.a.link.mtu = [1280]", &[]);
    assert_eq!(plan.columns, ["b_delay_ms", "method", "a_mtu"]);
    assert_eq!(values(&plan), ["1 proposed 1280", "2.5 proposed 1280"]);
    assert_eq!(plan.cells[1].scenario.sites[1].link.down.delay, Duration::from_micros(2500));
}

#[test]
fn keys_that_go_together_are_not_crossed() {
    let sweep = "[sweep]\n\"method, login\" = [[\"conventional\", \"password\"], [\"proposed\", \"certificate\"]]\nport = [1, 2]";
    let plan = plan(sweep, &[]);
    assert_eq!(plan.columns, ["method", "login", "port"]);
    let expected =
        ["conventional password 1", "conventional password 2", "proposed certificate 1", "proposed certificate 2"];
    assert_eq!(values(&plan), expected);
}

#[test]
fn a_sweep_replaces_whole_tables_and_lists() {
    let sweep = "[sweep]\nsite.a.firewall.egress = [[\"udp/443\", \"tcp\"], []]\nservices.as = [{ delay_ms = 9 }]";
    let plan = plan(sweep, &[]);
    assert_eq!(values(&plan), ["udp/443+tcp delay_ms=9", " delay_ms=9"]);
    assert_eq!(plan.columns, ["a_egress", "services_as"]);
    let firewall = plan.cells[0].scenario.sites[0].firewall.as_ref().unwrap();
    assert!(firewall.stateful);
    assert_eq!(firewall.egress.as_ref().unwrap()[0].port, Some(443));
    assert_eq!(plan.cells[1].scenario.sites[0].firewall.as_ref().unwrap().egress, Some(Vec::new()));
}

#[test]
fn columns_that_would_meet_keep_their_whole_path() {
    let plan = plan("[sweep]\nsite.a.link.up.loss = [0]\nsite.a.link.down.loss = [0]\nstep.1.count = [1]", &[]);
    assert_eq!(plan.columns, ["site_a_link_up_loss", "site_a_link_down_loss", "count"]);
}

#[test]
fn a_set_puts_a_value_into_every_cell() {
    let sets = [
        ("site.b.link.delay_ms", "7"),
        ("seeds", "3..5"),
        ("site.a.v6", "2001:db8:9::/64"),
        ("method", "\"conventional\""),
    ];
    let plan = plan("[sweep]\nport = [1, 2]", &sets);
    assert_eq!((plan.seeds.clone(), plan.cells.len()), (3..=5, 2));
    for cell in &plan.cells {
        assert_eq!(cell.scenario.sites[1].link.up.delay, ms(7));
        assert_eq!(cell.scenario.sites[0].v6.as_ref().unwrap().prefix().to_string(), "2001:db8:9::/64");
        assert_eq!(cell.scenario.method, Method::Conventional);
    }
}

#[test]
fn a_set_of_a_swept_key_leaves_that_value_and_its_column() {
    let set = plan("[sweep]\nport = [1, 2]\nmethod = [\"proposed\"]", &[("port", "77")]);
    assert_eq!(
        (set.columns.clone(), values(&set)),
        (vec!["port".to_owned(), "method".to_owned()], vec!["77 proposed".into()])
    );
    let together = "[sweep]\n\"method, login\" = [[\"conventional\", \"password\"], [\"conventional\", \"certificate\"], [\"proposed\", \"certificate\"]]";
    assert_eq!(
        values(&plan(together, &[("login", "certificate")])),
        ["conventional certificate", "proposed certificate"]
    );
}

#[test]
fn a_set_can_make_or_replace_a_sweep() {
    let made = plan("", &[("sweep.site.a.link.loss", "[0, 0.1]")]);
    assert_eq!((made.columns.clone(), values(&made)), (vec!["a_loss".to_owned()], vec!["0".into(), "0.1".into()]));
    let replaced = plan("[sweep]\nport = [1, 2]", &[("sweep.port", "[3]"), ("sweep.method", "[\"proposed\"]")]);
    assert_eq!(values(&replaced), ["3 proposed"]);
}

#[test]
fn a_file_without_a_sweep_is_one_cell_without_labels() {
    let plan = plan("", &[]);
    assert_eq!((plan.name.as_str(), plan.cells.len()), ("x", 1));
    assert!(plan.columns.is_empty() && plan.cells[0].labels.is_empty());
}

proptest! {
    /// Every combination comes once, in the order of nested loops.
    #[test]
    fn a_sweep_is_nested_loops(ports in 1..6_u16, mtus in 1280..1286_u16, counts in 1..5_u32) {
        let list = |numbers: Vec<u32>| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let (ports, mtus): (Vec<u32>, Vec<u32>) = ((1..=ports.into()).collect(), (1280..=mtus.into()).collect());
        let counts: Vec<u32> = (1..=counts).collect();
        let sweep = format!(
            "[sweep]\nport = [{}]\ntun_mtu = [{}]\n\"step.1.count\" = [{}]",
            list(ports.clone()), list(mtus.clone()), list(counts.clone())
        );
        let mut expected = Vec::new();
        for port in &ports {
            for mtu in &mtus {
                expected.extend(counts.iter().map(|count| format!("{port} {mtu} {count}")));
            }
        }
        prop_assert_eq!(values(&plan(&sweep, &[])), expected);
    }
}

#[test]
fn every_word_about_paths_and_boxes_arrives() {
    let s = one(
        "",
        &[
            (
                "site.b.link",
                "{ burst_loss = { enter = 0.1, leave = 0.5 }, reorder = 0.2, down = { black_hole = true } }",
            ),
            ("site.b.nat", "{ addresses = 3, ports = \"overloading\", lifetime_s = 9, hairpin = \"external-source\" }"),
            (
                "site.b.firewall",
                "{ mode = \"only-443\", inspect = [{ sni = \"NMS.test\", reaction = \"throttle\", rate_kbps = 64.0 }] }",
            ),
        ],
    );
    let link = &s.sites[1].link;
    let burst = link.down.burst_loss.unwrap();
    assert_eq!((burst.enter, burst.leave, burst.loss_good, burst.loss_bad), (0.1, 0.5, 0.0, 1.0));
    assert_eq!((link.up.reorder, link.up.reorder_by), (0.2, ms(10)));
    assert_eq!((link.up.black_hole, link.down.black_hole), (false, true));
    let Some(SiteV4::Private { nat, .. }) = &s.sites[1].v4 else { panic!("{:?}", s.sites[1]) };
    assert_eq!(nat.more_outside.iter().map(ToString::to_string).collect::<Vec<_>>(), ["203.0.113.2", "203.0.113.3"]);
    assert_eq!((nat.ports, nat.hairpin), (PortChoice::Overloading, Hairpin::ExternalSource));
    assert_eq!((nat.lifetime, nat.flush), (Some(ms(9000)), None));
    let firewall = s.sites[1].firewall.as_ref().unwrap();
    assert_eq!((firewall.stateful, firewall.egress.as_ref().unwrap().len()), (true, 2));
    let rule = &firewall.inspect[0];
    assert_eq!((&rule.what, rule.reaction), (&Trait::ServerName("nms.test".into()), Reaction::Throttle));
    assert_eq!(rule.throttle.rate_bps, 64_000);
}

/// A carrier with two homes, and a site behind each translator of IPv6.
const TRANSLATED: &str = r#"
policy = "optimal"
[[carrier]]
name = "cgn"
hairpin = "external-source"
addresses = 2
link = { delay_ms = 3 }
[[site]]
name = "c"
kind = "dual-stack-private-v4"
carrier = "cgn"
broken = "ipv4"
link = { rate_mbps = 1, queue_bytes = 9000, down = { queue_ms = 5 } }
nptv6 = {}
[[site]]
name = "d"
kind = "ipv6"
nat66 = { mapping = "address-dependent", addresses = 2 }
[[site]]
name = "e"
kind = "ipv6"
nat64 = { filtering = "endpoint-independent" }
firewall = { mode = "only-443", reaction = "reject" }
[[node]]
name = "carol"
site = "c"
[[node]]
name = "dave"
site = "d"
"#;

#[test]
fn translators_and_carriers_have_their_addresses() {
    // The policy stands at the top of the file.
    let (top, rest) = TRANSLATED.trim_start().split_once('\n').unwrap();
    let document = Document::parse("x.toml", &format!("{top}{BARE}{rest}")).unwrap();
    let s = Plan::expand(&document, &[]).unwrap().cells.remove(0).scenario;
    assert_eq!(s.policy, Policy::Optimal);
    let carrier = &s.carriers[0];
    assert_eq!(carrier.nat.addresses().map(|a| a.to_string()).collect::<Vec<_>>(), ["203.0.113.1", "203.0.113.2"]);
    assert_eq!((carrier.nat.hairpin, carrier.link.up.delay), (Hairpin::ExternalSource, ms(3)));
    let [_, _, c, d, e] = &s.sites[..] else { panic!("{:?}", s.sites) };
    let Some(SiteV4::Private { nat, .. }) = &c.v4 else { panic!("{c:?}") };
    assert_eq!((nat.outside.to_string(), c.carrier, c.broken), ("100.64.2.1".into(), Some(0), Some(Family::Ipv4)));
    assert_eq!((c.link.up.queue, c.link.down.queue), (Queue::Bytes(9000), Queue::Time(ms(5))));
    let Some(SiteV6::Prefix { inside, outside }) = &c.v6 else { panic!("{c:?}") };
    assert_eq!((inside.to_string(), outside.to_string()), ("fd00:0:3::/64".into(), "2001:db8:2::/64".into()));
    let Some(SiteV6::Private { lan, nat }) = &d.v6 else { panic!("{d:?}") };
    assert_eq!((lan.to_string(), nat.mapping), ("fd00:0:4::/64".into(), Dependence::Address));
    assert_eq!(nat.addresses().map(|a| a.to_string()).collect::<Vec<_>>(), ["2001:db8:3::1", "2001:db8:3::2"]);
    assert_eq!(e.nat64_prefix().unwrap().to_string(), "64:ff9b::/96");
    assert!(e.nat64.as_ref().unwrap().nat.outside.is_ipv4());
    assert_eq!(e.firewall.as_ref().unwrap().refusal, Refusal::Reject);
    assert_eq!(s.nodes[2].interfaces[0].v6.unwrap().to_string(), "fd00:0:3::2");
    assert_eq!(s.nodes[3].interfaces[0].v6.unwrap().to_string(), "fd00:0:4::2");
    assert_eq!((s.sites[0].nat64_prefix(), s.sites[0].carrier, s.sites[0].broken), (None, None, None));
}

#[test]
fn steps_reach_for_the_network() {
    let s = one(
        r#"
[[carrier]]
name = "cgn"
[[step]]
do = "nat_reboot"
site = "b"
[[step]]
do = "nat_reboot"
carrier = "cgn"
[[step]]
do = "firewall"
site = "a"
off = true
at_ms = 5000
[[step]]
do = "firewall"
site = "a"
mode = "only-tcp-443"
[[step]]
do = "link"
service = "trs"
delay_ms = 7
[[step]]
do = "link_down"
site = "a"
[[step]]
do = "link_up"
carrier = "cgn"
[[step]]
do = "restart"
what = "nms"
[[step]]
do = "restart"
what = "bob"
[[step]]
do = "stop"
node = "bob"
[[step]]
do = "revoke"
node = "alice"

[[step]]
do = "expire"
node = "alice"

[[step]]
do = "renew"
node = "alice"

[[step]]
do = "renew"
node = "bob"
running = true

[[step]]
do = "pause"
what = "trs"
ms = 300

[[step]]
do = "suspend"
what = "alice"
ms = 4000
clock = "monotonic"

[[step]]
do = "clock"
what = "bob"
step_s = -3600

[[step]]
do = "disk_full"

[[step]]
do = "disk_free"
"#,
        &[("site.a.firewall", "{}"), ("step.0.give_up_s", "20")],
    );
    let actions: Vec<&Action> = s.steps.iter().map(|step| &step.action).collect();
    assert_eq!(*actions[0], Action::Start { nodes: vec![0, 1], give_up: Some(ms(20_000)) });
    assert_eq!(*actions[2], Action::NatReboot(NatAt::Site(1)));
    assert_eq!(*actions[3], Action::NatReboot(NatAt::Carrier(0)));
    let Action::Firewall { site: 0, firewall } = actions[4] else { panic!("{:?}", actions[4]) };
    assert_eq!((firewall.stateful, &firewall.egress, s.steps[4].at), (false, &None, Some(Instant::from_millis(5000))));
    let Action::Firewall { site: 0, firewall } = actions[5] else { panic!("{:?}", actions[5]) };
    assert_eq!((firewall.stateful, firewall.egress.as_ref().unwrap().len()), (true, 1));
    let Action::Link { at: LinkAt::Service(ServiceName::Trs), link } = actions[6] else { panic!("{:?}", actions[6]) };
    assert_eq!((link.up.delay, link.down.mtu), (ms(7), 1500));
    assert_eq!(*actions[7], Action::LinkUp { at: LinkAt::Site(0), up: false });
    assert_eq!(*actions[8], Action::LinkUp { at: LinkAt::Carrier(0), up: true });
    assert_eq!(*actions[9], Action::Restart(Role::Service(ServiceName::Nms)));
    assert_eq!(*actions[10], Action::Restart(Role::Node(1)));
    assert_eq!(*actions[11], Action::Stop(1));
    assert_eq!(*actions[12], Action::Revoke(0));
    assert_eq!((actions[13], actions[14]), (&Action::Expire(0), &Action::Renew(0)));
    assert_eq!(*actions[15], Action::RenewRunning(1));
    assert_eq!(*actions[16], Action::Pause { role: Role::Service(ServiceName::Trs), lasts: ms(300) });
    let suspended = Action::Suspend { role: Role::Node(0), lasts: ms(4_000), clock: HostClock::Monotonic };
    assert_eq!(*actions[17], suspended);
    assert_eq!(*actions[18], Action::Clock { role: Role::Node(1), step_s: -3600 });
    assert_eq!((actions[19], actions[20]), (&Action::DiskFull(true), &Action::DiskFull(false)));
}
