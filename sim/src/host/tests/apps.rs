use proptest::prelude::*;

use super::super::apps::*;
use super::*;

fn to_b(family: Family) -> Target {
    Target::Name(name("b.test"), family)
}

fn echo(count: u32, size: EchoSize) -> Echo {
    Echo { count, interval: Duration::from_millis(10), size, timeout: Duration::from_millis(500) }
}

const MEGABYTE: Transfer = Transfer { bytes: 1_000_000, seed: 3, rate_bps: None };

#[test]
fn echoes_by_name_take_exactly_twice_the_delay() {
    for family in [Family::V4, Family::V6] {
        let mut pair = Pair::new();
        let id = pair.start(0, App::Echo(to_b(family), echo(100, EchoSize::Payload(56))));
        let report = pair.finish(id);
        let resolution = report.resolution.as_ref().unwrap();
        let peer = virtual_of(1);
        let expected = if family == Family::V4 { IpAddr::V4(peer.v4) } else { IpAddr::V6(peer.v6) };
        assert_eq!((resolution.queries, resolution.result), (1, Some(Ok(expected))));
        let seen = report.echo().unwrap();
        assert_eq!(seen.rtts_ns().collect::<Vec<_>>(), vec![2_000_000; 100]);
        assert_eq!(seen.probes[99].sent - report.started, Duration::from_millis(990));
        assert_eq!(report.finished, Some(ms(992)));
        assert_eq!((seen.duplicates, seen.corrupt, seen.late), (0, 0, 0));
        assert_eq!(pair.hosts[0].unfinished(), 0);
        assert_eq!(pair.hosts[0].take_report(id), Some(report));
        assert_eq!(pair.hosts[0].take_report(id), None);
    }
}

#[test]
fn probes_of_an_exact_size_find_the_largest_packet_and_record_who_said_too_big() {
    let mut pair = Pair::with(|side| {
        let toy = Toy { largest: 1364, ..Toy::new(side) };
        let tun = TunConfig { mtu: 1500, ..TunConfig::default() };
        Host::new(HostConfig { virtual_interface: Some(tun), ..config(side, 7) }, toy)
    });
    for family in [Family::V4, Family::V6] {
        for (size, expected) in [
            (1364, ProbeOutcome::Answered { rtt_ns: 2_000_000 }),
            (1365, ProbeOutcome::TooBig { mtu: 1364 }),
            (1500, ProbeOutcome::TooBig { mtu: 1364 }),
            (1501, ProbeOutcome::TooBig { mtu: 1500 }),
        ] {
            let id = pair.start(0, App::Echo(to_b(family), echo(1, EchoSize::Packet(size))));
            let report = pair.finish(id);
            let seen = report.echo().unwrap();
            assert_eq!((seen.probes[0].outcome, seen.packet_bytes), (expected, size));
        }
    }
    assert_eq!(pair.hosts[0].machine().largest_seen, 1500);
    assert_eq!(pair.hosts[0].drops()[&DropReason::TooBig], 4);
}

#[test]
fn lost_doubled_and_late_echoes_are_told_apart() {
    let mut pair = Pair::new();
    pair.fate = |number, _| match number {
        1 => Fate::Lose,
        // The request is doubled, so it is answered twice.
        2 => Fate::Double,
        _ => Fate::Deliver,
    };
    let target = Target::Address(virtual_of(1).v4.into());
    let id = pair.start(0, App::Echo(target.clone(), echo(3, EchoSize::Payload(0))));
    let report = pair.finish(id);
    let seen = report.echo().unwrap();
    assert_eq!(seen.probes[0].outcome, ProbeOutcome::Lost);
    assert_eq!((seen.answered(), seen.duplicates), (2, 1));

    let hasty = Echo { timeout: Duration::from_micros(1500), ..echo(1, EchoSize::Payload(8)) };
    let id = pair.start(0, App::Echo(target, hasty));
    let report = pair.finish(id);
    let seen = report.echo().unwrap();
    assert_eq!((seen.probes[0].outcome, seen.late), (ProbeOutcome::Lost, 1));
}

