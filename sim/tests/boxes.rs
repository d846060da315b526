//! No packet on a wire makes a box panic, or send anything that is no IP packet.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Inspect, Reaction, Throttle, Trait};
use cyphonic_sim::net::nat::{Answers, Dependence, Hairpin, Nat, Nat64, Nat64Box, NatBox, NatConfig, PortChoice};
use cyphonic_sim::net::packet::{
    IcmpError, Ip, IpOptions, echo, fragment_ipv4, fragment_ipv6, icmp_error, ipv4_header_is_intact, udp,
};
use cyphonic_sim::net::{
    BoxInput, BoxOutput, Firewall, FirewallBox, FirewallConfig, Forwarder, NetBox, Npt, NptBox, Router, Routes, seed,
};
use proptest::prelude::*;

const INSIDE: [&str; 2] = ["10.0.0.1", "2001:db8:a::1"];
const OUTSIDE: [&str; 2] = ["198.51.100.1", "2001:db8:b::1"];
const NAT: &str = "203.0.113.1";

fn forwarder() -> Forwarder {
    let routes = ["10.0.0.0/24", "2001:db8:a::/64"].iter().fold(Routes::new(), |r, p| r.with(p.parse().unwrap(), 0));
    let routes = routes.with("0.0.0.0/0".parse().unwrap(), 1).with("::/0".parse().unwrap(), 1);
    let mut forwarder = Forwarder::new(routes, vec!["10.0.0.254".parse().unwrap(), "2001:db8:a::ff".parse().unwrap()]);
    forwarder.set_mtu(0, 1500);
    forwarder.set_mtu(1, 1280);
    forwarder
}

fn boxes() -> Vec<Box<dyn NetBox>> {
    let nat = NatConfig { allocation: PortChoice::Random, max_sessions: 8, ..NatConfig::new(NAT.parse().unwrap()) }
        .with_behaviour(Dependence::Endpoint, Dependence::Endpoint);
    let busy = NatConfig {
        allocation: PortChoice::Overloading,
        hairpin: Hairpin::ExternalSource,
        reuses_inbound: true,
        answers: Answers { unsolicited: true, full: true },
        ..nat.clone()
    };
    let firewall = FirewallConfig { max_flows: 8, ..FirewallConfig::default() };
    let rule = Inspect {
        what: Trait::ServerName("example".to_owned()),
        reaction: Reaction::Reset,
        throttle: Throttle { after_bytes: 0, rate_bps: 0, burst_bytes: 0 },
    };
    let inspecting = FirewallConfig { inbound: true, inspection: vec![rule], ..firewall.clone() };
    let npt = Npt::new("2001:db8:a::/64".parse().unwrap(), "2001:db8:c::/64".parse().unwrap()).unwrap();
    let nat64 = Nat64::new(nat.clone(), "2001:db8:b::/96".parse().unwrap(), seed::stream(1, "nat64", "ports"));
    let mut router = Router::new(Routes::new(), Vec::new());
    *router.forwarder_mut() = forwarder();
    vec![
        Box::new(router),
        Box::new(NatBox::new(Nat::new(nat, seed::stream(1, "nat", "ports")), forwarder(), 1)),
        Box::new(NatBox::new(Nat::new(busy, seed::stream(1, "nat", "ports")), forwarder(), 1)),
        Box::new(FirewallBox::new(Firewall::new(firewall), forwarder(), 1)),
        Box::new(FirewallBox::new(Firewall::new(inspecting), forwarder(), 1)),
        Box::new(NptBox::new(npt, forwarder(), 1)),
        // The outside of the other family is inside its prefix.
        Box::new(Nat64Box::new(nat64, forwarder())),
    ]
}

/// A valid packet, from inside or outside.
fn sensible() -> impl Strategy<Value = (usize, Vec<u8>)> {
    (0..2usize, 0..2usize, 0..6usize, 0..3u16, 0..1800usize, 0..4u8).prop_map(
        |(iface, family, kind, port, len, ttl)| {
            let address = |text: &str| text.parse::<IpAddr>().unwrap();
            let (inside, outside) = (address(INSIDE[family]), address(OUTSIDE[family]));
            let seen_inside = if iface == 1 && family == 0 { address(NAT) } else { inside };
            let (from, to) = if iface == 0 { (inside, outside) } else { (outside, seen_inside) };
            let options = IpOptions { ttl, dont_fragment: kind % 2 == 0, ..IpOptions::default() };
            let datagram =
                |a, b| udp(SocketAddr::new(a, 4500 + port), SocketAddr::new(b, 4500), options, &vec![9; len]).unwrap();
            let packet = match kind {
                0 | 1 => datagram(from, to),
                2 => echo(from, to, options, port, 1, &vec![7; len]).unwrap(),
                3 => icmp_error(IcmpError::TooBig { mtu: 600 }, from, &datagram(to, from)).unwrap(),
                _ => {
                    let whole = datagram(from, to);
                    let mut pieces = fragment_ipv4(&whole, 576)
                        .or_else(|| fragment_ipv6(&whole, 576, u32::from(port)))
                        .unwrap_or_else(|| vec![whole]);
                    pieces.swap_remove(usize::from(ttl) % pieces.len())
                }
            };
            (iface, packet)
        },
    )
}

proptest! {
    #[test]
    fn no_packet_breaks_a_box(
        packets in proptest::collection::vec((sensible(), proptest::option::of((any::<usize>(), any::<u8>())), 0..40u64), 1..60)
    ) {
        for mut netbox in boxes() {
            let mut now = Instant::ZERO;
            for ((iface, packet), damage, seconds) in &packets {
                now += Duration::from_secs(*seconds);
                let mut packet = packet.clone();
                if let Some((at, value)) = damage {
                    let at = at % packet.len();
                    packet[at] ^= value;
                }
                netbox.handle_input(now, BoxInput::Packet { iface: *iface, packet });
                let mut sent = 0;
                let wake = loop {
                    match netbox.poll_output() {
                        BoxOutput::Wait(wake) => break wake,
                        BoxOutput::Send { iface, packet } => {
                            prop_assert!(Ip::parse(&packet).is_some());
                            prop_assert!(packet[0] >> 4 == 6 || ipv4_header_is_intact(&packet));
                            let mtu = if iface == 0 { 1500 } else { 1280 };
                            prop_assert!(packet.len() <= mtu);
                            sent += 1;
                        }
                    }
                };
                prop_assert!(sent <= 64);
                if let Some(wake) = wake {
                    prop_assert!(wake > now, "nothing overdue is left");
                }
            }
        }
    }
}
