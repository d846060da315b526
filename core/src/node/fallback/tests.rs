//! What counts against a service, without a network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Fallback, FallbackOutput, Udp};
use crate::machine::{Output, StreamOutput, Transmit};
use crate::node::config::{FallbackConfig, ProxyConfig, Spared};
use crate::node::places::Places;
use crate::pki::{Authority, Validity};
use crate::quic::{QuicConfig, QuicOptions};
use crate::time::Instant;
use crate::timing::proxied::{HEAD_START, LINGER, SUSPICION};
use crate::timing::quic::SIGNALING_KEEP_ALIVE;
use crate::tls::{Environment, Roots, WallClock};

#[derive(Debug)]
struct Clock;

impl WallClock for Clock {
    fn since_unix_epoch(&self) -> Duration {
        Duration::from_secs(1_000_000_000)
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A fallback to which NMS and TRS have answered by UDP at the beginning.
fn fallback(nms: SocketAddr, trs: SocketAddr) -> Fallback {
    fallback_by(None, nms, trs)
}

/// As [`fallback`], in a network with an HTTP proxy.
fn fallback_by(proxy: Option<ProxyConfig>, nms: SocketAddr, trs: SocketAddr) -> Fallback {
    let validity = Validity::new(Duration::from_secs(1), Duration::from_secs(2_000_000_000)).unwrap();
    let root = Authority::root(&[1; 32], "root", validity).unwrap();
    let quic = QuicConfig {
        tls: Environment {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            clock: Arc::new(Clock),
            key_log: None,
        },
        roots: Roots::new([root.certificate().clone()]).unwrap(),
        identity: root.issue(&"alice.example".parse().unwrap(), &[7; 32], 1, validity).unwrap(),
        alpn: b"h3".to_vec(),
        options: QuicOptions::default(),
    };
    let config = FallbackConfig { port: None, outer: None, proxy };
    let mut fallback = Fallback::with(config, quic, [3; 32]);
    let address = "198.51.100.1".parse().unwrap();
    let places = Places { addresses: vec![address], port: 5_000, nat64: None, prefer_v4: false, turn: 0 };
    for (name, remote) in [("nms.example", nms), ("trs.example", trs)] {
        fallback.knows(&places, &name.parse().unwrap(), &[remote]);
        fallback.heard(Instant::ZERO, remote);
    }
    assert_eq!(fallback.udp, Udp::Works);
    fallback
}

#[test]
fn services_that_no_proxy_names_are_reached_without_the_proxy() {
    let (proxy, nms, trs) = (at("192.0.2.8:3128"), at("203.0.113.1:443"), at("203.0.113.2:443"));
    for (spared, by) in [
        (Vec::new(), [proxy, proxy]),
        (vec![Spared::All], [nms, trs]),
        (vec![Spared::Network("203.0.113.2/32".parse().unwrap())], [proxy, trs]),
        (vec![Spared::Domain("nms.example".into())], [nms, proxy]),
        (vec![Spared::Domain("s.example".into())], [proxy, proxy]),
        (vec![Spared::Domain("example".into())], [nms, trs]),
    ] {
        let config = ProxyConfig { addresses: vec![proxy], credentials: None, spared: spared.clone() };
        let mut fallback = fallback_by(Some(config), nms, trs);
        for (service, by) in [nms, trs].into_iter().zip(by) {
            fallback.open(Instant::ZERO, service);
            let opened = std::iter::from_fn(|| fallback.poll()).find_map(|output| match output {
                FallbackOutput::Pass(Output::Stream(_, StreamOutput::Connect { remote })) => Some(remote),
                _ => None,
            });
            assert_eq!(opened, Some(by), "{spared:?} {service}");
        }
        assert_eq!(fallback.status().has_proxy, by.contains(&proxy), "{spared:?}");
    }
}

/// Lets the due timers run. Returns whether a TCP connection is opened.
fn opens(fallback: &mut Fallback, now: Instant) -> bool {
    fallback.handle_timeout(now);
    let mut opened = false;
    while let Some(output) = fallback.poll() {
        opened |= matches!(output, FallbackOutput::Pass(Output::Stream(_, StreamOutput::Connect { .. })));
    }
    opened
}

#[test]
fn what_a_trs_forwards_is_no_ground_to_leave_it_and_its_own_silence_is() {
    let (nms, trs) = (at("192.0.2.3:443"), at("192.0.2.4:443"));
    for answers in [true, false] {
        let mut fallback = fallback(nms, trs);
        let to = |remote| Box::new(Transmit::new(at("198.51.100.1:5000"), remote, vec![0; 100]));
        let mut opened = None;
        // Twenty datagrams a second to a dead peer. Each service is sent a PING in three seconds, and again unless it
        // answers.
        for ms in (0..20_000).step_by(50) {
            let now = Instant::from_millis(ms);
            assert!(fallback.forward(now, to(trs)).is_some() || opened.is_some(), "{ms} ms");
            let keep_alive = ms as u128 % SIGNALING_KEEP_ALIVE.as_millis();
            for remote in [nms, trs].into_iter().filter(|_| [1_000, 1_200, 1_600].contains(&keep_alive)) {
                if keep_alive == 1_000 || remote == trs && !answers {
                    fallback.transmit(now, to(remote));
                }
                if remote == nms || answers {
                    fallback.heard(now, remote);
                }
            }
            if opens(&mut fallback, now) {
                opened.get_or_insert(Duration::from_millis(ms));
            }
        }
        match (answers, opened) {
            (true, opened) => assert_eq!(opened, None),
            (false, opened) => assert!(opened.unwrap() <= SIGNALING_KEEP_ALIVE + SUSPICION, "{opened:?}"),
        }
    }
}

#[test]
fn while_udp_is_blocked_it_is_tried_from_every_address_of_the_node() {
    let (nms, trs) = (at("192.0.2.3:443"), at("192.0.2.4:443"));
    let mut fallback = fallback(nms, trs);
    fallback.here = vec!["198.51.100.1".parse().unwrap(), "203.0.113.9".parse().unwrap()];
    fallback.blocked(nms);
    fallback.next_probe = Some((Instant::ZERO, Duration::from_secs(10)));
    // As if TCP connections to both stood: only a service that is reached is tried.
    fallback.services.values_mut().for_each(|service| service.by_tcp = false);
    let mut tried = Vec::new();
    for second in 0..60 {
        fallback.handle_timeout(Instant::from_millis(second * 1_000));
        while let Some(output) = fallback.poll() {
            if let FallbackOutput::Pass(Output::Transmit(transmit)) = output {
                tried.push((second, transmit.local.ip().to_string()));
            }
        }
    }
    let (usual, other) = ("198.51.100.1", "203.0.113.9");
    let tried: Vec<(u64, &str)> = tried.iter().map(|(second, from)| (*second, from.as_str())).collect();
    assert_eq!(tried, [(0, usual), (10, usual), (20, other), (30, other), (50, usual)]);
}

#[test]
fn a_tcp_connection_does_not_win_against_udp_that_has_just_come_back() {
    let (nms, trs) = (at("192.0.2.3:443"), at("192.0.2.4:443"));
    let mut fallback = fallback(nms, trs);
    let to = |remote| Box::new(Transmit::new(at("203.0.113.9:5000"), remote, vec![0; 100]));
    for service in [nms, trs] {
        fallback.open(Instant::ZERO, service);
    }
    fallback.blocked(nms);
    while fallback.poll().is_some() {}
    // The NMS answers an attempt by UDP from the node's other address.
    fallback.here = vec!["198.51.100.1".parse().unwrap(), "203.0.113.9".parse().unwrap()];
    let (began, ms) = (Instant::from_millis(20_000), Duration::from_millis);
    fallback.services.get_mut(&nms).unwrap().local = at("203.0.113.9:5000");
    fallback.gets_through(began, nms);
    let sent = |fallback: &mut Fallback| {
        let outputs = std::iter::from_fn(|| fallback.poll());
        let udp = outputs.filter_map(|output| match output {
            FallbackOutput::Pass(Output::Transmit(sent)) => Some((sent.local, sent.remote)),
            _ => None,
        });
        udp.collect::<Vec<_>>()
    };
    assert_eq!(sent(&mut fallback), [(at("203.0.113.9:5000"), trs)], "UDP is tried with the TRS at once");
    // The TCP connection to the TRS opens while the first datagram to it is on its way.
    assert!(fallback.transmit(began + ms(10), to(trs)).is_some());
    fallback.won(began + ms(20), trs);
    assert_eq!(fallback.udp, Udp::Works);
    let goes_both_ways = |fallback: &Fallback| fallback.services[&trs].returning.as_ref().map(|back| back.both_ways);
    assert_eq!(goes_both_ways(&fallback), Some(false));
    // The TRS does not answer by UDP: TCP helps, and UDP is tried again.
    fallback.handle_timeout(began + HEAD_START);
    assert_eq!(goes_both_ways(&fallback), Some(true));
    assert_eq!(sent(&mut fallback), [(at("203.0.113.9:5000"), trs)]);
    fallback.heard(began + HEAD_START + ms(10), trs);
    assert_eq!((goes_both_ways(&fallback), fallback.udp), (None, Udp::Works));
    // Until the connections have lingered nothing else changes.
    fallback.handle_timeout(began + LINGER);
    assert!(fallback.services.values().all(|service| !service.by_tcp && service.conduit.is_none()));
    assert_eq!(fallback.udp, Udp::Works);
}
