//! Nodes that the access rules forbid to talk: none is told where another one is, and a change ends live tunnels.

use cyphonic_core::event::{Event, Failure};
use cyphonic_core::message::ErrorCode;
use cyphonic_core::rules::{Allow, Rules};
use cyphonic_scenarios::{LinkAt, ServiceName};
use cyphonic_sim::world::{Actor, Watch};

use crate::arena::{ALICE, Arena, Arrived, BOB, SEED};
use crate::common::{NAT, V4, scene};
use crate::rogue::fqdn;

/// Both methods, direct and through a TRS.
const WAYS: [(&str, [&str; 2]); 4] = [
    ("method = \"conventional\"", [V4, V4]),
    ("method = \"conventional\"", [NAT, NAT]),
    ("method = \"proposed\"\npolicy = \"optimal\"", [V4, V4]),
    ("method = \"proposed\"\nrelay_mode = \"terminating\"", [NAT, NAT]),
];

/// Access ends in this time, milliseconds.
const EXPULSION_MS: u64 = 5_000;

fn closed(allow: &[(&str, &str)]) -> Rules {
    by(allow, &[])
}

/// Rules that allow these services only.
fn by(allow: &[(&str, &str)], services: &[&str]) -> Rules {
    let services: Vec<_> = services.iter().map(|text| text.parse().unwrap()).collect();
    let glob = |text: &str| vec![format!("{text}.cyphonic.test").parse().unwrap()];
    let allow = allow.iter().map(|(from, to)| Allow { from: glob(from), to: glob(to), services: services.clone() });
    Rules::closed(allow.collect()).unwrap()
}

fn arena((settings, sites): (&str, [&str; 2]), rules: &str) -> Arena {
    Arena::after(scene(&format!("{settings}\nrules = {rules}"), sites, "{ delay_ms = 10 }"))
}

fn has_tunnel(arena: &mut Arena, node: usize) -> bool {
    arena.world.node(node, |_, host| host.machine().peers().iter().any(|peer| peer.tunnel.is_some()))
}

fn assert_apart(arena: &mut Arena, way: (&str, [&str; 2])) {
    assert!(!has_tunnel(arena, 0) && !has_tunnel(arena, 1), "{way:?}: {:#?}", arena.happened());
    assert_eq!((arena.echo(0, 1), arena.echo(1, 0)), (0, 0), "{way:?}: {:#?}", arena.happened());
    let stay = |node| arena.world.look(node, |host| host.machine().is_registered());
    assert!(stay(0) && stay(1), "{way:?}: both stay registered");
}

/// What ended tunnels, or attempts at one, by node and peer.
fn ends(arena: &mut Arena) -> Vec<(String, String, Failure)> {
    let events = arena.world.drain_events().into_iter();
    let ends = events.filter_map(|(_, host, event)| match event {
        Event::TunnelDown { peer, reason } => Some((host, peer, reason)),
        _ => None,
    });
    ends.collect()
}

#[test]
fn a_forbidden_peer_is_named_to_the_node_and_its_address_is_not() {
    for way in WAYS {
        let mut arena = arena(way, "{ default = \"closed\" }");
        let sent = [ALICE, BOB].map(|role| (role, arena.address(role)));
        let refusal = Failure::Refused(ErrorCode::NotPermitted);
        for (from, to, peer) in [(0, 1, "bob"), (1, 0, "alice")] {
            assert_eq!(arena.echo(from, to), 0, "{way:?}");
            let host = if from == 0 { "alice" } else { "bob" };
            let end = (host.to_owned(), fqdn(peer).to_string(), refusal.clone());
            assert!(ends(&mut arena).contains(&end), "{way:?}: {peer} is named");
        }
        for (role, address) in sent {
            let other = arena.arrived.iter().filter(|arrived| arrived.role == role).filter_map(Arrived::udp);
            let strangers =
                other.filter(|datagram| sent.iter().any(|(peer, at)| *peer != role && at.ip() == datagram.from.ip()));
            assert_eq!(strangers.count(), 0, "{way:?}: nothing came to {role:?} at {address} from the other one");
        }
        assert_apart(&mut arena, way);
    }
}

#[test]
fn what_a_rule_allows_to_one_of_two_nodes_lets_both_have_a_tunnel() {
    for way in WAYS {
        let mut arena = arena(way, "{ default = \"closed\", allow = [{ from = [\"alice\"], to = [\"b*\"] }] }");
        assert_eq!((arena.echo(0, 1), arena.echo(1, 0)), (2, 0), "{way:?}");
        assert!(has_tunnel(&mut arena, 0) && has_tunnel(&mut arena, 1), "{way:?}");
    }
}