#[test]
fn a_name_that_does_not_exist_or_is_never_answered_ends_in_its_own_error() {
    let mut pair = Pair::new();
    let id = pair.start(0, App::Resolve(name("nobody.test"), Family::V6));
    assert_eq!(pair.finish(id).resolution.unwrap().result, Some(Err(ResolveError::Refused(3))));

    let mut pair = Pair::with(|side| Host::new(config(side, 7), Toy { answers_dns: false, ..Toy::new(side) }));
    let id = pair.start(0, App::Echo(to_b(Family::V4), Echo::default()));
    let report = pair.finish(id);
    let resolution = report.resolution.clone().unwrap();
    assert_eq!(resolution.result, Some(Err(ResolveError::NoAnswer)));
    assert_eq!((resolution.queries, report.finished), (10, Some(ms(10_000))));
    assert!(report.echo().unwrap().probes.is_empty());
}

#[test]
fn an_application_that_starts_before_registration_gets_its_address_later() {
    let mut pair = Pair::new();
    pair.hosts[0] = Host::new(config(0, 7), Toy::new(0));
    let id = pair.start(0, App::Echo(to_b(Family::V4), echo(1, EchoSize::Payload(8))));
    pair.run_until(ms(2500));
    pair.command(0, Order::Register);
    let report = pair.finish(id);
    assert_eq!(report.resolution.as_ref().unwrap().finished, Some(ms(3000)));
    assert_eq!(report.echo().unwrap().answered(), 1);
}

#[test]
fn a_megabyte_by_tcp_arrives_with_its_hash_in_segments_that_fill_the_mtu() {
    for (family, mtu) in [(Family::V4, 1280), (Family::V6, 1280), (Family::V6, 1400)] {
        let mut pair = Pair::with(|side| {
            let tun = TunConfig { mtu, ..TunConfig::default() };
            Host::new(HostConfig { virtual_interface: Some(tun), ..config(side, 7) }, Toy::new(side))
        });
        let id = pair.start(0, App::Transfer(to_b(family), MEGABYTE));
        let report = pair.finish(id);
        let seen = report.transfer().unwrap();
        assert!(seen.ok(), "{seen:?}");
        assert_eq!(seen.connected, Some(ms(2)), "one round trip");
        assert_eq!((seen.acknowledged, seen.too_big), (1_000_000, 0));
        assert!(seen.completed.unwrap() < ms(200), "{seen:?}");
        let [record] = pair.hosts[1].sink_records() else { panic!("one connection") };
        assert_eq!(record.bytes, 1_000_000);
        assert!(record.sha256.is_some());
        assert_eq!(pair.hosts[0].machine().largest_seen, mtu);
    }
}

#[test]
fn tcp_recovers_from_loss_and_damage() {
    let mut pair = Pair::new();
    pair.fate = |number, _| match number % 50 {
        17 => Fate::Lose,
        31 => Fate::Damage,
        _ => Fate::Deliver,
    };
    let id = pair.start(0, App::Transfer(to_b(Family::V6), MEGABYTE));
    let report = pair.finish(id);
    assert!(report.transfer().unwrap().ok(), "{report:?}");
    assert!(pair.loss(0, Loss::BadChecksum) + pair.loss(1, Loss::BadChecksum) > 10);
}

#[test]
fn a_transfer_to_nobody_says_so() {
    let mut pair = Pair::new();
    let target = Target::Address(ip("198.18.0.99"));
    let id = pair.start(0, App::Transfer(target, MEGABYTE));
    let report = pair.finish(id);
    assert_eq!(report.transfer().unwrap().result, Some(Err(TransferError::NoAnswer)));
    assert!(pair.loss(1, Loss::InnerNotOurs) > 3, "SYNs that came to the wrong node");
}

