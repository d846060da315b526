//! Each word about the network does what it says: it is played, and its effect is checked.

mod common;

use std::collections::BTreeMap;

use common::{NAT, START, V4, play, play_with, scene_with, two_sites};
use cyphonic_core::event::Event;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::rows::{Outcome, TcpFailure};
use cyphonic_scenarios::{Engine, Over, Row, Scenario};
use cyphonic_sim::host::Loss;
use cyphonic_sim::host::apps::EchoReport;
use cyphonic_sim::measure;
use cyphonic_sim::net::{NetDrop, TapMode};
use cyphonic_sim::run::Run;
use cyphonic_sim::world::{Watch, World};

/// Echoes from Alice to Bob, one every 200 ms.
fn echoes(count: u32) -> String {
    format!("[[step]]\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\ncount = {count}\ninterval_ms = 200\n")
}

/// The number of each step's echoes that came back.
fn answered(run: &Run) -> Vec<usize> {
    run.reports().filter_map(|(_, report)| report.echo()).map(EchoReport::answered).collect()
}

fn events(scenario: &Scenario) -> Run {
    play_with(scenario, 1, Engine::Events, TapMode::Digest)
}

fn outcome(scenario: &Scenario, run: &Run) -> Outcome {
    let rows = measure::rows(scenario, run, &Watch::default()).unwrap_or_else(|error| panic!("{error}"));
    let [Row::Outcome(row)] = &rows[..] else { panic!("{rows:?}") };
    row.clone()
}

/// How often anything in the network dropped a packet on a wire, by reason.
fn wire_drops(run: &Run) -> BTreeMap<NetDrop, u64> {
    let network = run.world.network();
    let mut all = BTreeMap::new();
    for direction in network.directions() {
        for (reason, count) in network.wire_stats(direction).drops.iter() {
            *all.entry(reason).or_default() += count;
        }
    }
    all
}

#[test]
fn a_node_that_gives_up_is_an_ordinary_row() {
    for top in ["method = \"conventional\"", "method = \"proposed\""] {
        let web = "kind = \"ipv4-global\"\nfirewall = { mode = \"web\" }";
        let start = "[[step]]\ndo = \"start\"\ngive_up_s = 20\n";
        let scenario = two_sites(top, [web, "kind = \"ipv4-global\""], &format!("{start}{}", echoes(3)));
        let run = events(&scenario);
        assert!(run.complete && run.ended < Instant::from_millis(60_000), "{top}: {}", run.ended);
        assert_eq!(run.steps[0].completed, Some(Instant::from_millis(20_000)), "{top}");
        let row = outcome(&scenario, &run);
        assert_eq!((row.pattern, row.dialer, row.tcp_ok), (None, None, false), "{top}");
        assert_eq!(
            (row.echo_sent, row.echo_received),
            (3, 0),
            "{top}: what was asked for and could not be sent counts"
        );
    }
}

#[test]
fn a_transfer_of_a_node_that_gave_up_ends_too() {
    let web = "kind = \"ipv4-global\"\nfirewall = { mode = \"web\" }";
    let steps = "[[step]]\ndo = \"start\"\ngive_up_s = 20\n[[step]]\ndo = \"tcp\"\nfrom = \"alice\"\nto = \"bob\"\nbytes = 9\n\
                 [[step]]\ndo = \"tcp\"\nfrom = \"bob\"\nto = \"alice\"\nbytes = 9\n";
    let scenario = two_sites("", [web, "kind = \"ipv4-global\""], steps);
    let run = events(&scenario);
    assert!(run.complete, "{:?}", run.steps);
    let rows = measure::rows(&scenario, &run, &Watch::default()).unwrap();
    let empty = |row: &Row| matches!(row, Row::Outcome(row) if row.pattern.is_none() && !row.tcp_ok);
    assert!(rows.len() == 2 && rows.iter().all(empty), "{rows:?}");
}

