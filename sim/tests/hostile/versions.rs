//! Parts of a later version of the protocol beside today's, and of the one that came before.

use std::collections::BTreeMap;

use bytes::Bytes;
use cyphonic_core::conventional::keys::{Direction, Sealing};
use cyphonic_core::conventional::seal;
use cyphonic_core::conventional::session::Session;
use cyphonic_core::event::DropReason;
use cyphonic_core::header::{Flags, Header, Kind};
use cyphonic_core::message::{Credential, DirectionRequest, ErrorCode, LoginRequest, Message, PeerRef, Want};
use cyphonic_core::name::NodeId;
use cyphonic_core::quic::LinkOutput;
use cyphonic_core::version::{Spoken, Versions};
use cyphonic_scenarios::Engine;
use cyphonic_sim::host::apps::{AppReport, EchoReport};
use cyphonic_sim::net::TapMode;
use cyphonic_sim::run;
use cyphonic_sim::world::Watch;

use crate::arena::{Arena, BOB, Role, SEED, udp};
use crate::common::{NAT, V4, scene};
use crate::rogue::{Rogue, fqdn};

const CONVENTIONAL: &str = "method = \"conventional\"";
const PROPOSED: &str = "method = \"proposed\"";
const LINK: &str = "{ delay_ms = 2 }";
/// What the build after this one speaks, and one that has given this one up.
const NEXT: Versions = Versions { oldest: 2, newest: 3 };
const AFTER: Versions = Versions { oldest: 3, newest: 3 };

/// A frame of a type that nobody knows yet.
fn type_200(id: [u8; 16]) -> Bytes {
    let header = Header {
        transaction: 9,
        spoken: Spoken::FIRST,
        flags: Flags(0),
        kind: 200,
        count: 0,
        sequence: 0,
        length: 5,
        option: 0,
        id,
    };
    [&header.encode()[..], b"later"].concat().into()
}

fn login(name: &str) -> Message {
    let device = NodeId::of(&fqdn(name));
    Message::LoginRequest(LoginRequest { device, credential: Credential::Certificate })
}

#[test]
fn a_message_type_of_a_later_version_is_named_and_the_link_stands() {
    for (role, name) in [(Role::As, "as"), (Role::Nms, "nms"), (Role::Trs, "trs"), (BOB, "bob")] {
        let mut arena = Arena::before(scene(PROPOSED, [V4, V4], LINK));
        let mut mallory = Rogue::new("alice");
        let link = mallory.connect(&mut arena, role, &fqdn(name));
        for _ in 0..3 {
            let answer = mallory.say_frame(&mut arena, link, type_200([7; 16]));
            assert_eq!(answer, [Message::Error(ErrorCode::UnknownType(200))], "{role:?}");
        }
        assert_eq!(arena.drops(role, DropReason::UnknownType), 3, "{role:?}");
        let error = Message::Error(ErrorCode::Unknown(200)).to_bytes(9, Flags(0), 0, 0, [7; 16]);
        assert_eq!(mallory.say_frame(&mut arena, link, error.into()), [], "{role:?}: no Error answers an Error");
        if role == Role::As {
            let answer = mallory.say(&mut arena, link, NodeId::of(&fqdn("alice")).0, &login("alice"));
            assert!(matches!(answer[..], [Message::LoginResponse(_)]), "the link stands: {answer:?}");
        }
    }
}

#[test]
fn an_option_of_a_later_version_is_skipped() {
    let mut arena = Arena::before(scene(PROPOSED, [V4, V4], LINK));
    let mut alice = Rogue::new("alice");
    let id = NodeId::of(&fqdn("alice")).0;
    let nms = alice.connect(&mut arena, Role::Nms, &fqdn("nms"));
    let request = Message::DirectionRequest(DirectionRequest { peer: PeerRef::Name(fqdn("bob")), want: Want::Any });
    let mut frame = request.to_bytes(77, Flags(0), 0, 0, id);
    let option = [0, 4, 1, 2, 3, 4];
    frame.splice(32..32, option);
    frame[14] = 99;
    frame[13] += option.len() as u8;
    let answer = alice.say_frame(&mut arena, nms, frame.into());
    assert_eq!(answer, [Message::Error(ErrorCode::NotRegistered)], "as without the option");
}

#[test]
fn the_version_is_agreed_at_login() {
    let id = NodeId::of(&fqdn("alice")).0;
    let mut arena = Arena::before(scene(PROPOSED, [V4, V4], LINK));
    let mut next = Rogue::speaking("alice", NEXT);
    let auth = next.connect(&mut arena, Role::As, &fqdn("as"));
    let answer = next.say(&mut arena, auth, id, &login("alice"));
    assert!(matches!(answer[..], [Message::LoginResponse(_)]), "{answer:?}");
    assert_eq!(next.version(auth), Some(2), "the newest that both speak");

    let mut arena = Arena::before(scene(PROPOSED, [V4, V4], LINK));
    let mut after = Rogue::speaking("alice", AFTER);
    let auth = after.connect(&mut arena, Role::As, &fqdn("as"));
    let answer = after.say(&mut arena, auth, id, &login("alice"));
    assert_eq!(answer, [Message::Error(ErrorCode::UnknownVersion(Versions::OURS))], "which part to upgrade");
    let answer = after.say(&mut arena, auth, id, &login("alice"));
    assert_eq!(answer.len(), 1, "the link stands");
}

