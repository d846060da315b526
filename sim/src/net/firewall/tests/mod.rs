mod inspection;

use std::net::SocketAddr;

use etherparse::PacketBuilder;

use super::*;
use crate::net::Routes;
use crate::net::packet::{IcmpError, IpOptions, echo, echo_reply, fragment_ipv6, icmp_error, udp};

const INSIDE: &str = "[2001:db8:a::1]:5000";
const SERVER: &str = "[2001:db8:b::1]:443";

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1000)
}

fn datagram(from: &str, to: &str) -> Vec<u8> {
    udp(from.parse().unwrap(), to.parse().unwrap(), IpOptions::default(), b"data").unwrap()
}

fn tcp(from: &str, to: &str) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let (IpAddr::V6(s), IpAddr::V6(d)) = (from.ip(), to.ip()) else { unreachable!() };
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv6(s.octets(), d.octets(), 64).tcp(from.port(), to.port(), 1, 1000).syn();
    builder.write(&mut packet, b"").unwrap();
    packet
}

#[test]
fn replies_pass_and_nothing_else_comes_in() {
    let mut firewall = Firewall::new(FirewallConfig::default());
    let reply = datagram(SERVER, INSIDE);
    assert_eq!(firewall.incoming(at(0), &reply), Err(NetDrop::InboundBlocked));
    firewall.outgoing(at(0), &datagram(INSIDE, SERVER)).unwrap();
    assert_eq!(firewall.incoming(at(1), &reply), Ok(()));
    for other in [("[2001:db8:b::1]:444", INSIDE), ("[2001:db8:b::2]:443", INSIDE), (SERVER, "[2001:db8:a::1]:5001")] {
        assert_eq!(firewall.incoming(at(1), &datagram(other.0, other.1)), Err(NetDrop::InboundBlocked), "{other:?}");
    }
    assert_eq!(firewall.incoming(at(1), &tcp(SERVER, INSIDE)), Err(NetDrop::InboundBlocked));
}

#[test]
fn a_conversation_is_forgotten_when_idle_and_kept_by_either_side() {
    let mut firewall = Firewall::new(FirewallConfig::default());
    firewall.outgoing(at(0), &datagram(INSIDE, SERVER)).unwrap();
    let reply = datagram(SERVER, INSIDE);
    assert_eq!(firewall.incoming(at(119), &reply), Ok(()));
    assert_eq!(firewall.incoming(at(238), &reply), Ok(()));
    assert_eq!(firewall.incoming(at(358), &reply), Err(NetDrop::InboundBlocked));
}

#[test]
fn a_list_of_ports_lets_only_these_out() {
    let mut firewall = Firewall::new(FirewallConfig::only_443());
    assert_eq!(firewall.outgoing(at(0), &datagram(INSIDE, SERVER)), Ok(()));
    assert_eq!(firewall.outgoing(at(0), &tcp(INSIDE, SERVER)), Ok(()));
    assert_eq!(firewall.outgoing(at(0), &datagram(INSIDE, "[2001:db8:b::1]:4501")), Err(NetDrop::EgressBlocked));
    let (a, b) = ("2001:db8:a::1".parse().unwrap(), "2001:db8:b::1".parse().unwrap());
    let ping = echo(a, b, IpOptions::default(), 1, 1, b"").unwrap();
    assert_eq!(firewall.outgoing(at(0), &ping), Err(NetDrop::EgressBlocked));

    let udp_blocked = FirewallConfig { egress: FirewallMode::OnlyTcp443.egress(), ..FirewallConfig::default() };
    let mut firewall = Firewall::new(udp_blocked);
    assert_eq!(firewall.outgoing(at(0), &datagram(INSIDE, SERVER)), Err(NetDrop::EgressBlocked));
    assert_eq!(firewall.outgoing(at(0), &tcp(INSIDE, SERVER)), Ok(()));
}

#[test]
fn a_peer_may_be_answered_where_conversations_may_begin_outside() {
    let config = FirewallConfig { inbound: true, ..FirewallConfig::only_443() };
    let mut firewall = Firewall::new(config);
    assert_eq!(firewall.outgoing(at(0), &datagram(INSIDE, "[2001:db8:b::1]:9")), Err(NetDrop::EgressBlocked));
    assert_eq!(firewall.incoming(at(0), &datagram("[2001:db8:b::1]:9", INSIDE)), Ok(()));
    assert_eq!(firewall.outgoing(at(0), &datagram(INSIDE, "[2001:db8:b::1]:9")), Ok(()));
}