#[test]
fn a_broken_family_does_not_pass_and_the_other_does() {
    let steps = format!("[[step]]\ndo = \"start\"\ngive_up_s = 60\n{}", echoes(3));
    let played = |family: &str| {
        let broken = format!("kind = \"dual-stack\"\nbroken = \"{family}\"");
        let run =
            play_with(&two_sites("", [&broken, "kind = \"dual-stack\""], &steps), 1, Engine::Events, TapMode::Keep);
        let network = run.world.network();
        let on_link = |direction| {
            let packets = network.take_tapped(direction).into_iter();
            packets.map(|tapped| tapped.packet[0] >> 4).collect::<std::collections::BTreeSet<u8>>()
        };
        let out = network.directions().find(|&d| network.wire_name(d).starts_with("alice:0>")).unwrap();
        let families = on_link(out);
        (answered(&run), families, wire_drops(&run).contains_key(&NetDrop::Swallowed))
    };
    assert_eq!(played("ipv4"), (vec![3], [6].into(), false), "nobody asked for IPv4");
    let (_, families, swallowed) = played("ipv6");
    assert!(swallowed && !families.contains(&6), "{families:?}");
}

#[test]
fn a_nat_that_reboots_forgets_and_its_host_has_another_port_then() {
    for (kind, keys) in [(NAT, "nat = { ports = \"random\" }"), ("ipv6", "nat66 = { ports = \"random\" }")] {
        let site = format!("kind = \"{kind}\"\n{keys}");
        let reboot = "[[step]]\ndo = \"nat_reboot\"\nsite = \"a\"\n";
        let other = if kind == NAT { "ipv4-global" } else { "ipv6" };
        let sites = [site.as_str(), &format!("kind = \"{other}\"")];
        // Long enough for every node to send something to the NMS.
        let rest = format!("[[step]]\ndo = \"wait\"\nms = 30000\n{}", echoes(2));
        let plain = events(&two_sites("", sites, &format!("{START}{rest}")));
        let rebooted = events(&two_sites("", sites, &format!("{START}{reboot}{rest}")));
        assert_ne!(plain.digest(), rebooted.digest(), "{kind}: what comes after has another port");
        if kind == NAT {
            assert_eq!((answered(&plain), answered(&rebooted)), (vec![2], vec![2]));
        }
    }
}

#[test]
fn a_firewall_that_closes_stops_what_is_under_way_and_lets_it_go_on_when_it_opens() {
    let site = "kind = \"ipv4-global\"\nfirewall = { stateful = false }";
    let step = |keys: &str| format!("[[step]]\ndo = \"firewall\"\nsite = \"a\"\n{keys}\n");
    let wait = "[[step]]\ndo = \"wait\"\nms = 20000\n";
    let steps = [
        START,
        &echoes(3),
        &step("egress = [\"icmp\"]\nreaction = \"drop\""),
        &echoes(3),
        &step("off = true"),
        wait,
        &echoes(3),
    ];
    for top in ["method = \"conventional\"", "method = \"proposed\""] {
        let run = events(&two_sites(top, [site, "kind = \"ipv4-global\""], &steps.concat()));
        assert_eq!(answered(&run), [3, 0, 3], "{top}");
    }
}

#[test]
fn a_link_that_changes_is_another_one_from_then_on() {
    for at in ["site = \"a\"", "service = \"trs\""] {
        let kind = if at.contains("site") { V4 } else { NAT };
        let steps = [
            START.to_owned(),
            echoes(3),
            format!("[[step]]\ndo = \"link\"\n{at}\ndelay_ms = 60\nmtu = 1400\n"),
            echoes(3),
        ];
        let run = events(&scene_with("", [kind, kind], "{ delay_ms = 5 }", &steps[1..].concat()));
        let rtts: Vec<u64> = run
            .reports()
            .filter_map(|(_, report)| report.echo())
            .map(|echo| match echo.probes.last().map(|probe| probe.outcome) {
                Some(cyphonic_sim::host::apps::ProbeOutcome::Answered { rtt_ns }) => rtt_ns / 1_000_000,
                other => panic!("{other:?}"),
            })
            .collect();
        // Relayed, a packet takes the TRS's link four times in a round trip; its own site's, twice.
        let more = if kind == NAT { 4 * 55 } else { 2 * 55 };
        assert_eq!(rtts[1], rtts[0] + more, "{at}: {rtts:?}");
    }
}

