use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cyphonic_core::time::Instant;
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::*;
use crate::net::NetDrop;

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Checksums computed anew by etherparse agree with those in the packet.
fn assert_intact(packet: &[u8]) {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let net = sliced.net.unwrap();
    if let NetSlice::Ipv4(v4) = &net {
        assert_eq!(v4.header().header_checksum(), v4.header().to_header().calc_header_checksum());
    }
    let ip = Ip::parse(packet).unwrap();
    assert_eq!(transport_checksum(ip.source, ip.destination, ip.protocol, ip.payload), 0);
}

fn v4_udp(payload: usize) -> Vec<u8> {
    let options = IpOptions { dont_fragment: false, identification: 77, ..IpOptions::default() };
    let payload: Vec<u8> = (0..payload).map(|i| i as u8).collect();
    udp(socket("10.0.0.1:1000"), socket("192.0.2.9:443"), options, &payload).unwrap()
}

fn v6_udp(payload: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload).map(|i| i as u8).collect();
    udp(socket("[2001:db8::1]:1000"), socket("[2001:db8::2]:443"), IpOptions::default(), &payload).unwrap()
}

#[test]
fn a_built_udp_datagram_is_what_an_independent_library_builds() {
    let mut theirs = Vec::new();
    PacketBuilder::ipv4([10, 0, 0, 1], [192, 0, 2, 9], 64).udp(1000, 443).write(&mut theirs, b"hello").unwrap();
    let options = IpOptions::default();
    assert_eq!(udp(socket("10.0.0.1:1000"), socket("192.0.2.9:443"), options, b"hello").unwrap(), theirs);

    let (a, b) = (socket("[2001:db8::1]:1000"), socket("[2001:db8::2]:443"));
    let (IpAddr::V6(a6), IpAddr::V6(b6)) = (a.ip(), b.ip()) else { unreachable!() };
    let mut theirs = Vec::new();
    PacketBuilder::ipv6(a6.octets(), b6.octets(), 64).udp(1000, 443).write(&mut theirs, b"hello").unwrap();
    assert_eq!(udp(a, b, options, b"hello").unwrap(), theirs);
    assert_eq!(udp(a, socket("10.0.0.1:1"), options, b"x"), None);
}

#[test]
fn headers_are_read_back_as_they_were_written() {
    let packet = v6_udp(100);
    let ip = Ip::parse(&packet).unwrap();
    assert_eq!(ip.source, socket("[2001:db8::1]:1").ip());
    assert_eq!((ip.ttl, ip.protocol, ip.header_len, ip.payload.len()), (64, protocol::UDP, 40, 108));
    assert_eq!(ip.transport(), Some(Transport::Udp { source: 1000, destination: 443 }));
    assert_eq!(Ip::parse(&packet[..packet.len() - 1]), None);
    assert!(Ip::parse_quoted(&packet[..50]).is_some());
}

#[test]
fn a_reply_answers_an_echo_and_nothing_else() {
    for (a, b) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")] {
        let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
        let request = echo(a, b, IpOptions::default(), 7, 3, b"data").unwrap();
        assert_intact(&request);
        let reply = echo_reply(&request).unwrap();
        assert_intact(&reply);
        let ip = Ip::parse(&reply).unwrap();
        assert_eq!((ip.source, ip.destination), (b, a));
        assert_eq!(ip.transport(), Some(Transport::Echo { request: false, id: 7 }));
        assert!(ip.payload.ends_with(b"data"));
        assert_eq!(echo_reply(&reply), None);
    }
}

#[test]
fn a_hop_is_taken_off_and_the_checksum_stays_right() {
    let mut packet = v4_udp(10);
    for left in (1..64).rev() {
        assert!(decrement_ttl(&mut packet));
        assert_eq!(packet[8], left);
        assert!(ipv4_header_is_intact(&packet));
    }
    assert!(!decrement_ttl(&mut packet));
    assert_eq!(packet[8], 1);
}

#[test]
fn icmp_errors_quote_and_are_never_sent_about_errors_or_later_fragments() {
    let packet = v6_udp(1400);
    let router: IpAddr = "2001:db8::ff".parse().unwrap();
    let error = icmp_error(IcmpError::TooBig { mtu: 1280 }, router, &packet).unwrap();
    assert_eq!(error.len(), 1280);
    assert_intact(&error);
    let quote = parse_icmp_error(&error).unwrap();
    assert_eq!(quote.error, IcmpError::TooBig { mtu: 1280 });
    assert_eq!(quote.packet, &packet[..1280 - 48]);
    assert_eq!(icmp_error(IcmpError::TimeExceeded, router, &error), None);

    let packet = v4_udp(1400);
    let router: IpAddr = "192.0.2.1".parse().unwrap();
    for kind in [
        IcmpError::TimeExceeded,
        IcmpError::NoRoute,
        IcmpError::AddressUnreachable,
        IcmpError::PortUnreachable,
        IcmpError::Prohibited,
        IcmpError::TooBig { mtu: 1400 },
    ] {
        let error = icmp_error(kind, router, &packet).unwrap();
        assert_eq!(error.len(), 576);
        assert_eq!(parse_icmp_error(&error).unwrap().error, kind);
    }
    let fragments = fragment_ipv4(&packet, 600).unwrap();
    assert!(icmp_error(IcmpError::TimeExceeded, router, &fragments[0]).is_some());
    assert_eq!(icmp_error(IcmpError::TimeExceeded, router, &fragments[1]), None);
    let mut damaged = icmp_error(IcmpError::NoRoute, router, &packet).unwrap();
    damaged[40] ^= 1;
    assert_eq!(parse_icmp_error(&damaged), None);
}

