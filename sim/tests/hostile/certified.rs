//! Rows of the NMS's database were swapped: a virtual address would be another node's. Certificates say whose it is.

use cyphonic_core::event::{DropReason, Event};
use cyphonic_core::name::Virtual;
use cyphonic_core::node::NodeCommand;
use cyphonic_sim::seeded;

use crate::arena::{Arena, Role, SEED};
use crate::common::{NAT, V4, scene};
use crate::rogue::fqdn;

/// Direct, and through a relay that forwards only.
const KINDS: [&str; 2] = [V4, NAT];
const SETTINGS: &str = "method = \"proposed\"\npolicy = \"optimal\"";

/// Alice and Bob are registered. They have their addresses by the order in which they came.
fn registered(kind: &str) -> (Arena, [Virtual; 2]) {
    let mut arena = Arena::before(scene(SETTINGS, [kind, kind], "{ delay_ms = 2 }"));
    for node in 0..2 {
        arena.world.node(node, |now, host| host.command(now, NodeCommand::Start));
    }
    arena.run(5_000);
    let given = [0, 1].map(|node| arena.world.look(node, |host| host.machine().virtual_addresses()).unwrap());
    arena.world.drain_events();
    (arena, given)
}

/// A node gets its next certificate, with these addresses in it.
fn certify(arena: &mut Arena, node: usize, addresses: Virtual) {
    let name = arena.scenario.nodes[node].name.clone();
    let identity = Box::new(seeded::pki(SEED).certified(&name, addresses));
    arena.world.node(node, |now, host| host.command(now, NodeCommand::Identity(identity)));
    arena.run(1_000);
}

fn events(arena: &mut Arena) -> Vec<Event> {
    arena.world.drain_events().into_iter().map(|(.., event)| event).collect()
}

#[test]
pub(crate) fn the_certificates_addresses_count_where_the_database_has_others() {
    for kind in KINDS {
        let (mut arena, [a, b]) = registered(kind);
        // By the certificates, the database has the two rows swapped.
        for (node, addresses) in [(0, b), (1, a)] {
            certify(&mut arena, node, addresses);
            for command in [NodeCommand::Stop, NodeCommand::Start] {
                arena.world.node(node, |now, host| host.command(now, command));
                arena.run(5_000);
            }
        }
        let now = [0, 1].map(|node| arena.world.look(node, |host| host.machine().virtual_addresses()));
        assert_eq!(now, [Some(b), Some(a)], "{kind}");
        let warned = events(&mut arena);
        for (short, shown, stored) in [("alice", b, a), ("bob", a, b)] {
            let warning = Event::AddressesDiffer { name: fqdn(short), shown, stored };
            assert!(warned.contains(&warning), "{kind}: {warned:?}");
        }
        arena.assert_works();
    }
}

#[test]
pub(crate) fn a_peer_has_no_other_addresses_than_those_of_its_certificate() {
    for kind in KINDS {
        let (mut arena, [_, b]) = registered(kind);
        let other = Virtual { v4: [198, 18, 77, 7].into(), v6: "2001:db8:c::777".parse().unwrap() };
        certify(&mut arena, 1, other);
        // The NMS still tells what it said when Bob registered: b.
        arena.echo(0, 1);
        arena.run(8_000);
        let events = events(&mut arena);
        assert!(!events.iter().any(|event| matches!(event, Event::TunnelUp(_))), "{kind}, {b:?}: {events:?}");
        assert_ne!(arena.drops(Role::Node(0), DropReason::WrongIdentity), 0, "{kind}");
    }
}