#[test]
fn a_link_that_is_down_loses_everything_until_it_is_up() {
    for at in ["site = \"b\"", "service = \"trs\""] {
        let kind = if at.contains("site") { V4 } else { NAT };
        let step = |word: &str| format!("[[step]]\ndo = \"link_{word}\"\n{at}\n");
        let steps = [echoes(3), step("down"), echoes(3), step("up"), echoes(3)].concat();
        let run = events(&scene_with("", [kind, kind], "{ delay_ms = 5 }", &steps));
        let answered = answered(&run);
        assert_eq!((answered[0], answered[1]), (3, 0), "{at}");
        assert!(answered[2] > 0, "{at}");
        assert!(wire_drops(&run)[&NetDrop::WireDown] > 0);
    }
}

#[test]
fn whoever_restarts_has_forgotten_and_starts_again() {
    for what in ["as", "nms", "trs", "alice"] {
        let restart = format!("[[step]]\ndo = \"restart\"\nwhat = \"{what}\"\n[[step]]\ndo = \"wait\"\nms = 60000\n");
        let steps = [echoes(2), restart, echoes(2)].concat();
        let run = events(&scene_with("", [NAT, NAT], "{ delay_ms = 5 }", &steps));
        assert_eq!(answered(&run), [2, 2], "{what}");
        let registered = run.events.iter().filter(|(_, host, event)| {
            host == "alice" && matches!(event, cyphonic_core::event::Event::Registered { .. })
        });
        let times = registered.count();
        assert_eq!(times, if matches!(what, "nms" | "alice") { 2 } else { 1 }, "{what}");
    }
}

#[test]
fn homes_behind_one_carrier_share_its_address_and_its_link() {
    let carrier = "[[carrier]]\nname = \"cgn\"\nlink = { delay_ms = 7 }\nflush_s = 100000\n";
    let home = "kind = \"ipv4-private\"\ncarrier = \"cgn\"";
    let steps = format!("{START}{}[[step]]\ndo = \"nat_reboot\"\ncarrier = \"cgn\"\n", echoes(3));
    let scenario = two_sites(carrier, [home, home], &steps);
    let run = events(&scenario);
    assert_eq!(answered(&run), [3]);
    let names: Vec<&String> = run.taps.keys().filter(|name| name.contains("carrier")).collect();
    assert_eq!(
        names,
        [
            "a-nat:0>cgn-carrier:1",
            "b-nat:0>cgn-carrier:2",
            "cgn-carrier:0>core:3",
            "cgn-carrier:1>a-nat:0",
            "cgn-carrier:2>b-nat:0",
            "core:3>cgn-carrier:0",
        ]
    );
    assert!(run.taps.iter().all(|(name, tap)| !name.contains("carrier") || tap.packets > 0));
}

