//! A certificate is revoked while its owner has sessions with every other part.

use cyphonic_core::header::{Header, Kind};
use cyphonic_core::machine::ServiceCommand;
use cyphonic_core::name::NodeId;
use cyphonic_core::nms::Nms;
use cyphonic_core::proxied::door::Served;
use cyphonic_scenarios::LinkAt;
use cyphonic_sim::host::Host;
use cyphonic_sim::seeded;
use cyphonic_sim::world::{Actor, Watch};

use crate::arena::{ALICE, Arena, BOB, Role, SEED};
use crate::common::{NAT, V4, scene};
use crate::insiders::{forwarded, relayed};
use crate::rogue::fqdn;

/// Direct, through a terminating TRS, and through a blind one.
const WAYS: [(&str, [&str; 2]); 3] = [
    ("method = \"proposed\"", [V4, V4]),
    ("method = \"proposed\"\nrelay_mode = \"terminating\"", [NAT, NAT]),
    ("method = \"proposed\"", [NAT, NAT]),
];

/// Alice and Bob talk. Then the roles `who` learn that Bob's certificate is revoked.
fn after_bob_was_revoked(way: (&str, [&str; 2]), who: &[Role]) -> Arena {
    let mut arena = Arena::after(scene(way.0, way.1, "{ delay_ms = 10 }"));
    arena.assert_works();
    let roots = seeded::pki(SEED).roots_without(&[(&fqdn("bob"), 0)]);
    for &role in who {
        arena.trust(role, &roots);
    }
    arena.run(100);
    arena
}

fn has_tunnel(arena: &mut Arena, node: usize) -> bool {
    arena.world.node(node, |_, host| host.machine().peers().iter().any(|peer| peer.tunnel.is_some()))
}

#[test]
fn live_sessions_of_a_revoked_certificate_end_at_once_and_none_comes_again() {
    for way in WAYS {
        let mut arena = after_bob_was_revoked(way, &[Role::As, Role::Nms, Role::Trs, ALICE]);
        assert!(!has_tunnel(&mut arena, 0), "{way:?}");
        assert!(!has_tunnel(&mut arena, 1), "{way:?}");
        assert_eq!((arena.echo(0, 1), arena.echo(1, 0)), (0, 0), "{way:?}: {:#?}", arena.happened());
        assert!(!arena.world.node(1, |_, host| host.machine().is_registered()), "{way:?}");
        assert!(arena.world.node(0, |_, host| host.machine().is_registered()), "{way:?}: Alice stays");
    }
}

#[test]
fn a_relay_that_alone_knows_carries_nothing_for_the_revoked_one() {
    for way in &WAYS[1..] {
        let mut arena = after_bob_was_revoked(*way, &[Role::Trs]);
        assert!(!has_tunnel(&mut arena, 0), "{way:?}");
        assert_eq!((arena.echo(0, 1), arena.echo(1, 0)), (0, 0), "{way:?}: {:#?}", arena.happened());
    }
}

#[test]
fn a_peer_that_alone_knows_ends_its_tunnels_with_the_revoked_one() {
    for way in [WAYS[0], WAYS[2]] {
        let mut arena = after_bob_was_revoked(way, &[ALICE]);
        assert!(!has_tunnel(&mut arena, 0), "{way:?}");
        assert_eq!((arena.echo(0, 1), arena.echo(1, 0)), (0, 0), "{way:?}: {:#?}", arena.happened());
    }
}

#[test]
fn who_was_not_revoked_notices_nothing() {
    for way in WAYS {
        let mut arena = Arena::after(scene(way.0, way.1, "{ delay_ms = 10 }"));
        arena.assert_works();
        let _ = arena.happened();
        let roots = seeded::pki(SEED).roots_without(&[(&fqdn("carol"), 0)]);
        for role in [Role::As, Role::Nms, Role::Trs, ALICE, BOB] {
            arena.trust(role, &roots);
        }
        arena.run(100);
        assert!(has_tunnel(&mut arena, 0), "{way:?}: {:#?}", arena.happened());
        arena.assert_works();
    }
}

/// Both methods, direct and through a TRS.
const BOTH: [(&str, [&str; 2]); 5] =
    [("method = \"conventional\"", [V4, V4]), ("method = \"conventional\"", [NAT, NAT]), WAYS[0], WAYS[1], WAYS[2]];

