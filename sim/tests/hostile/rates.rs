//! More requests than the NMS answers: of an insider, and of strangers in any name, from any address.

use std::net::{Ipv4Addr, SocketAddr};

use cyphonic_core::conventional::keys::Direction;
use cyphonic_core::conventional::session::Session;
use cyphonic_core::event::DropReason;
use cyphonic_core::key::Key128;
use cyphonic_core::message::{DirectionRequest, Message, PeerRef, RegistrationRequest, Want};
use cyphonic_core::name::NodeId;
use cyphonic_core::node::NodeCommand;
use cyphonic_core::store::Device;
use cyphonic_core::timing::common::EPOCH_SLACK;
use cyphonic_core::timing::nms::{REQUEST_EVERY, REQUESTS_SAVED};
use cyphonic_sim::seeded;

use crate::arena::{Arena, BOB, Role};
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
    arena.assert_works();
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