#[test]
fn a_site_behind_a_nat64_reaches_ipv4_under_its_prefix() {
    use cyphonic_sim::net::nat::{Nat64Box, embed};
    use cyphonic_sim::net::packet::{Ip, IpOptions, udp};
    use cyphonic_sim::net::{BoxInput, NetBox};

    let site = "kind = \"ipv6\"\nnat64 = {}\nfirewall = {}";
    let scenario = two_sites("", [site, "kind = \"ipv4-global\""], &format!("{START}{}", echoes(3)));
    let watch = Watch { tap: TapMode::Keep, ..Watch::default() };
    let mut world = World::new(&scenario, 1, Engine::Events, &watch);
    let id = world.network().boxes().find(|&id| world.network().box_name(id) == "a-nat64").unwrap();
    let prefix = scenario.sites[0].nat64_prefix().unwrap();
    let bob = scenario.nodes[1].interfaces[0].v4.unwrap();
    let alice = scenario.nodes[0].interfaces[0].v6.unwrap();
    let packet = udp((alice, 9).into(), (embed(prefix, bob), 10).into(), IpOptions::default(), b"x").unwrap();
    world.engine().with(id, |now, nat: &mut Nat64Box| nat.handle_input(now, BoxInput::Packet { iface: 1, packet }));
    world.run_until(Instant::from_millis(100));
    let network = world.network();
    let direction = network.directions().find(|&d| network.wire_name(d) == "core:4>bob:0").unwrap();
    let seen = network.take_tapped(direction);
    let ip = Ip::parse(&seen[0].packet).unwrap();
    assert_eq!((ip.source, ip.destination), (scenario.sites[0].nat64.as_ref().unwrap().nat.outside, bob.into()));
    // IPv6 is not affected: the node logs in.
    assert_eq!(answered(&events(&scenario)), [3]);
}

#[test]
fn what_is_for_nobody_at_a_site_is_refused_there_and_goes_round_nowhere() {
    use cyphonic_scenarios::{SiteV4, SiteV6};
    use cyphonic_sim::net::packet::{IcmpError, IpOptions, parse_icmp_error, udp};
    use cyphonic_sim::net::{BoxInput, NetBox, Router};

    // On such wires a routing loop would multiply packets at every turn.
    let link = "link = { duplicate = 1.0 }";
    for (kind, more) in [
        ("ipv6", "firewall = { stateful = false }"),
        ("ipv6", "nptv6 = {}"),
        ("ipv4-global", "firewall = { stateful = false }"),
    ] {
        let scenario = two_sites(
            "",
            [&format!("kind = \"{kind}\"\n{more}\n{link}"), "kind = \"dual-stack\""],
            &format!("{START}{}", echoes(1)),
        );
        let (site, other) = (&scenario.sites[0], scenario.nodes[1].interfaces[0]);
        let (from, to): (std::net::IpAddr, std::net::IpAddr) = match (&site.v6, &site.v4) {
            (Some(SiteV6::Global(prefix) | SiteV6::Prefix { outside: prefix, .. }), _) => {
                let nobody = u128::from(prefix.network()) + 0x999;
                (other.v6.unwrap().into(), std::net::Ipv6Addr::from(nobody).into())
            }
            (_, Some(SiteV4::Global(prefix))) => {
                let nobody = u32::from(prefix.broadcast()) - 1;
                (other.v4.unwrap().into(), std::net::Ipv4Addr::from(nobody).into())
            }
            other => panic!("{other:?}"),
        };
        let mut world = World::new(&scenario, 1, Engine::Events, &Watch { tap: TapMode::Keep, ..Watch::default() });
        let core = world.network().boxes().find(|&id| world.network().box_name(id) == "core").unwrap();
        let packet = udp((from, 9).into(), (to, 10).into(), IpOptions::default(), b"x").unwrap();
        world.engine().with(core, |now, core: &mut Router| {
            core.handle_input(now, BoxInput::Packet { iface: 4, packet });
        });
        world.run_until(Instant::from_millis(1_000));
        let network = world.network();
        let back = network.directions().find(|&d| network.wire_name(d).starts_with("core:4>")).unwrap();
        let is_refusal = |packet: &[u8]| parse_icmp_error(packet).is_some_and(|e| e.error == IcmpError::NoRoute);
        let told = network.take_tapped(back).iter().any(|tapped| is_refusal(&tapped.packet));
        // Behind a prefix translator no error comes back: the packet is dropped silently.
        let told = told || more.starts_with("nptv6");
        assert!(told && network.hops() < 32, "{kind}, {more}: {} hops", network.hops());
    }
}

