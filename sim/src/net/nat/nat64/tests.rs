use std::net::SocketAddr;

use super::*;
use crate::net::nat::Dependence;
use crate::net::packet::{
    IpOptions, decrement_ttl, echo, echo_reply, fragment_ipv4, icmp_error, protocol, tcp_reset, transport_checksum, udp,
};
use crate::net::{Routes, seed};

const HOST: &str = "[2001:db8:a::1]:5000";
const SERVER: &str = "198.51.100.1:80";

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1000)
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The server as it is seen inside.
fn inside(server: &str) -> SocketAddr {
    let SocketAddr::V4(server) = socket(server) else { unreachable!() };
    SocketAddr::new(embed(WELL_KNOWN_PREFIX, *server.ip()).into(), server.port())
}

fn netbox(mtu_v4: usize) -> Nat64Box {
    let config = NatConfig::new("203.0.113.1".parse().unwrap());
    let nat = Nat64::new(config, WELL_KNOWN_PREFIX, seed::stream(1, "nat64", "ports"));
    let routes = Routes::new().with("2001:db8:a::/64".parse().unwrap(), 0).with("0.0.0.0/0".parse().unwrap(), 1);
    let own = vec!["2001:db8:a::ff".parse().unwrap(), "203.0.113.1".parse().unwrap()];
    let mut forwarder = Forwarder::new(routes, own);
    forwarder.set_mtu(0, 1500);
    forwarder.set_mtu(1, mtu_v4);
    Nat64Box::new(nat, forwarder)
}

fn pass(nat: &mut Nat64Box, now: Instant, packet: Vec<u8>) -> Vec<(usize, Vec<u8>)> {
    nat.handle_input(now, BoxInput::Packet { iface: 0, packet });
    let sent: Vec<_> = std::iter::from_fn(|| match nat.poll_output() {
        BoxOutput::Send { iface, packet } => Some((iface, packet)),
        BoxOutput::Wait(_) => None,
    })
    .collect();
    for (_, packet) in &sent {
        let ip = Ip::parse(packet).expect("a whole packet");
        if ip.fragment.is_none() {
            assert_eq!(transport_checksum(ip.source, ip.destination, ip.protocol, ip.payload), 0);
        }
    }
    sent
}

fn only(nat: &mut Nat64Box, now: Instant, packet: Vec<u8>) -> (usize, Vec<u8>) {
    let mut sent = pass(nat, now, packet);
    assert_eq!(sent.len(), 1);
    sent.remove(0)
}

fn ends(packet: &[u8]) -> (SocketAddr, SocketAddr) {
    let ip = Ip::parse(packet).unwrap();
    let conversation = Conversation::of(&ip).unwrap();
    (conversation.source.into(), conversation.destination.into())
}

#[test]
fn udp_goes_out_as_ipv4_and_comes_back_as_ipv6() {
    let mut nat = netbox(1500);
    let options = IpOptions { traffic_class: 0xb9, ttl: 17, ..IpOptions::default() };
    let packet = udp(socket(HOST), inside(SERVER), options, b"odd").unwrap();
    let (iface, out) = only(&mut nat, at(0), packet);
    assert_eq!((iface, ends(&out)), (1, (socket("203.0.113.1:5000"), socket(SERVER))));
    assert_eq!((out[1], Ip::parse(&out).unwrap().ttl, &out[28..]), (0xb9, 16, &b"odd"[..]));

    let reply = udp(socket(SERVER), socket("203.0.113.1:5000"), options, b"even").unwrap();
    let (iface, back) = only(&mut nat, at(1), reply.clone());
    assert_eq!((iface, ends(&back)), (0, (inside(SERVER), socket(HOST))));
    assert_eq!((&back[..2], &back[48..]), (&[0x6b, 0x90][..], &b"even"[..]));

    // IPv4 allows UDP without a checksum; the translation adds one.
    let mut bare = reply;
    bare[26..28].copy_from_slice(&[0, 0]);
    only(&mut nat, at(1), bare);
    let stranger = udp(socket("198.51.100.2:80"), socket("203.0.113.1:5000"), options, b"x").unwrap();
    assert!(pass(&mut nat, at(1), stranger).is_empty());
    assert_eq!(nat.forwarder().drops().get(NetDrop::NatFiltered), 1);
}

