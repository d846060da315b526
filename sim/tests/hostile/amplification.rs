//! Spoofed addresses: a victim never gets more than three times the bytes that were sent in its name (I4).

use std::net::SocketAddr;

use cyphonic_core::machine::Transmit;
use cyphonic_core::quic::{LinkOutput, Load, MAX_HALF_OPEN};

use crate::arena::{Arena, Arrived, BOB, Role};
use crate::common::{NAT, V4, scene};
use crate::rogue::{fqdn, links};

const LINK: &str = "{ delay_ms = 2 }";
const VICTIM: &str = "198.51.100.222:443";

/// The first packets of so many connections to a role.
fn initials(arena: &Arena, role: Role, count: usize) -> Vec<Transmit> {
    let mut links = links(&fqdn("mallory"), false);
    let (victim, target) = (VICTIM.parse::<SocketAddr>().unwrap(), arena.address(role));
    for _ in 0..count {
        links.connect(arena.world.now(), victim, target, &fqdn("trs"), None, Load::Packets).unwrap();
    }
    std::iter::from_fn(|| links.poll())
        .filter_map(|output| if let LinkOutput::Transmit(transmit) = output { Some(*transmit) } else { None })
        .collect()
}

/// Bytes sent in the victim's name, and bytes that it gets within the next minute.
fn flood(arena: &mut Arena, role: Role, datagrams: &[Vec<u8>]) -> (usize, usize) {
    let (victim, local) = (VICTIM.parse::<SocketAddr>().unwrap(), arena.address(role));
    let (mut sent, mut got) = (0, 0);
    arena.sent(role);
    for datagram in datagrams {
        arena.datagram(role, local, victim, datagram);
        sent += datagram.len();
        got += received(arena, role);
        assert!(got <= 3 * sent, "{role:?}: {got} bytes for {sent}");
    }
    for _ in 0..600 {
        let until = arena.world.now() + std::time::Duration::from_millis(100);
        arena.world.run_until(until);
        got += received(arena, role);
    }
    (sent, got)
}

fn received(arena: &mut Arena, role: Role) -> usize {
    let victim: SocketAddr = VICTIM.parse().unwrap();
    arena.sent(role).iter().filter(|datagram| datagram.to == victim).map(|datagram| datagram.payload.len()).sum()
}

#[test]
fn a_spoofed_handshake_brings_its_victim_no_more_than_three_times_its_bytes() {
    for role in [Role::As, Role::Nms, Role::Trs, BOB] {
        for count in [1, 600] {
            let mut arena = Arena::before(scene("method = \"proposed\"", [V4, V4], LINK));
            let packets: Vec<_> = initials(&arena, role, count).into_iter().map(|t| t.payload).collect();
            assert_eq!(packets.len(), count);
            let (sent, got) = flood(&mut arena, role, &packets);
            assert!(got > 0 && got <= 3 * sent, "{role:?}, {count} packets: {got} bytes for {sent}");
        }
    }
}

#[test]
fn a_flood_of_spoofed_handshakes_does_not_keep_honest_nodes_out() {
    let mut arena = Arena::before(scene("method = \"proposed\"", [NAT, NAT], LINK));
    for role in [Role::As, Role::Nms, Role::Trs] {
        let (victim, local) = (VICTIM.parse::<SocketAddr>().unwrap(), arena.address(role));
        for packet in initials(&arena, role, 2_000) {
            arena.datagram(role, local, victim, &packet.payload);
        }
    }
    for node in 0..2 {
        arena.world.node(node, |now, host| host.command(now, cyphonic_core::node::NodeCommand::Start));
    }
    arena.run(500);
    arena.assert_works();
}

