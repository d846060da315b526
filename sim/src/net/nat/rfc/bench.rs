//! A box between two wires, and the tests of the requirements on it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cyphonic_core::time::Instant;
use etherparse::{PacketBuilder, TcpHeader};

use super::super::{Nat, NatBox};
use super::Setup;
use crate::net::packet::{
    IcmpError, Ip, IpOptions, Reassembled, Reassembler, Transport, echo, echo_reply, fragment_ipv4, icmp_error,
    parse_icmp_error, protocol, udp,
};
use crate::net::{BoxInput, BoxOutput, Forwarder, NetBox, NetDrop, Routes, seed};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Proto {
    Udp,
    Tcp,
    Echo,
}

const SYN: u8 = 2;
const ACK: u8 = 16;
const HOST: &str = "10.0.0.1:5000";
const SERVER: &str = "198.51.100.1:80";
const ROUTER: &str = "192.0.2.7";

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn tcp(from: SocketAddr, to: SocketAddr, flags: u8) -> Vec<u8> {
    let (IpAddr::V4(s), IpAddr::V4(d)) = (from.ip(), to.ip()) else { unreachable!() };
    let mut header = TcpHeader::new(from.port(), to.port(), 1, 1000);
    (header.syn, header.ack) = (flags & SYN != 0, flags & ACK != 0);
    let mut packet = Vec::new();
    PacketBuilder::ipv4(s.octets(), d.octets(), 64).tcp_header(header).write(&mut packet, b"").unwrap();
    packet
}

/// The first packet of a conversation.
fn opening(proto: Proto, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    match proto {
        Proto::Udp => udp(from, to, IpOptions::default(), b"hello").unwrap(),
        Proto::Tcp => tcp(from, to, SYN),
        Proto::Echo => echo(from.ip(), to.ip(), IpOptions::default(), from.port(), 1, b"hello").unwrap(),
    }
}

/// A packet in answer to one from `to`.
fn answer(proto: Proto, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    match proto {
        Proto::Udp => opening(proto, from, to),
        Proto::Tcp => tcp(from, to, SYN | ACK),
        Proto::Echo => echo_reply(&opening(proto, to, from)).unwrap(),
    }
}

/// Source and destination; an echo identifier is the port of both.
fn ends(packet: &[u8]) -> (SocketAddr, SocketAddr) {
    let ip = Ip::parse(packet).expect("the box sends whole packets");
    let (s, d) = match ip.transport() {
        Some(Transport::Udp { source, destination } | Transport::Tcp { source, destination, .. }) => {
            (source, destination)
        }
        Some(Transport::Echo { id, .. }) => (id, id),
        _ => (0, 0),
    };
    (SocketAddr::new(ip.source, s), SocketAddr::new(ip.destination, d))
}