fn both_worked(way: (&str, [&str; 2])) -> Arena {
    let mut arena = Arena::after(scene(way.0, way.1, "{ delay_ms = 10 }"));
    arena.assert_works();
    arena
}

fn assert_ended(arena: &mut Arena, way: (&str, [&str; 2])) {
    assert!(!has_tunnel(arena, 0), "{way:?}: {:#?}", arena.happened());
    assert_eq!((arena.echo(0, 1), arena.echo(1, 0)), (0, 0), "{way:?}: {:#?}", arena.happened());
    assert!(arena.world.node(0, |_, host| host.machine().is_registered()), "{way:?}: Alice stays");
}

/// Nodes as in the quick start: without a list of revoked certificates.
#[test]
fn nothing_passes_to_or_from_a_revoked_node_though_no_node_follows_the_list() {
    for way in BOTH {
        let mut arena = both_worked(way);
        arena.world.revoke(SEED, &fqdn("bob"));
        arena.run(200);
        assert_ended(&mut arena, way);
    }
}

/// The device was removed. Its certificate is still good.
#[test]
fn nothing_passes_to_or_from_a_removed_device() {
    for way in BOTH {
        let mut arena = both_worked(way);
        arena.world.store.remove_device(NodeId::of(&fqdn("bob"))).unwrap();
        let id = arena.world.nms.id;
        let command = ServiceCommand::Revoked(vec![fqdn("bob")]);
        arena.world.engine().with(id, |now, host: &mut Host<Served<Nms>>| host.command(now, command));
        arena.run(200);
        assert_ended(&mut arena, way);
    }
}

#[test]
fn a_peer_that_cannot_be_told_at_once_is_told_within_five_seconds_of_when_it_can() {
    for way in BOTH {
        let mut arena = both_worked(way);
        let at = LinkAt::Site(0);
        arena.world.set_link_up(at, false);
        arena.world.revoke(SEED, &fqdn("bob"));
        arena.run(3_000);
        arena.world.set_link_up(at, true);
        arena.run(5_000);
        assert_ended(&mut arena, way);
    }
}

/// The NMS does not remember which nodes it directed to each other. The nodes remind it.
#[test]
fn an_nms_that_was_restarted_tells_the_peers_of_a_revoked_node_too() {
    for way in BOTH {
        let mut arena = both_worked(way);
        arena.world.restart(&arena.scenario, SEED, &Watch::default(), Actor::Nms);
        arena.run(8_000);
        assert!(has_tunnel(&mut arena, 0), "{way:?}: the tunnel outlives the NMS");
        arena.world.revoke(SEED, &fqdn("bob"));
        arena.run(200);
        assert_ended(&mut arena, way);

        let mut arena = both_worked(way);
        arena.world.store.remove_device(NodeId::of(&fqdn("bob"))).unwrap();
        arena.world.restart(&arena.scenario, SEED, &Watch::default(), Actor::Nms);
        arena.run(8_000);
        assert_ended(&mut arena, way);
    }
}

/// Alice and Bob use the paths that they have at the TRS, whatever the NMS says.
#[test]
pub(crate) fn the_paths_of_a_revoked_node_at_the_relay_end_even_if_both_nodes_ignore_it() {
    let mut arena = Arena::after(scene("method = \"conventional\"", [NAT, NAT], "{ delay_ms = 2 }"));
    arena.assert_works();
    let capsules = relayed(&arena);
    let capsules = capsules.iter().filter(|d| Header::decode(&d.payload).is_ok_and(|h| h.kind == Kind::Capsule));
    let capsules: Vec<_> = capsules.cloned().collect();
    let last = capsules.last().expect("an echo was relayed").clone();
    assert_eq!(forwarded(&mut arena, last.from, &last.payload), 1);
    let nms = arena.world.nms.id;
    let revoked = || ServiceCommand::Revoked(vec![fqdn("bob")]);
    arena.world.engine().with(nms, |now, host: &mut Host<Served<Nms>>| host.command(now, revoked()));
    arena.run(100);
    for capsule in &capsules {
        assert_eq!(forwarded(&mut arena, capsule.from, &capsule.payload), 0, "nothing is relayed any more");
    }
}
