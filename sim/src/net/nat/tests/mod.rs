mod allocation;
mod composition;
mod lifetime;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cyphonic_core::time::Instant;
use etherparse::PacketBuilder;

use super::Dependence::{Address as AddrDep, AddressAndPort as PortDep, Endpoint as Indep};
use super::*;
use crate::net::packet::{
    IcmpError, Ip, IpOptions, Reassembled, Reassembler, Transport, echo, echo_reply, fragment_ipv4, icmp_error,
    parse_icmp_error, transport_checksum, udp,
};
use crate::net::{BoxInput, BoxOutput, Forwarder, NetBox, NetDrop, Routes, seed};

const INSIDE: &str = "10.0.0.1:5000";

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1000)
}

fn nat(config: NatConfig) -> Nat {
    Nat::new(config, seed::stream(1, "nat", "ports"))
}

fn config() -> NatConfig {
    NatConfig::new("203.0.113.1".parse().unwrap())
}

/// Sends UDP out and gives the source that the remote side sees.
fn send(nat: &mut Nat, now: Instant, from: &str, to: &str) -> Result<SocketAddr, NetDrop> {
    let mut packet = udp(socket(from), socket(to), IpOptions::default(), b"out").unwrap();
    nat.outgoing(now, &mut packet)?;
    assert_right(&packet);
    Ok(source(&packet))
}

/// Sends UDP in and gives the inside destination.
fn receive(nat: &mut Nat, now: Instant, from: &str, to: SocketAddr) -> Result<SocketAddr, NetDrop> {
    let mut packet = udp(socket(from), to, IpOptions::default(), b"in").unwrap();
    nat.incoming(now, &mut packet)?;
    assert_right(&packet);
    let ip = Ip::parse(&packet).unwrap();
    let Some(Transport::Udp { destination, .. }) = ip.transport() else { panic!("no UDP") };
    Ok(SocketAddr::new(ip.destination, destination))
}

fn source(packet: &[u8]) -> SocketAddr {
    let ip = Ip::parse(packet).unwrap();
    match ip.transport() {
        Some(Transport::Udp { source, .. } | Transport::Tcp { source, .. }) => SocketAddr::new(ip.source, source),
        Some(Transport::Echo { id, .. }) => SocketAddr::new(ip.source, id),
        other => panic!("{other:?}"),
    }
}

fn assert_right(packet: &[u8]) {
    let ip = Ip::parse(packet).unwrap();
    assert_eq!(transport_checksum(ip.source, ip.destination, ip.protocol, ip.payload), 0);
}

#[test]
fn a_mapping_is_shared_exactly_as_its_behaviour_says() {
    // To another port of the same host, and to another host: is the external port the same as before?
    for (mapping, same_host, other_host) in [(Indep, true, true), (AddrDep, true, false), (PortDep, false, false)] {
        for allocation in [PortChoice::Preserve, PortChoice::Sequential, PortChoice::Random] {
            let mut nat = nat(NatConfig { mapping, allocation, ..config() });
            let first = send(&mut nat, at(0), INSIDE, "198.51.100.1:80").unwrap();
            let context = format!("{mapping:?} {allocation:?}");
            assert_eq!(send(&mut nat, at(1), INSIDE, "198.51.100.1:80").unwrap(), first, "{context}");
            let port = send(&mut nat, at(1), INSIDE, "198.51.100.1:81").unwrap();
            assert_eq!(port == first, same_host, "{context}");
            let host = send(&mut nat, at(1), INSIDE, "198.51.100.2:80").unwrap();
            assert_eq!(host == first, other_host, "{context}");
            let other_inside = send(&mut nat, at(1), "10.0.0.2:5000", "198.51.100.1:80").unwrap();
            assert_ne!(other_inside, first, "{context}");
        }
    }
}

#[test]
fn a_mapping_admits_exactly_whom_its_filtering_says() {
    let refused = Err(NetDrop::NatFiltered);
    let inside = Ok(socket(INSIDE));
    for mapping in [Indep, AddrDep, PortDep] {
        for (filtering, same_host, other_host) in
            [(Indep, inside, inside), (AddrDep, inside, refused), (PortDep, refused, refused)]
        {
            let mut nat = nat(config().with_behaviour(mapping, filtering));
            let seen = send(&mut nat, at(0), INSIDE, "198.51.100.1:80").unwrap();
            let context = format!("{mapping:?} {filtering:?}");
            assert_eq!(receive(&mut nat, at(1), "198.51.100.1:80", seen), inside, "{context}");
            assert_eq!(receive(&mut nat, at(1), "198.51.100.1:81", seen), same_host, "{context}");
            assert_eq!(receive(&mut nat, at(1), "198.51.100.2:80", seen), other_host, "{context}");
            let unmapped = SocketAddr::new(seen.ip(), seen.port() + 1);
            assert_eq!(receive(&mut nat, at(1), "198.51.100.1:80", unmapped), Err(NetDrop::NoMapping));
        }
    }
}

