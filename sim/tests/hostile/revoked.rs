//! A certificate is taken back while its owner has sessions with everybody.

use cyphonic_sim::seeded;

use crate::common::{NAT, V4, scene};
use crate::rogue::fqdn;
use crate::stage::{ALICE, BOB, Role, SEED, Stage};

/// Direct, through a TRS that reads, and through one that does not.
const WAYS: [(&str, [&str; 2]); 3] = [
    ("method = \"proposed\"", [V4, V4]),
    ("method = \"proposed\"\nrelay_mode = \"terminating\"", [NAT, NAT]),
    ("method = \"proposed\"", [NAT, NAT]),
];

/// Alice and Bob talk; then these learn that Bob's certificate counts no more.
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