#[test]
fn a_transfer_whose_path_dies_is_given_up_after_a_minute_of_silence() {
    let mut pair = Pair::new();
    pair.fate = |number, _| if number > 200 { Fate::Lose } else { Fate::Deliver };
    let id = pair.start(0, App::Transfer(to_b(Family::V4), MEGABYTE));
    let report = pair.finish(id);
    let seen = report.transfer().unwrap();
    assert_eq!((seen.result, seen.completed), (Some(Err(TransferError::Broken)), None));
    assert!(seen.acknowledged > 0 && seen.acknowledged < MEGABYTE.bytes, "{seen:?}");
    let silence = report.finished.unwrap() - pair.tap[199].0;
    assert!(silence > Duration::from_secs(59) && silence < Duration::from_secs(61), "{silence:?}");
    let record = &pair.hosts[1].sink_records()[0];
    assert!(record.sha256.is_none() && record.closed.is_some(), "{record:?}");
}

#[test]
fn a_udp_flow_is_counted_at_its_echo_and_at_its_sink() {
    let mut pair = Pair::new();
    pair.fate = |number, side| match (number, side) {
        (30, 0) => Fate::Lose,
        (60, 0) => Fate::Double,
        _ => Fate::Deliver,
    };
    let flow = |end| Flow { count: 100, interval: Duration::from_millis(3), payload: 200, end };
    let id = pair.start(0, App::Flow(to_b(Family::V4), flow(FlowEnd::Sink)));
    let report = pair.finish(id);
    let sent = report.flow().unwrap();
    assert_eq!((sent.sent, sent.unsent), (100, 0));
    pair.run_until(pair.now + DELAY);
    let arrived = pair.hosts[1].flow(virtual_of(0).v4.into(), sent.flow).unwrap();
    // The doubled datagram comes 1 ms late, which is sooner than the next one.
    assert_eq!((arrived.received, arrived.duplicates, arrived.reordered), (99, 1, 0));
    assert!(!arrived.has(29) && arrived.has(30));
    assert_eq!(arrived.longest_gap, Duration::from_millis(6), "two intervals");
    assert_eq!(arrived.last, Some(ms(297) + DELAY));
    assert_eq!(pair.hosts[1].flows().count(), 1);

    let id = pair.start(0, App::Flow(to_b(Family::V6), flow(FlowEnd::Echo)));
    let returned = pair.finish(id).flow().unwrap().returned.clone();
    assert_eq!((returned.received, returned.duplicates, returned.reordered), (100, 0, 0));
}

#[test]
fn flows_live_on_when_the_underlay_address_moves() {
    let mut pair = Pair::new();
    let transfer =
        pair.start(0, App::Transfer(to_b(Family::V4), Transfer { bytes: 20_000_000, seed: 1, rate_bps: None }));
    let flow = Flow { count: 400, interval: Duration::from_millis(10), payload: 100, end: FlowEnd::Echo };
    let flow = pair.start(0, App::Flow(to_b(Family::V6), flow));
    pair.run_until(ms(100));
    let before = pair.hosts[0].report(transfer).transfer().unwrap().acknowledged;
    assert!(before > 0 && before < 20_000_000);

    // Gone for half a second, then back elsewhere, in the other family.
    pair.hosts[0].set_interface(pair.now, 0, Interface { up: false, ..Interface::new([]) });
    pair.run_until(ms(600));
    assert!(pair.loss(0, Loss::NoInterface) > 0);
    let there = ip("2001:db8:1::1");
    pair.hosts[0].set_interface(pair.now, 0, Interface::new([there]));
    pair.command(0, Order::Tunnel(SocketAddr::new(there, TUNNEL), SocketAddr::new(underlay_of(1)[1], TUNNEL)));
    pair.command(1, Order::Tunnel(SocketAddr::new(underlay_of(1)[1], TUNNEL), SocketAddr::new(there, TUNNEL)));

    let report = pair.finish(transfer);
    let seen = report.transfer().unwrap();
    assert!(seen.ok(), "{seen:?}");
    assert!(seen.longest_stall > Duration::from_millis(500));
    let returned = pair.finish(flow).flow().unwrap().returned.clone();
    assert!((340..360).contains(&returned.received), "{returned:?}");
    assert!(returned.longest_gap >= Duration::from_millis(500) && returned.longest_gap < Duration::from_millis(530));
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let run = |seed| {
        let mut pair = Pair::with(|side| Host::new(config(side, seed), Toy::new(side)));
        pair.fate = |number, _| if number % 40 == 7 { Fate::Lose } else { Fate::Deliver };
        pair.start(0, App::Echo(to_b(Family::V6), echo(20, EchoSize::Payload(700))));
        pair.start(1, App::Transfer(Target::Name(name("a.test"), Family::V4), MEGABYTE));
        pair.command(0, Order::Stream(StreamId(1), StreamOutput::Connect { remote: socket("192.0.2.2:4433") }));
        pair.run_until(ms(20_000));
        pair.tap
    };
    let tap = run(1);
    assert!(tap.len() > 1000);
    assert_eq!(tap, run(1));
    assert_ne!(tap, run(2));
}

