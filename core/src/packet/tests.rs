use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{
    IpFragOffset, Ipv4Header, Ipv4Options, Ipv6FragmentHeader, NetSlice, SlicedPacket, TcpOptionElement, TransportSlice,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const ALICE4: [u8; 4] = [198, 18, 0, 1];
const BOB4: [u8; 4] = [198, 18, 0, 2];
const ALICE6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const BOB6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
/// The sources of Packet Too Big messages.
const GATEWAY4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 254));
const GATEWAY6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xff));

/// Asserts with etherparse that every checksum in a whole packet is right.
fn assert_checksums(packet: &[u8]) {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let zero = |checksum: u16| if checksum == 0xffff { 0 } else { checksum };
    let (found, expected) = match (sliced.net.unwrap(), sliced.transport.unwrap()) {
        (NetSlice::Ipv4(ip), transport) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            match transport {
                TransportSlice::Udp(udp) => {
                    (udp.checksum(), udp.to_header().calc_checksum_ipv4(&header, udp.payload()).unwrap())
                }
                TransportSlice::Tcp(tcp) => {
                    (tcp.checksum(), tcp.calc_checksum_ipv4(header.source, header.destination).unwrap())
                }
                TransportSlice::Icmpv4(icmp) => (icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload())),
                other => panic!("{other:?}"),
            }
        }
        (NetSlice::Ipv6(ip), transport) => {
            let header = ip.header().to_header();
            match transport {
                TransportSlice::Udp(udp) => {
                    (udp.checksum(), udp.to_header().calc_checksum_ipv6(&header, udp.payload()).unwrap())
                }
                TransportSlice::Tcp(tcp) => {
                    (tcp.checksum(), tcp.calc_checksum_ipv6(header.source, header.destination).unwrap())
                }
                TransportSlice::Icmpv6(icmp) => {
                    assert!(icmp.is_checksum_valid(header.source, header.destination));
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
        (net, _) => panic!("{net:?}"),
    };
    assert_eq!(zero(found), zero(expected));
}

/// Two addresses of one family with ports.
fn pair() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    prop_oneof![
        any::<[(Ipv4Addr, u16); 2]>().prop_map(|[a, b]| (a.into(), b.into())),
        any::<[(Ipv6Addr, u16); 2]>().prop_map(|[a, b]| (a.into(), b.into())),
    ]
}

