use proptest::prelude::*;

use super::*;
use crate::net::packet::{echo, parse_icmp_error};

fn datagram(local: &str, remote: &str, len: usize) -> Transmit {
    let payload = (0..len).map(|i| 0x80 | i as u8).collect();
    Transmit::new(socket(local), socket(remote), payload)
}

#[test]
fn a_datagram_of_3000_bytes_crosses_in_fragments_on_both_families() {
    for (local, remote) in [("192.0.2.1:4501", "192.0.2.2:4501"), ("[2001:db8::1]:4501", "[2001:db8::2]:4501")] {
        let mut pair = Pair::new();
        let transmit = datagram(local, remote, 3000);
        pair.command(0, Order::Send(transmit.clone()));
        assert_eq!(pair.tap.len(), 3);
        assert!(pair.tap.iter().all(|(_, _, packet)| Ip::parse(packet).unwrap().fragment.is_some()));
        pair.run_until(ms(1));
        assert_eq!(pair.datagrams(1), [(transmit.remote, transmit.local, transmit.payload)]);
        assert!(pair.hosts[1].losses().is_empty());
    }
}

#[test]
fn fragments_without_the_rest_are_given_up() {
    let mut pair = Pair::new();
    pair.fate = |number, _| if number == 2 { Fate::Lose } else { Fate::Deliver };
    pair.command(0, Order::Send(datagram("[2001:db8::1]:4501", "[2001:db8::2]:4501", 3000)));
    pair.run_until(ms(40_000));
    pair.command(0, Order::Send(datagram("[2001:db8::1]:4501", "[2001:db8::2]:4501", 10)));
    pair.run_until(ms(50_000));
    assert_eq!(pair.datagrams(1).len(), 1);
    assert_eq!(pair.loss(1, Loss::FragmentTimeout), 2);
}

#[test]
fn quic_is_never_fragmented_but_dropped_and_counted() {
    for (local, remote, fits) in
        [("192.0.2.1:443", "192.0.2.2:443", 1472), ("[2001:db8::1]:443", "[2001:db8::2]:443", 1452)]
    {
        let mut pair = Pair::new();
        pair.command(0, Order::Send(datagram(local, remote, fits)));
        pair.command(0, Order::Send(datagram(local, remote, fits + 1)));
        pair.run_until(ms(1));
        assert_eq!(pair.datagrams(1).len(), 1);
        assert_eq!(pair.loss(0, Loss::LargerThanMtu), 1);
        assert!(Ip::parse(&pair.tap[0].2).unwrap().dont_fragment);
    }
}

#[test]
fn port_4501_leaves_fragmenting_to_routers_too() {
    let mut pair = Pair::new();
    for _ in 0..2 {
        pair.command(0, Order::Send(datagram("192.0.2.1:4501", "192.0.2.2:4501", 100)));
    }
    let identification = |at: usize| pair.tap[at].2[4..6].to_vec();
    assert!(!Ip::parse(&pair.tap[0].2).unwrap().dont_fragment);
    assert_ne!(identification(0), identification(1));
}

#[test]
fn what_cannot_be_sent_is_counted() {
    let mut pair = Pair::new();
    pair.command(0, Order::Send(datagram("192.0.2.77:4501", "192.0.2.2:4501", 1)));
    pair.command(0, Order::Send(datagram("192.0.2.1:4501", "[2001:db8::2]:4501", 1)));
    pair.command(0, Order::Send(datagram("192.0.2.1:4501", "192.0.2.2:4501", 66_000)));
    let down = Interface { up: false, ..pair.hosts[0].interfaces()[0].clone() };
    pair.hosts[0].set_interface(pair.now, 0, down);
    pair.command(0, Order::Send(datagram("192.0.2.1:4501", "192.0.2.2:4501", 1)));
    for loss in [Loss::NoInterface, Loss::MixedFamilies, Loss::LargerThanMtu, Loss::InterfaceDown] {
        assert_eq!(pair.loss(0, loss), 1, "{}", loss.name());
    }
    assert!(pair.tap.is_empty());
}

#[test]
fn packets_for_others_damaged_ones_and_closed_ports_are_dropped_by_name() {
    let config = |side| HostConfig { port_unreachable: true, ..config(side, 7) };
    let mut pair = Pair::with(|side| Host::new(config(side), Toy::new(side)));
    let build = |to: &str| udp(socket("192.0.2.2:9999"), socket(to), IpOptions::default(), b"hello").unwrap();
    pair.deliver(0, build("192.0.2.3:4501"));
    assert_eq!(pair.loss(0, Loss::NotOurs), 1);
    let mut damaged = build("192.0.2.1:4501");
    *damaged.last_mut().unwrap() ^= 0x10;
    pair.deliver(0, damaged);
    let mut damaged = build("192.0.2.1:4501");
    damaged[8] ^= 0x10;
    pair.deliver(0, damaged);
    assert_eq!(pair.loss(0, Loss::BadChecksum), 2);
    pair.deliver(0, vec![0x45; 19]);
    assert_eq!(pair.loss(0, Loss::BadPacket), 1);
    assert!(pair.tap.is_empty());

    let closed = build("192.0.2.1:4000");
    pair.deliver(0, closed.clone());
    assert_eq!(pair.loss(0, Loss::UnboundPort), 1);
    let quote = parse_icmp_error(&pair.tap[0].2).unwrap();
    assert_eq!((quote.error, quote.packet), (IcmpError::PortUnreachable, &closed[..]));
    pair.run_until(ms(1));
    assert_eq!(pair.loss(1, Loss::Icmp), 1, "the peer's host has no use for it");
    assert!(pair.datagrams(0).is_empty());
}