#[test]
fn plaintext_of_every_application_carries_the_marker() {
    let mut pair = Pair::new();
    pair.start(0, App::Echo(to_b(Family::V4), echo(1, EchoSize::Payload(56))));
    pair.start(
        0,
        App::Flow(
            to_b(Family::V4),
            Flow { count: 1, interval: Duration::from_secs(1), payload: 64, end: FlowEnd::Sink },
        ),
    );
    pair.start(0, App::Transfer(to_b(Family::V6), Transfer { bytes: 100, seed: 1, rate_bps: None }));
    pair.run_until(ms(100));
    let marked = |packet: &[u8]| packet.windows(MARKER.len()).any(|window| window == MARKER);
    let protocols: Vec<u8> = pair
        .tap
        .iter()
        .filter(|(_, side, packet)| *side == 0 && marked(packet))
        .map(|(_, _, packet)| Ip::parse(&packet[28..]).unwrap().protocol)
        .collect();
    assert_eq!(protocols, [protocol::ICMP, protocol::UDP, protocol::TCP]);
}

proptest! {
    #[test]
    fn no_inner_packet_makes_a_host_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 20..120),
        v4 in any::<bool>(),
        next in prop_oneof![Just(protocol::UDP), Just(protocol::TCP), Just(protocol::ICMP), Just(protocol::ICMPV6), any::<u8>()],
    ) {
        let mut pair = Pair::new();
        pair.start(0, App::Echo(to_b(Family::V4), echo(3, EchoSize::Payload(20))));
        let (to, from) = (virtual_of(0), virtual_of(1));
        let (to, from): (IpAddr, IpAddr) = if v4 { (to.v4.into(), from.v4.into()) } else { (to.v6.into(), from.v6.into()) };
        bytes[2..4].copy_from_slice(&[0xc0, 0]);
        let inner = crate::net::packet::ip(from, to, next, IpOptions::default(), &bytes).unwrap();
        for inner in [inner, bytes] {
            let outer = udp(socket("192.0.2.2:4501"), socket("192.0.2.1:4501"), IpOptions::default(), &inner).unwrap();
            pair.deliver(0, outer);
        }
        pair.run_until(ms(50));
    }
}

/// 1 MB at 8 Mbit/s takes a second. A rate beyond TCP's own costs nothing.
#[test]
fn a_paced_transfer_takes_its_time() {
    let took = |rate_bps| {
        let mut pair = Pair::new();
        let id = pair.start(0, App::Transfer(to_b(Family::V6), Transfer { rate_bps, ..MEGABYTE }));
        let report = pair.finish(id);
        let transfer = report.transfer().unwrap();
        assert!(transfer.ok());
        transfer.completed.unwrap() - transfer.connected.unwrap()
    };
    let paced = took(Some(8_000_000)).as_millis();
    assert!((1000..1006).contains(&paced), "{paced} ms");
    let free = took(None);
    assert!(free < Duration::from_millis(900), "{free:?}");
    // The first millisecond passes before anything may be written.
    let fast = took(Some(100_000_000_000));
    assert!((free..=free + Duration::from_millis(2)).contains(&fast), "{fast:?} and {free:?}");
}
