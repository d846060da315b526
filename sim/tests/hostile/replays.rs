//! Every packet that was ever on a wire arrives once more.

use cyphonic_core::event::DropReason;

use crate::arena::{Arena, Role};
use crate::common::{NAT, V4, scene};

const LINK: &str = "{ delay_ms = 2 }";

const SCENES: [(&str, [&str; 2]); 7] = [
    ("method = \"conventional\"", [V4, V4]),
    ("method = \"conventional\"", [V4, NAT]),
    ("method = \"conventional\"", [NAT, NAT]),
    ("method = \"proposed\"", [V4, V4]),
    ("method = \"proposed\"", [V4, NAT]),
    ("method = \"proposed\"", [NAT, NAT]),
    ("relay_mode = \"terminating\"", [NAT, NAT]),
];

/// Whether a replayed packet must be counted as a drop. A long header may open a connection, and TCP handles its
/// segments; all other packets must be counted.
fn must_be_counted(arena: &Arena, payload: &[u8]) -> bool {
    arena.is_conventional() || payload.first().is_some_and(|first| first & 0x80 == 0)
}

fn replay(settings: &str, pair: [&str; 2], backwards: bool) {
    let mut arena = Arena::after(scene(settings, pair, LINK));
    let mut arrived = std::mem::take(&mut arena.arrived);
    assert!(arrived.len() > 20, "{}", arrived.len());
    if backwards {
        arrived.reverse();
    }
    for packet in &arrived {
        let before = (arena.drops_of(packet.role), arena.all_drops());
        arena.packet(packet.role, packet.iface, &packet.packet);
        if packet.role == Role::Trs {
            // Time for the relay to forward what it cannot judge, and for the other end to refuse it.
            arena.run(10);
        }
        // Other roles also count the retransmitted answers that a replayed Initial causes. So one drop must be counted
        // by the role itself, or by the other end if the role is the relay.
        let (own, all) = (arena.drops_of(packet.role) - before.0, arena.all_drops() - before.1);
        let counted = own == 1 || (own == 0 && packet.role == Role::Trs && all > 0);
        if let Some(datagram) = packet.udp().filter(|d| must_be_counted(&arena, &d.payload)) {
            let start = &datagram.payload[..datagram.payload.len().min(32)];
            let place = format!("{settings} {pair:?}: {} {:?} {start:02x?}", packet.at, packet.role);
            assert!(counted, "{place}: {own} drops there, {all} everywhere");
        }
        arena.run(5);
        let done = arena.happened();
        assert!(done.is_empty(), "{settings} {pair:?}: {done:?} after {packet:?}");
    }
    let replayed = if arena.is_conventional() { DropReason::Replayed } else { DropReason::NotAuthentic };
    let count: u64 = arena.roles().into_iter().map(|role| arena.drops(role, replayed)).sum();
    assert!(count > 5, "{:?}", arena.world.drops());
    arena.assert_works();
    assert_eq!(arena.happened(), Vec::<String>::new(), "the tunnel is the one that was there");
}

#[test]
fn everything_ever_received_comes_again_in_order_and_nothing_happens() {
    for (settings, pair) in SCENES {
        replay(settings, pair, false);
    }
}

#[test]
fn everything_ever_received_comes_again_backwards_and_nothing_happens() {
    for (settings, pair) in SCENES {
        replay(settings, pair, true);
    }
}