#[test]
fn tcp_and_echo_are_translated_too() {
    let mut nat = netbox(1500);
    let syn = {
        let (IpAddr::V6(s), IpAddr::V6(d)) = (socket(HOST).ip(), inside(SERVER).ip()) else { unreachable!() };
        let mut packet = Vec::new();
        let builder = etherparse::PacketBuilder::ipv6(s.octets(), d.octets(), 64).tcp(5000, 80, 1, 1000).syn();
        builder.write(&mut packet, b"").unwrap();
        packet
    };
    let (_, out) = only(&mut nat, at(0), syn);
    assert_eq!(ends(&out), (socket("203.0.113.1:5000"), socket(SERVER)));
    let (_, back) = only(&mut nat, at(0), tcp_reset(&out).unwrap());
    assert_eq!(ends(&back), (inside(SERVER), socket(HOST)));

    let ping = echo(socket(HOST).ip(), inside(SERVER).ip(), IpOptions::default(), 7, 3, b"ping").unwrap();
    let (_, out) = only(&mut nat, at(0), ping.clone());
    let ip = Ip::parse(&out).unwrap();
    assert_eq!((ip.protocol, ip.transport()), (protocol::ICMP, Some(Transport::Echo { request: true, id: 7 })));
    let (_, back) = only(&mut nat, at(0), echo_reply(&out).unwrap());
    let expected = echo_reply(&ping).unwrap();
    assert_eq!(Ip::parse(&back).unwrap().payload, Ip::parse(&expected).unwrap().payload);
}

#[test]
fn damage_is_not_repaired() {
    let mut nat = netbox(1500);
    let mut packet = udp(socket(HOST), inside(SERVER), IpOptions::default(), b"data").unwrap();
    *packet.last_mut().unwrap() ^= 1;
    let out = nat.nat_mut().outgoing(at(0), &packet).unwrap();
    let ip = Ip::parse(&out).unwrap();
    assert_ne!(transport_checksum(ip.source, ip.destination, ip.protocol, ip.payload), 0);
}

#[test]
fn errors_are_carried_in_the_terms_of_the_other_family() {
    let mut nat = netbox(1500);
    let mut sent = udp(socket(HOST), inside(SERVER), IpOptions::default(), &[1; 1400]).unwrap();
    let (_, out) = only(&mut nat, at(0), sent.clone());
    let router = "192.0.2.7".parse().unwrap();
    assert!(decrement_ttl(&mut sent));
    for (error, expected) in [
        (IcmpError::TooBig { mtu: 1300 }, IcmpError::TooBig { mtu: 1320 }),
        (IcmpError::TooBig { mtu: 600 }, IcmpError::TooBig { mtu: 1280 }),
        (IcmpError::PortUnreachable, IcmpError::PortUnreachable),
        (IcmpError::Other { kind: 3, code: 10 }, IcmpError::Prohibited),
    ] {
        let (iface, back) = only(&mut nat, at(1), icmp_error(error, router, &out).unwrap());
        let quote = parse_icmp_error(&back).unwrap();
        assert_eq!((iface, quote.error), (0, expected));
        assert_eq!(quote.packet, &sent[..quote.packet.len()], "as it was sent");
        assert_eq!(Ip::parse(&back).unwrap().source, inside("192.0.2.7:0").ip());
    }
    let unknown = IcmpError::Other { kind: 3, code: 2 };
    assert!(pass(&mut nat, at(1), icmp_error(unknown, router, &out).unwrap()).is_empty());

    // Now an error from inside.
    let reply = udp(socket(SERVER), socket("203.0.113.1:5000"), IpOptions::default(), b"in").unwrap();
    let (_, got) = only(&mut nat, at(1), reply.clone());
    let complaint = icmp_error(IcmpError::PortUnreachable, socket(HOST).ip(), &got).unwrap();
    let (iface, out) = only(&mut nat, at(1), complaint);
    let quote = parse_icmp_error(&out).unwrap();
    assert_eq!((iface, quote.error, ends(quote.packet)), (1, IcmpError::PortUnreachable, ends(&reply)));
    assert_eq!(Ip::parse(&out).unwrap().destination, socket(SERVER).ip());
}

