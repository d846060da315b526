//! Networks that let no UDP out: the services by TCP, and back.

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use cyphonic_core::event::Event;
use cyphonic_core::time::Instant;
use cyphonic_core::timing::proxied::HEAD_START;
use cyphonic_scenarios::{Engine, Scenario, two_nodes};
use cyphonic_sim::host::apps::EchoReport;
use cyphonic_sim::net::packet::{Ip, Transport};
use cyphonic_sim::net::{TapMode, Tapped};
use cyphonic_sim::run::Run;

use common::{ECHO, START, play, play_with, scenario, scene_of_sites};

const LINK: &str = "{ delay_ms = 20 }";
/// Node to core and core to service, and back.
const ROUND_TRIP: Duration = Duration::from_millis(80);
const OPEN: &str = "kind = \"ipv4-private\"\nfirewall = { mode = \"stateful\" }";
const TCP_ONLY: &str = "kind = \"ipv4-private\"\nfirewall = { mode = \"only-tcp-443\" }";
const WEB: &str = "kind = \"ipv4-private\"\nfirewall = { mode = \"web\", reaction = \"reject\" }";
const WEB_PROXY: &str = "kind = \"ipv4-private\"\nfirewall = { mode = \"web-proxy\" }";
const NO_QUIC: &str = "kind = \"ipv4-private\"\nfirewall = { inspect = [{ quic = true, reaction = \"drop\" }] }";
const NO_H3: &str = "kind = \"ipv4-global\"\nfirewall = { inspect = [{ alpn = \"h3\", reaction = \"reset\" }] }";
const SYMMETRIC: &str = "kind = \"ipv4-private\"\nnat = { mapping = \"address-and-port-dependent\", ports = \"random\" }\n\
                         firewall = { mode = \"stateful\" }";
const OPTIMAL: &str = "policy = \"optimal\"\nduration_limit_s = 600";

fn run(settings: &str, sites: [&str; 2], steps: &str) -> Run {
    play_with(&scene_of_sites(settings, sites, LINK, steps), 1, Engine::Events, TapMode::Keep)
}

fn registered_at(run: &Run, node: &str) -> Option<Instant> {
    let is_it = |event: &Event| matches!(event, Event::Registered { .. });
    run.events.iter().find(|(_, who, event)| who == node && is_it(event)).map(|&(at, ..)| at)
}

fn answered(run: &Run) -> usize {
    run.reports().filter_map(|(_, report)| report.echo()).map(EchoReport::answered).sum()
}

const OPTIMAL_30: &str = "policy = \"optimal\"\nduration_limit_s = 30";

/// When Alice's packets of an IP protocol left.
fn sent_by_alice(run: &Run, protocol: u8) -> Vec<Instant> {
    let packets = run.world.sent(&run.world.nodes[0]);
    packets.iter().filter(|packet| packet.packet[9] == protocol).map(|packet| packet.departs).collect()
}

#[test]
fn a_node_behind_such_a_network_is_relayed_and_registers_after_a_head_start_and_a_few_round_trips() {
    let by_udp = registered_at(&run(OPTIMAL, [OPEN, OPEN], ECHO), "alice").unwrap();
    for site in [TCP_ONLY, WEB, NO_QUIC, NO_H3] {
        let run = run(OPTIMAL, [site, OPEN], ECHO);
        let by_tcp = registered_at(&run, "alice").unwrap_or_else(|| panic!("{site}"));
        assert!(by_tcp <= by_udp + HEAD_START + 3 * ROUND_TRIP, "{site}: {by_tcp}, by UDP {by_udp}");
        assert_eq!(answered(&run), 1, "{site}");
        let patterns: Vec<u8> = run.events.iter().filter_map(|(.., event)| Some(event.path()?.1.number())).collect();
        assert!(!patterns.is_empty() && patterns.iter().all(|pattern| *pattern == 3), "{site}: {patterns:?}");
    }
    assert_eq!(answered(&run(OPTIMAL, [TCP_ONLY, NO_QUIC], ECHO)), 1, "both");
}