#[test]
fn the_quotation_in_an_error_is_translated_with_every_checksum() {
    let packet = v4_udp(100);
    let mut error = icmp_error(IcmpError::PortUnreachable, "192.0.2.9".parse().unwrap(), &packet).unwrap();
    rewrite_quote(&mut error, End::Source, "10.9.9.9".parse().unwrap(), 5555).unwrap();
    let quote = parse_icmp_error(&error).unwrap();
    assert_intact(quote.packet);
    let inner = Ip::parse(quote.packet).unwrap();
    assert_eq!(inner.source, "10.9.9.9".parse::<IpAddr>().unwrap());
    assert_eq!(inner.transport(), Some(Transport::Udp { source: 5555, destination: 443 }));
}

#[test]
fn fragments_in_any_order_become_the_packet_again() {
    for (packet, fragments) in [
        (v4_udp(3000), fragment_ipv4(&v4_udp(3000), 576).unwrap()),
        (v6_udp(3000), fragment_ipv6(&v6_udp(3000), 1280, 9).unwrap()),
    ] {
        assert!(fragments.len() > 2);
        for rotation in 0..fragments.len() {
            let mut reassembler = Reassembler::default();
            let mut order = fragments.clone();
            order.rotate_left(rotation);
            let last = order.pop().unwrap();
            for fragment in order {
                assert!(Ip::parse(&fragment).unwrap().fragment.is_some());
                assert_eq!(reassembler.push(Instant::ZERO, fragment), Reassembled::Waiting);
            }
            let whole = reassembler.push(Instant::ZERO, last);
            assert_eq!(whole, Reassembled::Whole { packet: packet.clone(), fragments: fragments.clone() });
            assert_eq!(reassembler.next_expiry(), None);
        }
    }
}

#[test]
fn a_fragment_is_cut_again_and_still_fits() {
    let first = fragment_ipv4(&v4_udp(3000), 1500).unwrap();
    let smaller: Vec<_> = first.iter().flat_map(|f| fragment_ipv4(f, 300).unwrap()).collect();
    assert!(smaller.iter().all(|f| f.len() <= 300 && ipv4_header_is_intact(f)));
    let mut reassembler = Reassembler::default();
    let mut results: Vec<_> = smaller.into_iter().map(|f| reassembler.push(Instant::ZERO, f)).collect();
    let Some(Reassembled::Whole { packet, .. }) = results.pop() else { panic!("not whole") };
    assert_eq!(packet, v4_udp(3000));
}

#[test]
fn reassembly_is_bounded_in_packets_fragments_and_time_and_refuses_overlaps() {
    let limits = ReassemblyLimits { packets: 2, fragments: 3, timeout: Duration::from_secs(1) };
    let mut reassembler = Reassembler::new(limits);
    let pieces = |id: u32, mtu| fragment_ipv6(&v6_udp(3000), mtu, id).unwrap();
    let dropped = Reassembled::Dropped(NetDrop::BadFragment);
    for id in 0..2 {
        assert_eq!(reassembler.push(Instant::ZERO, pieces(id, 1280).remove(0)), Reassembled::Waiting);
    }
    assert_eq!(reassembler.push(Instant::ZERO, pieces(2, 1280).remove(0)), dropped);
    assert_eq!(reassembler.next_expiry(), Some(Instant::from_millis(1000)));
    assert_eq!(reassembler.expire(Instant::from_millis(999)), 0);
    assert_eq!(reassembler.expire(Instant::from_millis(1000)), 2);

    let results: Vec<_> = pieces(3, 576).into_iter().map(|f| reassembler.push(Instant::ZERO, f)).collect();
    assert_eq!(results[3], dropped, "one fragment too many");

    let mut reassembler = Reassembler::default();
    reassembler.push(Instant::ZERO, pieces(4, 1280).remove(0));
    let duplicate = reassembler.push(Instant::ZERO, pieces(4, 1280).remove(0));
    assert_eq!(duplicate, Reassembled::Waiting);
    assert_eq!(reassembler.push(Instant::ZERO, pieces(4, 1200).remove(1)), dropped, "an overlap");
    assert_eq!(reassembler.next_expiry(), None, "and all of it is forgotten");
}