#[test]
fn an_echo_to_the_underlay_address_is_answered() {
    for (from, to) in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
        let mut pair = Pair::new();
        pair.deliver(0, echo(ip(from), ip(to), IpOptions::default(), 5, 6, b"ping").unwrap());
        let reply = Ip::parse(&pair.tap[0].2).unwrap();
        assert_eq!((reply.source, reply.destination), (ip(to), ip(from)));
        assert!(reply.payload.ends_with(b"ping"));
    }
}

#[test]
fn each_packet_leaves_by_the_interface_that_owns_its_source() {
    let interfaces = vec![Interface::new([ip("192.0.2.1")]), Interface::new([ip("10.0.0.1"), ip("2001:db8::1")])];
    let mut host = Host::new(HostConfig::new(interfaces, 1), Toy::new(0));
    for (local, remote, expected) in
        [("192.0.2.1:1", "203.0.113.1:1", 0), ("10.0.0.1:1", "203.0.113.1:1", 1), ("[2001:db8::1]:1", "[::9]:1", 1)]
    {
        host.command(Instant::ZERO, Order::Send(datagram(local, remote, 1)));
        let BoxOutput::Send { iface, .. } = host.poll_output() else { panic!("nothing sent") };
        assert_eq!(iface, expected);
    }
    // A packet that comes in by the wrong interface is not ours.
    let packet = udp(socket("203.0.113.1:1"), socket("10.0.0.1:1"), IpOptions::default(), b"\x80").unwrap();
    for (iface, arrived) in [(0, 0), (1, 1)] {
        host.handle_input(Instant::ZERO, BoxInput::Packet { iface, packet: packet.clone() });
        assert_eq!(host.machine().datagrams.len(), arrived);
    }
}

fn connect(pair: &mut Pair, id: u64, remote: &str) {
    pair.command(0, Order::Stream(StreamId(id), StreamOutput::Connect { remote: socket(remote) }));
}

fn data_of(streams: &[(StreamId, StreamInput)], id: u64) -> Vec<u8> {
    let mut all = Vec::new();
    for (of, input) in streams {
        if let StreamInput::Data(data) = input
            && of.0 == id
        {
            all.extend_from_slice(data);
        }
    }
    all
}

#[test]
fn several_streams_at_once_are_accepted_echoed_and_closed() {
    let mut pair = Pair::new();
    let text: Vec<u8> = (0..100_000_u32).map(|i| (i / 7) as u8).collect();
    for (id, remote) in [(1, "192.0.2.2:4433"), (2, "[2001:db8::2]:4433"), (3, "192.0.2.2:4433")] {
        connect(&mut pair, id, remote);
        pair.command(0, Order::Stream(StreamId(id), StreamOutput::Write(text.clone())));
    }
    pair.run_until(ms(2000));
    let accepted: Vec<u64> = pair
        .streams(1)
        .iter()
        .filter(|(_, input)| matches!(input, StreamInput::Accepted { .. }))
        .map(|(id, _)| id.0)
        .collect();
    assert_eq!(accepted, [1 << 32, (1 << 32) + 1, (1 << 32) + 2]);
    for id in 1..=3 {
        let first = pair.streams(0).iter().find(|(of, _)| of.0 == id).unwrap();
        assert_eq!(first.1, StreamInput::Connected);
        assert!(data_of(pair.streams(0), id) == text, "stream {id} came back whole");
        // What was written before the close still arrives.
        pair.command(0, Order::Stream(StreamId(id), StreamOutput::Write(b"last words".to_vec())));
        pair.command(0, Order::Stream(StreamId(id), StreamOutput::Close));
    }
    pair.run_until(ms(30_000));
    for id in accepted {
        assert!(data_of(pair.streams(1), id).ends_with(b"last words"));
        let last = pair.streams(1).iter().rfind(|(of, _)| of.0 == id).unwrap();
        assert_eq!(last.1, StreamInput::Closed);
    }
    assert!(pair.streams(0).iter().all(|(_, input)| !input.is_end()), "it closed them itself");
    let resets = pair.tap.iter().filter(|(_, _, packet)| Ip::parse(packet).unwrap().payload[13] & 4 != 0).count();
    assert_eq!(resets, 0, "an orderly end has no reset");
}