/// When Alice was registered for the last time, and the time since `since`.
fn registered_since(run: &Run, since: u64) -> Duration {
    let is_it = |event: &Event| matches!(event, Event::Registered { .. });
    let begun = Instant::from_millis(since);
    let at = run.events.iter().find(|(at, who, event)| *at >= begun && who == "alice" && is_it(event));
    at.unwrap_or_else(|| panic!("never after {since} ms")).0 - begun
}

#[test]
fn what_the_fallback_costs_until_a_node_is_registered_is_bounded_at_every_round_trip() {
    // Alice starts at site a, goes to site c, and comes back.
    let there_and_back = |scene: &str, site: &str| {
        let c = format!("[[site]]\nname = \"c\"\nkind = \"ipv4-global\"\n{site}\n[[node]]\nname = \"alice\"");
        let moves = "[[step]]\nat_ms = 30000\ndo = \"move\"\nnode = \"alice\"\nto = \"c\"\n\
                     [[step]]\nat_ms = 60000\ndo = \"move\"\nnode = \"alice\"\nto = \"a\"\n\
                     [[step]]\nat_ms = 90000\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\n";
        format!("{}{moves}", scene.replacen("[[node]]\nname = \"alice\"", &c, 1))
    };
    for delay_ms in [5, 20, 50, 120_u32] {
        let link = format!("{{ delay_ms = {delay_ms} }}");
        // The proxy's link delays by 1 ms: services that are reached by UDP may be as far away as through the proxy.
        let run = |site: &str, proxy: bool, further_ms: u32| {
            let far = format!("{{ delay_ms = {} }}", delay_ms + further_ms);
            let top = format!("{OPTIMAL}\nhandover = \"rebuild\"\n[services]\nas = {far}\nnms = {far}\ntrs = {far}");
            let sites = [site, OPEN].map(|keys| format!("link = {link}\n{keys}"));
            let text = two_nodes(&top, [&sites[0], &sites[1]], START);
            let text = there_and_back(&text, &format!("link = {link}"));
            let proxies = if proxy { "\nsite = \"a\"\nproxy = true\n" } else { "\nsite = \"a\"\n" };
            play(&scenario(&text.replacen("\nsite = \"a\"\n", proxies, 1)), 1, Engine::Events)
        };
        for (site, proxy) in [(TCP_ONLY, false), (WEB, false), (NO_QUIC, false), (WEB_PROXY, true)] {
            let further_ms = if proxy { 2 } else { 0 };
            let (by_tcp, by_udp) = (run(site, proxy, 0), run(OPEN, false, further_ms));
            let round_trip = Duration::from_millis((4 * delay_ms + 2 * further_ms).into());
            let more = round_trip * if proxy { 5 } else { 3 };
            let [first, again] = [0, 60_000].map(|since| {
                let [udp, tcp] = [&by_udp, &by_tcp].map(|run| registered_since(run, since));
                (tcp, udp + more)
            });
            assert!(first.0 <= first.1 + HEAD_START, "unknown network, {site}, {delay_ms} ms: {first:?}");
            assert!(again.0 <= again.1, "known network, {site}, {delay_ms} ms: {again:?}");
        }
    }
}

/// A scenario of which Alice has an HTTP proxy.
fn with_proxy(settings: &str, sites: [&str; 2], link: &str, steps: &str) -> Scenario {
    let top = format!("{settings}\n[services]\nas = {link}\nnms = {link}\ntrs = {link}\nproxy = {link}");
    let [a, b] = sites.map(|keys| format!("link = {link}\n{keys}"));
    let text = two_nodes(&top, [&a, &b], &format!("{START}{steps}"));
    scenario(&text.replacen("\nsite = \"a\"\n", "\nsite = \"a\"\nproxy = true\n", 1))
}

/// Where the TCP connections that Alice opened led.
fn asked_by_alice(run: &Run) -> BTreeSet<SocketAddr> {
    let packets = run.world.sent(&run.world.nodes[0]);
    let to = |tapped: &Tapped| {
        let ip = Ip::parse(&tapped.packet)?;
        let Some(Transport::Tcp { destination, .. }) = ip.transport() else { return None };
        Some(SocketAddr::new(ip.destination, destination))
    };
    packets.iter().filter_map(to).collect()
}

