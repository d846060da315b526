//! Nodes with good certificates and keys that break the rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use cyphonic_core::conventional::keys::Direction;
use cyphonic_core::conventional::session::Session;
use cyphonic_core::conventional::wrap;
use cyphonic_core::event::DropReason;
use cyphonic_core::header::{Flags, Header, Kind};
use cyphonic_core::message::{
    DirectionRequest, ErrorCode, Framing, Message, PeerRef, RegistrationRequest, TunnelRequest, Want,
};
use cyphonic_core::name::{NodeId, PathId, RelayCid, Virtual};
use cyphonic_core::quic::destination_prefix;
use cyphonic_core::store::Device;
use cyphonic_core::time::Instant;
use cyphonic_core::timing::common::EPOCH_SLACK;
use cyphonic_sim::host::apps::{App, Echo, Family, Target};
use cyphonic_sim::net::WireConfig;
use cyphonic_sim::net::packet::{self, IpOptions};
use cyphonic_sim::seeded;
use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, icmpv6};
use rand_chacha::rand_core::RngCore;

use crate::addresses::MOST_UNPROVED;
use crate::arena::{ALICE, Arena, Arrived, BOB, Datagram, Role, SEED};
use crate::common::{NAT, V4, scene};
use crate::rogue::{Rogue, fqdn};

const LINK: &str = "{ delay_ms = 2 }";
const CONVENTIONAL: &str = "method = \"conventional\"";
const PROPOSED: &str = "method = \"proposed\"";
const TERMINATING: &str = "relay_mode = \"terminating\"";
const MILLISECOND: Duration = Duration::from_millis(1);
/// The address that attackers send from.
const ELSEWHERE: &str = "198.51.100.201:443";

fn elsewhere() -> SocketAddr {
    ELSEWHERE.parse().unwrap()
}

fn tunnel_request(from: &str, to: &str, relay_cid: Option<RelayCid>) -> Message {
    let framing = Framing::Compact;
    Message::TunnelRequest(TunnelRequest { from: fqdn(from), to: fqdn(to), wrapped_end_key: None, relay_cid, framing })
}

/// A registration later than every other one, and not too far ahead of the NMS's clock.
fn registration(rogue: &Rogue) -> Message {
    let (epoch, addresses) = ((seeded::EPOCH + EPOCH_SLACK / 2).as_nanos() as u64, vec![rogue.at.ip()]);
    Message::RegistrationRequest(RegistrationRequest { epoch, addresses, port: rogue.at.port() })
}

fn path(from: &str, to: &str) -> [u8; 16] {
    PathId::of(&fqdn(from), &fqdn(to)).0
}

fn virtual_of(arena: &mut Arena, node: usize) -> Virtual {
    arena.world.node(node, |_, host| host.virtual_addresses()).expect("registered")
}

fn ping(from: impl Into<IpAddr>, to: impl Into<IpAddr>) -> Vec<u8> {
    packet::echo(from.into(), to.into(), IpOptions::default(), 5, 5, b"hello").expect("one family")
}

fn flow(from: IpAddr, to: IpAddr) -> Vec<u8> {
    let (from, to) = (SocketAddr::new(from, 5_000), SocketAddr::new(to, 443));
    packet::udp(from, to, IpOptions::default(), b"hello").expect("one family")
}

/// "Port unreachable" of a peer about this packet.
fn unreachable(peer: Virtual, bob: Virtual, about: &[u8]) -> Vec<u8> {
    let mut error = Vec::new();
    if about[0] >> 4 == 4 {
        let why = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port);
        PacketBuilder::ipv4(peer.v4.octets(), bob.v4.octets(), 64).icmpv4(why).write_to_vec(&mut error, about)
    } else {
        let why = Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port);
        PacketBuilder::ipv6(peer.v6.octets(), bob.v6.octets(), 64).icmpv6(why).write_to_vec(&mut error, about)
    }
    .expect("in memory");
    error
}