/// Bytes that often look like a packet: the version, header length and total length are plausible, and the rest is
/// arbitrary.
fn nearly_a_packet() -> impl Strategy<Value = Vec<u8>> {
    let protocol = || prop::sample::select(vec![0, 1, 6, 17, 43, 44, 51, 58, 60]);
    let v4 = (vec(any::<u8>(), 20..150), 5u8..16, protocol()).prop_map(|(mut bytes, ihl, protocol)| {
        bytes[0] = 0x40 | ihl;
        let len = u16::try_from(bytes.len()).unwrap();
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        bytes[9] = protocol;
        bytes
    });
    let v6 = (vec(any::<u8>(), 40..150), protocol()).prop_map(|(mut bytes, protocol)| {
        bytes[0] = 0x60;
        let len = u16::try_from(bytes.len() - 40).unwrap();
        bytes[4..6].copy_from_slice(&len.to_be_bytes());
        bytes[6] = protocol;
        bytes
    });
    prop_oneof![vec(any::<u8>(), 0..100), v4, v6]
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in nearly_a_packet(), mtu: u16) {
        let inner = Inner::parse(&bytes);
        if let Some(view) = udp(&bytes) {
            prop_assert_eq!(inner.unwrap().source, view.source.ip());
        }
        for (mtu, from) in [(mtu, GATEWAY4), (mtu, GATEWAY6), (28, GATEWAY4), (50, GATEWAY6)] {
            if let Some(answer) = too_big(&bytes, mtu, from) {
                prop_assert_eq!(Inner::parse(&answer).unwrap().destination, inner.unwrap().source);
            }
            if let Some(fragments) = fragment_v4(&bytes, mtu) {
                prop_assert!(fragments.iter().all(|f| f.len() <= usize::from(mtu) && Inner::parse(f).is_ok()));
            }
            let mut clamped = bytes.clone();
            prop_assert_eq!(clamp_mss(&mut clamped, mtu), clamped != bytes);
        }
    }

    #[test]
    fn a_built_packet_parses_back((from, to) in pair(), payload in vec(any::<u8>(), 0..1500)) {
        let packet = build_udp(from, to, &payload).unwrap();
        let inner = Inner { source: from.ip(), destination: to.ip(), protocol: 17, len: packet.len() };
        prop_assert_eq!(Inner::parse(&packet), Ok(inner));
        prop_assert_eq!(udp(&packet), Some(UdpView { source: from, destination: to, payload: &payload }));
        assert_checksums(&packet);
    }

    #[test]
    fn a_flipped_bit_in_ports_or_payload_is_no_udp(
        (from, to) in pair(),
        payload in vec(any::<u8>(), 0..60),
        at in any::<prop::sample::Index>(),
        bit in 0..8,
    ) {
        let mut packet = build_udp(from, to, &payload).unwrap();
        let header = packet.len() - payload.len() - 8;
        let place = [0, 1, 2, 3].into_iter().chain(8..8 + payload.len()).nth(at.index(4 + payload.len())).unwrap();
        packet[header + place] ^= 1u8 << bit;
        prop_assert_eq!(udp(&packet), None);
    }

    #[test]
    fn fragments_make_up_the_whole_and_can_be_cut_again(
        payload in vec(any::<u8>(), 0..3000),
        mtu in 68u16..1500,
        smaller in 68u16..1500,
    ) {
        let packet = fragmentable(&payload, &[]);
        let once = fragment_v4(&packet, mtu).unwrap();
        prop_assert_eq!(&reassembled(&once), &payload);
        let twice: Vec<_> = once.iter().flat_map(|f| fragment_v4(f, smaller).unwrap()).collect();
        prop_assert_eq!(&reassembled(&twice), &payload);
        prop_assert!(once.iter().all(|f| f.len() <= mtu.into()) && twice.iter().all(|f| f.len() <= smaller.into()));
    }

    #[test]
    fn a_clamped_syn_has_a_right_checksum(
        v6: bool,
        mss: u16,
        mtu in 576u16..9000,
        nops in 0usize..4,
        payload in vec(any::<u8>(), 0..40),
    ) {
        let mut options = vec![TcpOptionElement::Noop; nops];
        options.push(TcpOptionElement::MaximumSegmentSize(mss));
        options.push(TcpOptionElement::WindowScale(7));
        let mut packet = syn(v6, &options, &payload);
        let before = packet.clone();
        let fits = mtu - if v6 { 60 } else { 40 };
        prop_assert_eq!(clamp_mss(&mut packet, mtu), mss > fits);
        prop_assert_eq!(mss_of(&packet), mss.min(fits));
        assert_checksums(&packet);
        prop_assert_eq!(packet.len(), before.len());
        prop_assert!(!clamp_mss(&mut packet, mtu));
    }
}

#[test]
fn a_packet_is_exactly_as_long_as_it_says() {
    for (from, to) in [("198.18.0.1:1", "198.18.0.2:2"), ("[2001:db8::1]:1", "[2001:db8::2]:2")] {
        let packet = build_udp(from.parse().unwrap(), to.parse().unwrap(), b"hello").unwrap();
        for len in 0..packet.len() {
            assert_eq!(Inner::parse(&packet[..len]), Err(DropReason::BadPacket));
        }
        assert_eq!(Inner::parse(&[&packet[..], &[0]].concat()), Err(DropReason::BadPacket));
        let mut version = packet.clone();
        version[0] = 0x55;
        assert_eq!(Inner::parse(&version), Err(DropReason::BadPacket));
    }
    let mut short = build_udp("198.18.0.1:1".parse().unwrap(), "198.18.0.2:2".parse().unwrap(), &[]).unwrap();
    short[0] = 0x44;
    assert_eq!(Inner::parse(&short), Err(DropReason::BadPacket), "a header of 16 bytes");
    short[0] = 0x48;
    assert_eq!(Inner::parse(&short), Err(DropReason::BadPacket), "a header of 32 bytes in a packet of 28");
}

