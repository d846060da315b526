//! Real QUIC connections, and TLS over TCP, under inspection.

use cyphonic_core::quic::CidScheme;
use cyphonic_scenarios::{Reaction, Throttle, Trait};
use etherparse::TcpHeader;

use super::*;
use crate::dissect::hello::ClientHello;
use crate::dissect::initial::{InitialKeys, LongHeader};
use crate::dissect::testing::{Pair, Sent};

/// Reacts to nothing: all packets pass.
const UNBOUNDED: Throttle = Throttle { after_bytes: 0, rate_bps: 0, burst_bytes: 0 };

fn rule(what: Trait, reaction: Reaction) -> Inspect {
    Inspect { what, reaction, throttle: UNBOUNDED }
}

fn inspecting(what: Trait, reaction: Reaction) -> Firewall {
    let inspection = vec![rule(what, reaction)];
    Firewall::new(FirewallConfig { inspection, inbound: true, ..FirewallConfig::default() })
}

/// A datagram as an IP packet.
fn packet(sent: &Sent) -> Vec<u8> {
    udp(sent.from, sent.to, IpOptions::default(), &sent.payload).unwrap()
}

/// What a client sends to bob.example, offering the protocol "test".
fn client() -> Vec<Vec<u8>> {
    Pair::new(1, CidScheme::Direct).sent(0).iter().map(packet).collect()
}

fn verdicts(firewall: &mut Firewall, packets: &[Vec<u8>]) -> Vec<Result<(), NetDrop>> {
    packets.iter().map(|packet| firewall.outgoing(at(0), packet)).collect()
}

fn has(what: Trait) -> bool {
    let packets = client();
    let verdicts = verdicts(&mut inspecting(what, Reaction::Drop), &packets);
    assert!(verdicts.windows(2).all(|pair| pair[0] == pair[1]), "from the first packet on, or never: {verdicts:?}");
    verdicts[0] == Err(NetDrop::Inspected)
}

#[test]
fn a_quic_connection_is_known_by_version_name_and_protocol() {
    assert!(has(Trait::Quic) && has(Trait::Version(1)));
    assert!(!has(Trait::Version(0x6b33_43cf)));
    for (name, found) in [("bob.example", true), ("example", true), ("ob.example", false), ("alice.example", false)] {
        assert_eq!(has(Trait::ServerName(name.to_owned())), found, "{name}");
    }
    assert!(has(Trait::Alpn("test".to_owned())) && !has(Trait::Alpn("h3".to_owned())));
}

#[test]
fn the_first_rule_that_fits_counts() {
    let inspection = vec![
        rule(Trait::Alpn("h3".to_owned()), Reaction::Drop),
        rule(Trait::ServerName("example".to_owned()), Reaction::Reject),
        rule(Trait::Quic, Reaction::Drop),
    ];
    let mut firewall = Firewall::new(FirewallConfig { inspection, ..FirewallConfig::default() });
    assert_eq!(firewall.outgoing(at(0), &client()[0]), Err(NetDrop::Rejected));
}

#[test]
fn what_is_shorter_than_an_initial_may_be_is_not_taken_for_quic() {
    let packet = client().remove(0);
    let ip = Ip::parse(&packet).unwrap();
    let short = udp(INSIDE.parse().unwrap(), SERVER.parse().unwrap(), IpOptions::default(), &ip.payload[8..1200]);
    let mut firewall = inspecting(Trait::Version(1), Reaction::Drop);
    assert_eq!(firewall.outgoing(at(0), &short.unwrap()), Ok(()));
    assert_eq!(firewall.outgoing(at(0), &packet), Err(NetDrop::Inspected));
}

#[test]
fn replies_of_a_blocked_conversation_are_blocked_too_and_other_conversations_are_not() {
    let mut firewall = inspecting(Trait::Quic, Reaction::Drop);
    let pair = Pair::new(1, CidScheme::Direct);
    assert_eq!(firewall.outgoing(at(0), &packet(&pair.sent(0)[0])), Err(NetDrop::Inspected));
    assert_eq!(firewall.incoming(at(0), &packet(&pair.sent(1)[0])), Err(NetDrop::Inspected));
    for _ in 0..40 {
        assert_eq!(firewall.outgoing(at(0), &datagram(INSIDE, SERVER)), Ok(()));
    }
}