#[test]
fn ports_are_kept_counted_or_random() {
    let mut keeping = nat(config());
    assert_eq!(send(&mut keeping, at(0), "10.0.0.1:443", "198.51.100.1:80").unwrap().port(), 443);
    assert_eq!(send(&mut keeping, at(0), "10.0.0.2:443", "198.51.100.1:80").unwrap().port(), 1024, "taken");

    let two = NatConfig { allocation: PortChoice::Sequential, ports: 2000..=2001, ..config() };
    let mut counting = nat(two);
    assert_eq!(send(&mut counting, at(0), "10.0.0.1:1", "198.51.100.1:80").unwrap().port(), 2000);
    assert_eq!(send(&mut counting, at(0), "10.0.0.1:2", "198.51.100.1:80").unwrap().port(), 2001);
    assert_eq!(send(&mut counting, at(0), "10.0.0.1:3", "198.51.100.1:80"), Err(NetDrop::NatTableFull));
    assert_eq!(send(&mut counting, at(120), "10.0.0.1:3", "198.51.100.1:80").unwrap().port(), 2000, "expired");

    let random = NatConfig { allocation: PortChoice::Random, ports: 3000..=3999, ..config() };
    let run = |config: &NatConfig| {
        let mut nat = nat(config.clone());
        (1..=1000)
            .map(|i| send(&mut nat, at(0), &format!("10.0.0.1:{i}"), "198.51.100.1:80").unwrap().port())
            .collect::<Vec<_>>()
    };
    let ports = run(&random);
    assert_eq!(ports, run(&random), "from the seed alone");
    assert!(!ports.is_sorted());
    let distinct: std::collections::BTreeSet<_> = ports.into_iter().collect();
    assert_eq!(distinct, (3000..=3999).collect());
}

#[test]
fn a_udp_mapping_lives_two_minutes_after_the_last_packet_from_inside() {
    let mut nat = nat(config().with_behaviour(Indep, Indep));
    let seen = send(&mut nat, at(0), INSIDE, "198.51.100.1:80").unwrap();
    send(&mut nat, at(100), INSIDE, "198.51.100.1:80").unwrap();
    assert!(receive(&mut nat, at(219), "198.51.100.1:80", seen).is_ok());
    assert_eq!(nat.live_mappings(at(219)), 1);
    assert_eq!(receive(&mut nat, at(220), "198.51.100.1:80", seen), Err(NetDrop::NoMapping), "inbound refreshed it");
    assert_eq!(nat.live_mappings(at(220)), 0);
}

#[test]
fn a_permission_expires_on_its_own() {
    let mut nat = nat(config());
    let seen = send(&mut nat, at(0), INSIDE, "198.51.100.1:80").unwrap();
    assert_eq!(send(&mut nat, at(100), INSIDE, "198.51.100.2:80").unwrap(), seen);
    assert_eq!(receive(&mut nat, at(130), "198.51.100.1:80", seen), Err(NetDrop::NatFiltered));
    assert!(receive(&mut nat, at(130), "198.51.100.2:80", seen).is_ok());
}

#[test]
fn a_full_table_refuses_newcomers_serves_the_known_and_recovers() {
    let mut nat = nat(NatConfig { max_sessions: 2, ..config() });
    let seen = send(&mut nat, at(0), INSIDE, "198.51.100.1:80").unwrap();
    send(&mut nat, at(10), INSIDE, "198.51.100.2:80").unwrap();
    assert_eq!(send(&mut nat, at(20), INSIDE, "198.51.100.3:80"), Err(NetDrop::NatTableFull));
    assert_eq!(send(&mut nat, at(20), "10.0.0.2:1", "198.51.100.3:80"), Err(NetDrop::NatTableFull));
    assert_eq!(send(&mut nat, at(20), INSIDE, "198.51.100.1:80").unwrap(), seen);
    assert!(send(&mut nat, at(130), INSIDE, "198.51.100.3:80").is_ok(), "the second session has expired");
    assert_eq!(send(&mut nat, at(130), INSIDE, "198.51.100.4:80"), Err(NetDrop::NatTableFull));
    nat.clear();
    assert_eq!(receive(&mut nat, at(131), "198.51.100.1:80", seen), Err(NetDrop::NoMapping));
    assert!(send(&mut nat, at(131), INSIDE, "198.51.100.4:80").is_ok());
}

