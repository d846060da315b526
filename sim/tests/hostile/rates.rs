//! More requests than the NMS answers: of an insider, and of strangers in any name, from any address.

use std::net::{Ipv4Addr, SocketAddr};

use cyphonic_core::conventional::keys::Direction;
use cyphonic_core::conventional::session::Session;
use cyphonic_core::event::DropReason;
use cyphonic_core::header::{Flags, Header, Kind};
use cyphonic_core::key::Key128;
use cyphonic_core::message::{
    Answer, AtEnd, DirectionRequest, GrantRequest, Message, Padding, PeerRef, PeerReport, Probe, RegistrationRequest,
    Want,
};
use cyphonic_core::name::{NodeId, RelayCid};
use cyphonic_core::node::NodeCommand;
use cyphonic_core::store::Device;
use cyphonic_core::timing::common::EPOCH_SLACK;
use cyphonic_core::timing::nms::{REQUEST_EVERY, REQUESTS_SAVED};
use cyphonic_sim::seeded;

use crate::arena::{ALICE, Arena, BOB, Role};
use crate::common::{V4, scene};
use crate::rogue::{Rogue, fqdn};

const LINK: &str = "{ delay_ms = 2 }";
/// Requests of the insider, and forged datagrams in each 10 ms.
const TOO_MANY: u32 = 3_000;
const FORGED: u32 = 100;

#[test]
pub(crate) fn an_insider_that_asks_for_a_peer_without_end_is_answered_at_a_rate() {
    let mut arena = Arena::after(scene("method = \"proposed\"", [V4, V4], LINK));
    let mut mallory = Rogue::new("mallory");
    let device = Device { name: mallory.name.clone(), password: None, certificate_login: true };
    arena.world.store.put_device(&device).unwrap();
    let me = NodeId::of(&mallory.name).0;
    let nms = mallory.connect(&mut arena, Role::Nms, &fqdn("nms"));
    let (epoch, addresses) = ((seeded::EPOCH + EPOCH_SLACK / 2).as_nanos() as u64, vec![mallory.at.ip()]);
    let request = RegistrationRequest { epoch, addresses, port: mallory.at.port() };
    let answer = mallory.say(&mut arena, nms, me, &Message::RegistrationRequest(request));
    assert!(matches!(answer[..], [Message::RegistrationResponse(_)]), "{answer:?}");

    arena.run(0);
    arena.arrived.clear();
    let ask = Message::DirectionRequest(DirectionRequest { peer: PeerRef::Name(fqdn("bob")), want: Want::Any });
    mallory.repeat(&mut arena, nms, me, &ask, TOO_MANY);
    let refused = arena.drops(Role::Nms, DropReason::Busy);
    // A second more than the burst.
    let answered = u64::from(TOO_MANY) - refused;
    let burst = u64::try_from(REQUESTS_SAVED.as_nanos() / REQUEST_EVERY.as_nanos()).unwrap();
    assert!((burst..burst + 150).contains(&answered), "{answered} were answered");
    // What the NMS has to look up has a rate, whatever the message is.
    let report = Message::PeerReport(PeerReport { peers: vec![fqdn("bob"); 16] });
    let renew = Message::GrantRequest(GrantRequest { peer: fqdn("bob"), leg: AtEnd(Some(RelayCid([1; 8]))) });
    for (what, message, least) in [("reports", report, burst), ("grants", renew, 0)] {
        let before = arena.drops(Role::Nms, DropReason::Busy);
        mallory.repeat(&mut arena, nms, me, &message, TOO_MANY);
        let answered = u64::from(TOO_MANY) - (arena.drops(Role::Nms, DropReason::Busy) - before);
        assert!((least..burst + 500).contains(&answered), "{answered} {what} were answered");
    }
    arena.assert_works();
}

/// A node's own address is spoofed, and so is the NMS's: forged requests to the NMS, and forged challenges to the node.
/// The attacker sees nothing of what the two say to each other.
#[test]
pub(crate) fn a_flood_in_the_name_of_a_nodes_own_address_does_not_keep_that_node_out() {
    let mut arena = Arena::before(scene("method = \"conventional\"", [V4, V4], LINK));
    let (nms, alice) = (arena.address(Role::Nms), arena.address(ALICE));
    let challenge = Message::Probe(Probe { answer: Answer::Here, padding: Padding });
    let mut sent = 0_u32;
    let mut flood = |arena: &mut Arena, steps: u32| {
        for _ in 0..steps {
            for _ in 0..5 {
                sent += 1;
                arena.datagram(Role::Nms, nms, alice, &forged(sent));
                let id = sent.to_be_bytes().repeat(4).try_into().unwrap();
                let forged = challenge.to_bytes(sent, Flags(Flags::FROM_RESPONDER), 0, 0, id);
                arena.datagram(ALICE, alice, nms, &forged);
            }
            arena.run(1);
        }
    };
    flood(&mut arena, 500);
    arena.world.node(0, |now, host| host.command(now, NodeCommand::Start));
    flood(&mut arena, 4_000);
    let is_registered = arena.world.node(0, |_, host| host.virtual_addresses().is_some());
    assert!(is_registered, "{:?}", arena.world.drops());
}