fn expect(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

/// A box between inside, interface 0, and outside, interface 1.
pub(super) struct Bench {
    nat: NatBox,
    now: Instant,
}

impl Bench {
    pub(super) fn new(setup: &Setup) -> Self {
        let routes = Routes::new().with("10.0.0.0/24".parse().unwrap(), 0).with("0.0.0.0/0".parse().unwrap(), 1);
        let mut forwarder = Forwarder::new(routes, vec!["10.0.0.254".parse().unwrap()]);
        forwarder.set_mtu(0, 1500);
        forwarder.set_mtu(1, 1400);
        forwarder.set_reports_too_big(setup.reports_too_big);
        let nat = Nat::new(setup.config.clone(), seed::stream(1, "nat", "rfc"));
        Self { nat: NatBox::new(nat, forwarder, 1), now: Instant::ZERO }
    }

    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn pass(&mut self, iface: usize, packet: Vec<u8>) -> Vec<(usize, Vec<u8>)> {
        self.nat.handle_input(self.now, BoxInput::Packet { iface, packet });
        std::iter::from_fn(|| match self.nat.poll_output() {
            BoxOutput::Send { iface, packet } => Some((iface, packet)),
            BoxOutput::Wait(_) => None,
        })
        .collect()
    }

    /// The one packet that comes out of that interface.
    fn through(&mut self, from: usize, to: usize, packet: Vec<u8>) -> Option<Vec<u8>> {
        let sent = self.pass(from, packet);
        assert!(sent.len() <= 1);
        sent.into_iter().find(|&(iface, _)| iface == to).map(|(_, packet)| packet)
    }

    /// The external address and port of a sender.
    fn open(&mut self, proto: Proto, from: &str, to: &str) -> Result<SocketAddr, String> {
        let sent = self.through(0, 1, opening(proto, socket(from), socket(to)));
        sent.map(|packet| ends(&packet).0).ok_or_else(|| format!("nothing from {from} to {to} comes out"))
    }

    /// The inside address and port that gets an answer.
    fn reply(&mut self, proto: Proto, from: &str, to: SocketAddr) -> Result<SocketAddr, String> {
        let got = self.through(1, 0, answer(proto, socket(from), to));
        got.map(|packet| ends(&packet).1).ok_or_else(|| format!("nothing from {from} to {to} gets in"))
    }

    pub(super) fn mapping_is_independent(&mut self, proto: Proto) -> Result<(), String> {
        let first = self.open(proto, HOST, SERVER)?;
        for other in ["198.51.100.1:81", "198.51.100.2:80"] {
            // An echo has no port, so there only the remote address differs.
            let seen = self.open(proto, HOST, other)?;
            expect(seen == first, &format!("{HOST} is {first} to {SERVER} and {seen} to {other}"))?;
        }
        Ok(())
    }

    pub(super) fn pooling_is_paired(&mut self) -> Result<(), String> {
        let mut used = std::collections::BTreeSet::new();
        for host in 1..=6 {
            let first = self.open(Proto::Udp, &format!("10.0.0.{host}:1024"), SERVER)?;
            used.insert(first.ip());
            for port in 1025..1035 {
                let seen = self.open(Proto::Udp, &format!("10.0.0.{host}:{port}"), SERVER)?;
                expect(seen.ip() == first.ip(), "two sockets of a host have two addresses")?;
            }
        }
        expect(used.len() == 3, "not every address is used")
    }

    pub(super) fn ports_are_not_shared(&mut self, proto: Proto) -> Result<(), String> {
        let first = self.open(proto, HOST, SERVER)?;
        let second = self.open(proto, "10.0.0.2:5000", "198.51.100.2:80")?;
        expect(first != second, "two hosts share an external port")
    }

    pub(super) fn ports_are_alike(&mut self, class: fn(u16) -> bool) -> Result<(), String> {
        for host in 1..=4 {
            for port in [501, 500, 5000, 5002] {
                let seen = self.open(Proto::Udp, &format!("10.0.0.{host}:{port}"), SERVER)?.port();
                expect(class(seen) == class(port), &format!("{port} is mapped to {seen}"))?;
            }
        }
        Ok(())
    }

    /// Whether an answer still comes just before `seconds` are over.
    pub(super) fn outlives(&mut self, proto: Proto, seconds: u64) -> Result<(), String> {
        let seen = self.open(proto, HOST, SERVER)?;
        self.wait(seconds * 1000 - 1);
        self.reply(proto, SERVER, seen).map(|_| ())
    }

    pub(super) fn outbound_refreshes(&mut self) -> Result<(), String> {
        let seen = self.open(Proto::Udp, HOST, SERVER)?;
        self.wait(100_000);
        let again = self.open(Proto::Udp, HOST, SERVER)?;
        expect(again == seen, "another port")?;
        self.wait(50_000);
        self.reply(Proto::Udp, SERVER, seen).map(|_| ())
    }

    pub(super) fn other_ports_of_a_host_may_answer(&mut self, proto: Proto) -> Result<(), String> {
        let seen = self.open(proto, HOST, SERVER)?;
        self.reply(proto, "198.51.100.1:81", seen).map(|_| ())
    }

    /// Sends from one host to the mapping of another, and gives the source address that arrives.
    pub(super) fn hairpin(&mut self, proto: Proto) -> Result<SocketAddr, String> {
        let target = self.open(proto, "10.0.0.2:6000", SERVER)?;
        // The called host has to send to the caller first, because filters apply to hairpinned packets too.
        let caller = self.open(proto, HOST, SERVER)?;
        self.pass(0, opening(proto, socket("10.0.0.2:6000"), caller));
        let got = self.through(0, 0, opening(proto, socket(HOST), target)).ok_or("nothing is turned back")?;
        let (source, destination) = ends(&got);
        expect(destination == socket("10.0.0.2:6000"), "turned to somebody else")?;
        Ok(source)
    }

    pub(super) fn hairpin_source_is_external(&mut self, proto: Proto) -> Result<(), String> {
        let source = self.hairpin(proto)?;
        let seen = self.open(proto, HOST, SERVER)?;
        expect(source == seen, &format!("it comes from {source}, and {seen} is who he is outside"))
    }

    pub(super) fn behaviour_stays(&mut self) -> Result<(), String> {
        let first = self.open(Proto::Udp, HOST, SERVER)?;
        for round in 0..100 {
            self.wait(60_000);
            // More hosts send, from the same inside port.
            self.open(Proto::Udp, &format!("10.0.0.{}:5000", round + 2), SERVER)?;
            self.reply(Proto::Udp, SERVER, first)?;
            expect(self.reply(Proto::Udp, "198.51.100.9:9", first).is_err(), "a stranger gets in")?;
            expect(self.open(Proto::Udp, HOST, SERVER)? == first, "the mapping is another")?;
        }
        Ok(())
    }

    /// An ICMP error about a packet from `HOST` to `SERVER`.
    fn complain(&mut self, proto: Proto, error: IcmpError) -> Result<(Vec<u8>, Option<Vec<u8>>), String> {
        let sent = opening(proto, socket(HOST), socket(SERVER));
        let outside = self.through(0, 1, sent.clone()).ok_or("nothing comes out")?;
        let report = icmp_error(error, ROUTER.parse().unwrap(), &outside).unwrap();
        Ok((sent, self.through(1, 0, report)))
    }

    pub(super) fn errors_come_back(&mut self, proto: Proto, error: IcmpError) -> Result<(), String> {
        let (mut sent, got) = self.complain(proto, error)?;
        let got = got.ok_or("the error does not get in")?;
        let quote = parse_icmp_error(&got).ok_or("the error is damaged")?;
        expect(quote.error == error, "type or code are others")?;
        // The box took one hop off before the router got the packet.
        assert!(crate::net::packet::decrement_ttl(&mut sent));
        expect(quote.packet == &sent[..quote.packet.len()], "it quotes what was never sent so")?;
        let (source, destination) = ends(&got);
        expect((source.ip(), destination.ip()) == (ROUTER.parse().unwrap(), socket(HOST).ip()), "wrong ends")?;
        let stranger = opening(proto, socket("203.0.113.1:7777"), socket(SERVER));
        let report = icmp_error(error, ROUTER.parse().unwrap(), &stranger).unwrap();
        expect(self.pass(1, report).is_empty(), "an error about nothing gets in")
    }

    pub(super) fn errors_end_nothing(&mut self, proto: Proto) -> Result<(), String> {
        let seen = self.open(proto, HOST, SERVER)?;
        self.wait(1_000);
        for error in [IcmpError::PortUnreachable, IcmpError::TimeExceeded, IcmpError::Prohibited] {
            self.complain(proto, error)?;
            self.reply(proto, SERVER, seen)?;
        }
        Ok(())
    }

    pub(super) fn too_big_is_reported(&mut self) -> Result<(), String> {
        let big = udp(socket(HOST), socket(SERVER), IpOptions::default(), &[0; 1400]).unwrap();
        let report = self.through(0, 0, big).ok_or("no report")?;
        let error = parse_icmp_error(&report).map(|quote| quote.error);
        expect(error == Some(IcmpError::TooBig { mtu: 1400 }), "another report")
    }

    fn yielding(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let options = IpOptions { dont_fragment: false, identification: 9, ..IpOptions::default() };
        udp(from, to, options, &[7; 4000]).unwrap()
    }

    pub(super) fn fragments_leave_in_order(&mut self) -> Result<(), String> {
        let sent = self.pass(0, Self::yielding(socket(HOST), socket(SERVER)));
        let offsets: Vec<_> =
            sent.iter().filter_map(|(_, packet)| Ip::parse(packet)?.fragment).map(|fragment| fragment.offset).collect();
        expect(offsets.len() == 3 && offsets.is_sorted(), "no fragments, or not in order")
    }

    pub(super) fn fragments_come_in_any_order(&mut self) -> Result<(), String> {
        let seen = self.open(Proto::Udp, HOST, SERVER)?;
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let fragments = fragment_ipv4(&Self::yielding(socket(SERVER), seen), 1400).unwrap();
            let mut got = Vec::new();
            for place in order {
                got.extend(self.pass(1, fragments[place].clone()));
            }
            let mut whole = Reassembled::Waiting;
            let mut reassembler = Reassembler::default();
            for (_, packet) in got {
                whole = reassembler.push(self.now, packet);
            }
            let Reassembled::Whole { packet, .. } = whole else { return Err(format!("lost in the order {order:?}")) };
            expect(ends(&packet).1 == socket(HOST), "somebody else got it")?;
        }
        Ok(())
    }

    pub(super) fn fragments_are_bounded(&mut self) -> Result<(), String> {
        for id in 0..1000 {
            let options = IpOptions { dont_fragment: false, identification: id, ..IpOptions::default() };
            let whole = udp(socket(SERVER), socket("203.0.113.1:5000"), options, &[7; 4000]).unwrap();
            self.pass(1, fragment_ipv4(&whole, 1400).unwrap().remove(0));
        }
        let refused = self.nat.forwarder().drops().get(NetDrop::BadFragment);
        expect(refused > 900, "a thousand unfinished packets are kept")
    }

    pub(super) fn connections_from_outside_work(&mut self) -> Result<(), String> {
        let seen = self.open(Proto::Tcp, HOST, SERVER)?;
        let peer = socket("198.51.100.7:900");
        let syn = self.through(1, 0, tcp(peer, seen, SYN)).ok_or("the SYN does not get in")?;
        expect(ends(&syn).1 == socket(HOST), "somebody else got it")?;
        let back = self.through(0, 1, tcp(socket(HOST), peer, SYN | ACK)).ok_or("no SYN-ACK")?;
        expect(ends(&back).0 == seen, "the SYN-ACK comes from where no SYN was sent to")?;
        self.through(1, 0, tcp(peer, seen, ACK)).map(|_| ()).ok_or_else(|| "the ACK does not get in".to_owned())
    }

    pub(super) fn simultaneous_open_works(&mut self) -> Result<(), String> {
        let seen = self.open(Proto::Tcp, HOST, SERVER)?;
        for (inward, flags) in [(true, SYN), (false, SYN | ACK), (true, SYN | ACK), (false, ACK), (true, ACK)] {
            self.wait(20);
            let passed = if inward {
                self.through(1, 0, tcp(socket(SERVER), seen, flags))
            } else {
                self.through(0, 1, tcp(socket(HOST), socket(SERVER), flags))
            };
            passed.ok_or("a segment is lost")?;
        }
        Ok(())
    }

    pub(super) fn unsolicited_syn_is_not_answered(&mut self) -> Result<(), String> {
        let sent = self.pass(1, tcp(socket(SERVER), socket("203.0.113.1:5000"), SYN));
        expect(sent.is_empty(), "it is answered")?;
        self.wait(5_000);
        self.open(Proto::Tcp, HOST, SERVER).map(|_| ())
    }

    pub(super) fn connection_is_kept(&mut self, established: bool, seconds: u64) -> Result<(), String> {
        let seen = self.open(Proto::Tcp, HOST, SERVER)?;
        if established {
            self.reply(Proto::Tcp, SERVER, seen)?;
            self.through(0, 1, tcp(socket(HOST), socket(SERVER), ACK)).ok_or("the ACK does not get out")?;
        }
        self.wait(seconds * 1000 - 1);
        self.reply(Proto::Tcp, SERVER, seen).map(|_| ())
    }

    pub(super) fn queries_are_answered(&mut self) -> Result<(), String> {
        for host in ["10.0.0.1:7", "10.0.0.2:7"] {
            let seen = self.open(Proto::Echo, host, SERVER)?;
            expect(self.reply(Proto::Echo, SERVER, seen)? == socket(host), "somebody else is answered")?;
        }
        Ok(())
    }

    pub(super) fn damaged_errors_are_dropped(&mut self) -> Result<(), String> {
        let sent = self.through(0, 1, opening(Proto::Udp, socket(HOST), socket(SERVER))).ok_or("nothing comes out")?;
        let report = |packet: &[u8]| icmp_error(IcmpError::NoRoute, ROUTER.parse().unwrap(), packet).unwrap();
        let mut damaged = report(&sent);
        *damaged.last_mut().unwrap() ^= 1;
        expect(self.pass(1, damaged).is_empty(), "a wrong checksum passes")?;
        let mut quoted = sent.clone();
        quoted[1] ^= 1;
        expect(self.pass(1, report(&quoted)).is_empty(), "a wrong quoted header passes")?;
        expect(self.pass(1, report(&sent)).len() == 1, "a right one does not pass")
    }

    pub(super) fn errors_go_out(&mut self) -> Result<(), String> {
        let seen = self.open(Proto::Udp, HOST, SERVER)?;
        let packet = answer(Proto::Udp, socket(SERVER), seen);
        let inside = self.through(1, 0, packet.clone()).ok_or("nothing gets in")?;
        let error = IcmpError::PortUnreachable;
        let got = self.through(0, 1, icmp_error(error, socket(HOST).ip(), &inside).unwrap()).ok_or("no error")?;
        let quote = parse_icmp_error(&got).ok_or("the error is damaged")?;
        expect(quote.error == error && ends(quote.packet) == ends(&packet), "in other terms")?;
        expect(ends(&got).0.ip() == seen.ip(), "from an inside address")?;
        let other = opening(Proto::Udp, socket(SERVER), socket("10.0.0.1:5001"));
        let stray = icmp_error(error, socket(HOST).ip(), &other).unwrap();
        expect(self.pass(0, stray).is_empty(), "an error about nothing gets out")
    }

    pub(super) fn hairpinned_errors_are_carried(&mut self) -> Result<(), String> {
        let (a, b) = (socket(HOST), socket("10.0.0.2:6000"));
        let caller = self.open(Proto::Udp, HOST, SERVER)?;
        let target = self.open(Proto::Udp, "10.0.0.2:6000", SERVER)?;
        self.pass(0, opening(Proto::Udp, b, caller));
        let got = self.through(0, 0, opening(Proto::Udp, a, target)).ok_or("nothing is turned back")?;
        let report = icmp_error(IcmpError::PortUnreachable, b.ip(), &got).unwrap();
        let back = self.through(0, 0, report).ok_or("the error is lost")?;
        let quote = parse_icmp_error(&back).ok_or("the error is damaged")?;
        expect(ends(&back).1.ip() == a.ip(), "not to the sender")?;
        expect(ends(quote.packet) == (a, target), "in other terms")
    }

    pub(super) fn refusals_for_want_of_room_are_told(&mut self) -> Result<(), String> {
        self.open(Proto::Udp, HOST, SERVER)?;
        let report = self.through(0, 0, opening(Proto::Udp, socket("10.0.0.2:1"), socket(SERVER)));
        let report = report.ok_or("dropped in silence")?;
        let error = parse_icmp_error(&report).map(|quote| quote.error);
        expect(error == Some(IcmpError::Prohibited) && Ip::parse(&report).unwrap().protocol == protocol::ICMP, "other")
    }
}