/// Inner packets that a peer may not send to Bob, and why.
fn forgeries(peer: Virtual, bob: Virtual, other: Virtual) -> Vec<(Vec<u8>, DropReason)> {
    let nobody = (Ipv4Addr::new(198, 18, 200, 200), "2001:db8:ffff::9999".parse::<Ipv6Addr>().unwrap());
    let outside = (Ipv4Addr::new(8, 8, 8, 8), "2001:4860::8888".parse::<Ipv6Addr>().unwrap());
    let sources = [(other.v4, other.v6), (bob.v4, bob.v6), nobody, outside, (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)];
    let mut forged = Vec::new();
    for (v4, v6) in sources {
        forged.push((ping(v4, bob.v4), DropReason::InnerSource));
        forged.push((ping(v6, bob.v6), DropReason::InnerSource));
    }
    for (v4, v6) in [(other.v4, other.v6), nobody, outside] {
        forged.push((ping(peer.v4, v4), DropReason::InnerDestination));
        forged.push((ping(peer.v6, v6), DropReason::InnerDestination));
    }
    // ICMP errors about flows of Bob with others, and of others.
    for (from, to) in [(bob, other), (peer, bob), (other, peer)] {
        for v6 in [false, true] {
            let at = |node: Virtual| if v6 { IpAddr::from(node.v6) } else { node.v4.into() };
            let flow = flow(at(from), at(to));
            forged.push((unreachable(peer, bob, &flow), DropReason::ForeignError));
        }
    }
    forged.push((b"no packet".to_vec(), DropReason::BadPacket));
    forged.push((Vec::new(), DropReason::BadPacket));
    forged
}

#[test]
pub(crate) fn a_quic_peer_cannot_speak_in_the_name_of_another() {
    let mut arena = Arena::after(scene(PROPOSED, [V4, V4], LINK));
    let mut mallory = Rogue::new("mallory");
    let device = Device { name: mallory.name.clone(), password: None, certificate_login: true };
    arena.world.store.put_device(&device).unwrap();
    let me = NodeId::of(&mallory.name).0;
    let nms = mallory.connect(&mut arena, Role::Nms, &fqdn("nms"));
    let answer = mallory.say(&mut arena, nms, me, &registration(&mallory));
    let [Message::RegistrationResponse(registered)] = &answer[..] else { panic!("{answer:?}") };
    let answer = mallory.say(
        &mut arena,
        nms,
        me,
        &Message::DirectionRequest(DirectionRequest { peer: PeerRef::Name(fqdn("bob")), want: Want::Any }),
    );
    let [Message::RouteDirectionInitiator(direction)] = &answer[..] else { panic!("{answer:?}") };
    assert!(direction.dial);
    let link = mallory.connect(&mut arena, BOB, &fqdn("bob"));
    let answer = mallory.say(&mut arena, link, path("mallory", "bob"), &tunnel_request("mallory", "bob", None));
    assert_eq!(answer, [Message::TunnelResponse]);

    let (alice, bob) = (virtual_of(&mut arena, 0), virtual_of(&mut arena, 1));
    for (packet, reason) in forgeries(registered.addresses, bob, alice) {
        let before = arena.drops(BOB, reason);
        assert_eq!(mallory.send(&mut arena, link, &packet), Vec::<Bytes>::new(), "{reason:?} {packet:02x?}");
        assert_eq!(arena.drops(BOB, reason), before + 1, "{reason:?} {packet:02x?}");
    }
    let answer = mallory.send(&mut arena, link, &ping(registered.addresses.v6, bob.v6));
    assert_eq!(answer.len(), 1, "what is allowed gets through");
    // An error about what Bob sent to this peer is the peer's to send.
    let before = arena.drops_of(BOB);
    let flow = flow(bob.v4.into(), registered.addresses.v4.into());
    mallory.send(&mut arena, link, &unreachable(registered.addresses, bob, &flow));
    assert_eq!(arena.drops_of(BOB), before);
    arena.assert_works();
}