#[test]
fn where_only_an_http_proxy_is_let_out_to_a_node_goes_through_it() {
    let (v4, v6, nat64) = ("192.0.2.5:3128", "[2001:db8::5]:3128", "[64:ff9b::192.0.2.5]:3128");
    for (site, proxies) in [
        (WEB_PROXY, &[v4][..]),
        ("kind = \"ipv6\"\nfirewall = { mode = \"web-proxy\" }", &[v6]),
        ("kind = \"ipv6\"\nnat64 = {}\nfirewall = { mode = \"web-proxy\" }", &[v6, nat64]),
        ("kind = \"dual-stack\"\nbroken = \"ipv6\"\nfirewall = { mode = \"web-proxy\" }", &[v6, v4]),
    ] {
        let text = with_proxy(OPTIMAL, [site, OPEN], LINK, ECHO);
        let run = play_with(&text, 1, Engine::Events, TapMode::Keep);
        assert_eq!(answered(&run), 1, "{site}");
        let proxies: BTreeSet<SocketAddr> = proxies.iter().map(|at| at.parse().unwrap()).collect();
        let asked = asked_by_alice(&run);
        assert!(!asked.is_empty() && asked.is_subset(&proxies), "{site}: {asked:?}");
        let status = run.world.look(0, |host| host.machine().fallback()).unwrap();
        assert!(status.has_proxy && status.blocked && status.trouble.is_none(), "{site}: {status:?}");
    }
    // Without the proxy's address a node does not get out. With it, it opens TCP to nothing else.
    let without = run(OPTIMAL_30, [WEB_PROXY, OPEN], ECHO);
    assert_eq!(registered_at(&without, "alice"), None);
    let other = play(&with_proxy(OPTIMAL_30, [TCP_ONLY, OPEN], LINK, ECHO), 1, Engine::Events);
    assert_eq!(registered_at(&other, "alice"), None);
}

#[test]
fn where_the_services_names_are_refused_another_server_name_gets_through() {
    for reaction in ["drop", "reject", "reset"] {
        let site = format!(
            "kind = \"ipv4-private\"\nfirewall = {{ inspect = [{{ sni = \"cyphonic.test\", reaction = \"{reaction}\" }}] }}"
        );
        let with = |name: &str| {
            let text = two_nodes(OPTIMAL_30, [&format!("link = {LINK}\n{site}"), OPEN], &format!("{START}{ECHO}"));
            let node = format!("\nsite = \"a\"\ntcp_name = \"{name}\"\n");
            play(&scenario(&text.replacen("\nsite = \"a\"\n", &node, 1)), 1, Engine::Events)
        };
        let through = with("www.example");
        assert_eq!(answered(&through), 1, "{reaction}");
        let status = through.world.look(0, |host| host.machine().fallback()).unwrap();
        assert!(status.blocked && status.trouble.is_none(), "{reaction}: {status:?}");
        // Neither the services' own names get through, nor another one below the refused one.
        assert_eq!(registered_at(&run(OPTIMAL_30, [&site, OPEN], ECHO), "alice"), None, "{reaction}");
        assert_eq!(registered_at(&with("www.cyphonic.test"), "alice"), None, "{reaction}");
    }
}

#[test]
fn where_udp_works_no_tcp_connection_is_opened() {
    let run = run(OPTIMAL, [OPEN, OPEN], ECHO);
    assert_eq!((answered(&run), sent_by_alice(&run, 6).len()), (1, 0));
}

#[test]
fn the_papers_method_and_the_conventional_one_get_none_of_it() {
    for settings in ["policy = \"paper\"\nduration_limit_s = 30", "method = \"conventional\"\nduration_limit_s = 30"] {
        let run = run(settings, [TCP_ONLY, OPEN], ECHO);
        assert_eq!(registered_at(&run, "alice"), None, "{settings}");
    }
}

