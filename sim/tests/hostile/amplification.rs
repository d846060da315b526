//! Spoofed addresses: a victim never gets more than three times the bytes that were sent in its name (I4).

use std::net::SocketAddr;

use cyphonic_core::machine::Transmit;
use cyphonic_core::quic::{LinkOutput, Load};

use crate::common::{NAT, V4, scene};
use crate::rogue::{fqdn, links};
use crate::stage::{Arrived, BOB, Role, Stage};

const LINK: &str = "{ delay_ms = 2 }";
const VICTIM: &str = "198.51.100.222:443";

/// The first packets of so many connections to a role.
fn initials(stage: &Stage, role: Role, count: usize) -> Vec<Transmit> {
    let mut links = links(&fqdn("mallory"), false);
    let (victim, target) = (VICTIM.parse::<SocketAddr>().unwrap(), stage.address(role));
    for _ in 0..count {
        links.connect(stage.world.now(), victim, target, &fqdn("trs"), None, Load::Packets).unwrap();
    }
    std::iter::from_fn(|| links.poll())
        .filter_map(|output| if let LinkOutput::Transmit(transmit) = output { Some(transmit) } else { None })
        .collect()
}

/// Bytes sent in the victim's name, and bytes that it gets within the next minute.
fn flood(stage: &mut Stage, role: Role, datagrams: &[Vec<u8>]) -> (usize, usize) {
    let (victim, local) = (VICTIM.parse::<SocketAddr>().unwrap(), stage.address(role));
    let (mut sent, mut got) = (0, 0);
    stage.sent(role);
    for datagram in datagrams {
        stage.datagram(role, local, victim, datagram);
        sent += datagram.len();
        got += received(stage, role);
        assert!(got <= 3 * sent, "{role:?}: {got} bytes for {sent}");
    }
    for _ in 0..600 {
        let until = stage.world.now() + std::time::Duration::from_millis(100);
        stage.world.run_until(until);
        got += received(stage, role);
    }
    (sent, got)
}

fn received(stage: &mut Stage, role: Role) -> usize {
    let victim: SocketAddr = VICTIM.parse().unwrap();
    stage.sent(role).iter().filter(|datagram| datagram.to == victim).map(|datagram| datagram.payload.len()).sum()
}

#[test]
fn a_spoofed_handshake_brings_its_victim_no_more_than_three_times_its_bytes() {
    for role in [Role::As, Role::Nms, Role::Trs, BOB] {
        for count in [1, 600] {
            let mut stage = Stage::before(scene("method = \"proposed\"", [V4, V4], LINK));
            let packets: Vec<_> = initials(&stage, role, count).into_iter().map(|t| t.payload).collect();
            assert_eq!(packets.len(), count);
            let (sent, got) = flood(&mut stage, role, &packets);
            assert!(got > 0 && got <= 3 * sent, "{role:?}, {count} packets: {got} bytes for {sent}");
        }
    }
}

#[test]
fn a_flood_of_spoofed_handshakes_does_not_keep_honest_nodes_out() {
    let mut stage = Stage::before(scene("method = \"proposed\"", [NAT, NAT], LINK));
    for role in [Role::As, Role::Nms, Role::Trs] {
        let (victim, local) = (VICTIM.parse::<SocketAddr>().unwrap(), stage.address(role));
        for packet in initials(&stage, role, 2_000) {
            stage.datagram(role, local, victim, &packet.payload);
        }
    }
    for node in 0..2 {
        stage.world.node(node, |now, host| host.command(now, cyphonic_core::node::NodeCommand::Start));
    }
    stage.run(500);
    stage.assert_works();
}

#[test]
fn a_first_packet_cut_short_is_answered_with_nothing() {
    for role in [Role::As, Role::Nms, Role::Trs, BOB] {
        let mut stage = Stage::before(scene("method = \"proposed\"", [V4, V4], LINK));
        let packet = initials(&stage, role, 1).remove(0).payload;
        let cut: Vec<Vec<u8>> = [0, 1, 7, 20, 100, 600, 1_199].map(|len| packet[..len].to_vec()).into();
        assert_eq!(flood(&mut stage, role, &cut).1, 0, "{role:?}");
    }
}

#[test]
fn no_answer_to_another_version_is_longer_than_the_question() {
    let mut stage = Stage::before(scene("method = \"proposed\"", [V4, V4], LINK));
    let mut packet = initials(&stage, Role::Nms, 1).remove(0).payload;
    packet[1..5].copy_from_slice(&[0xba, 0xba, 0xba, 0xba]);
    let (sent, got) = flood(&mut stage, Role::Nms, &[packet]);
    assert!(got > 0 && got < sent / 10, "{got} bytes for {sent}");
}

#[test]
fn the_conventional_method_answers_nobody_whom_it_does_not_know() {
    for pair in [[V4, V4], [NAT, NAT]] {
        let mut stage = Stage::after(scene("method = \"conventional\"", pair, LINK));
        for role in stage.roles() {
            let all = stage.arrived.iter().filter_map(Arrived::udp).map(|udp| udp.payload);
            let all: Vec<_> = all.collect();
            assert_eq!(flood(&mut stage, role, &all).1, 0, "{role:?}");
        }
    }
}