#[test]
pub(crate) fn a_quic_peer_that_gives_another_name_than_its_certificates_gets_no_tunnel() {
    let mut arena = Arena::after(scene(PROPOSED, [V4, V4], LINK));
    let mut mallory = Rogue::new("mallory");
    let link = mallory.connect(&mut arena, BOB, &fqdn("bob"));
    let answer = mallory.say(&mut arena, link, path("alice", "bob"), &tunnel_request("alice", "bob", None));
    assert_eq!((answer, arena.drops(BOB, DropReason::WrongIdentity)), (vec![], 1));
    arena.assert_works();
}

/// Mallory's certificate is good, and the NMS has directed nobody to her.
#[test]
pub(crate) fn packets_ahead_of_the_tunnel_response_are_not_taken_without_a_route_direction() {
    let mut arena = Arena::after(scene("policy = \"optimal\"", [V4, V4], LINK));
    let bob = virtual_of(&mut arena, 1);
    let mut mallory = Rogue::new("mallory");
    let link = mallory.connect(&mut arena, BOB, &fqdn("bob"));
    arena.happened();
    let answer = mallory.say(&mut arena, link, path("mallory", "bob"), &tunnel_request("mallory", "bob", None));
    assert_eq!(answer, []);
    let ping = ping("2001:db8:c::9999".parse::<Ipv6Addr>().unwrap(), bob.v6);
    assert_eq!(mallory.send(&mut arena, link, &ping), Vec::<Bytes>::new());
    // If the packet came through, Bob would look for the node that it names, to answer it.
    assert_eq!(arena.happened(), Vec::<String>::new());
    let before = arena.drops(BOB, DropReason::NoTunnel);
    arena.run(6_000);
    assert_eq!(arena.drops(BOB, DropReason::NoTunnel), before + 1, "held, and given up with the link");
    arena.assert_works();
}

#[test]
fn nobody_registers_in_another_nodes_name() {
    let mut arena = Arena::after(scene(PROPOSED, [V4, V4], LINK));
    let mut mallory = Rogue::new("mallory");
    let nms = mallory.connect(&mut arena, Role::Nms, &fqdn("nms"));
    let answer = mallory.say(&mut arena, nms, NodeId::of(&fqdn("alice")).0, &registration(&mallory));
    assert_eq!((answer, arena.drops(Role::Nms, DropReason::WrongIdentity)), (vec![], 1));
    arena.assert_works();
}

#[test]
fn a_certificate_whose_device_the_database_does_not_have_or_admit_is_not_enough_to_register() {
    let mut arena = Arena::after(scene(PROPOSED, [V4, V4], LINK));
    let mut mallory = Rogue::new("mallory");
    let me = NodeId::of(&mallory.name).0;
    let nms = mallory.connect(&mut arena, Role::Nms, &fqdn("nms"));
    let refused = [Message::Error(ErrorCode::Unauthorized)];
    assert_eq!(mallory.say(&mut arena, nms, me, &registration(&mallory)), refused);
    let device = Device { name: mallory.name.clone(), password: None, certificate_login: false };
    arena.world.store.put_device(&device).unwrap();
    assert_eq!(mallory.say(&mut arena, nms, me, &registration(&mallory)), refused);
    assert_eq!(arena.drops(Role::Nms, DropReason::UnknownId), 2);
    arena.assert_works();
}

/// Alice's secrets of her tunnel to Bob in the conventional method, taken out of the recorded packets step by step.
/// Alice is the initiator. The common key opens the registration, whose keys open the Route Direction. Its keys open
/// the Tunnel Request, and the end key in it.
fn end_key_session(arena: &Arena) -> Session {
    let id = NodeId::of(&fqdn("alice"));
    let common = arena.world.store.common_key(id).unwrap().expect("Alice logged in");
    let mut requests = Session::new(&common, Direction::FromResponder);
    let opened = |role: Role, session: &mut Session| -> Vec<Message> {
        let datagrams = arena.arrived.iter().filter(|a| a.role == role).filter_map(Arrived::udp);
        datagrams.filter_map(|mut d| Some(session.open_message(&mut d.payload).ok()?.1)).collect()
    };
    let epoch = opened(Role::Nms, &mut requests).into_iter().find_map(|message| match message {
        Message::RegistrationRequest(request) => Some(request.epoch),
        _ => None,
    });
    let mut nms = Session::of_registration(&common, epoch.expect("Alice registered"), Direction::FromInitiator);
    let keys = opened(ALICE, &mut nms).into_iter().find_map(|message| match message {
        Message::RouteDirectionInitiator(direction) => direction.keys,
        _ => None,
    });
    let keys = keys.expect("Alice was told");
    let mut control = Session::new(&keys.tunnel, Direction::FromResponder);
    let wrapped = opened(BOB, &mut control).into_iter().find_map(|message| match message {
        Message::TunnelRequest(request) => request.wrapped_end_key,
        _ => None,
    });
    let end_key = wrap::unwrap(&keys.temporary, &wrapped.expect("Bob was asked"), PathId(path("alice", "bob")));
    let mut session = Session::new(&end_key.expect("wrapped for this path"), Direction::FromInitiator);
    // Sequence numbers that Alice has used herself.
    for _ in 0..100 {
        session.seal_capsule([0; 16], b"", &mut Vec::new());
    }
    session
}