#[test]
fn blocked_egress_is_told_where_the_firewall_tells() {
    let count = |reaction: &str| {
        let site = format!("kind = \"ipv4-global\"\nfirewall = {{ mode = \"web\", reaction = \"{reaction}\" }}");
        let start = "[[step]]\ndo = \"start\"\ngive_up_s = 5\n";
        let scenario = two_sites("", [&site, "kind = \"ipv4-global\""], &format!("{start}{}", echoes(1)));
        let run = play_with(&scenario, 1, Engine::Events, TapMode::Digest);
        run.taps["a-firewall:1>a-router:0"].packets
    };
    assert_eq!(count("drop"), 0);
    assert!(count("reject") > 0 && count("reset") > 0, "ICMP: prohibited");
}

#[test]
fn both_engines_agree_on_every_word() {
    let sites = [
        "kind = \"ipv4-global\"\nfirewall = { mode = \"only-443\", reaction = \"reject\" }",
        "kind = \"ipv4-global\"\nfirewall = { mode = \"only-tcp-443\", reaction = \"reset\" }",
        "kind = \"ipv6\"\nnat64 = { ports = \"random\" }",
        "kind = \"ipv6\"\nnptv6 = {}",
        "kind = \"dual-stack-private-v4\"\nnat66 = { addresses = 3, pooling = \"arbitrary\" }\nfirewall = {}",
        "kind = \"dual-stack-private-v4\"\nnptv6 = {}\ncarrier = \"cgn\"\nbroken = \"ipv6\"",
    ];
    let carrier = "[[carrier]]\nname = \"cgn\"\nmapping = \"address-dependent\"\nports = \"random\"\nlink = { rate_mbps = 5, queue_bytes = 20000 }\n";
    let change = "[[step]]\ndo = \"link\"\nsite = \"a\"\nrate_mbps = 1\nqueue_bytes = 4000\n";
    let start = "[[step]]\ndo = \"start\"\ngive_up_s = 15\n";
    for site in sites {
        for method in ["conventional", "proposed"] {
            let top = format!("method = \"{method}\"\nport = 443\n{carrier}");
            let other = if site.contains("\"ipv6\"\n") {
                "kind = \"ipv6\""
            } else {
                "kind = \"ipv4-private\"\ncarrier = \"cgn\""
            };
            let scenario = two_sites(&top, [site, other], &format!("{start}{}{change}{}", echoes(2), echoes(2)));
            let digest = |engine| play_with(&scenario, 3, engine, TapMode::Digest).digest();
            assert_eq!(digest(Engine::Turmoil), digest(Engine::Events), "{method}: {site}");
        }
    }
}

/// A transfer of 200,000 bytes between two nodes that are not started, between their own addresses.
fn bare(sites: [&str; 2], (from, to): (&str, &str), more: &str) -> Outcome {
    let tcp = format!(
        "[[step]]\ndo = \"tcp\"\nfrom = \"{from}\"\nto = \"{to}\"\nbytes = 200000\nover = \"underlay\"\n{more}"
    );
    let scenario = two_sites("", sites, &tcp);
    let run = events(&scenario);
    let turmoil = play_with(&scenario, 1, Engine::Turmoil, TapMode::Digest);
    assert_eq!(run.digest(), turmoil.digest(), "{sites:?}");
    outcome(&scenario, &run)
}

