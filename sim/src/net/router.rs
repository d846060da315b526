//! A router: forwards both families by longest prefix, takes a hop off, and reports failures by ICMP: time exceeded, no
//! route, packet too big (RFC 1812, RFC 4443). It fragments IPv4 packets that allow it.

use std::any::Any;
use std::net::IpAddr;

use cyphonic_core::time::Instant;

use super::{BoxInput, BoxOutput, Forwarder, NetBox, Routes};

/// A router.
#[derive(Debug)]
pub struct Router {
    forwarder: Forwarder,
}

impl Router {
    /// A router with these routes. It answers echo requests to its `addresses` and sends its ICMP errors from the
    /// first of the packet's family; without one it is silent.
    pub fn new(routes: Routes, addresses: Vec<IpAddr>) -> Self {
        Self { forwarder: Forwarder::new(routes, addresses) }
    }

    /// Routes, MTUs, counters.
    pub fn forwarder(&self) -> &Forwarder {
        &self.forwarder
    }

    /// Routes, MTUs, counters, to be changed.
    pub fn forwarder_mut(&mut self) -> &mut Forwarder {
        &mut self.forwarder
    }
}

impl NetBox for Router {
    fn handle_input(&mut self, _now: Instant, input: BoxInput) {
        if let BoxInput::Packet { packet, .. } = input {
            self.forwarder.forward(packet);
        }
    }

    fn poll_output(&mut self) -> BoxOutput {
        self.forwarder.poll().unwrap_or(BoxOutput::Wait(None))
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::net::NetDrop;
    use crate::net::packet::{IcmpError, Ip, IpOptions, Reassembled, Reassembler, echo, parse_icmp_error, udp};

    fn router() -> Router {
        let routes = Routes::new()
            .with("10.0.0.0/8".parse().unwrap(), 0)
            .with("192.0.2.0/24".parse().unwrap(), 1)
            .with("2001:db8:a::/48".parse().unwrap(), 0)
            .with("2001:db8:b::/48".parse().unwrap(), 1);
        let mut router = Router::new(routes, vec!["10.0.0.254".parse().unwrap(), "2001:db8:a::ff".parse().unwrap()]);
        router.forwarder_mut().set_mtu(1, 1280);
        router
    }

    fn pass(router: &mut Router, packet: Vec<u8>) -> Vec<(usize, Vec<u8>)> {
        router.handle_input(Instant::ZERO, BoxInput::Packet { iface: 0, packet });
        std::iter::from_fn(|| match router.poll_output() {
            BoxOutput::Send { iface, packet } => Some((iface, packet)),
            BoxOutput::Wait(None) => None,
            BoxOutput::Wait(Some(_)) => panic!("a router needs no timer"),
        })
        .collect()
    }

    fn v4(options: IpOptions, payload: usize) -> Vec<u8> {
        let (a, b): (SocketAddr, SocketAddr) = ("10.0.0.1:1".parse().unwrap(), "192.0.2.1:2".parse().unwrap());
        udp(a, b, options, &vec![7; payload]).unwrap()
    }

    fn v6(destination: &str, options: IpOptions, payload: usize) -> Vec<u8> {
        let a: SocketAddr = "[2001:db8:a::1]:1".parse().unwrap();
        udp(a, destination.parse().unwrap(), options, &vec![7; payload]).unwrap()
    }

    fn error(sent: &[(usize, Vec<u8>)]) -> (usize, IcmpError) {
        assert_eq!(sent.len(), 1);
        (sent[0].0, parse_icmp_error(&sent[0].1).expect("an ICMP error").error)
    }

    #[test]
    fn packets_of_both_families_go_on_with_one_hop_less() {
        let mut router = router();
        for packet in [v4(IpOptions::default(), 10), v6("[2001:db8:b::1]:2", IpOptions::default(), 10)] {
            let sent = pass(&mut router, packet.clone());
            assert_eq!((sent.len(), sent[0].0), (1, 1));
            let (before, after) = (Ip::parse(&packet).unwrap(), Ip::parse(&sent[0].1).unwrap());
            assert_eq!(after, Ip { ttl: 63, ..before });
        }
        assert_eq!(router.forwarder().forwarded(), 2);
        let mut damaged = v4(IpOptions::default(), 10);
        damaged[8] -= 1;
        assert!(pass(&mut router, damaged).is_empty());
        assert_eq!(router.forwarder().drops().get(NetDrop::BadPacket), 1);
    }

    #[test]
    fn the_last_hop_is_reported_to_the_sender_in_either_family() {
        let options = IpOptions { ttl: 1, ..IpOptions::default() };
        for packet in [v4(options, 10), v6("[2001:db8:b::1]:2", options, 10)] {
            assert_eq!(error(&pass(&mut router(), packet)), (0, IcmpError::TimeExceeded));
        }
    }

    #[test]
    fn an_unknown_destination_is_reported() {
        let mut router = router();
        let packet = v6("[2001:db8:c::1]:2", IpOptions::default(), 10);
        assert_eq!(error(&pass(&mut router, packet)), (0, IcmpError::NoRoute));
        assert_eq!(router.forwarder().drops().get(NetDrop::NoRoute), 1);
    }

    #[test]
    fn too_big_is_reported_unless_ipv4_may_be_cut() {
        let mut router = router();
        let exact = v6("[2001:db8:b::1]:2", IpOptions::default(), 1280 - 48);
        assert_eq!(pass(&mut router, exact)[0].1.len(), 1280);
        let big = v6("[2001:db8:b::1]:2", IpOptions::default(), 1280 - 47);
        assert_eq!(error(&pass(&mut router, big.clone())), (0, IcmpError::TooBig { mtu: 1280 }));
        let stubborn = v4(IpOptions::default(), 1400);
        assert_eq!(error(&pass(&mut router, stubborn)), (0, IcmpError::TooBig { mtu: 1280 }));

        let yielding = v4(IpOptions { dont_fragment: false, ..IpOptions::default() }, 3000);
        let mut reassembler = Reassembler::default();
        let mut last = Reassembled::Waiting;
        for (iface, fragment) in pass(&mut router, yielding) {
            assert!(iface == 1 && fragment.len() <= 1280);
            last = reassembler.push(Instant::ZERO, fragment);
        }
        let Reassembled::Whole { packet, .. } = last else { panic!("{last:?}") };
        assert_eq!(Ip::parse(&packet).unwrap().payload.len(), 3008);

        router.forwarder_mut().set_reports_too_big(false);
        assert!(pass(&mut router, big).is_empty(), "a black hole");
        assert_eq!(router.forwarder().drops().get(NetDrop::TooBig), 3);
    }

    #[test]
    fn the_router_itself_answers_echo_and_nothing_else() {
        let mut router = router();
        let (a, own) = ("10.0.0.1".parse().unwrap(), "10.0.0.254".parse().unwrap());
        let sent = pass(&mut router, echo(a, own, IpOptions::default(), 1, 1, b"x").unwrap());
        assert_eq!(Ip::parse(&sent[0].1).unwrap().source, own);
        let to_port = udp("10.0.0.1:1".parse().unwrap(), "10.0.0.254:9".parse().unwrap(), IpOptions::default(), b"x");
        assert!(pass(&mut router, to_port.unwrap()).is_empty());
        assert_eq!(router.forwarder().drops().get(NetDrop::ForBox), 1);
    }
}