#[test]
fn a_conventional_peer_cannot_speak_in_the_name_of_another() {
    for pair in [[V4, V4], [NAT, NAT]] {
        let mut arena = Arena::after(scene(CONVENTIONAL, pair, LINK));
        let mut session = end_key_session(&arena);
        let capsule = |d: &Datagram| Header::decode(&d.payload).is_ok_and(|h| h.kind == Kind::Capsule);
        // Straight to Bob, from the source of the last capsule that he received.
        let last = arena.arrived.iter().filter(|a| a.role == BOB).filter_map(Arrived::udp).rfind(capsule).unwrap();
        let mut send = |arena: &mut Arena, packet: &[u8]| {
            let mut capsule = Vec::new();
            assert!(session.seal_capsule(path("alice", "bob"), packet, &mut capsule));
            arena.sent(BOB);
            arena.datagram(BOB, last.to, last.from, &capsule);
            arena.run(0);
            arena.sent(BOB).len()
        };
        let (alice, bob) = (virtual_of(&mut arena, 0), virtual_of(&mut arena, 1));
        let nms = Virtual { v4: Ipv4Addr::new(198, 18, 0, 77), v6: "2001:db8:ffff::77".parse().unwrap() };
        for (packet, reason) in forgeries(alice, bob, nms) {
            let before = arena.drops(BOB, reason);
            assert_eq!(send(&mut arena, &packet), 0, "{reason:?} {packet:02x?}");
            assert_eq!(arena.drops(BOB, reason), before + 1, "{reason:?} {packet:02x?}");
        }
        assert_eq!(send(&mut arena, &ping(alice.v6, bob.v6)), 1, "what is allowed is answered");
        arena.assert_works();
    }
}

#[test]
fn a_leg_that_is_only_guessed_is_refused() {
    for mode in [PROPOSED, TERMINATING] {
        let mut arena = Arena::after(scene(mode, [NAT, NAT], LINK));
        let mut mallory = Rogue::new("mallory");
        let leg = mallory.connect(&mut arena, Role::Trs, &fqdn("trs"));
        let mut rng = seeded::stream(SEED, "mallory", "guesses");
        for guess in 0..20 {
            let cid = RelayCid(rng.next_u64().to_be_bytes());
            let request = tunnel_request("mallory", "bob", (guess > 0).then_some(cid));
            let answer = mallory.say(&mut arena, leg, path("mallory", "bob"), &request);
            assert_eq!(answer, [Message::Error(ErrorCode::NoRelay)], "{mode}");
        }
        assert_eq!(arena.drops(Role::Trs, DropReason::NotBound), 20);
        let request = tunnel_request("alice", "bob", Some(RelayCid([1; 8])));
        assert_eq!(mallory.say(&mut arena, leg, path("alice", "bob"), &request), []);
        assert_eq!(arena.drops(Role::Trs, DropReason::WrongIdentity), 1);
        assert_eq!(mallory.say(&mut arena, leg, path("bob", "alice"), &Message::TunnelResponse), []);
        assert_eq!(arena.drops(Role::Trs, DropReason::Unexpected), 1);
        arena.assert_works();
    }
}