#[test]
fn echo_goes_out_by_identifier_and_only_replies_come_back() {
    let mut nat = nat(config());
    let (host, remote): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "198.51.100.1".parse().unwrap());
    for inside in ["10.0.0.1", "10.0.0.2"] {
        let inside: IpAddr = inside.parse().unwrap();
        let mut request = echo(inside, remote, IpOptions::default(), 7, 1, b"ping").unwrap();
        nat.outgoing(at(0), &mut request).unwrap();
        assert_right(&request);
        let mut reply = echo_reply(&request).unwrap();
        nat.incoming(at(0), &mut reply).unwrap();
        assert_right(&reply);
        let ip = Ip::parse(&reply).unwrap();
        assert_eq!((ip.destination, ip.transport()), (inside, Some(Transport::Echo { request: false, id: 7 })));
    }
    let external = nat.config().external[0];
    let mut request = echo(remote, external, IpOptions::default(), 7, 1, b"ping").unwrap();
    assert_eq!(nat.incoming(at(0), &mut request), Err(NetDrop::NoMapping));
    let mut reply = echo_reply(&echo(remote, host, IpOptions::default(), 7, 1, b"x").unwrap()).unwrap();
    assert_eq!(nat.outgoing(at(0), &mut reply), Err(NetDrop::NatUnsupported));
}

#[test]
fn tcp_is_kept_while_open_and_refreshed_from_both_sides() {
    let mut nat = nat(config());
    let tcp = |from: &str, to: SocketAddr, syn: bool, fin: bool| {
        let (from, mut packet) = (socket(from), Vec::new());
        let (IpAddr::V4(s), IpAddr::V4(d)) = (from.ip(), to.ip()) else { unreachable!() };
        let mut builder = PacketBuilder::ipv4(s.octets(), d.octets(), 64).tcp(from.port(), to.port(), 1, 1000);
        builder = if syn { builder.syn() } else { builder.ack(1) };
        builder = if fin { builder.fin() } else { builder };
        builder.write(&mut packet, b"").unwrap();
        packet
    };
    let remote = "198.51.100.1:80";
    let mut syn = tcp(INSIDE, socket(remote), true, false);
    nat.outgoing(at(0), &mut syn).unwrap();
    assert_right(&syn);
    let seen = source(&syn);
    nat.incoming(at(1), &mut tcp(remote, seen, true, false)).unwrap();
    nat.incoming(at(7000), &mut tcp(remote, seen, false, false)).unwrap();
    nat.incoming(at(14_000), &mut tcp(remote, seen, false, true)).unwrap();
    assert_eq!(nat.live_mappings(at(14_239)), 1);
    let late = nat.incoming(at(14_240), &mut tcp(remote, seen, false, false));
    assert_eq!(late, Err(NetDrop::NoMapping), "closed, and four minutes over");
}

#[test]
fn icmp_errors_are_carried_back_about_packets_that_went_out_and_no_others() {
    let mut nat = nat(config());
    let original = udp(socket(INSIDE), socket("198.51.100.1:80"), IpOptions::default(), &[1; 900]).unwrap();
    let mut packet = original.clone();
    nat.outgoing(at(0), &mut packet).unwrap();
    let router: IpAddr = "192.0.2.7".parse().unwrap();
    let mut error = icmp_error(IcmpError::TooBig { mtu: 800 }, router, &packet).unwrap();
    nat.incoming(at(1), &mut error).unwrap();
    assert_right(&error);
    let ip = Ip::parse(&error).unwrap();
    assert_eq!((ip.source, ip.destination), (router, socket(INSIDE).ip()));
    let quote = parse_icmp_error(&error).unwrap();
    assert_eq!(quote.error, IcmpError::TooBig { mtu: 800 });
    assert_eq!(quote.packet, &original[..quote.packet.len()], "as if never translated");

    let forged = udp(source(&packet), socket("198.51.100.9:80"), IpOptions::default(), b"").unwrap();
    let mut error = icmp_error(IcmpError::NoRoute, router, &forged).unwrap();
    assert_eq!(nat.incoming(at(1), &mut error), Err(NetDrop::NatFiltered));

    // The other direction: an inside host sends an error about a packet that it got.
    let mut reply = udp(socket("198.51.100.1:80"), source(&packet), IpOptions::default(), b"in").unwrap();
    let sent = reply.clone();
    nat.incoming(at(1), &mut reply).unwrap();
    let mut error = icmp_error(IcmpError::PortUnreachable, socket(INSIDE).ip(), &reply).unwrap();
    nat.outgoing(at(1), &mut error).unwrap();
    assert_right(&error);
    assert_eq!(Ip::parse(&error).unwrap().source, source(&packet).ip());
    assert_eq!(parse_icmp_error(&error).unwrap().packet, sent);
}