#[test]
fn in_a_network_that_blocks_udp_none_leaves_but_the_counted_probes() {
    let steps = "[[step]]\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\ncount = 120\n";
    let run = run(OPTIMAL, [TCP_ONLY, OPEN], steps);
    assert_eq!(answered(&run), 120);
    let blocked = run.events.iter().find(|(.., event)| matches!(event, Event::UdpBlocked { .. })).unwrap().0;
    let since = sent_by_alice(&run, 17).into_iter().filter(|at| *at > blocked + Duration::from_millis(1)).count();
    let status = run.world.look(0, |host| host.machine().fallback()).unwrap();
    assert!(status.blocked && !status.by_tcp.is_empty(), "{status:?}");
    assert_eq!((since as u64, status.probes), (status.probes, 5), "after 5, 10, 20, 40 and 80 s");
}

#[test]
fn a_transfer_stands_still_for_five_seconds_at_most_when_udp_is_closed() {
    let steps = "[[step]]\nat_ms = 3000\ndo = \"tcp\"\nfrom = \"alice\"\nto = \"bob\"\nbytes = 8000000\n\
                 [[step]]\nat_ms = 13000\ndo = \"firewall\"\nsite = \"a\"\nmode = \"only-tcp-443\"\n";
    for handover in ["rebuild", "migrate", "seamless"] {
        let settings = format!("{OPTIMAL}\nhandover = \"{handover}\"");
        let link = "{ delay_ms = 20, rate_mbps = 4.0 }";
        let run = play(&scene_of_sites(&settings, [OPEN, OPEN], link, steps), 1, Engine::Events);
        let transfer = run.reports().find_map(|(_, report)| report.transfer()).unwrap();
        assert_eq!(transfer.result, Some(Ok(())), "{handover}: {transfer:?}");
        // The tunnel is up again when the inner TCP repeats its data for the second time: its timeouts are 1 s and 2 s
        // at least.
        assert!(transfer.longest_stall < Duration::from_secs(5), "{handover}: {transfer:?}");
    }
}

#[test]
fn a_transfer_survives_that_udp_is_opened_and_closed_again() {
    let steps = "[[step]]\nat_ms = 3000\ndo = \"tcp\"\nfrom = \"alice\"\nto = \"bob\"\nbytes = 20000000\n\
                 [[step]]\nat_ms = 8000\ndo = \"firewall\"\nsite = \"a\"\nmode = \"stateful\"\n\
                 [[step]]\nat_ms = 35000\ndo = \"firewall\"\nsite = \"a\"\nmode = \"only-tcp-443\"\n";
    for handover in ["rebuild", "migrate", "seamless"] {
        let settings = format!("{OPTIMAL}\nhandover = \"{handover}\"");
        let link = "{ delay_ms = 20, rate_mbps = 4.0 }";
        let run = play(&scene_of_sites(&settings, [TCP_ONLY, OPEN], link, steps), 1, Engine::Events);
        let changes: Vec<(u128, bool)> = run
            .events
            .iter()
            .filter_map(|(at, who, event)| match event {
                Event::UdpBlocked { .. } if who == "alice" => Some((at.as_nanos() as u128 / 1_000_000, true)),
                Event::UdpWorks if who == "alice" => Some((at.as_nanos() as u128 / 1_000_000, false)),
                _ => None,
            })
            .collect();
        let transfer = run.reports().find_map(|(_, report)| report.transfer()).unwrap();
        assert_eq!(transfer.result, Some(Ok(())), "{handover}: {changes:?}, {transfer:?}");
        // On this slow link the inner TCP may lose a repetition in the TCP beneath, so it repeats its data for the
        // third time, after 7 s, and waits for one more round trip of a full queue.
        assert!(transfer.longest_stall < Duration::from_secs(9), "{handover}: {transfer:?}");
        let kinds: Vec<bool> = changes.iter().map(|(_, blocked)| *blocked).collect();
        assert_eq!(kinds, [true, false, true], "{handover}: {changes:?}");
        let patterns: Vec<u8> = run
            .events
            .iter()
            .filter(|(_, who, _)| who == "alice")
            .filter_map(|(.., event)| Some(event.path()?.1.number()))
            .collect();
        assert_eq!(patterns.first(), Some(&3), "{handover}: {patterns:?}");
        assert!(patterns.contains(&1) || patterns.contains(&2), "{handover}, direct while UDP works: {patterns:?}");
        assert_eq!(patterns.last(), Some(&3), "{handover}: {patterns:?}");
    }
}