#[test]
fn echo_replies_come_back_and_requests_do_not_come_in() {
    let mut firewall = Firewall::new(FirewallConfig::default());
    let (a, b) = ("2001:db8:a::1".parse().unwrap(), "2001:db8:b::1".parse().unwrap());
    let request = echo(a, b, IpOptions::default(), 1, 1, b"").unwrap();
    assert_eq!(firewall.incoming(at(0), &echo_reply(&request).unwrap()), Err(NetDrop::InboundBlocked));
    firewall.outgoing(at(0), &request).unwrap();
    assert_eq!(firewall.incoming(at(0), &echo_reply(&request).unwrap()), Ok(()));
    let foreign = echo(b, a, IpOptions::default(), 2, 1, b"").unwrap();
    assert_eq!(firewall.incoming(at(0), &foreign), Err(NetDrop::InboundBlocked));
}

#[test]
fn packet_too_big_reaches_the_sender_of_a_known_conversation_only() {
    let mut firewall = Firewall::new(FirewallConfig::only_443());
    let packet = datagram(INSIDE, SERVER);
    let router = "2001:db8:b::ff".parse().unwrap();
    let error = icmp_error(IcmpError::TooBig { mtu: 1280 }, router, &packet).unwrap();
    assert_eq!(firewall.incoming(at(0), &error), Err(NetDrop::InboundBlocked));
    firewall.outgoing(at(0), &packet).unwrap();
    assert_eq!(firewall.incoming(at(0), &error), Ok(()));
    let complaint = icmp_error(IcmpError::PortUnreachable, "2001:db8:a::1".parse().unwrap(), &datagram(SERVER, INSIDE));
    assert_eq!(firewall.outgoing(at(0), &complaint.unwrap()), Ok(()));
}

#[test]
fn the_table_is_bounded_and_recovers() {
    let mut firewall = Firewall::new(FirewallConfig { max_flows: 1, ..FirewallConfig::default() });
    firewall.outgoing(at(0), &datagram(INSIDE, SERVER)).unwrap();
    let other = datagram(INSIDE, "[2001:db8:b::2]:443");
    assert_eq!(firewall.outgoing(at(1), &other), Err(NetDrop::FlowTableFull));
    assert_eq!(firewall.outgoing(at(1), &datagram(INSIDE, SERVER)), Ok(()));
    assert_eq!(firewall.outgoing(at(121), &other), Ok(()));
    firewall.clear();
    assert_eq!(firewall.incoming(at(121), &datagram(SERVER, INSIDE)), Err(NetDrop::InboundBlocked));
}

#[test]
fn the_box_judges_fragments_together_and_leaves_neighbours_alone() {
    let routes = Routes::new()
        .with("2001:db8:a::/64".parse().unwrap(), 0)
        .with("2001:db8:a:1::/64".parse().unwrap(), 2)
        .with("::/0".parse().unwrap(), 1);
    let mut firewall =
        FirewallBox::new(Firewall::new(FirewallConfig::only_443()), Forwarder::new(routes, Vec::new()), 1);
    let mut pass = |iface, packet: Vec<u8>| {
        firewall.handle_input(at(0), BoxInput::Packet { iface, packet });
        std::iter::from_fn(|| match firewall.poll_output() {
            BoxOutput::Send { iface, packet } => Some((iface, packet)),
            BoxOutput::Wait(_) => None,
        })
        .collect::<Vec<_>>()
    };
    let large = |to: &str| {
        let packet = udp(INSIDE.parse().unwrap(), to.parse().unwrap(), IpOptions::default(), &[1; 3000]).unwrap();
        fragment_ipv6(&packet, 1280, 7).unwrap()
    };
    let allowed: Vec<_> = large(SERVER).into_iter().flat_map(|fragment| pass(0, fragment)).collect();
    assert_eq!(allowed.len(), 3);
    for ((iface, packet), mut fragment) in allowed.into_iter().zip(large(SERVER)) {
        fragment[7] -= 1;
        assert_eq!((iface, packet), (1, fragment), "as it came, one hop less");
    }
    let refused: Vec<_> = large("[2001:db8:b::1]:9").into_iter().flat_map(|fragment| pass(0, fragment)).collect();
    assert!(refused.is_empty());
    assert_eq!(pass(0, datagram(INSIDE, "[2001:db8:a:1::1]:9")).len(), 1);
    assert_eq!(firewall.forwarder().drops().get(NetDrop::EgressBlocked), 1);
}
