//! Hairpins, answers, and NATs behind NATs.

use super::*;
use crate::net::packet::fragment_ipv6;

fn refused(nat: &mut NatBox, packet: Vec<u8>) -> Vec<(usize, Vec<u8>)> {
    pass(nat, at(0), 1, packet)
}

#[test]
fn a_hairpin_is_filtered_as_if_it_came_from_outside() {
    for hairpin in [Hairpin::InternalSource, Hairpin::ExternalSource] {
        let mut nat = nat(NatConfig { hairpin, ..config() });
        let target = send(&mut nat, at(0), "10.0.0.2:6000", "198.51.100.1:80").unwrap();
        let call = |nat: &mut Nat| {
            let mut packet = udp(socket(INSIDE), target, IpOptions::default(), b"x").unwrap();
            nat.hairpin(at(1), &mut packet).map(|()| {
                assert_right(&packet);
                (source(&packet), Ip::parse(&packet).unwrap().destination)
            })
        };
        assert_eq!(call(&mut nat), Err(NetDrop::NatFiltered));
        let own = send(&mut nat, at(1), INSIDE, "198.51.100.1:80").unwrap();
        let mut punch = udp(socket("10.0.0.2:6000"), own, IpOptions::default(), b"x").unwrap();
        nat.hairpin(at(1), &mut punch).unwrap();
        let expected = if hairpin == Hairpin::InternalSource { socket(INSIDE) } else { own };
        assert_eq!(call(&mut nat), Ok((expected, "10.0.0.2".parse().unwrap())));
    }
}

#[test]
fn a_box_that_answers_strangers_resets_tcp_and_reports_udp() {
    let mut silent = nat_box();
    let mut talking = nat_box();
    let mut config = talking.nat().config().clone();
    config.answers.unsolicited = true;
    talking.nat_mut().set_config(config);
    let target = socket("203.0.113.1:5000");
    let datagram = udp(socket("198.51.100.1:80"), target, IpOptions::default(), b"x").unwrap();
    let mut syn = Vec::new();
    PacketBuilder::ipv4([198, 51, 100, 1], [203, 0, 113, 1], 64)
        .tcp(80, 5000, 1, 1000)
        .syn()
        .write(&mut syn, b"")
        .unwrap();
    assert!(refused(&mut silent, datagram.clone()).is_empty() && refused(&mut silent, syn.clone()).is_empty());

    let report = refused(&mut talking, datagram.clone());
    let quote = parse_icmp_error(&report[0].1).unwrap();
    assert_eq!((report[0].0, quote.error, quote.packet), (1, IcmpError::PortUnreachable, &datagram[..]));
    let reset = refused(&mut talking, syn);
    assert!(matches!(Ip::parse(&reset[0].1).unwrap().transport(), Some(Transport::Tcp { flags: 20, .. })));
    assert_eq!(source(&reset[0].1), target);
}

/// Behind a carrier's NAT.
fn home(number: u8) -> NatBox {
    let routes = Routes::new().with("10.0.0.0/24".parse().unwrap(), 0).with("0.0.0.0/0".parse().unwrap(), 1);
    let config = NatConfig::new([100, 64, 0, number].into());
    NatBox::new(nat(config), Forwarder::new(routes, vec!["10.0.0.254".parse().unwrap()]), 1)
}

fn carrier(hairpin: Hairpin) -> NatBox {
    let routes = (1..=2).fold(Routes::new().with("0.0.0.0/0".parse().unwrap(), 9), |routes, home| {
        routes.with(format!("100.64.0.{home}/32").parse().unwrap(), home)
    });
    let config = NatConfig { hairpin, ..config().with_behaviour(Indep, Indep) };
    NatBox::new(nat(config), Forwarder::new(routes, vec!["100.64.0.254".parse().unwrap()]), 9)
}

fn only(mut sent: Vec<(usize, Vec<u8>)>) -> Option<(usize, Vec<u8>)> {
    assert!(sent.len() <= 1);
    sent.pop()
}

#[test]
fn two_nats_in_a_row_translate_there_and_back_errors_included() {
    let (mut home, mut carrier) = (home(1), carrier(Hairpin::Off));
    let server = socket("198.51.100.1:80");
    let mut sent = udp(socket(INSIDE), server, IpOptions::default(), b"hello").unwrap();
    let (_, middle) = only(pass(&mut home, at(0), 0, sent.clone())).unwrap();
    assert_eq!(source(&middle), socket("100.64.0.1:5000"));
    let (iface, outside) = only(pass(&mut carrier, at(0), 1, middle)).unwrap();
    assert_eq!((iface, source(&outside)), (9, socket("203.0.113.1:5000")));
    assert_right(&outside);

    let reply = udp(server, source(&outside), IpOptions::default(), b"hi").unwrap();
    let (iface, middle) = only(pass(&mut carrier, at(1), 9, reply)).unwrap();
    assert_eq!(iface, 1);
    let (_, inside) = only(pass(&mut home, at(1), 1, middle)).unwrap();
    assert_eq!(Ip::parse(&inside).unwrap().destination, socket(INSIDE).ip());
    assert_right(&inside);

    let error = icmp_error(IcmpError::TooBig { mtu: 700 }, server.ip(), &outside).unwrap();
    let (_, middle) = only(pass(&mut carrier, at(1), 9, error)).unwrap();
    let (_, inside) = only(pass(&mut home, at(1), 1, middle)).unwrap();
    let quote = parse_icmp_error(&inside).unwrap();
    (0..2).for_each(|_| assert!(crate::net::packet::decrement_ttl(&mut sent)));
    assert_eq!((quote.error, quote.packet), (IcmpError::TooBig { mtu: 700 }, &sent[..]));
}