#[test]
fn sizes_are_kept_to_on_both_sides() {
    let mut nat = netbox(1400);
    let big = udp(socket(HOST), inside(SERVER), IpOptions::default(), &[1; 1440]).unwrap();
    let (iface, report) = only(&mut nat, at(0), big);
    assert_eq!((iface, parse_icmp_error(&report).unwrap().error), (0, IcmpError::TooBig { mtu: 1420 }));
    let exact = udp(socket(HOST), inside(SERVER), IpOptions::default(), &[1; 1420 - 48]).unwrap();
    assert_eq!(only(&mut nat, at(0), exact).1.len(), 1400);
    // Every IPv6 packet of 1,280 bytes goes through, in fragments if necessary.
    nat.forwarder_mut().set_mtu(1, 600);
    let least = udp(socket(HOST), inside(SERVER), IpOptions::default(), &[1; 1280 - 48]).unwrap();
    assert_eq!(pass(&mut nat, at(0), least).len(), 3);

    let target = socket("203.0.113.1:5000");
    let options = IpOptions { dont_fragment: false, identification: 5, ..IpOptions::default() };
    let yielding = udp(socket(SERVER), target, options, &[1; 3000]).unwrap();
    let mut reassembler = Reassembler::default();
    let mut whole = Reassembled::Waiting;
    for fragment in fragment_ipv4(&yielding, 1500).unwrap() {
        for (iface, piece) in pass(&mut nat, at(1), fragment) {
            assert!(iface == 0 && piece.len() <= 1280);
            whole = reassembler.push(at(1), piece);
        }
    }
    let Reassembled::Whole { packet, .. } = whole else { panic!("{whole:?}") };
    assert_eq!(ends(&packet), (inside(SERVER), socket(HOST)));
    let stubborn = udp(socket(SERVER), target, IpOptions::default(), &[1; 1460]).unwrap();
    let (iface, report) = only(&mut nat, at(1), stubborn);
    assert_eq!((iface, parse_icmp_error(&report).unwrap().error), (1, IcmpError::TooBig { mtu: 1480 }));
}

#[test]
fn what_comes_in_fragments_may_leave_in_smaller_ones() {
    let mut nat = netbox(1280);
    let whole = udp(socket(HOST), inside(SERVER), IpOptions::default(), &[1; 1352]).unwrap();
    let mut reassembler = Reassembler::default();
    let mut back = Reassembled::Waiting;
    for fragment in fragment_ipv6(&whole, 1300, 1).unwrap() {
        for (iface, piece) in pass(&mut nat, at(0), fragment) {
            let ip = Ip::parse(&piece).unwrap();
            assert!(iface == 1 && piece.len() <= 1280 && ip.fragment.is_some() && !ip.dont_fragment);
            assert!(crate::net::packet::ipv4_header_is_intact(&piece));
            back = reassembler.push(at(0), piece);
        }
    }
    let Reassembled::Whole { packet, .. } = back else { panic!("{back:?}") };
    assert_eq!(Ip::parse(&packet).unwrap().payload.len(), 1352 + 8);
}

#[test]
fn two_hosts_inside_reach_each_other_by_their_external_ports() {
    let mut nat = netbox(1500);
    let config = nat.nat_mut().config().clone();
    nat.nat_mut().table.config = config.with_behaviour(Dependence::Endpoint, Dependence::Endpoint);
    only(&mut nat, at(0), udp(socket(HOST), inside(SERVER), IpOptions::default(), b"x").unwrap());
    let other = socket("[2001:db8:a::2]:7");
    let call = udp(other, inside("203.0.113.1:5000"), IpOptions::default(), b"x").unwrap();
    let (iface, got) = only(&mut nat, at(0), call);
    assert_eq!((iface, ends(&got)), (0, (inside("203.0.113.1:7"), socket(HOST))));
}

#[test]
fn names_without_an_ipv6_address_get_one() {
    let v4 = [Ipv4Addr::new(192, 0, 2, 33)];
    let v6 = ["2001:db8::1".parse().unwrap()];
    let made = dns64(WELL_KNOWN_PREFIX, &[], &v4);
    assert_eq!(made, ["64:ff9b::c000:221".parse::<Ipv6Addr>().unwrap()], "RFC 6052, section 2.4");
    assert_eq!(extract(WELL_KNOWN_PREFIX, made[0]), Some(v4[0]));
    assert_eq!(extract(WELL_KNOWN_PREFIX, v6[0]), None);
    assert_eq!(dns64(WELL_KNOWN_PREFIX, &v6, &v4), v6);
    assert_eq!(dns64(WELL_KNOWN_PREFIX, &["::ffff:192.0.2.1".parse().unwrap()], &v4), made);
}
