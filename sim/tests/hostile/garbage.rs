//! Arbitrary bytes and damaged copies of real packets.

use std::net::SocketAddr;

use cyphonic_core::machine::{StreamId, StreamInput};
use cyphonic_core::node::Node;
use cyphonic_core::probe::is_punch;
use cyphonic_sim::host::Host;
use cyphonic_sim::net::packet::{IpOptions, echo};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::arena::{ALICE, Arena, Arrived, Attack, Role};
use crate::common::{NAT, V4, scene};

/// How a real packet is damaged.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Truncate(Index),
    Extend(Vec<u8>),
    Overwrite(Index, Vec<u8>),
    /// The head of one packet and the tail of another.
    Splice(Index, Index),
}

/// One input from the attacker.
#[derive(Clone, Debug)]
enum Shot {
    /// Any bytes from anywhere.
    Bytes(Index, Sender, Vec<u8>),
    /// A damaged copy of a datagram that arrived earlier at some role; it goes to any role.
    Datagram(Index, Sender, Index, Damage),
    /// A damaged copy of an IP packet that arrived earlier at a host; it goes to that host.
    Packet(Index, Damage),
    /// Any bytes from an application.
    Inner(Vec<u8>),
    /// A damaged echo request from an application.
    Echo(Damage),
    /// A TCP connection to any role, some bytes on it, and perhaps its end.
    Tcp(Index, Vec<u8>, bool),
}

#[derive(Clone, Debug)]
enum Sender {
    /// From an address of the network.
    Role(Index),
    Anyone(SocketAddr),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        2 => any::<Index>().prop_map(Damage::Truncate),
        1 => vec(any::<u8>(), 1..40).prop_map(Damage::Extend),
        2 => (any::<Index>(), vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Damage::Overwrite(at, bytes)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(other, at)| Damage::Splice(other, at)),
    ]
}

fn sender() -> impl Strategy<Value = Sender> {
    let anyone = (any::<std::net::IpAddr>(), any::<u16>()).prop_map(|(ip, port)| Sender::Anyone((ip, port).into()));
    prop_oneof![any::<Index>().prop_map(Sender::Role), anyone]
}

fn shot() -> impl Strategy<Value = Shot> {
    let bytes = prop_oneof![vec(any::<u8>(), 0..100), vec(any::<u8>(), 1190..1300)];
    prop_oneof![
        2 => (any::<Index>(), sender(), bytes).prop_map(|(to, from, bytes)| Shot::Bytes(to, from, bytes)),
        6 => (any::<Index>(), sender(), any::<Index>(), damage())
            .prop_map(|(to, from, which, damage)| Shot::Datagram(to, from, which, damage)),
        2 => (any::<Index>(), damage()).prop_map(|(which, damage)| Shot::Packet(which, damage)),
        1 => vec(any::<u8>(), 0..100).prop_map(Shot::Inner),
        1 => damage().prop_map(Shot::Echo),
        2 => (any::<Index>(), vec(any::<u8>(), 0..100), any::<bool>())
            .prop_map(|(to, bytes, close)| Shot::Tcp(to, bytes, close)),
    ]
}

impl Damage {
    fn apply(&self, mut bytes: Vec<u8>, others: &[Vec<u8>]) -> Vec<u8> {
        let len = bytes.len();
        match self {
            _ if len == 0 => {}
            Self::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Self::Truncate(at) => bytes.truncate(at.index(len)),
            Self::Extend(more) => bytes.extend(more),
            Self::Overwrite(at, with) => {
                let at = at.index(len);
                bytes.iter_mut().skip(at).zip(with).for_each(|(byte, with)| *byte = *with);
            }
            Self::Splice(other, at) => {
                let other = &others[other.index(others.len())];
                let at = at.index(len);
                bytes.truncate(at);
                bytes.extend(other.iter().skip(at));
            }
        }
        bytes
    }
}

/// The first id of injected TCP connections: above those of real ones, which drivers count from `1 << 32`.
const FIRST_STREAM: u64 = 1 << 40;

struct Gun {
    datagrams: Vec<Vec<u8>>,
    next_stream: u64,
}