/// As the node of version 1 wrote it: what it gets is an Error that it knows, in its own version.
#[test]
fn a_node_of_version_1_is_told_that_it_is_not_served() {
    let id = NodeId::of(&fqdn("alice")).0;
    let mut arena = Arena::before(scene(PROPOSED, [V4, V4], LINK));
    let mut old = Rogue::new("alice");
    let auth = old.connect(&mut arena, Role::As, &fqdn("as"));
    let mut frame = login("alice").to_bytes(77, Flags(0), 0, 0, id);
    (frame[4], frame[15]) = (1, 0);
    let heard = old.speak(&mut arena, auth, frame.into());
    let [LinkOutput::Frame(_, header, body)] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((header.spoken, header.kind, &body[..]), (Spoken { version: 1, newest: 0 }, Kind::Error, &[7][..]));
    assert_eq!(arena.drops(Role::As, DropReason::UnknownVersion), 1);
}

#[test]
fn a_sealed_message_type_of_a_later_version_is_named_by_the_nms() {
    let mut arena = Arena::after(scene(CONVENTIONAL, [V4, V4], LINK));
    let alice = NodeId::of(&fqdn("alice"));
    let common = arena.world.store.common_key(alice).unwrap().expect("Alice logged in");
    let epoch = arena.world.store.last_epoch(alice).unwrap().expect("Alice registered");
    let sealing = Sealing::of_registration(&common, epoch);
    let (nms, elsewhere) = (arena.address(Role::Nms), "198.51.100.200:443".parse().unwrap());
    let ask = |arena: &mut Arena, sequence: u32, key: &Sealing| {
        let header = Header::<u8> { sequence, ..Header::<u8>::read(&type_200(alice.0)).unwrap() };
        let mut datagram = Vec::new();
        seal::seal_any(key, header, b"later", &mut datagram);
        arena.sent(Role::Nms);
        arena.datagram(Role::Nms, nms, elsewhere, &datagram);
        arena.run(20);
        let answers = arena.sent(Role::Nms).into_iter().filter(|d| d.to == elsewhere);
        answers.inspect(|d| assert!(d.payload.len() <= datagram.len())).map(|d| d.payload).collect::<Vec<_>>()
    };
    // Alice counts on from a number that the NMS gave her.
    let of_alice = arena.arrived.iter().filter(|a| a.role == Role::Nms).filter_map(crate::arena::Arrived::udp);
    let headers = of_alice.filter_map(|udp| Header::<u8>::read(&udp.payload)).filter(|header| header.id == alice.0);
    let next = headers.map(|header| header.sequence).max().expect("she said something") + 40;
    let mut answers = ask(&mut arena, next, &sealing);
    assert_eq!(answers.len(), 1);
    let mut node = Session::of_registration(&common, epoch, Direction::FromInitiator);
    let (header, message) = node.open_message(&mut answers[0]).unwrap();
    assert_eq!((header.transaction, message), (9, Message::Error(ErrorCode::UnknownType(200))));
    assert_eq!(ask(&mut arena, next, &sealing).len(), 0, "a repetition is not answered");
    let stranger = Sealing::new(&cyphonic_core::key::Key128([1; 16]));
    assert_eq!(ask(&mut arena, next + 1, &stranger).len(), 0, "nor is a stranger");
    arena.assert_works();
}

/// Parts are upgraded one after another, in any order. With every choice of upgraded parts Alice reaches Bob. Two parts
/// of the next version speak it with each other.
#[test]
fn whichever_parts_are_of_the_next_version_the_network_works() {
    const PARTS: [&str; 5] = ["as", "nms", "trs", "alice", "bob"];
    for method in [CONVENTIONAL, PROPOSED] {
        for mix in 0..1u32 << PARTS.len() {
            let later: Vec<&str> = (0..PARTS.len()).filter(|i| mix >> i & 1 == 1).map(|i| PARTS[i]).collect();
            let versions: BTreeMap<_, _> = later.iter().map(|&part| (part.to_owned(), NEXT)).collect();
            let watch = Watch { tap: TapMode::Keep, versions, ..Watch::default() };
            let scenario = scene(method, [NAT, NAT], LINK);
            let run = run::run(&scenario, SEED, Engine::Events, &watch);
            let answered = |report: &AppReport| report.echo().map_or(0, EchoReport::answered);
            assert!(run.complete && run.reports().all(|(_, report)| answered(report) > 0), "{method} {later:?}");
            if method == CONVENTIONAL {
                let nms = run.world.nms.id;
                let network = run.world.network();
                let to_nms: Vec<_> = network.directions().filter(|&w| network.ends(w)[1].0 == nms).collect();
                let heard = to_nms.into_iter().flat_map(|wire| network.take_tapped(wire));
                let versions: Vec<u8> = heard.filter_map(|t| udp(&t.packet)).map(|d| d.payload[4]).collect();
                let both = later.contains(&"nms") && ["alice", "bob", "trs"].iter().any(|part| later.contains(part));
                assert_eq!(versions.contains(&3), both, "{later:?}");
                assert!(versions.iter().all(|version| NEXT.speaks(*version)));
            }
        }
    }
}