#[test]
fn a_throttled_conversation_has_its_first_bytes_free_and_then_the_stated_rate() {
    // 1,000 bytes a second after the first 20,000, 2,000 at once.
    let throttle = Throttle { after_bytes: 20_000, rate_bps: 8_000, burst_bytes: 2_000 };
    let inspection = vec![Inspect { throttle, ..rule(Trait::Quic, Reaction::Throttle) }];
    let mut firewall = Firewall::new(FirewallConfig { inspection, inbound: true, ..FirewallConfig::default() });
    let initial = client().remove(0);
    firewall.outgoing(at(0), &initial).unwrap();
    let ip = Ip::parse(&initial).unwrap();
    let ends = (SocketAddr::new(ip.source, 443), SocketAddr::new(ip.destination, 443));
    // 952 bytes and 48 of headers.
    let packet = udp(ends.0, ends.1, IpOptions::default(), &[0x40; 952]).unwrap();
    let mut passed =
        |second, count| (0..count).filter(|_| firewall.outgoing(at(second), &packet) == Ok(())).count() * packet.len();
    let free = (20_000 - initial.len()) / 1000 * 1000;
    assert_eq!(passed(0, 60), free + 2_000);
    assert_eq!(passed(1, 60), 1_000);
    assert_eq!(passed(100, 60), 2_000, "no more than the burst is saved up");
}

#[test]
fn inspection_is_turned_on_and_off_in_the_middle_of_conversations() {
    let packets = client();
    let off = FirewallConfig::default();
    let on = FirewallConfig { inspection: vec![rule(Trait::Quic, Reaction::Drop)], ..FirewallConfig::default() };
    let mut firewall = Firewall::new(on.clone());
    assert_eq!(firewall.outgoing(at(0), &packets[0]), Err(NetDrop::Inspected));
    firewall.set_config(off.clone(), Flows::Kept);
    assert_eq!(verdicts(&mut firewall, &packets), vec![Ok(()); packets.len()]);
    firewall.set_config(on, Flows::Forgotten);
    // The conversation began before the rule, so the inspection does not see its ClientHello.
    assert_eq!(firewall.outgoing(at(1), packets.last().unwrap()), Ok(()));

    // A new list of ports stops existing conversations only if they are forgotten.
    let mut firewall = Firewall::new(off);
    let elsewhere = datagram(INSIDE, "[2001:db8:b::1]:4501");
    firewall.outgoing(at(0), &elsewhere).unwrap();
    firewall.set_config(FirewallMode::OnlyTcp443.into(), Flows::Kept);
    assert_eq!(firewall.outgoing(at(1), &elsewhere), Ok(()));
    firewall.set_config(FirewallMode::OnlyTcp443.into(), Flows::Forgotten);
    assert_eq!(firewall.outgoing(at(2), &elsewhere), Err(NetDrop::EgressBlocked));
}

#[test]
fn each_mode_lets_out_what_it_says() {
    let open = |mode: FirewallMode, packet: &[u8]| Firewall::new(mode.into()).outgoing(at(0), packet).is_ok();
    let server = |port| format!("[2001:db8:b::1]:{port}");
    for (mode, datagrams, connections) in [
        (FirewallMode::Stateful, [true; 5], [true; 5]),
        (FirewallMode::Only443, [false, false, true, false, false], [false, false, true, false, false]),
        (FirewallMode::OnlyTcp443, [false; 5], [false, false, true, false, false]),
        (FirewallMode::Web, [true, false, false, false, false], [true, true, true, false, false]),
        (FirewallMode::WebProxy, [false; 5], [false, false, false, true, false]),
    ] {
        let ports = [53, 80, 443, 3128, 4501];
        assert_eq!(ports.map(|port| open(mode, &datagram(INSIDE, &server(port)))), datagrams, "{mode:?}");
        assert_eq!(ports.map(|port| open(mode, &tcp(INSIDE, &server(port)))), connections, "{mode:?}");
        let unasked = datagram(SERVER, INSIDE);
        assert_eq!(Firewall::new(mode.into()).incoming(at(0), &unasked), Err(NetDrop::InboundBlocked));
    }
}