impl Gun {
    fn fire(&mut self, arena: &mut Arena, shot: &Shot) {
        let roles = arena.roles();
        let sender = |arena: &Arena, sender: &Sender| match sender {
            Sender::Role(role) => arena.address(roles[role.index(roles.len())]),
            Sender::Anyone(address) => *address,
        };
        match shot {
            Shot::Bytes(to, from, bytes) => {
                let (to, from) = (roles[to.index(roles.len())], sender(arena, from));
                shoot(arena, to, from, bytes);
            }
            Shot::Datagram(to, from, which, damage) => {
                let (to, from) = (roles[to.index(roles.len())], sender(arena, from));
                let bytes = self.datagrams[which.index(self.datagrams.len())].clone();
                shoot(arena, to, from, &damage.apply(bytes, &self.datagrams));
            }
            Shot::Packet(which, damage) => {
                let which = &arena.arrived[which.index(arena.arrived.len())];
                let (role, iface) = (which.role, which.iface);
                let packet = damage.apply(which.packet.clone(), &self.datagrams);
                arena.packet(role, iface, &packet);
            }
            Shot::Inner(bytes) => {
                let before = arena.all_drops();
                arena.inject(ALICE, Attack::Packet(bytes.clone()));
                assert_eq!(arena.all_drops(), before + 1, "an application's nonsense is counted once");
            }
            Shot::Echo(damage) => {
                let [from, to] =
                    [0, 1].map(|n| arena.world.node(n, |_, host: &mut Host<Node>| host.virtual_addresses()));
                let (from, to) = (from.expect("registered").v6, to.expect("registered").v6);
                let packet = echo(from.into(), to.into(), IpOptions::default(), 1, 1, b"hello").expect("one family");
                arena.inject(ALICE, Attack::Packet(damage.apply(packet, &self.datagrams)));
            }
            Shot::Tcp(to, bytes, close) => {
                let id = StreamId(FIRST_STREAM + self.next_stream);
                self.next_stream += 1;
                let to = roles[to.index(roles.len())];
                let remote = arena.address(ALICE);
                arena.inject(to, Attack::Stream(id, StreamInput::Accepted { remote }));
                arena.inject(to, Attack::Stream(id, StreamInput::Data(bytes.clone())));
                if *close {
                    arena.inject(to, Attack::Stream(id, StreamInput::Closed));
                }
            }
        }
    }
}

/// Every datagram that is not for QUIC, or has a short header, is dropped, and counted. A node of the proposed method
/// does not count a Hole Punching: sending it has opened the sender's NAT, so the receiver has nothing to do. Random
/// bytes may look like one.
fn shoot(arena: &mut Arena, to: Role, from: SocketAddr, bytes: &[u8]) {
    let before = arena.all_drops();
    let local = arena.address(to);
    arena.datagram(to, local, from, bytes);
    let counted = arena.all_drops() - before;
    let quic = !arena.is_conventional() || to == Role::As;
    if quic && matches!(to, Role::Node(_)) && is_punch(bytes) {
        assert_eq!(counted, 0, "{to:?} from {from}: a Hole Punching");
    } else if !quic || bytes.first().is_none_or(|first| first & 0x80 == 0) {
        assert_eq!(counted, 1, "{to:?} from {from}: {bytes:02x?}");
    } else {
        assert!(counted <= 1);
    }
}

fn survives(settings: &str, pair: [&str; 2], shots: &[Shot]) {
    let mut arena = Arena::after(scene(settings, pair, "{ delay_ms = 2 }"));
    let datagrams = arena.arrived.iter().filter_map(Arrived::udp).map(|udp| udp.payload).collect();
    let mut gun = Gun { datagrams, next_stream: 0 };
    for shot in shots {
        gun.fire(&mut arena, shot);
        arena.run(1);
    }
    // The damage may change the echo's destination to an address that no node has. Alice then asks for a route and
    // learns that the peer is unknown. Nothing else may happen.
    let done = arena.happened();
    assert!(done.iter().all(|line| line.contains("RouteRequested") || line.contains("UnknownPeer")), "{done:?}");
    arena.assert_works();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn conventional_roles_go_on_whatever_arrives(shots in vec(shot(), 1..40), relayed: bool) {
        survives("method = \"conventional\"", if relayed { [NAT, NAT] } else { [V4, V4] }, &shots);
    }

    #[test]
    fn quic_roles_go_on_whatever_arrives(shots in vec(shot(), 1..40), relayed: bool) {
        survives("method = \"proposed\"", if relayed { [NAT, NAT] } else { [V4, V4] }, &shots);
    }

    #[test]
    fn a_terminating_relay_goes_on_whatever_arrives(shots in vec(shot(), 1..40), stream: bool) {
        let framing = if stream { "stream" } else { "datagram" };
        survives(&format!("relay_mode = \"terminating\"\nframing = \"{framing}\""), [NAT, NAT], &shots);
    }
}