#[test]
fn what_cannot_be_built_is_none() {
    let (v4, v6) = ("198.18.0.1:1".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap());
    assert_eq!(build_udp(v4, v6, &[]), None);
    assert_eq!(build_udp(v6, v4, &[]), None);
    assert_eq!(build_udp(v4, v4, &vec![0; 65_508]), None);
    assert_eq!(build_udp(v6, v6, &vec![0; 65_528]), None);
    assert_eq!(build_udp(v4, v4, &vec![0; 65_507]).unwrap().len(), 65_535);
}

#[test]
fn udp_without_checksum_is_taken_from_ipv4_only() {
    for (from, to, header, taken) in
        [("198.18.0.1:1", "198.18.0.2:2", 20, true), ("[2001:db8::1]:1", "[2001:db8::2]:2", 40, false)]
    {
        let mut packet = build_udp(from.parse().unwrap(), to.parse().unwrap(), b"hello").unwrap();
        packet[header + 6..header + 8].fill(0);
        assert_eq!(udp(&packet).is_some(), taken);
    }
}

fn v4_packet(from: [u8; 4], to: [u8; 4], protocol: IpNumber, dont_fragment: bool, payload: &[u8]) -> Vec<u8> {
    let mut header = Ipv4Header::new(payload.len().try_into().unwrap(), 64, protocol, from, to).unwrap();
    header.dont_fragment = dont_fragment;
    header.identification = 77;
    let mut packet = Vec::new();
    header.write(&mut packet).unwrap();
    packet.extend_from_slice(payload);
    packet
}

fn v6_packet(from: [u8; 16], to: [u8; 16], next: IpNumber, payload: &[u8]) -> Vec<u8> {
    let header = etherparse::Ipv6Header {
        source: from,
        destination: to,
        next_header: next,
        hop_limit: 64,
        payload_length: payload.len().try_into().unwrap(),
        ..Default::default()
    };
    [&header.to_bytes()[..], payload].concat()
}

#[test]
fn a_big_ipv6_packet_is_answered_with_packet_too_big() {
    let packet = v6_packet(ALICE6, BOB6, IpNumber::UDP, &[7; 1400]);
    let answer = too_big(&packet, 1340, GATEWAY6).unwrap();
    assert_eq!(answer.len(), 1280);
    let inner = Inner::parse(&answer).unwrap();
    assert_eq!((inner.source, inner.destination, inner.protocol), (GATEWAY6, ALICE6.into(), 58));
    assert_eq!(answer[40..42], [2, 0]);
    assert_eq!(answer[44..48], 1340u32.to_be_bytes());
    assert_eq!(answer[48..], packet[..1232]);
    assert_checksums(&answer);
}

#[test]
fn a_big_ipv4_packet_with_df_is_answered_with_fragmentation_needed() {
    let packet = v4_packet(ALICE4, BOB4, IpNumber::UDP, true, &[7; 1400]);
    let answer = too_big(&packet, 1340, GATEWAY4).unwrap();
    assert_eq!(answer.len(), 576);
    let inner = Inner::parse(&answer).unwrap();
    assert_eq!((inner.source, inner.destination, inner.protocol), (GATEWAY4, ALICE4.into(), 1));
    assert_eq!(answer[20..22], [3, 4]);
    assert_eq!(answer[24..28], [0, 0, 0x05, 0x3c]);
    assert_eq!(answer[28..], packet[..548]);
    assert_checksums(&answer);
}