/// A segment with data; `at` is their place in the stream.
fn segment(at: u32, data: &[u8]) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (INSIDE.parse().unwrap(), SERVER.parse().unwrap());
    let (IpAddr::V6(s), IpAddr::V6(d)) = (from.ip(), to.ip()) else { unreachable!() };
    let mut header = TcpHeader::new(from.port(), to.port(), u32::MAX.wrapping_add(at), 1024);
    (header.ack, header.acknowledgment_number) = (true, 500);
    let mut packet = Vec::new();
    PacketBuilder::ipv6(s.octets(), d.octets(), 64).tcp_header(header).write(&mut packet, data).unwrap();
    packet
}

#[test]
fn tls_over_tcp_is_reset_at_both_ends_once_its_hello_is_whole() {
    // The same hello that the QUIC client sends.
    let first = client().remove(0);
    let payload = &Ip::parse(&first).unwrap().payload[8..];
    let frames = InitialKeys::of_client(&LongHeader::read(payload).unwrap().dcid).open(payload).unwrap();
    let hello = frames.iter().find(|frame| frame.data.len() > 50).unwrap().data.to_vec();
    assert!(ClientHello::read(&hello).is_some());
    let record = [&[22, 3, 1][..], &(hello.len() as u16).to_be_bytes(), &hello].concat();

    let routes = Routes::new().with("2001:db8:a::/64".parse().unwrap(), 0).with("::/0".parse().unwrap(), 1);
    let what = Trait::ServerName("bob.example".to_owned());
    let firewall = inspecting(what, Reaction::Reset);
    let mut firewall = FirewallBox::new(firewall, Forwarder::new(routes, Vec::new()), 1);
    let mut pass = |packet: Vec<u8>| {
        firewall.handle_input(at(0), BoxInput::Packet { iface: 0, packet });
        std::iter::from_fn(|| match firewall.poll_output() {
            BoxOutput::Send { iface, packet } => Some((iface, packet)),
            BoxOutput::Wait(_) => None,
        })
        .collect::<Vec<_>>()
    };
    let (half, rest) = record.split_at(40);
    assert_eq!(pass(segment(0, half)).len(), 1, "not enough to tell");
    let sent = pass(segment(40, rest));
    assert_eq!(sent.iter().map(|&(iface, _)| iface).collect::<Vec<_>>(), [0, 1]);
    let reset = |packet: &[u8]| matches!(Ip::parse(packet).unwrap().transport(), Some(Transport::Tcp { flags, .. }) if flags & 4 != 0);
    assert!(sent.iter().all(|(_, packet)| reset(packet)));
    assert_eq!(Ip::parse(&sent[0].1).unwrap().source, Ip::parse(&sent[1].1).unwrap().destination);
}

#[test]
fn a_rejected_datagram_is_reported_in_the_name_of_its_destination() {
    let routes = Routes::new().with("2001:db8::1/128".parse().unwrap(), 0).with("::/0".parse().unwrap(), 1);
    for reaction in [Reaction::Reject, Reaction::Reset] {
        let firewall = inspecting(Trait::Quic, reaction);
        let mut firewall = FirewallBox::new(firewall, Forwarder::new(routes.clone(), Vec::new()), 1);
        let packet = client().remove(0);
        firewall.handle_input(at(0), BoxInput::Packet { iface: 0, packet: packet.clone() });
        let BoxOutput::Send { iface: 0, packet: report } = firewall.poll_output() else { panic!("no report") };
        let quote = parse_icmp_error(&report).unwrap();
        assert_eq!((quote.error, quote.packet), (IcmpError::Prohibited, &packet[..quote.packet.len()]));
        assert_eq!(Ip::parse(&report).unwrap().source, Ip::parse(&packet).unwrap().destination);
        assert!(matches!(firewall.poll_output(), BoxOutput::Wait(_)));
    }
}