#[test]
fn a_leg_that_is_bound_to_nobody_moves_nothing() {
    for (mode, reason) in [(PROPOSED, DropReason::Unexpected), (TERMINATING, DropReason::NotBound)] {
        let mut arena = Arena::after(scene(mode, [NAT, NAT], LINK));
        let mut mallory = Rogue::new("mallory");
        let leg = mallory.connect(&mut arena, Role::Trs, &fqdn("trs"));
        let (alice, bob) = (virtual_of(&mut arena, 0), virtual_of(&mut arena, 1));
        let before = arena.all_drops();
        for to in [alice.v6, bob.v6] {
            mallory.send(&mut arena, leg, &ping(alice.v6, to));
            let header = Header {
                transaction: 0,
                spoken: cyphonic_core::version::Spoken::FIRST,
                flags: Flags(0),
                kind: Kind::Capsule,
                count: 0,
                sequence: 1,
                length: 5,
                option: 0,
                id: path("alice", "bob"),
            };
            let frame = [&header.encode()[..], b"hello"].concat();
            assert_eq!(mallory.say_frame(&mut arena, leg, frame.into()), []);
        }
        assert_eq!(arena.drops(Role::Trs, reason), 4, "{mode}");
        assert_eq!(arena.all_drops(), before + 4, "{mode}: nothing got as far as a node");
        arena.assert_works();
    }
}

/// How many datagrams the TRS sends after it received this one.
pub(crate) fn forwarded(arena: &mut Arena, from: SocketAddr, payload: &[u8]) -> usize {
    arena.run(0);
    arena.sent(Role::Trs);
    let local = arena.address(Role::Trs);
    arena.datagram(Role::Trs, local, from, payload);
    arena.sent(Role::Trs).len()
}

/// The datagrams that the TRS received and then forwarded to Bob unchanged.
pub(crate) fn relayed(arena: &Arena) -> Vec<Datagram> {
    let of = |role: Role| arena.arrived.iter().filter(move |a| a.role == role).filter_map(Arrived::udp);
    let bobs: Vec<_> = of(BOB).map(|d| d.payload).collect();
    of(Role::Trs).filter(|d| bobs.contains(&d.payload)).collect()
}

#[test]
fn a_relay_forwards_nothing_from_anywhere_but_a_bound_leg() {
    for mode in [CONVENTIONAL, PROPOSED] {
        let mut arena = Arena::after(scene(mode, [NAT, NAT], LINK));
        let relayed = relayed(&arena);
        assert!(relayed.len() > 1, "{mode}: {}", relayed.len());
        let short = |d: &&Datagram| d.payload[0] & 0x80 == 0;
        let capsule = |d: &&Datagram| Header::decode(&d.payload).is_ok_and(|h| h.kind == Kind::Capsule);
        let conventional = arena.is_conventional();
        let capsules: Vec<_> = relayed.iter().filter(|d| if conventional { capsule(d) } else { short(d) }).collect();
        assert!(!capsules.is_empty());
        let [other_port, other_host] = [SocketAddr::new(relayed[0].from.ip(), 9), elsewhere()];
        for datagram in &capsules {
            for from in [other_port, other_host] {
                let before = arena.drops(Role::Trs, DropReason::NotBound);
                assert_eq!(forwarded(&mut arena, from, &datagram.payload), 0, "{mode} from {from}");
                assert_eq!(arena.drops(Role::Trs, DropReason::NotBound), before + 1);
            }
            // The relay cannot judge a capsule that comes from the right address. The receiver can.
            assert_eq!(forwarded(&mut arena, datagram.from, &datagram.payload), 1, "{mode}");
        }
        arena.assert_works();
    }
}

#[test]
fn a_terminating_relay_takes_nothing_from_anywhere_but_its_leg() {
    let mut arena = Arena::after(scene(TERMINATING, [NAT, NAT], LINK));
    let got = arena.arrived.iter().filter(|a| a.role == Role::Trs).filter_map(Arrived::udp);
    let got: Vec<_> = got.filter(|d| d.payload[0] & 0x80 == 0).collect();
    assert!(got.len() > 5);
    for datagram in got {
        let before = arena.drops(Role::Trs, DropReason::NotAuthentic);
        assert_eq!(forwarded(&mut arena, elsewhere(), &datagram.payload), 0);
        assert_eq!(arena.drops(Role::Trs, DropReason::NotAuthentic), before + 1);
    }
    arena.assert_works();
}

