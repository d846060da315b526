//! Links that are opened and not used, or used wrongly: they end, and nobody else is kept out.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::defects::{Defect, plant};
use cyphonic_core::event::DropReason;
use cyphonic_core::key::Key128;
use cyphonic_core::message::{DirectionRequest, ErrorCode, Message, PeerRef, Want};
use cyphonic_core::name::{Fqdn, NodeId, Virtual};
use cyphonic_core::quic::{LinkClosed, LinkId, LinkOutput, MOST_UNREAD};
use cyphonic_core::store::{Device, Store, StoreError};
use cyphonic_sim::host::apps::{App, Echo, Family, Target};
use cyphonic_sim::world::{Actor, Watch};

use crate::arena::{ALICE, Arena, BOB, Role, SEED};
use crate::common::{V4, scene};
use crate::rogue::{Rogue, fqdn};

const CONVENTIONAL: &str = "method = \"conventional\"";
const BLIND: &str = "method = \"proposed\"";
const LINK: &str = "{ delay_ms = 10 }";

/// A network of the proposed method in which nothing happens by itself.
fn quiet() -> Arena {
    Arena::before(scene(BLIND, [V4, V4], LINK))
}

fn closed(heard: &[LinkOutput]) -> Vec<(LinkId, LinkClosed)> {
    let closed = heard.iter().filter_map(|output| match output {
        LinkOutput::Closed(link, reason) => Some((*link, *reason)),
        _ => None,
    });
    closed.collect()
}

#[test]
fn a_link_on_which_nobody_asks_is_closed_by_as_and_nodes() {
    for (role, name, after_ms) in [(Role::As, "as", 20_000), (BOB, "bob", 5_000)] {
        let mut arena = quiet();
        let mut mallory = Rogue::new("mallory");
        let link = mallory.connect(&mut arena, role, &fqdn(name));
        let heard = mallory.listen(&mut arena, after_ms - 200);
        assert_eq!(closed(&heard), [], "{role:?} has patience");
        let heard = mallory.listen(&mut arena, 400);
        assert_eq!(closed(&heard), [(link, LinkClosed::Lost)], "{role:?}");
    }
}

#[test]
fn one_certificate_has_few_links_that_wait() {
    // A node dials on several ways at once, and is dialed so.
    for (role, name, most) in [(Role::Nms, "nms", 4), (BOB, "bob", 4)] {
        let mut arena = quiet();
        let mut mallory = Rogue::new("mallory");
        let first = mallory.connect(&mut arena, role, &fqdn(name));
        for _ in 1..most {
            mallory.connect(&mut arena, role, &fqdn(name));
        }
        assert_eq!(closed(&mallory.listen(&mut arena, 100)), [], "{role:?}");
        mallory.open(&arena, role, &fqdn(name));
        let heard = mallory.listen(&mut arena, 100);
        assert_eq!(closed(&heard), [(first, LinkClosed::Lost)], "{role:?}");
    }
}

#[test]
fn who_is_not_registered_is_told_so_on_a_link_whose_certificate_names_him() {
    let mut arena = quiet();
    let mut alice = Rogue::new("alice");
    let nms = alice.connect(&mut arena, Role::Nms, &fqdn("nms"));
    let request = Message::DirectionRequest(DirectionRequest { peer: PeerRef::Name(fqdn("bob")), want: Want::Any });
    let answer = alice.say(&mut arena, nms, NodeId::of(&fqdn("alice")).0, &request);
    assert_eq!(answer, [Message::Error(ErrorCode::NotRegistered)]);
    let answer = alice.say(&mut arena, nms, NodeId::of(&fqdn("bob")).0, &request);
    assert_eq!(answer, [], "and on nobody else's");
}

#[test]
fn a_stream_of_nonsense_ends_its_link_and_is_not_answered_at_greater_length() {
    for (role, name) in [(Role::As, "as"), (Role::Nms, "nms"), (Role::Trs, "trs"), (BOB, "bob")] {
        let mut arena = quiet();
        let mut mallory = Rogue::new("mallory");
        let link = mallory.connect(&mut arena, role, &fqdn(name));
        // So many headers of a version 0, with nothing after them.
        let most = MOST_UNREAD as usize;
        let heard = mallory.speak(&mut arena, link, vec![0; 32 * most].into());
        assert_eq!(closed(&heard), [], "{role:?} has patience");
        assert_eq!(arena.drops(role, DropReason::UnknownVersion), most as u64, "{role:?}");
        let mut arena = quiet();
        let mut other = Rogue::new("mallory");
        let link = other.connect(&mut arena, role, &fqdn(name));
        let heard = other.speak(&mut arena, link, vec![0; 32 * (most + 1)].into());
        assert_eq!(closed(&heard), [(link, LinkClosed::Lost)], "{role:?}");
    }
}