#[test]
fn no_icmp_error_where_none_may_be_sent() {
    let v4 =
        |from, to, df, protocol, payload: &[u8]| too_big(&v4_packet(from, to, protocol, df, payload), 500, GATEWAY4);
    let big = [8; 600];
    assert!(v4(ALICE4, BOB4, true, IpNumber::UDP, &big).is_some());
    assert!(v4(ALICE4, BOB4, true, IpNumber::ICMP, &big).is_some(), "an echo request");
    assert!(v4(ALICE4, BOB4, true, IpNumber::ICMP, &[3; 600]).is_none(), "an ICMP error");
    assert!(v4(ALICE4, BOB4, false, IpNumber::UDP, &big).is_none(), "may be fragmented");
    assert!(v4(ALICE4, [224, 0, 0, 1], true, IpNumber::UDP, &big).is_none(), "to a multicast group");
    assert!(v4(ALICE4, [255; 4], true, IpNumber::UDP, &big).is_none(), "a broadcast");
    assert!(v4([0; 4], BOB4, true, IpNumber::UDP, &big).is_none(), "from the unspecified address");
    assert!(v4(ALICE4, BOB4, true, IpNumber::UDP, &big[..480]).is_none(), "fits exactly");
    let mut later = v4_packet(ALICE4, BOB4, IpNumber::UDP, true, &big);
    later[7] = 1;
    assert_eq!(too_big(&later, 500, GATEWAY4), None, "not the first fragment");

    let v6 = |from, to, next, payload: &[u8]| too_big(&v6_packet(from, to, next, payload), 1280, GATEWAY6);
    let big = [128; 1400];
    assert!(v6(ALICE6, BOB6, IpNumber::UDP, &big).is_some());
    assert!(v6(ALICE6, BOB6, IpNumber::IPV6_ICMP, &big).is_some(), "an echo request");
    assert!(v6(ALICE6, BOB6, IpNumber::IPV6_ICMP, &[1; 1400]).is_none(), "an ICMP error");
    let hidden = [&[58, 0, 1, 4, 0, 0, 0, 0, 1][..], &big].concat();
    assert!(v6(ALICE6, BOB6, IpNumber::IPV6_DESTINATION_OPTIONS, &hidden).is_none(), "an ICMP error behind options");
    let fragment = |offset| {
        let head = Ipv6FragmentHeader::new(IpNumber::UDP, IpFragOffset::try_new(offset).unwrap(), true, 5).to_bytes();
        v6(ALICE6, BOB6, IpNumber::IPV6_FRAGMENTATION_HEADER, &[&head[..], &big].concat())
    };
    assert!(fragment(0).is_some());
    assert!(fragment(1).is_none(), "not the first fragment");
    let mut all_nodes = BOB6;
    all_nodes[0] = 0xff;
    assert!(v6(ALICE6, all_nodes, IpNumber::UDP, &big).is_none(), "to a multicast group");
    assert!(v6([0; 16], BOB6, IpNumber::UDP, &big).is_none(), "from the unspecified address");
    assert!(v6(ALICE6, BOB6, IpNumber::UDP, &big[..1240]).is_none(), "fits exactly");
    let packet = v6_packet(ALICE6, BOB6, IpNumber::UDP, &big);
    assert_eq!(too_big(&packet, 1280, GATEWAY4), None, "another family");
}

#[test]
fn an_answer_is_never_answered() {
    let packet = v4_packet(ALICE4, BOB4, IpNumber::UDP, true, &[7; 1400]);
    let answer = too_big(&packet, 1340, GATEWAY4).unwrap();
    assert_eq!(too_big(&answer, 100, GATEWAY4), None);
    let packet = v6_packet(ALICE6, BOB6, IpNumber::UDP, &[7; 1400]);
    let answer = too_big(&packet, 1340, GATEWAY6).unwrap();
    assert_eq!(too_big(&answer, 100, GATEWAY6), None);
}

/// An IPv4 packet without DF and with these options.
fn fragmentable(payload: &[u8], options: &[u8]) -> Vec<u8> {
    let mut header = Ipv4Header::new(payload.len().try_into().unwrap(), 64, IpNumber::UDP, ALICE4, BOB4).unwrap();
    header.options = Ipv4Options::try_from(options).unwrap();
    header.set_payload_len(payload.len()).unwrap();
    header.dont_fragment = false;
    header.identification = 77;
    let mut packet = Vec::new();
    header.write(&mut packet).unwrap();
    packet.extend_from_slice(payload);
    packet
}