#[test]
fn udp_that_dies_at_any_moment_is_called_blocked() {
    let echo = "[[step]]\nat_ms = 200\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\ncount = 600\ninterval_ms = 50\n";
    // The moments are about the exchanges of a beginning, in which a service has just been told something, or a
    // peer's datagram is on its way.
    for at in (700..2_700).step_by(100) {
        let steps = format!("{echo}[[step]]\nat_ms = {at}\ndo = \"firewall\"\nsite = \"a\"\nmode = \"only-tcp-443\"\n");
        let run = run(OPTIMAL, [OPEN, OPEN], &steps);
        let begun = Instant::from_millis(at);
        let is_it = |event: &Event| matches!(event, Event::UdpBlocked { .. });
        let blocked = run.events.iter().find(|(_, who, event)| who == "alice" && is_it(event));
        let after = blocked.unwrap_or_else(|| panic!("{at} ms: never")).0.saturating_since(begun);
        assert!(after < Duration::from_secs(5), "{at} ms: {after:?}");
    }
}

#[test]
fn udp_that_dies_under_traffic_is_noticed_within_two_seconds_and_a_few_round_trips() {
    let echo = "[[step]]\nat_ms = 200\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\ncount = 400\ninterval_ms = 50\n";
    for (site, handover) in
        [OPEN, SYMMETRIC].into_iter().flat_map(|site| ["rebuild", "migrate", "seamless"].map(|way| (site, way)))
    {
        for at in (6_000..7_000).step_by(250) {
            let steps =
                format!("{echo}[[step]]\nat_ms = {at}\ndo = \"firewall\"\nsite = \"a\"\nmode = \"only-tcp-443\"\n");
            let run = run(&format!("{OPTIMAL}\nhandover = \"{handover}\""), [site, site], &steps);
            let begun = Instant::from_millis(at);
            let is_it = |event: &Event| matches!(event, Event::UdpBlocked { .. });
            let blocked = run.events.iter().find(|(_, who, event)| who == "alice" && is_it(event));
            let after = blocked.unwrap_or_else(|| panic!("{site}, {handover}, {at} ms: never")).0 - begun;
            assert!(after < Duration::from_secs(2) + 4 * ROUND_TRIP, "{site}, {handover}, {at} ms: {after:?}");
        }
    }
}

#[test]
fn a_relayed_peer_that_dies_under_traffic_is_no_ground_to_open_tcp() {
    let echo = "[[step]]\nat_ms = 200\ndo = \"echo\"\nfrom = \"alice\"\nto = \"bob\"\ncount = 400\ninterval_ms = 50\n";
    // Gone for good, back after seconds, or without a network: its packets and those of its peer are lost.
    let gone = "do = \"stop\"\nnode = \"bob\"\n";
    let back = "do = \"stop\"\nnode = \"bob\"\n[[step]]\nat_ms = 12000\ndo = \"restart\"\nwhat = \"bob\"\n";
    let mute = "do = \"firewall\"\nsite = \"b\"\negress = []\n";
    for handover in ["rebuild", "migrate", "seamless"] {
        for (fate, signaling) in
            [gone, back, mute].into_iter().flat_map(|fate| ["fast", "paper"].map(|way| (fate, way)))
        {
            let settings = format!("{OPTIMAL}\nhandover = \"{handover}\"\nsignaling = \"{signaling}\"");
            for at in [4_000, 6_200, 8_700] {
                let steps = format!("{echo}[[step]]\nat_ms = {at}\n{fate}");
                let run = run(&settings, [SYMMETRIC, SYMMETRIC], &steps);
                assert!(answered(&run) > 30, "{handover}, {signaling}, {at} ms: {}", answered(&run));
                let tcp = sent_by_alice(&run, 6);
                assert_eq!(tcp.first(), None, "{handover}, {signaling}, {fate}, {at} ms");
            }
        }
    }
}