/// A database that tells the NMS lies about Bob's virtual addresses: what a hostile NMS could say too.
#[derive(Debug)]
struct Liar {
    truth: Arc<dyn Store>,
    lie: Virtual,
}

impl Store for Liar {
    fn put_device(&self, device: &Device) -> Result<(), StoreError> {
        self.truth.put_device(device)
    }
    fn device(&self, node: NodeId) -> Result<Option<Device>, StoreError> {
        self.truth.device(node)
    }
    fn remove_device(&self, node: NodeId) -> Result<(), StoreError> {
        self.truth.remove_device(node)
    }
    fn put_common_key(&self, node: NodeId, key: &Key128, ends: Option<Duration>) -> Result<(), StoreError> {
        self.truth.put_common_key(node, key, ends)
    }
    fn common_key(&self, node: NodeId) -> Result<Option<Key128>, StoreError> {
        self.truth.common_key(node)
    }

    fn common_key_ends(&self, node: NodeId) -> Result<Option<Duration>, StoreError> {
        self.truth.common_key_ends(node)
    }
    fn allocate(&self, name: &Fqdn) -> Result<Virtual, StoreError> {
        self.truth.allocate(name)
    }
    fn addresses_of(&self, name: &Fqdn) -> Result<Option<Virtual>, StoreError> {
        if name.short() == "bob" { Ok(Some(self.lie)) } else { self.truth.addresses_of(name) }
    }
    fn owner_of(&self, address: IpAddr) -> Result<Option<Fqdn>, StoreError> {
        self.truth.owner_of(address)
    }
    fn accept_epoch(&self, node: NodeId, epoch: u64) -> Result<bool, StoreError> {
        self.truth.accept_epoch(node, epoch)
    }

    fn last_epoch(&self, node: NodeId) -> Result<Option<u64>, StoreError> {
        self.truth.last_epoch(node)
    }
}

#[test]
fn a_route_to_an_address_that_cannot_be_the_peers_is_not_taken() {
    for settings in [CONVENTIONAL, BLIND] {
        for what in ["ours", "nowhere", "changed"] {
            // Alice would forget Bob and his address if she were told that he has restarted.
            let _deaf = (what == "changed").then(|| plant(Defect::RestartUnheard));
            let scenario = scene(settings, [V4, V4], LINK);
            let mut arena = Arena::after(scenario.clone());
            let own = arena.world.node(0, |_, host| host.virtual_addresses()).unwrap();
            let bob = arena.world.node(1, |_, host| host.virtual_addresses()).unwrap();
            let lie = match what {
                "ours" => own,
                "nowhere" => Virtual { v6: Ipv6Addr::LOCALHOST, ..bob },
                _ => Virtual { v6: (u128::from(bob.v6) + 100).into(), ..bob },
            };
            arena.world.store = Arc::new(Liar { truth: arena.world.store.clone(), lie });
            let watch = Watch::default();
            arena.world.restart(&scenario, SEED, &watch, Actor::Nms);
            if what != "changed" {
                // Alice does not know Bob any more.
                arena.world.restart(&scenario, SEED, &watch, Actor::Node(0));
                arena.world.node(0, |now, host| host.command(now, cyphonic_core::node::NodeCommand::Start));
            }
            arena.run(60_000);
            arena.world.drain_events();
            if what == "changed" {
                // Bob forgets Alice, and asks for her: she is told Bob's new address while she knows his old one.
                arena.world.restart(&scenario, SEED, &watch, Actor::Node(1));
                arena.world.node(1, |now, host| host.command(now, cyphonic_core::node::NodeCommand::Start));
                arena.run(1_000);
            }
            let (from, to) = if what == "changed" { (1, "alice") } else { (0, "bob") };
            let echo = App::Echo(Target::Name(fqdn(to), Family::V6), Echo { count: 1, ..Echo::default() });
            let app = arena.world.node(from, |now, host| host.start(now, echo));
            arena.run(3_000);
            let report = arena.world.node(from, |_, host| host.report(app).clone());
            assert_eq!(
                report.echo().map_or(0, cyphonic_sim::host::apps::EchoReport::answered),
                0,
                "{settings}, {what}"
            );
            assert!(arena.drops(ALICE, DropReason::WrongIdentity) > 0, "{settings}, {what}: {:?}", arena.happened());
        }
    }
}