/// The payload of all fragments of a packet, which must be in order. Checks the header of each.
fn reassembled(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (n, fragment) in fragments.iter().enumerate() {
        Inner::parse(fragment).unwrap();
        let (header, rest) = Ipv4Header::from_slice(fragment).unwrap();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!(header.identification, 77);
        assert!(!header.dont_fragment);
        assert_eq!(header.more_fragments, n + 1 < fragments.len());
        assert_eq!(usize::from(header.fragment_offset.byte_offset()), payload.len());
        payload.extend_from_slice(rest);
    }
    payload
}

#[test]
fn only_copied_options_go_into_later_fragments() {
    // NOP, record route (not copied), stream id (copied), NOP, end.
    let options = [1, 7, 3, 4, 0x88, 4, 0xab, 0xcd, 1, 0, 0, 0];
    let payload: Vec<u8> = (0..200u8).collect();
    let fragments = fragment_v4(&fragmentable(&payload, &options), 100).unwrap();
    let of = |n: usize| Ipv4Header::from_slice(&fragments[n]).unwrap().0.options.to_vec();
    assert_eq!(of(0), options);
    assert_eq!(of(1), [0x88, 4, 0xab, 0xcd]);
    assert_eq!(reassembled(&fragments), payload);
}

#[test]
fn what_must_not_be_fragmented_is_not() {
    assert_eq!(fragment_v4(&v4_packet(ALICE4, BOB4, IpNumber::UDP, true, &[0; 900]), 500), None, "DF");
    assert_eq!(fragment_v4(&v6_packet(ALICE6, BOB6, IpNumber::UDP, &[0; 900]), 500), None, "IPv6");
    let packet = fragmentable(&[0; 900], &[]);
    assert_eq!(fragment_v4(&packet, 27), None, "no room");
    assert_eq!(fragment_v4(&packet, 28).unwrap().len(), 113);
    assert_eq!(fragment_v4(&packet, 920), Some(vec![packet.clone()]), "fits");
    let mut damaged = packet.clone();
    damaged[8] ^= 1;
    assert_eq!(fragment_v4(&damaged, 500), None, "wrong checksum");
    let (mut header, payload) = Ipv4Header::from_slice(&packet).unwrap();
    header.fragment_offset = IpFragOffset::try_new(8100).unwrap();
    let mut death = Vec::new();
    header.write(&mut death).unwrap();
    death.extend_from_slice(payload);
    assert_eq!(fragment_v4(&death, 500), None, "beyond 65,535 bytes");
}

/// A TCP SYN from Alice to Bob.
fn syn(v6: bool, options: &[TcpOptionElement], payload: &[u8]) -> Vec<u8> {
    let ip = if v6 { PacketBuilder::ipv6(ALICE6, BOB6, 64) } else { PacketBuilder::ipv4(ALICE4, BOB4, 64) };
    let mut packet = Vec::new();
    ip.tcp(1, 2, 3, 4).syn().options(options).unwrap().write_to_vec(&mut packet, payload).unwrap();
    packet
}

/// The MSS that a TCP packet states.
fn mss_of(packet: &[u8]) -> u16 {
    let Some(TransportSlice::Tcp(tcp)) = SlicedPacket::from_ip(packet).unwrap().transport else { panic!("no TCP") };
    tcp.options_iterator()
        .find_map(|option| match option {
            Ok(TcpOptionElement::MaximumSegmentSize(mss)) => Some(mss),
            _ => None,
        })
        .expect("an MSS")
}