/// How long Alice's login and registration take, while so many first packets a second come from so many sources to AS
/// and NMS. Every source answers a Retry, and leaves the handshake there.
fn login_beside(sources: u8, per_second: u32) -> std::time::Duration {
    let mut arena = Arena::before(scene("method = \"proposed\"", [V4, V4], "{ delay_ms = 20 }"));
    let mut links = links(&fqdn("mallory"), false);
    let send = |arena: &mut Arena, links: &mut cyphonic_core::quic::Links| {
        while let Some(output) = links.poll() {
            let LinkOutput::Transmit(sent) = output else { continue };
            let role = if sent.remote == arena.address(Role::As) { Role::As } else { Role::Nms };
            // Only first packets: the handshake goes no further.
            if sent.payload.first().is_some_and(|first| first & 0xf0 == 0xc0) {
                arena.datagram(role, sent.remote, sent.local, &sent.payload);
            }
        }
    };
    let mut flood = |arena: &mut Arena, count: u32| {
        for n in 0..count {
            let at = SocketAddr::from(([198, 51, 101, (n % u32::from(sources)) as u8], 443));
            for role in [Role::As, Role::Nms] {
                let (now, to) = (arena.world.now(), arena.address(role));
                links.connect(now, at, to, &fqdn("nms"), None, Load::Packets).unwrap();
            }
        }
        send(arena, &mut links);
        // What came back may be a Retry.
        for role in [Role::As, Role::Nms] {
            let now = arena.world.now();
            for datagram in arena.sent(role).into_iter().filter(|d| d.payload[0] & 0xf0 == 0xf0) {
                links.handle_datagram(now, datagram.to, datagram.from, datagram.payload[..].into());
            }
        }
        send(arena, &mut links);
    };
    if per_second > 0 {
        flood(&mut arena, MAX_HALF_OPEN as u32);
        flood(&mut arena, MAX_HALF_OPEN as u32);
    }
    arena.world.node(0, |now, host| host.command(now, cyphonic_core::node::NodeCommand::Start));
    let begun = arena.world.now();
    for _ in 0..400 {
        let until = arena.world.now() + std::time::Duration::from_millis(5);
        arena.world.run_until(until);
        flood(&mut arena, per_second / 200);
        if arena.world.node(0, |_, host| host.machine().virtual_addresses().is_some()) {
            return arena.world.now().saturating_since(begun);
        }
    }
    panic!("no login in two seconds");
}

#[test]
pub(crate) fn a_hundred_sources_that_prove_themselves_do_not_keep_an_honest_node_out() {
    let (quiet, flooded) = (login_beside(1, 0), login_beside(100, 1_000));
    assert!(flooded <= 2 * quiet, "{flooded:?} beside a flood, {quiet:?} without");
}

#[test]
fn a_first_packet_cut_short_is_answered_with_nothing() {
    for role in [Role::As, Role::Nms, Role::Trs, BOB] {
        let mut arena = Arena::before(scene("method = \"proposed\"", [V4, V4], LINK));
        let packet = initials(&arena, role, 1).remove(0).payload;
        let cut: Vec<Vec<u8>> = [0, 1, 7, 20, 100, 600, 1_199].map(|len| packet[..len].to_vec()).into();
        assert_eq!(flood(&mut arena, role, &cut).1, 0, "{role:?}");
    }
}

#[test]
fn no_answer_to_another_version_is_longer_than_the_question() {
    let mut arena = Arena::before(scene("method = \"proposed\"", [V4, V4], LINK));
    let mut packet = initials(&arena, Role::Nms, 1).remove(0).payload;
    packet[1..5].copy_from_slice(&[0xba, 0xba, 0xba, 0xba]);
    let (sent, got) = flood(&mut arena, Role::Nms, &[packet]);
    assert!(got > 0 && got < sent / 10, "{got} bytes for {sent}");
}

#[test]
fn the_conventional_method_answers_nobody_whom_it_does_not_know() {
    for pair in [[V4, V4], [NAT, NAT]] {
        let mut arena = Arena::after(scene("method = \"conventional\"", pair, LINK));
        for role in arena.roles() {
            let all = arena.arrived.iter().filter_map(Arrived::udp).map(|udp| udp.payload);
            let all: Vec<_> = all.collect();
            assert_eq!(flood(&mut arena, role, &all).1, 0, "{role:?}");
        }
    }
}