#[test]
fn tcp_without_a_tunnel_goes_where_nats_and_firewalls_let_it_and_says_why_not() {
    let (v4, v6, nat) = ("kind = \"ipv4-global\"", "kind = \"ipv6\"", "kind = \"ipv4-private\"");
    let dual = "kind = \"dual-stack\"";
    let wall = "kind = \"ipv4-global\"\nfirewall = {}";
    let only_443 = "kind = \"ipv4-global\"\nfirewall = { mode = \"only-443\", reaction = \"reset\" }";
    let (there, back) = (("alice", "bob"), ("bob", "alice"));
    let silent = Some(TcpFailure::NoAnswer);
    for (sites, ends, more, failed) in [
        ([v4, v4], there, "", None),
        ([v6, v6], there, "", None),
        ([dual, v4], there, "", None),
        ([dual, dual], there, "family = \"ipv4\"\n", None),
        ([nat, v4], there, "", None),
        // Nothing opens the NAT, or the firewall, for the answer's direction.
        ([nat, v4], back, "", silent),
        ([nat, nat], there, "", silent),
        ([wall, v4], there, "", None),
        ([wall, v4], back, "", silent),
        ([only_443, v4], there, "", Some(TcpFailure::Refused)),
        ([v6, v4], there, "", Some(TcpFailure::NoAddress)),
        ([dual, v4], there, "family = \"ipv6\"\n", Some(TcpFailure::NoAddress)),
    ] {
        let row = bare(sites, ends, more);
        assert_eq!((row.initiator.as_str(), row.responder.as_str()), ends);
        assert_eq!((row.tcp_over, row.tcp_failed), (Some(Over::Underlay), failed), "{sites:?} {ends:?} {more}");
        assert_eq!((row.tcp_ok, row.tcp_bytes), (failed.is_none(), if failed.is_none() { 200_000 } else { 0 }));
        assert_eq!((row.pattern, row.echo_sent), (None, 0));
    }
}

#[test]
fn the_same_transfer_with_and_without_a_tunnel_is_two_rows() {
    let tcp = |over: &str| format!("[[step]]\ndo = \"tcp\"\nfrom = \"alice\"\nto = \"bob\"\nbytes = 2000000\n{over}");
    let steps = format!("{START}{}{}", tcp(""), tcp("over = \"underlay\"\n"));
    let link = "kind = \"ipv4-global\"\nlink = { rate_mbps = 10, delay_ms = 10 }";
    for framing in ["udp4501", "compact", "stream"] {
        let scenario = two_sites(&format!("framing = \"{framing}\""), [link, link], &steps);
        let run = events(&scenario);
        let rows = measure::rows(&scenario, &run, &Watch::default()).unwrap();
        let [Row::Outcome(tunnel), Row::Outcome(underlay)] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((tunnel.tcp_over, underlay.tcp_over), (Some(Over::Tunnel), Some(Over::Underlay)));
        assert!(tunnel.pattern.is_some() && underlay.pattern.is_none() && tunnel.tcp_ok && underlay.tcp_ok);
        let [tunnel, underlay] = [tunnel, underlay].map(|row| row.tcp_ms.unwrap().as_f64());
        // 2 MB at 10 Mbit/s are 1.6 s of payload alone.
        assert!((1_600.0..5_000.0).contains(&underlay) && tunnel > 1_600.0, "{framing}: {underlay} ms, {tunnel} ms");
        // A stream hides losses from the flow inside. The others carry the same flow with more headers.
        assert!(framing == "stream" || underlay < tunnel, "{framing}: {underlay} ms, {tunnel} ms");
    }
}

#[test]
fn a_result_says_why_tcp_failed_and_nothing_where_none_was_asked_for() {
    let tcp = "[[step]]\ndo = \"tcp\"\nfrom = \"alice\"\nto = \"bob\"\nbytes = 900000\n";
    let v4 = ["kind = \"ipv4-global\""; 2];
    let column = |top: &str, steps: &str| {
        let scenario = two_sites(top, v4, steps);
        let run = events(&scenario);
        let row = outcome(&scenario, &run);
        (row.tcp_over, row.tcp_failed)
    };
    assert_eq!(column("", &format!("{START}{}", echoes(1))), (None, None));
    assert_eq!(column("", &format!("{START}{tcp}")), (Some(Over::Tunnel), None));
    let rules = "rules = { default = \"closed\", allow = [{ from = [\"*\"], to = [\"*\"], services = [\"icmp\"] }] }";
    let closed = "rules = { default = \"closed\", allow = [] }";
    let failed = |reason| (Some(Over::Tunnel), Some(reason));
    assert_eq!(column(closed, &format!("{START}{tcp}")), failed(TcpFailure::NoName));
    assert_eq!(column(rules, &format!("{START}{tcp}")), failed(TcpFailure::NoAnswer));
    let gone = "[[step]]\ndo = \"link_down\"\nat_ms = 2000\nsite = \"b\"\n";
    let slow = tcp.replace("bytes = 900000", "bytes = 900000\nrate_mbps = 1");
    assert_eq!(column("", &format!("{START}{slow}{gone}")), failed(TcpFailure::Broken));
    let alone = "[[step]]\ndo = \"start\"\nnodes = [\"alice\", \"bob\"]\ngive_up_s = 1\n";
    let down = "[[step]]\ndo = \"link_down\"\nsite = \"a\"\n";
    assert_eq!(column("", &format!("{down}{alone}{tcp}")), failed(TcpFailure::NoName));
}

