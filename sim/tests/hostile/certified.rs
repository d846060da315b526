//! Rows of the NMS's database were swapped: a virtual address would be another node's. Certificates say whose it is.

use std::net::IpAddr;
use std::time::Duration;

use cyphonic_core::event::{DropReason, Event};
use cyphonic_core::name::Virtual;
use cyphonic_core::node::NodeCommand;
use cyphonic_sim::host::apps::{App, Echo, EchoReport, Target};
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

/// A node stops and starts.
fn register_anew(arena: &mut Arena, node: usize) {
    for command in [NodeCommand::Stop, NodeCommand::Start] {
        arena.world.node(node, |now, host| host.command(now, command));
        arena.run(5_000);
    }
}

/// How many of two echoes to an address are answered.
fn echo(arena: &mut Arena, from: usize, to: IpAddr) -> usize {
    let echo = Echo { count: 2, interval: Duration::from_millis(10), ..Echo::default() };
    let id = arena.world.node(from, |now, host| host.start(now, App::Echo(Target::Address(to), echo)));
    arena.run(15_000);
    arena.world.node(from, |_, host| host.report(id).clone()).echo().map_or(0, EchoReport::answered)
}

#[test]
pub(crate) fn an_address_leads_to_the_node_that_has_it_in_its_certificate() {
    for kind in KINDS {
        let (mut arena, [a, b]) = registered(kind);
        for (node, addresses) in [(0, b), (1, a)] {
            certify(&mut arena, node, addresses);
            register_anew(&mut arena, node);
        }
        for to in [IpAddr::from(a.v4), a.v6.into()] {
            assert_eq!(echo(&mut arena, 0, to), 2, "{kind}: {to} is Bob's, whatever the database says");
        }
        assert_eq!(echo(&mut arena, 1, b.v4.into()), 2, "{kind}");
    }
}

#[test]
fn a_name_without_addresses_in_its_certificate_does_not_get_those_of_another_one() {
    for kind in KINDS {
        for is_first in [false, true] {
            let (mut arena, [_, b]) = registered(kind);
            // By Alice's certificate the address is hers. The database gives it to Bob.
            certify(&mut arena, 0, b);
            for node in if is_first { [1, 0] } else { [0, 1] } {
                register_anew(&mut arena, node);
            }
            arena.run(30_000);
            let registered = ["alice", "bob"].map(|short| arena.world.is_registered(&fqdn(short)));
            assert_eq!(registered, [true, false], "{kind}, Bob comes first: {is_first}");
        }
    }
}