fn any_address(v4: bool) -> BoxedStrategy<IpAddr> {
    if v4 { any::<[u8; 4]>().prop_map(IpAddr::from).boxed() } else { any::<[u8; 16]>().prop_map(IpAddr::from).boxed() }
}

proptest! {
    #[test]
    fn no_bytes_make_anything_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), first in 0..4u8, fix in any::<bool>()) {
        if let Some(b) = bytes.first_mut() {
            *b = match first { 0 => 0x45, 1 => 0x60, 2 => 0x4f, _ => *b };
        }
        if fix && bytes.len() >= 40 {
            // Make the lengths right, so that more gets past them.
            if bytes[0] >> 4 == 4 {
                let total = bytes.len() as u16;
                bytes[2..4].copy_from_slice(&total.to_be_bytes());
            } else {
                let payload = (bytes.len() - 40) as u16;
                bytes[4..6].copy_from_slice(&payload.to_be_bytes());
                bytes[6] = [0, 43, 44, 60, 17, 58][usize::from(bytes[7]) % 6];
            }
        }
        let _ = Ip::parse(&bytes).map(|ip| ip.transport());
        let _ = Ip::parse_quoted(&bytes).map(|ip| ip.transport());
        let _ = parse_icmp_error(&bytes);
        let _ = ipv4_header_is_intact(&bytes);
        let _ = echo_reply(&bytes);
        let _ = fragment_ipv4(&bytes, 68);
        let _ = fragment_ipv6(&bytes, 68, 1);
        for from in ["10.0.0.1", "2001:db8::1"] {
            let from: IpAddr = from.parse().unwrap();
            let _ = icmp_error(IcmpError::TimeExceeded, from, &bytes);
            for end in [End::Source, End::Destination] {
                let _ = rewrite(&mut bytes.clone(), end, from, 1);
                let _ = rewrite_quote(&mut bytes.clone(), end, from, 1);
            }
        }
        let _ = decrement_ttl(&mut bytes.clone());
        let mut reassembler = Reassembler::default();
        let _ = reassembler.push(Instant::ZERO, bytes.clone());
        let _ = reassembler.push(Instant::ZERO, bytes);
    }

    #[test]
    fn rewriting_leaves_the_packet_that_would_have_been_built(
        (a, b, c) in any::<bool>().prop_flat_map(|v4| (any_address(v4), any_address(v4), any_address(v4))),
        ports in any::<[u16; 3]>(),
        payload in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let options = IpOptions::default();
        let build = |s, sp, d, dp| udp(SocketAddr::new(s, sp), SocketAddr::new(d, dp), options, &payload).unwrap();
        let mut packet = build(a, ports[0], b, ports[1]);
        rewrite(&mut packet, End::Source, c, ports[2]).unwrap();
        prop_assert_eq!(&packet, &build(c, ports[2], b, ports[1]));
        rewrite(&mut packet, End::Destination, a, ports[0]).unwrap();
        prop_assert_eq!(&packet, &build(c, ports[2], a, ports[0]));

        let mut packet = echo(a, b, options, ports[0], 1, &payload).unwrap();
        rewrite(&mut packet, End::Destination, c, ports[2]).unwrap();
        prop_assert_eq!(packet, echo(a, c, options, ports[2], 1, &payload).unwrap());
    }

    #[test]
    fn tcp_keeps_its_checksum_through_a_rewrite(port in any::<u16>(), address in any::<[u8; 4]>(), payload in proptest::collection::vec(any::<u8>(), 0..50)) {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [192, 0, 2, 9], 64).tcp(1000, 443, 5, 6).syn().write(&mut packet, &payload).unwrap();
        rewrite(&mut packet, End::Source, address.into(), port).unwrap();
        assert_intact(&packet);
        let sliced = SlicedPacket::from_ip(&packet).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
        prop_assert_eq!(tcp.source_port(), port);
    }

    #[test]
    fn any_payload_survives_fragmentation(size in 0usize..6000, mtu in 68usize..2000) {
        for (packet, pieces) in [(v4_udp(size), fragment_ipv4(&v4_udp(size), mtu)), (v6_udp(size), fragment_ipv6(&v6_udp(size), mtu, 5))] {
            let mut reassembler = Reassembler::new(ReassemblyLimits { fragments: 1000, ..ReassemblyLimits::default() });
            let mut last = Reassembled::Waiting;
            for piece in pieces.unwrap() {
                prop_assert!(piece.len() <= mtu);
                last = reassembler.push(Instant::ZERO, piece);
            }
            match last {
                Reassembled::Untouched(p) => prop_assert_eq!(p, packet),
                Reassembled::Whole { packet: p, .. } => prop_assert_eq!(p, packet),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