fn nat_box() -> NatBox {
    let routes = Routes::new().with("10.0.0.0/24".parse().unwrap(), 0).with("0.0.0.0/0".parse().unwrap(), 1);
    let mut forwarder = Forwarder::new(routes, vec!["10.0.0.254".parse().unwrap()]);
    forwarder.set_mtu(0, 1500);
    forwarder.set_mtu(1, 1400);
    NatBox::new(nat(config()), forwarder, 1)
}

fn pass(nat: &mut NatBox, now: Instant, iface: usize, packet: Vec<u8>) -> Vec<(usize, Vec<u8>)> {
    nat.handle_input(now, BoxInput::Packet { iface, packet });
    std::iter::from_fn(|| match nat.poll_output() {
        BoxOutput::Send { iface, packet } => Some((iface, packet)),
        BoxOutput::Wait(_) => None,
    })
    .collect()
}

#[test]
fn the_box_translates_fragments_and_reports_too_big_in_the_senders_own_terms() {
    let mut nat = nat_box();
    let options = IpOptions { dont_fragment: false, identification: 3, ..IpOptions::default() };
    let whole = udp(socket(INSIDE), socket("198.51.100.1:80"), options, &[5; 4000]).unwrap();
    let mut out = Vec::new();
    for fragment in fragment_ipv4(&whole, 1500).unwrap() {
        out.extend(pass(&mut nat, at(0), 0, fragment));
    }
    let mut reassembler = Reassembler::default();
    let mut last = Reassembled::Waiting;
    for (iface, fragment) in out {
        assert!(iface == 1 && fragment.len() <= 1400);
        last = reassembler.push(at(0), fragment);
    }
    let Reassembled::Whole { packet, .. } = last else { panic!("{last:?}") };
    assert_right(&packet);
    assert_eq!(source(&packet), socket("203.0.113.1:5000"));

    let big = udp(socket(INSIDE), socket("198.51.100.1:80"), IpOptions::default(), &[5; 1400]).unwrap();
    let reports = pass(&mut nat, at(0), 0, big.clone());
    assert_eq!((reports.len(), reports[0].0), (1, 0));
    let quote = parse_icmp_error(&reports[0].1).unwrap();
    assert_eq!(quote.error, IcmpError::TooBig { mtu: 1400 });
    assert_eq!(quote.packet, &big[..quote.packet.len()]);

    nat.forwarder_mut().set_mtu(0, 1300);
    let back = udp(socket("198.51.100.1:80"), socket("203.0.113.1:5000"), IpOptions::default(), &[5; 1300]).unwrap();
    let reports = pass(&mut nat, at(0), 1, back.clone());
    let quote = parse_icmp_error(&reports[0].1).unwrap();
    assert_eq!(quote.packet, &back[..quote.packet.len()]);
    assert_eq!(Ip::parse(&reports[0].1).unwrap().source, socket("203.0.113.1:1").ip());
}

#[test]
fn the_box_forgets_incomplete_fragments_and_lets_nobody_in_by_inside_addresses() {
    let mut nat = nat_box();
    let options = IpOptions { dont_fragment: false, ..IpOptions::default() };
    let whole = udp(socket(INSIDE), socket("198.51.100.1:80"), options, &[5; 4000]).unwrap();
    assert!(pass(&mut nat, at(0), 0, fragment_ipv4(&whole, 1500).unwrap().remove(0)).is_empty());
    let BoxOutput::Wait(Some(deadline)) = nat.poll_output() else { panic!("no timer") };
    assert_eq!(deadline, at(0) + Duration::from_secs(30));
    nat.handle_input(deadline, BoxInput::Timeout);
    assert!(matches!(nat.poll_output(), BoxOutput::Wait(None)));
    assert_eq!(nat.forwarder().drops().get(NetDrop::FragmentTimeout), 1);

    let direct = udp(socket("198.51.100.1:80"), socket(INSIDE), IpOptions::default(), b"x").unwrap();
    assert!(pass(&mut nat, at(40), 1, direct).is_empty());
    let hairpin = udp(socket(INSIDE), socket("203.0.113.1:5000"), IpOptions::default(), b"x").unwrap();
    assert!(pass(&mut nat, at(40), 0, hairpin).is_empty());
    assert_eq!(nat.forwarder().drops().get(NetDrop::Hairpin), 1);
    let neighbour = udp(socket(INSIDE), socket("10.0.0.2:9"), IpOptions::default(), b"x").unwrap();
    let sent = pass(&mut nat, at(40), 0, neighbour);
    assert_eq!((sent[0].0, source(&sent[0].1)), (0, socket(INSIDE)), "not translated");
}