/// Of a suspended machine: echoes go on where they were, TCP's timers have stood still, and packets to it are lost. The
/// role's clock is seen in what the node does when it wakes up.
#[test]
fn a_suspended_machine_does_nothing_and_its_role_notices_by_the_clock_that_it_reads() {
    let suspend = |clock: &str| {
        let keys = format!("at_ms = 3000\nwhat = \"alice\"\nms = 12000\nclock = \"{clock}\"\n");
        let tcp =
            "[[step]]\ndo = \"tcp\"\nat_ms = 2900\nfrom = \"alice\"\nto = \"bob\"\nbytes = 3000000\nrate_mbps = 8\n";
        let steps = format!(
            "{START}{}{tcp}[[step]]\ndo = \"suspend\"\n{keys}",
            echoes(20).replace("[[step]]\n", "[[step]]\nat_ms = 1000\n")
        );
        let top = "policy = \"optimal\"\nduration_limit_s = 200";
        events(&two_sites(top, ["kind = \"ipv4-global\"", "kind = \"ipv4-global\""], &steps))
    };
    let (counts, stops) = (suspend("boottime"), suspend("monotonic"));
    let asleep = Instant::from_millis(3_000)..Instant::from_millis(15_000);
    for run in [&counts, &stops] {
        assert!(run.complete, "{:?}", run.steps);
        let report = run.reports().find_map(|(_, report)| report.echo()).unwrap();
        let sent: Vec<Instant> = report.probes.iter().map(|probe| probe.sent).collect();
        assert!(sent.len() == 20 && !sent.iter().any(|at| asleep.contains(at)), "{sent:?}");
        assert!(sent[10] > asleep.end && sent[10] - sent[9] > std::time::Duration::from_secs(12), "{sent:?}");
        let transfer = run.reports().find_map(|(_, report)| report.transfer()).unwrap();
        assert!(transfer.ok(), "{transfer:?}");
        let lost = run.world.look(0, |host| host.losses().get(&Loss::Suspended).copied());
        assert!(lost.is_some_and(|lost| lost > 10), "{lost:?}");
        assert!(!run.events.iter().any(|(at, host, _)| host == "alice" && asleep.contains(at)));
    }
    let at_once = |run: &Run| {
        let woke = asleep.end..asleep.end + std::time::Duration::from_millis(300);
        run.events
            .iter()
            .any(|(at, host, event)| host == "alice" && woke.contains(at) && matches!(event, Event::Registered { .. }))
    };
    assert_eq!((at_once(&counts), at_once(&stops)), (true, false));
}

#[test]
fn an_optimal_policy_is_a_scenario() {
    let scenario =
        two_sites("policy = \"optimal\"", ["kind = \"ipv6\"", "kind = \"ipv6\""], &format!("{START}{}", echoes(1)));
    assert_eq!(scenario.policy, cyphonic_scenarios::Policy::Optimal);
    assert_eq!(answered(&play(&scenario, 1, Engine::Events)), [1]);
}