#[test]
fn only_a_syn_is_clamped() {
    let mss = [TcpOptionElement::MaximumSegmentSize(1460)];
    let mut first = syn(false, &mss, &[]);
    assert!(clamp_mss(&mut first, 1300));
    assert_eq!(mss_of(&first), 1260);

    let mut later = Vec::new();
    let tcp = PacketBuilder::ipv4(ALICE4, BOB4, 64).tcp(1, 2, 3, 4).ack(5).options(&mss).unwrap();
    tcp.write_to_vec(&mut later, &[]).unwrap();
    assert!(!clamp_mss(&mut later, 1300));
    assert!(!clamp_mss(&mut syn(false, &[], &[]), 1300), "no MSS stated");
    assert!(!clamp_mss(&mut syn(true, &mss, &[]), 60), "no room at all");
}

/// An ICMPv6 Packet Too Big about a packet from `own` to `other`, behind these IPv6 extension headers.
fn behind(first: u8, extensions: &[u8], own: [u8; 16], other: [u8; 16]) -> Vec<u8> {
    let about = v6_packet(own, other, IpNumber::UDP, &[0; 8]);
    let error = [&[2, 0, 0, 0, 0, 0, 5, 0][..], &about].concat();
    v6_packet([7; 16], own, IpNumber(first), &[extensions, &error].concat())
}

#[test]
fn an_error_is_read_behind_extension_headers_and_refused_where_they_cannot_be_read() {
    let (own, other) = ([1; 16], [2; 16]);
    let addresses = [own, other].map(|address| Ipv6Addr::from(address).into());
    // Hop-by-hop, destination options and routing headers, and a first fragment (RFC 8200 §4).
    let readable: [(u8, &[u8]); 4] = [
        (0, &[58, 0, 1, 4, 0, 0, 0, 0]),
        (60, &[58, 0, 1, 4, 0, 0, 0, 0]),
        (60, &[60, 0, 1, 4, 0, 0, 0, 0, 58, 0, 1, 4, 0, 0, 0, 0]),
        (44, &[58, 0, 0, 1, 0, 0, 0, 9]),
    ];
    for (first, extensions) in readable {
        let packet = behind(first, extensions, own, other);
        assert_eq!(quoted(&packet), Quoted::Of(addresses[0], addresses[1]), "{first} {extensions:02x?}");
    }
    // A hop-by-hop header that is not the first, a header that is longer than the packet, and a first fragment that
    // ends in the middle of a header: others may read on (RFC 7112).
    let broken: [(u8, &[u8]); 2] =
        [(60, &[0, 0, 1, 4, 0, 0, 0, 0, 58, 0, 1, 4, 0, 0, 0, 0]), (60, &[58, 255, 1, 4, 0, 0, 0, 0])];
    for (first, extensions) in broken {
        let packet = behind(first, extensions, own, other);
        assert_eq!(quoted(&packet), Quoted::Unreadable, "{first} {extensions:02x?}");
    }
    let cut = v6_packet([7; 16], own, IpNumber(44), &[60, 0, 0, 1, 0, 0, 0, 9, 58, 3, 1, 4, 0, 0, 0, 0]);
    assert_eq!(quoted(&cut), Quoted::Unreadable);
    let later = v6_packet([7; 16], own, IpNumber(44), &[58, 0, 0, 8, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(quoted(&later), Quoted::NoError);
}

#[test]
fn what_routers_and_neighbours_say_is_for_one_link_only() {
    let about = v4_packet([10, 0, 0, 1], [10, 0, 0, 2], IpNumber::UDP, true, &[0; 8]);
    for kind in [5, 9, 10] {
        let said = [&[kind, 1, 0, 0, 10, 0, 0, 9][..], &about].concat();
        let packet = v4_packet([10, 0, 0, 2], [10, 0, 0, 1], IpNumber::ICMP, true, &said);
        assert_eq!(quoted(&packet), Quoted::Unreadable, "{kind}");
    }
    for kind in 133..=137 {
        let packet = v6_packet([2; 16], [1; 16], IpNumber::IPV6_ICMP, &[kind, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(quoted(&packet), Quoted::Unreadable, "{kind}");
    }
    for kind in [128, 129] {
        let packet = v6_packet([2; 16], [1; 16], IpNumber::IPV6_ICMP, &[kind, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(quoted(&packet), Quoted::NoError, "{kind}");
    }
}