#[test]
fn a_stream_that_is_refused_is_told_from_one_that_is_never_answered() {
    let mut pair = Pair::new();
    connect(&mut pair, 1, "192.0.2.2:9");
    pair.run_until(ms(3));
    assert_eq!(pair.streams(0), [(StreamId(1), StreamInput::Closed)], "refused in one round trip");
    pair.fate = |_, _| Fate::Lose;
    connect(&mut pair, 2, "192.0.2.2:4433");
    pair.run_until(ms(9000));
    assert_eq!(pair.streams(0).len(), 1);
    pair.run_until(ms(11_000));
    assert_eq!(pair.streams(0)[1], (StreamId(2), StreamInput::Unanswered));
    assert_eq!(pair.tap.iter().filter(|(at, _, _)| *at > ms(3)).count(), 4, "a SYN, and three times again");
}

#[test]
fn a_stream_survives_loss_and_silence_and_closes_when_its_address_goes() {
    let mut pair = Pair::new();
    pair.fate = |number, _| if number % 7 == 2 { Fate::Lose } else { Fate::Deliver };
    connect(&mut pair, 1, "[2001:db8::2]:4433");
    let text = vec![9; 60_000];
    pair.command(0, Order::Stream(StreamId(1), StreamOutput::Write(text.clone())));
    pair.run_until(ms(60_000));
    assert!(data_of(pair.streams(0), 1) == text);
    pair.fate = |_, _| Fate::Deliver;
    // Longer than a peer may leave data unacknowledged, but nothing is outstanding.
    pair.run_until(pair.now + Duration::from_secs(1));
    pair.command(0, Order::Stream(StreamId(1), StreamOutput::Write(b"still there".to_vec())));
    pair.run_until(pair.now + Duration::from_secs(30));
    assert!(data_of(pair.streams(0), 1).ends_with(b"still there"));
    pair.hosts[0].set_interface(pair.now, 0, Interface::new([ip("2001:db8::7")]));
    assert_eq!(pair.streams(0).last(), Some(&(StreamId(1), StreamInput::Closed)));
}

#[test]
fn a_role_that_writes_without_end_loses_the_connection_not_the_host() {
    let mut pair = Pair::new();
    pair.fate = |number, _| if number > 3 { Fate::Lose } else { Fate::Deliver };
    connect(&mut pair, 1, "192.0.2.2:4433");
    pair.run_until(ms(10));
    for _ in 0..3 {
        pair.command(0, Order::Stream(StreamId(1), StreamOutput::Write(vec![0; STREAM_WRITE_LIMIT / 2])));
    }
    pair.run_until(ms(20));
    assert_eq!(pair.streams(0).last(), Some(&(StreamId(1), StreamInput::Closed)));
    assert_eq!(pair.loss(0, Loss::StreamLimit), 1);
}

#[test]
fn the_outbox_is_bounded() {
    let mut host = Host::new(config(0, 1), Toy::new(0));
    for _ in 0..OUTBOX_LIMIT + 10 {
        host.command(Instant::ZERO, Order::Send(datagram("192.0.2.1:4501", "192.0.2.2:4501", 1)));
    }
    assert_eq!(host.losses()[&Loss::QueueFull], 10);
}

#[test]
fn a_role_is_woken_when_it_asked_to_be_and_not_for_the_timers_of_others() {
    let mut pair = Pair::new();
    pair.fate = |_, _| Fate::Lose;
    connect(&mut pair, 1, "192.0.2.2:4433");
    pair.command(0, Order::Wake(ms(2345)));
    pair.run_until(ms(8000));
    assert!(pair.tap.len() > 3, "TCP had its own timers");
    assert_eq!(pair.hosts[0].machine().woken, [ms(2345)]);
}

#[test]
fn events_are_kept_with_their_time_until_drained() {
    let mut pair = Pair::new();
    let registered = Event::Registered { addresses: virtual_of(0), nat: false };
    assert_eq!(pair.hosts[0].drain_events(), [(Instant::ZERO, registered.clone())]);
    assert!(pair.hosts[0].drain_events().is_empty());
    pair.run_until(ms(5));
    pair.command(0, Order::Register);
    assert_eq!(pair.hosts[0].drain_events(), [(ms(5), registered)]);
    assert_eq!(pair.hosts[0].virtual_addresses(), Some(virtual_of(0)));
}

proptest! {
    #[test]
    fn no_packet_makes_a_host_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..120),
        v4 in any::<bool>(),
        next in prop_oneof![Just(protocol::UDP), Just(protocol::TCP), Just(protocol::ICMP), Just(protocol::ICMPV6), Just(44)],
    ) {
        let mut pair = Pair::new();
        pair.deliver(0, bytes.clone());
        if bytes.len() >= 4 {
            bytes[2..4].copy_from_slice(&4433_u16.to_be_bytes());
        }
        let (from, to) = (underlay_of(1)[usize::from(!v4)], underlay_of(0)[usize::from(!v4)]);
        pair.deliver(0, crate::net::packet::ip(from, to, next, IpOptions::default(), &bytes).unwrap());
        pair.run_until(ms(50));
    }
}