#[test]
fn guessed_connection_ids_find_nobody() {
    let mut arena = Arena::after(scene(PROPOSED, [NAT, NAT], LINK));
    let known = relayed(&arena).into_iter().find(|d| d.payload[0] & 0x80 == 0).unwrap();
    let mut rng = seeded::stream(SEED, "mallory", "connection ids");
    let mut guesses: Vec<Vec<u8>> = (0..64)
        .map(|bit| {
            let mut payload = known.payload.clone();
            payload[1 + bit / 8] ^= 1 << (bit % 8);
            payload
        })
        .collect();
    guesses.extend((0..20_000).map(|_| {
        let mut payload = known.payload.clone();
        rng.fill_bytes(&mut payload[1..9]);
        payload
    }));
    let before = arena.drops(Role::Trs, DropReason::UnknownConnection);
    arena.run(0);
    arena.sent(Role::Trs);
    let local = arena.address(Role::Trs);
    for guess in &guesses {
        arena.datagram(Role::Trs, local, known.from, guess);
    }
    assert_eq!(arena.sent(Role::Trs).len(), 0);
    assert_eq!(arena.drops(Role::Trs, DropReason::UnknownConnection) - before, guesses.len() as u64);
    arena.assert_works();
}

/// An attacker sees a packet of Alice's leg, keeps it from the TRS and sends it from another address. quinn takes the
/// new address at once. The relay must not.
#[test]
fn a_sniffed_packet_does_not_draw_the_relays_flow_to_another_address() {
    let mut arena = Arena::after(scene(PROPOSED, ["ipv6", V4], LINK));
    let to_bob = destination_prefix(&relayed(&arena)[0].payload).unwrap();
    let wire = arena.station(ALICE).wires[0];
    let good = arena.world.network().wire_config(wire);
    arena.world.engine().set_wire(wire, WireConfig { loss: 1.0, ..good }).unwrap();
    arena.sent(ALICE);
    // A keep-alive of the leg is due within ten seconds.
    let mut sniffed = Vec::new();
    let deadline = Instant::from_millis(20_000);
    while sniffed.is_empty() && arena.world.now() < deadline {
        let now = arena.world.now();
        arena.world.run_until(now + MILLISECOND);
        let trs: IpAddr = arena.scenario.services.trs.v6.into();
        let legs = |d: &Datagram| d.to.ip() == trs && d.payload[0] & 0x80 == 0;
        let of_leg =
            arena.sent(ALICE).into_iter().filter(legs).filter(|d| destination_prefix(&d.payload) != Some(to_bob));
        sniffed.extend(of_leg);
    }
    let sniffed = sniffed.pop().expect("a packet of the leg");
    arena.world.engine().set_wire(wire, good).unwrap();
    let thief: SocketAddr = "[2001:db8:bad::1]:443".parse().unwrap();
    arena.datagram(Role::Trs, sniffed.to, thief, &sniffed.payload);

    let target = Target::Name(fqdn("alice"), Family::V6);
    let echo = Echo { count: 200, interval: MILLISECOND, ..Echo::default() };
    let app = arena.world.node(1, |now, host| host.start(now, App::Echo(target, echo)));
    let mut stolen = 0;
    for _ in 0..1_000 {
        let now = arena.world.now();
        arena.world.run_until(now + MILLISECOND);
        let to_thief = arena.sent(Role::Trs).into_iter().filter(|d| d.to == thief);
        stolen += to_thief.map(|d| d.payload.len()).sum::<usize>();
    }
    let answered = arena.world.node(1, |_, host| host.report(app).echo().unwrap().answered());
    assert_eq!(answered, 200, "the flow goes on");
    assert!(stolen <= MOST_UNPROVED, "{stolen} bytes to the thief");
}