#[test]
fn a_node_opens_only_what_it_may_and_a_change_reaches_the_tunnel_that_is_up() {
    for way in WAYS {
        let rule = "{ from = [\"alice\"], to = [\"bob\"], services = [\"icmp\", \"udp/53\"] }";
        let mut arena = arena(way, &format!("{{ default = \"closed\", allow = [{rule}] }}"));
        assert_eq!((arena.echo(0, 1), arena.echo(1, 0)), (2, 0), "{way:?}: answers pass, questions do not");
        assert!(has_tunnel(&mut arena, 0) && has_tunnel(&mut arena, 1), "{way:?}");
        ends(&mut arena);
        for (rules, echoes) in [
            (by(&[("alice", "bob")], &["tcp", "udp"]), (0, 0)),
            (by(&[("*", "*")], &["icmp"]), (2, 2)),
            (by(&[("bob", "alice")], &["icmp"]), (0, 2)),
            (Rules::open(), (2, 2)),
        ] {
            arena.world.set_rules(&rules);
            arena.run(200);
            assert_eq!((arena.echo(0, 1), arena.echo(1, 0)), echoes, "{way:?}: {rules:?}");
        }
        assert_eq!(ends(&mut arena), [], "{way:?}: the tunnel stands");
    }
}

#[test]
fn a_restarted_nms_tells_nodes_what_changed_meanwhile() {
    for way in WAYS {
        let mut arena = arena(way, "{ default = \"closed\", allow = [{ from = [\"alice\"], to = [\"*\"] }] }");
        assert_eq!((arena.echo(0, 1), arena.echo(1, 0)), (2, 0), "{way:?}");
        arena.world.set_link_up(LinkAt::Service(ServiceName::Nms), false);
        arena.world.set_rules(&Rules::open());
        arena.world.restart(&arena.scenario, SEED, &Watch::default(), Actor::Nms);
        arena.run(1_000);
        arena.world.set_link_up(LinkAt::Service(ServiceName::Nms), true);
        arena.run(45_000);
        assert_eq!((arena.echo(0, 1), arena.echo(1, 0)), (2, 2), "{way:?}: {:#?}", arena.happened());
    }
}

#[test]
pub(crate) fn a_change_counts_though_the_clock_of_the_nms_was_set_back_before_its_restart() {
    for way in WAYS {
        let mut arena = arena(way, "{ default = \"closed\", allow = [{ from = [\"alice\"], to = [\"*\"] }] }");
        assert_eq!((arena.echo(0, 1), arena.echo(1, 0)), (2, 0), "{way:?}");
        let scenario = arena.scenario.clone();
        arena.world.step_clock(&scenario, Actor::Nms, -7_200);
        arena.world.restart(&scenario, SEED, &Watch::default(), Actor::Nms);
        arena.run(45_000);
        assert!(has_tunnel(&mut arena, 0), "{way:?}: the tunnel outlives the NMS");
        for (from, to, echoes) in [("bob", "alice", (0, 2)), ("alice", "bob", (2, 0))] {
            arena.world.set_rules(&by(&[(from, to)], &["icmp"]));
            arena.run(200);
            assert_eq!((arena.echo(0, 1), arena.echo(1, 0)), echoes, "{way:?}: {from} to {to}");
        }
    }
}

#[test]
fn rules_that_change_end_live_tunnels_and_let_them_come_again() {
    for way in WAYS {
        let mut arena = arena(way, "{ default = \"open\" }");
        arena.assert_works();
        ends(&mut arena);
        arena.world.set_rules(&closed(&[("alice", "carol")]));
        arena.run(200);
        let ended = ends(&mut arena);
        assert!(ended.iter().any(|(.., why)| *why == Failure::Refused(ErrorCode::NotPermitted)), "{way:?}: {ended:?}");
        assert_apart(&mut arena, way);
        arena.world.set_rules(&closed(&[("bob", "alice"), ("alice", "bob")]));
        arena.assert_works();
    }
}

#[test]
fn a_change_that_concerns_other_nodes_costs_no_tunnel() {
    for way in WAYS {
        let mut arena = arena(way, "{ default = \"open\" }");
        arena.assert_works();
        ends(&mut arena);
        arena.world.set_rules(&closed(&[("*", "alice"), ("alice", "*")]));
        arena.run(EXPULSION_MS);
        assert_eq!(ends(&mut arena), [], "{way:?}");
        arena.assert_works();
    }
}

#[test]
fn rules_that_changed_while_the_nms_was_away_are_carried_out_when_it_is_back() {
    for way in WAYS {
        let mut arena = arena(way, "{ default = \"open\" }");
        arena.assert_works();
        arena.world.set_link_up(LinkAt::Service(ServiceName::Nms), false);
        arena.world.set_rules(&closed(&[]));
        // The NMS forgets which nodes it directed to each other, and which node it could not tell.
        arena.world.restart(&arena.scenario, SEED, &Watch::default(), Actor::Nms);
        arena.run(1_000);
        assert!(has_tunnel(&mut arena, 0), "{way:?}: the tunnel outlives the NMS");
        arena.world.set_link_up(LinkAt::Service(ServiceName::Nms), true);
        arena.run(45_000);
        assert_apart(&mut arena, way);
    }
}

#[test]
fn a_node_that_cannot_be_told_is_told_within_five_seconds_of_when_it_can() {
    for way in WAYS {
        let mut arena = arena(way, "{ default = \"open\" }");
        arena.assert_works();
        arena.world.set_link_up(LinkAt::Site(0), false);
        arena.world.set_rules(&closed(&[]));
        arena.run(3_000);
        arena.world.set_link_up(LinkAt::Site(0), true);
        arena.run(EXPULSION_MS);
        assert_apart(&mut arena, way);
    }
}