#[test]
fn two_homes_of_a_carrier_meet_only_where_it_hairpins() {
    for hairpin in [Hairpin::Off, Hairpin::ExternalSource] {
        let (mut homes, mut carrier) = ([home(1), home(2)], carrier(hairpin));
        let seen: Vec<SocketAddr> = (0..2)
            .map(|i| {
                let packet = udp(socket(INSIDE), socket("198.51.100.1:80"), IpOptions::default(), b"x").unwrap();
                let (_, middle) = only(pass(&mut homes[i], at(0), 0, packet)).unwrap();
                source(&only(pass(&mut carrier, at(0), i + 1, middle)).unwrap().1)
            })
            .collect();
        assert_ne!(seen[0], seen[1], "the same inside address and port, twice");
        // Each sends to the other's outermost address; the second finds the first's filter open.
        let mut arrived = Vec::new();
        for (from, to) in [(0, 1), (1, 0)] {
            let packet = udp(socket(INSIDE), seen[to], IpOptions::default(), b"x").unwrap();
            let (_, middle) = only(pass(&mut homes[from], at(1), 0, packet)).unwrap();
            let turned = only(pass(&mut carrier, at(1), from + 1, middle));
            arrived.extend(turned.and_then(|(iface, packet)| {
                assert_eq!(iface, to + 1);
                only(pass(&mut homes[to], at(1), 1, packet))
            }));
        }
        assert_eq!(arrived.len(), usize::from(hairpin != Hairpin::Off));
        assert!(arrived.iter().all(|(_, packet)| source(packet) == seen[1]));
    }
}

#[test]
fn two_nodes_behind_one_nat_are_told_apart() {
    let mut nat = nat(config());
    let hosts = ["10.0.0.1:443", "10.0.0.2:443"];
    let seen = hosts.map(|host| send(&mut nat, at(0), host, "198.51.100.1:443").unwrap());
    assert_ne!(seen[0], seen[1]);
    for (host, seen) in hosts.into_iter().zip(seen) {
        assert_eq!(receive(&mut nat, at(1), "198.51.100.1:443", seen), Ok(socket(host)));
    }
}

const INSIDE_V6: &str = "[fd00::1]:5000";
const REMOTE_V6: &str = "[2001:db8:b::1]:80";

/// With IPv6 on both sides.
fn nat66(max_mtu: usize) -> NatBox {
    let config = NatConfig { hairpin: Hairpin::ExternalSource, ..NatConfig::new("2001:db8:a::1".parse().unwrap()) };
    let routes = Routes::new().with("fd00::/64".parse().unwrap(), 0).with("::/0".parse().unwrap(), 1);
    let mut forwarder = Forwarder::new(routes, vec!["fd00::ff".parse().unwrap()]);
    forwarder.set_mtu(1, max_mtu);
    NatBox::new(nat(config), forwarder, 1)
}

#[test]
fn a_nat_of_ipv6_maps_filters_and_carries_errors_like_one_of_ipv4() {
    let mut nat = nat66(1280);
    let sent = udp(socket(INSIDE_V6), socket(REMOTE_V6), IpOptions::default(), b"out").unwrap();
    let out = pass(&mut nat, at(0), 0, sent.clone());
    assert_right(&out[0].1);
    let seen = source(&out[0].1);
    assert_eq!((out[0].0, seen), (1, socket("[2001:db8:a::1]:5000")));
    let reply = udp(socket(REMOTE_V6), seen, IpOptions::default(), b"in").unwrap();
    let inside = pass(&mut nat, at(1), 1, reply);
    assert_right(&inside[0].1);
    assert_eq!(Ip::parse(&inside[0].1).unwrap().destination, socket(INSIDE_V6).ip());
    let stranger = udp(socket("[2001:db8:c::1]:80"), seen, IpOptions::default(), b"in").unwrap();
    assert!(pass(&mut nat, at(1), 1, stranger).is_empty());

    let error = icmp_error(IcmpError::TooBig { mtu: 1280 }, "2001:db8:b::ff".parse().unwrap(), &out[0].1).unwrap();
    let back = pass(&mut nat, at(1), 1, error);
    assert_right(&back[0].1);
    let mut quoted = sent.clone();
    crate::net::packet::decrement_ttl(&mut quoted);
    assert_eq!(parse_icmp_error(&back[0].1).unwrap().packet, quoted);
    nat.reboot();
    let late = udp(socket(REMOTE_V6), seen, IpOptions::default(), b"in").unwrap();
    assert!(pass(&mut nat, at(2), 1, late).is_empty(), "every mapping is lost");
    let v4 = udp(socket(INSIDE), socket("198.51.100.1:80"), IpOptions::default(), b"x").unwrap();
    assert!(pass(&mut nat, at(2), 0, v4).is_empty(), "IPv4 is only forwarded, and there is no route");
}

#[test]
fn a_nat_of_ipv6_cuts_again_what_came_in_pieces() {
    let mut nat = nat66(1400);
    let whole = udp(socket(INSIDE_V6), socket(REMOTE_V6), IpOptions::default(), &[7; 3000]).unwrap();
    let mut out = Vec::new();
    for piece in fragment_ipv6(&whole, 1400, 9).unwrap() {
        out.extend(pass(&mut nat, at(0), 0, piece));
    }
    let mut reassembler = Reassembler::default();
    let mut last = Reassembled::Waiting;
    for (iface, piece) in out {
        assert!(iface == 1 && piece.len() <= 1280);
        last = reassembler.push(at(0), piece);
    }
    let Reassembled::Whole { packet, .. } = last else { panic!("{last:?}") };
    assert_right(&packet);
    assert_eq!((source(&packet), packet.len()), (socket("[2001:db8:a::1]:5000"), whole.len()));
}
