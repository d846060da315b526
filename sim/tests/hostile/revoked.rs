//! A certificate is revoked while its owner has sessions with every other part.

use cyphonic_core::machine::ServiceCommand;
use cyphonic_core::name::NodeId;
use cyphonic_core::nms::Nms;
use cyphonic_core::proxied::door::Served;
use cyphonic_scenarios::LinkAt;
use cyphonic_sim::host::Host;
use cyphonic_sim::seeded;
use cyphonic_sim::world::{Actor, Watch};

use crate::common::{NAT, V4, scene};
use crate::rogue::fqdn;
use crate::stage::{ALICE, BOB, Role, SEED, Stage};

/// Direct, through a terminating TRS, and through a blind one.
const WAYS: [(&str, [&str; 2]); 3] = [
    ("method = \"proposed\"", [V4, V4]),
    ("method = \"proposed\"\nrelay_mode = \"terminating\"", [NAT, NAT]),
    ("method = \"proposed\"", [NAT, NAT]),
];

/// Alice and Bob talk. Then the roles `who` learn that Bob's certificate is revoked.
fn after_bob_was_revoked(way: (&str, [&str; 2]), who: &[Role]) -> Stage {
    let mut stage = Stage::after(scene(way.0, way.1, "{ delay_ms = 10 }"));
    stage.assert_works();
    let roots = seeded::pki(SEED).roots_without(&[(&fqdn("bob"), 0)]);
    for &role in who {
        stage.trust(role, &roots);
    }
    stage.run(100);
    stage
}

fn has_tunnel(stage: &mut Stage, node: usize) -> bool {
    stage.world.node(node, |_, host| host.machine().peers().iter().any(|peer| peer.tunnel.is_some()))
}

#[test]
fn live_sessions_of_a_revoked_certificate_end_at_once_and_none_comes_again() {
    for way in WAYS {
        let mut stage = after_bob_was_revoked(way, &[Role::As, Role::Nms, Role::Trs, ALICE]);
        assert!(!has_tunnel(&mut stage, 0), "{way:?}");
        assert!(!has_tunnel(&mut stage, 1), "{way:?}");
        assert_eq!((stage.echo(0, 1), stage.echo(1, 0)), (0, 0), "{way:?}: {:#?}", stage.happened());
        assert!(!stage.world.node(1, |_, host| host.machine().is_registered()), "{way:?}");
        assert!(stage.world.node(0, |_, host| host.machine().is_registered()), "{way:?}: Alice stays");
    }
}

#[test]
fn a_relay_that_alone_knows_carries_nothing_for_the_revoked_one() {
    for way in &WAYS[1..] {
        let mut stage = after_bob_was_revoked(*way, &[Role::Trs]);
        assert!(!has_tunnel(&mut stage, 0), "{way:?}");
        assert_eq!((stage.echo(0, 1), stage.echo(1, 0)), (0, 0), "{way:?}: {:#?}", stage.happened());
    }
}

#[test]
fn a_peer_that_alone_knows_ends_its_tunnels_with_the_revoked_one() {
    for way in [WAYS[0], WAYS[2]] {
        let mut stage = after_bob_was_revoked(way, &[ALICE]);
        assert!(!has_tunnel(&mut stage, 0), "{way:?}");
        assert_eq!((stage.echo(0, 1), stage.echo(1, 0)), (0, 0), "{way:?}: {:#?}", stage.happened());
    }
}

#[test]
fn who_was_not_revoked_notices_nothing() {
    for way in WAYS {
        let mut stage = Stage::after(scene(way.0, way.1, "{ delay_ms = 10 }"));
        stage.assert_works();
        let _ = stage.happened();
        let roots = seeded::pki(SEED).roots_without(&[(&fqdn("carol"), 0)]);
        for role in [Role::As, Role::Nms, Role::Trs, ALICE, BOB] {
            stage.trust(role, &roots);
        }
        stage.run(100);
        assert!(has_tunnel(&mut stage, 0), "{way:?}: {:#?}", stage.happened());
        stage.assert_works();
    }
}

/// Both methods, direct and through a TRS.
const BOTH: [(&str, [&str; 2]); 5] =
    [("method = \"conventional\"", [V4, V4]), ("method = \"conventional\"", [NAT, NAT]), WAYS[0], WAYS[1], WAYS[2]];

fn both_worked(way: (&str, [&str; 2])) -> Stage {
    let mut stage = Stage::after(scene(way.0, way.1, "{ delay_ms = 10 }"));
    stage.assert_works();
    stage
}

fn assert_ended(stage: &mut Stage, way: (&str, [&str; 2])) {
    assert!(!has_tunnel(stage, 0), "{way:?}: {:#?}", stage.happened());
    assert_eq!((stage.echo(0, 1), stage.echo(1, 0)), (0, 0), "{way:?}: {:#?}", stage.happened());
    assert!(stage.world.node(0, |_, host| host.machine().is_registered()), "{way:?}: Alice stays");
}

/// Nodes as in the quick start: without a list of revoked certificates.
#[test]
fn nothing_passes_to_or_from_a_revoked_node_though_no_node_follows_the_list() {
    for way in BOTH {
        let mut stage = both_worked(way);
        stage.world.revoke(SEED, &fqdn("bob"));
        stage.run(200);
        assert_ended(&mut stage, way);
    }
}

/// The device was removed. Its certificate is still good.
#[test]
fn nothing_passes_to_or_from_a_removed_device() {
    for way in BOTH {
        let mut stage = both_worked(way);
        stage.world.store.remove_device(NodeId::of(&fqdn("bob"))).unwrap();
        let id = stage.world.nms.id;
        let command = ServiceCommand::Revoked(vec![fqdn("bob")]);
        stage.world.engine().with(id, |now, host: &mut Host<Served<Nms>>| host.command(now, command));
        stage.run(200);
        assert_ended(&mut stage, way);
    }
}

#[test]
fn a_peer_that_cannot_be_told_at_once_is_told_within_five_seconds_of_when_it_can() {
    for way in BOTH {
        let mut stage = both_worked(way);
        let at = LinkAt::Site(0);
        stage.world.set_link_up(at, false);
        stage.world.revoke(SEED, &fqdn("bob"));
        stage.run(3_000);
        stage.world.set_link_up(at, true);
        stage.run(5_000);
        assert_ended(&mut stage, way);
    }
}

/// The NMS does not remember which nodes it directed to each other. The nodes remind it.
#[test]
fn an_nms_that_was_restarted_tells_the_peers_of_a_revoked_node_too() {
    for way in BOTH {
        let mut stage = both_worked(way);
        stage.world.restart(&stage.scenario, SEED, &Watch::default(), Actor::Nms);
        stage.run(8_000);
        assert!(has_tunnel(&mut stage, 0), "{way:?}: the tunnel outlives the NMS");
        stage.world.revoke(SEED, &fqdn("bob"));
        stage.run(200);
        assert_ended(&mut stage, way);

        let mut stage = both_worked(way);
        stage.world.store.remove_device(NodeId::of(&fqdn("bob"))).unwrap();
        stage.world.restart(&stage.scenario, SEED, &Watch::default(), Actor::Nms);
        stage.run(8_000);
        assert_ended(&mut stage, way);
    }
}