/// A node of a version that does not know the challenge of an NMS under load: it only sends its request again, each
/// time after twice the previous wait, up to 30 s.
#[test]
fn a_node_that_does_not_answer_challenges_registers_once_the_flood_is_over() {
    let mut arena = Arena::before(scene("method = \"conventional\"", [V4, V4], LINK));
    let (nms, at) = (arena.address(Role::Nms), arena.address(ALICE));
    let (key, id) = (Key128([5; 16]), NodeId::of(&fqdn("alice")));
    arena.world.store.put_common_key(id, &key, None).unwrap();
    let mut session = Session::new(&key, Direction::FromInitiator);
    let mut ask = |arena: &mut Arena, count: u8| {
        let epoch = (seeded::EPOCH + EPOCH_SLACK / 2).as_nanos() as u64;
        let request = RegistrationRequest { epoch, addresses: vec![at.ip()], port: at.port() };
        let request = session.seal(7, count, id.0, &Message::RegistrationRequest(request)).unwrap();
        arena.datagram(Role::Nms, nms, at, &request);
        let answers = arena.sent(Role::Nms).into_iter().filter(|answer| answer.to == at);
        answers.map(|answer| Header::decode(&answer.payload).unwrap().kind).collect::<Vec<_>>()
    };
    let mut sent = 0_u32;
    let mut flood = |arena: &mut Arena, steps: u32| {
        for _ in 0..steps {
            arena.run(10);
            for _ in 0..FORGED {
                sent += 1;
                let from = SocketAddr::new(Ipv4Addr::from_bits(0xcb00_0000 + sent).into(), 4501);
                arena.datagram(Role::Nms, nms, from, &forged(sent));
            }
            arena.sent(Role::Nms);
        }
    };
    flood(&mut arena, 100);
    assert_eq!(ask(&mut arena, 0), [Kind::Probe], "a challenge, which the node does not know");
    flood(&mut arena, 50);
    assert_eq!(ask(&mut arena, 1), [Kind::Probe]);
    // The strangers' rate is there again as soon as the flood is over.
    arena.run(100);
    arena.sent(Role::Nms);
    assert_eq!(ask(&mut arena, 2), [Kind::RegistrationResponse], "{:?}", arena.world.drops());
}

/// A Registration Request in somebody's name, under a key that is none.
fn forged(number: u32) -> Vec<u8> {
    let request = RegistrationRequest { epoch: u64::MAX / 2, addresses: vec![Ipv4Addr::LOCALHOST.into()], port: 443 };
    let mut session = Session::new(&Key128([9; 16]), Direction::FromInitiator);
    let message = Message::RegistrationRequest(request);
    session.seal(number, 0, NodeId::of(&fqdn("alice")).0, &message).expect("the first number")
}

#[test]
pub(crate) fn forged_registrations_from_spoofed_addresses_cost_the_nms_little_and_keep_no_node_out() {
    let mut arena = Arena::before(scene("method = \"conventional\"", [V4, V4], LINK));
    let local = SocketAddr::new(arena.address(Role::Nms).ip(), arena.scenario.port);
    let (mut sent, mut spoofed) = (0_u32, 0_usize);
    let mut flood = |arena: &mut Arena, steps: u32| {
        for _ in 0..steps {
            for _ in 0..FORGED {
                sent += 1;
                // Each from another address, none of which is anybody's.
                let from = SocketAddr::new(Ipv4Addr::from_bits(0xcb00_0000 + sent).into(), 4501);
                let datagram = forged(sent);
                arena.datagram(Role::Nms, local, from, &datagram);
                let answers = arena.sent(Role::Nms).into_iter().filter(|answer| answer.to == from);
                let answered: usize = answers.map(|answer| answer.payload.len()).sum();
                assert!(answered <= datagram.len(), "{answered} bytes for {}", datagram.len());
                spoofed += answered;
            }
            arena.run(10);
        }
        sent
    };
    flood(&mut arena, 100);
    for node in 0..2 {
        arena.world.node(node, |now, host| host.command(now, NodeCommand::Start));
    }
    let sent = flood(&mut arena, 400);
    let registered = [0, 1].map(|node| arena.world.node(node, |_, host| host.virtual_addresses().is_some()));
    let refused = arena.drops(Role::Nms, DropReason::Busy);
    // A thousand looks a second, and five thousand at once.
    let worked = u64::from(sent) - refused;
    assert!(worked < 5_000 + 6 * 1_000, "{worked} of {sent} forged datagrams cost a look into the database");
    assert_eq!(registered, [true, true], "{:?}", arena.world.drops());
    arena.assert_works();
    assert!(arena.drops(BOB, DropReason::Busy) == 0);
}
