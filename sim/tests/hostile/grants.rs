//! Two nodes that want the TRS without a word of the NMS, or for longer than it said.

use cyphonic_core::event::DropReason;
use cyphonic_core::header::Flags;
use cyphonic_core::message::{ErrorCode, Framing, Message, RelayGrant, TunnelRequest};
use cyphonic_core::name::PathId;
use cyphonic_core::signaling::Signaling;
use cyphonic_scenarios::{LinkAt, ServiceName};
use cyphonic_sim::world::{Actor, Watch};

use crate::arena::{Arena, Role, SEED};
use crate::common::{ECHO, NAT, scene, scene_of_sites};
use crate::insiders::relayed;
use crate::rogue::{Rogue, fqdn};

const SETTINGS: &str = "method = \"proposed\"\npolicy = \"optimal\"";
const METHODS: [&str; 2] = ["conventional", "proposed"];
/// Only a relay connects two of these.
const SYMMETRIC: &str =
    "kind = \"ipv4-private\"\nnat = { mapping = \"address-and-port-dependent\", ports = \"random\" }";

#[test]
pub(crate) fn two_legs_are_not_bound_without_a_grant_or_with_a_forged_one() {
    let mut arena = Arena::after(scene(SETTINGS, [NAT, NAT], "{ delay_ms = 2 }"));
    let [mut mallory, mut oscar] = ["mallory", "oscar"].map(Rogue::new);
    oscar.at = "198.51.100.201:443".parse().unwrap();
    let theirs = oscar.connect(&mut arena, Role::Trs, &fqdn("trs"));
    let leg = oscar.leg(theirs);
    let ours = mallory.connect(&mut arena, Role::Trs, &fqdn("trs"));
    let (from, to) = (mallory.name.clone(), oscar.name.clone());
    let path = PathId::of(&from, &to).0;
    let grant = RelayGrant { from: from.clone(), to: to.clone(), leg, serial: 1, seconds: 600, mac: [7; 16] };
    let framing = Framing::Compact;
    let request = TunnelRequest { from, to, wrapped_end_key: None, relay_cid: Some(leg), framing };
    for grant in [None, Some(grant)] {
        if let Some(grant) = grant {
            assert_eq!(mallory.say(&mut arena, ours, path, &Message::RelayGrant(grant)), []);
        }
        for signaling in [Signaling::Paper, Signaling::Fast] {
            let flags = Flags(0).with_signaling(signaling);
            let frame = Message::TunnelRequest(request.clone()).to_bytes(77, flags, 0, 0, path);
            let answer = mallory.say_frame(&mut arena, ours, frame.into());
            assert_eq!(answer, [Message::Error(ErrorCode::NoRelay)], "{signaling}");
        }
    }
    assert_eq!(arena.drops(Role::Trs, DropReason::NotGranted), 5);
    arena.assert_works();
}

/// Alice and Bob, whose tunnel is relayed.
fn both_relayed(method: &str) -> Arena {
    let settings = format!("method = \"{method}\"\npolicy = \"optimal\"");
    let mut arena = Arena::after(scene_of_sites(&settings, [SYMMETRIC; 2], "{ delay_ms = 10 }", ECHO));
    arena.assert_works();
    assert!(!relayed(&arena).is_empty(), "{method}: a relay connects them");
    arena
}

/// Two datagrams in each direction, in the tunnel that there is.
fn stands(arena: &mut Arena, seconds: u64) {
    for _ in 0..seconds / 30 {
        arena.run(30_000);
        arena.assert_works();
    }
    let downs: Vec<_> = arena.happened().into_iter().filter(|event| event.contains("TunnelDown")).collect();
    assert_eq!(downs, [""; 0], "the tunnel stands");
}

/// Longer than two grants of the simulator. The NMS that renews them does not know who was granted what.
#[test]
fn a_relayed_tunnel_outlives_an_nms_that_restarts_and_its_grants_are_renewed() {
    for method in METHODS {
        let mut arena = both_relayed(method);
        arena.world.restart(&arena.scenario, SEED, &Watch::default(), Actor::Nms);
        stands(&mut arena, 420);
    }
}

#[test]
pub(crate) fn nothing_is_relayed_after_the_grant_though_both_nodes_go_on() {
    for method in METHODS {
        let mut arena = both_relayed(method);
        let nms = LinkAt::Service(ServiceName::Nms);
        arena.world.set_link_up(nms, false);
        // A third of the time: less than what is left.
        stands(&mut arena, 60);
        arena.run(150_000);
        arena.arrived.clear();
        assert_eq!((arena.echo(0, 1), arena.echo(1, 0)), (0, 0), "{method}: {:#?}", arena.happened());
        assert_eq!(relayed(&arena).len(), 0, "{method}");
        arena.world.set_link_up(nms, true);
        arena.run(40_000);
        arena.assert_works();
    }
}
