//! Tables of [`Inner`]; see [`rows`](crate::node::rows) for how they are read. Hosts are `me`, `bob`, `carol`, `dns`
//! (where the node answers) and `outside`.

use std::net::SocketAddr;

use super::*;
use crate::dns::{QueryKind, Rcode};
use crate::node::rows::{Rows, check};
use crate::time::Instant;

struct Case(Inner);

impl Case {
    fn new() -> Self {
        Self(Inner::new(fqdn("me"), Overlay::new("cyphonic.test".parse().unwrap())))
    }
}

fn fqdn(name: &str) -> Fqdn {
    let name = if name.contains('.') { name.to_string() } else { format!("{name}.cyphonic.test") };
    name.parse().unwrap()
}

fn virtual_of(name: &str) -> Virtual {
    let last = match name {
        "dns" => 1,
        "me" => 2,
        "bob" => 10,
        "carol" => 11,
        other => panic!("{other}"),
    };
    Virtual { v4: [198, 18, 0, last].into(), v6: format!("2001:db8:c::{last:x}").parse().unwrap() }
}

fn host(name: &str, v6: bool) -> IpAddr {
    match (name, v6) {
        ("outside", false) => [192, 0, 2, 1].into(),
        ("outside", true) => "2001:db8:ffff::1".parse().unwrap(),
        (name, false) => virtual_of(name).v4.into(),
        (name, true) => virtual_of(name).v6.into(),
    }
}

fn udp(from: &str, to: &str, v6: bool, port: u16, payload: &[u8]) -> Bytes {
    let (from, to) = (SocketAddr::new(host(from, v6), 40_000), SocketAddr::new(host(to, v6), port));
    packet::build_udp(from, to, payload).unwrap().into()
}

/// An IPv4 packet that may be fragmented.
fn without_df(packet: &[u8]) -> Bytes {
    let (mut header, rest) = etherparse::Ipv4Header::from_slice(packet).unwrap();
    header.dont_fragment = false;
    header.header_checksum = header.calc_header_checksum();
    let mut cut = Vec::new();
    header.write(&mut cut).unwrap();
    cut.extend_from_slice(rest);
    cut.into()
}

fn dns_query(name: &str, kind: QueryKind) -> Vec<u8> {
    dns::query(7, &fqdn(name), kind)
}

fn held(name: &str) -> HeldQuery {
    let question = dns::parse(&dns_query(name, QueryKind::A)).unwrap();
    let at = |name, port| SocketAddr::new(host(name, false), port);
    HeldQuery { question: Box::new(question), client: at("me", 40_000), server: at("dns", 53), over_tcp: false }
}

/// The ICMP error in a packet: type and code, whose it is, and about a packet to whom.
fn said(error: &[u8]) -> String {
    let header = InnerHeader::parse(error).unwrap();
    let code = if header.source.is_ipv4() { &error[20..22] } else { &error[40..42] };
    let (Quoted::Of(from, to), true) =
        (packet::quoted(error), header.destination == host("me", header.source.is_ipv6()))
    else {
        panic!("{error:02x?}")
    };
    assert_eq!((from, to), (header.destination, header.source));
    match (header.source.is_ipv4(), code) {
        (true, [3, 4]) | (false, [2, 0]) => "say too big".into(),
        (true, [3, 13]) | (false, [1, 1]) => "say prohibited".into(),
        other => panic!("{other:?}"),
    }
}

impl Rows for Case {
    type Part = Inner;

    fn part(&mut self) -> &mut Inner {
        &mut self.0
    }

    fn ask(&mut self, _now: Instant, words: &[&str]) -> Option<String> {
        let goes = |packet: &[u8]| match self.0.destination(packet) {
            Ok(Destination::Peer(to)) => format!("route {to}"),
            Ok(Destination::Dns) => "dns".into(),
            Err(reason) => format!("drop {}", reason.name()),
        };
        Some(match *words {
            ["garbage"] => goes(b"no packet"),
            ["v4", from, to] => goes(&udp(from, to, false, 9, b"hello")),
            ["v6", from, to] => goes(&udp(from, to, true, 9, b"hello")),
            ["tunnelled", by, from, to] => {
                let addresses = (by != "nobody").then(|| virtual_of(by));
                match self.0.admits(addresses, &udp(from, to, false, 9, b"hello")) {
                    Ok(copies) => format!("hand over {copies}"),
                    Err(reason) => format!("drop {}", reason.name()),
                }
            }
            _ => return None,
        })
    }

    fn input(&mut self, _now: Instant, words: &[&str]) -> InnerInput {
        let too_big = |packet| InnerInput::TooBig { tunnel: TunnelId(3), packet, limit: 1_000 };
        match *words {
            ["registered"] => InnerInput::Registered(virtual_of("me")),
            ["asks", name] => InnerInput::Query(udp("me", "dns", true, 53, &dns_query(name, QueryKind::A))),
            ["asks-ptr", name] => {
                InnerInput::Query(udp("me", "dns", false, 53, &dns_query(name, QueryKind::Other(12))))
            }
            ["asks-another-port"] => InnerInput::Query(udp("me", "dns", false, 9, b"hello")),
            ["asks-garbage"] => InnerInput::Query(udp("me", "dns", false, 53, b"?")),
            ["resolved", name, "failed"] => InnerInput::Resolved(held(name), Answer::Failed),
            ["resolved", name, "unknown"] => InnerInput::Resolved(held(name), Answer::NoSuchName),
            ["resolved", name, "known"] => InnerInput::Resolved(held(name), Answer::Addresses(virtual_of(name))),
            ["named", "nobody"] => InnerInput::Named(held("bob"), None),
            ["named", name] => InnerInput::Named(held("bob"), Some(fqdn(name))),
            ["prohibited", "v4"] => InnerInput::Prohibited(udp("me", "bob", false, 9, b"hello")),
            ["prohibited", "v6"] => InnerInput::Prohibited(udp("me", "bob", true, 9, b"hello")),
            ["prohibited", "error"] => {
                let error = packet::prohibited(&udp("bob", "me", true, 9, b"hello")).unwrap();
                InnerInput::Prohibited(error.into())
            }
            ["too-big", "v4-df"] => too_big(udp("me", "bob", false, 9, &[0; 1_200])),
            ["too-big", "v4"] => too_big(without_df(&udp("me", "bob", false, 9, &[0; 1_200]))),
            ["too-big", "v6"] => too_big(udp("me", "bob", true, 9, &[0; 1_300])),
            ref other => panic!("{other:?}"),
        }
    }

    fn output(&mut self, output: InnerOutput) -> String {
        match output {
            InnerOutput::Resolve { name, .. } => format!("resolve {}", name.short()),
            InnerOutput::NameOf { address, .. } => format!("name of {address}"),
            InnerOutput::Fragment { tunnel, fragment } => format!("fragment t{} {}", tunnel.0, fragment.len()),
            InnerOutput::Dropped(reason) => format!("drop {}", reason.name()),
            InnerOutput::Packet(packet) => match packet::udp(&packet) {
                Some(udp) if udp.source.port() == dns::PORT => match dns::parse_answer(udp.payload).unwrap() {
                    (7, Rcode::NoError, Some(address)) => format!("answer {address}"),
                    (7, code, _) => format!("answer {code:?}"),
                    other => panic!("{other:?}"),
                },
                Some(udp) => format!("hand over {} bytes", udp.payload.len()),
                None => said(&packet),
            },
        }
    }

    fn state(&mut self) -> String {
        String::new()
    }
}

#[test]
fn an_application_reaches_peers_and_the_dns_under_its_own_address_only() {
    check(
        Case::new(),
        "
        0 | v4 me bob      | drop own-source     |
        0 | v4 me dns      | drop own-source     |
        0 | registered     |                     |
        0 | garbage        | drop bad-packet     |
        0 | v4 me bob      | route 198.18.0.10   |
        0 | v6 me bob      | route 2001:db8:c::a |
        0 | v4 bob carol   | drop own-source     |
        0 | v4 me me       | drop not-routable   |
        0 | v4 me outside  | drop not-routable   |
        0 | v6 me outside  | drop not-routable   |
        0 | v4 me dns      | dns                 |
        0 | v6 me dns      | dns                 |
        ",
    );
}

#[test]
fn the_dns_answers_for_itself_and_asks_the_routes_for_peers() {
    check(
        Case::new(),
        "
        0 | registered                          |                         |
        0 | asks me                             | answer 198.18.0.2       |
        0 | asks bob                            | resolve bob             |
        0 | asks www.example.org                | answer Refused          |
        0 | asks-garbage                        | drop bad-dns            |
        0 | asks-another-port                   | drop not-routable       |
        0 | asks-ptr 10.0.18.198.in-addr.arpa   | name of 198.18.0.10     |
        0 | asks-ptr 2.0.18.198.in-addr.arpa    | answer NoError          |
        0 | asks-ptr 1.2.0.192.in-addr.arpa     | answer Refused          |
        0 | resolved bob known                  | answer 198.18.0.10      |
        0 | resolved bob unknown                | answer NameError        |
        0 | resolved bob failed                 | answer NoError          |
        0 | named bob                           | answer NoError          |
        0 | named nobody                        | answer NameError        |
        ",
    );
}

#[test]
fn a_peer_speaks_for_itself_only_and_only_to_this_node() {
    check(
        Case::new(),
        "
        0 | tunnelled bob bob me      | drop inner-destination |
        0 | registered                |                        |
        0 | tunnelled bob bob me      | hand over 1            |
        0 | tunnelled bob carol me    | drop inner-source      |
        0 | tunnelled bob bob carol   | drop inner-destination |
        0 | tunnelled bob bob outside | drop inner-destination |
        0 | tunnelled nobody bob me   | drop inner-source      |
        ",
    );
}

#[test]
fn a_packet_that_does_not_fit_is_cut_where_ipv4_allows_it_and_else_its_sender_is_told() {
    check(
        Case::new(),
        "
        0 | registered    |                                    |
        0 | too-big v4    | fragment t3 996; fragment t3 252   |
        0 | too-big v4-df | say too big; drop too-big          |
        0 | too-big v6    | say too big; drop too-big          |
        ",
    );
}

#[test]
fn an_application_is_told_at_once_that_the_rules_do_not_permit_its_packet() {
    check(
        Case::new(),
        "
        0 | registered       |                |
        0 | prohibited v4    | say prohibited |
        0 | prohibited v6    | say prohibited |
        0 | prohibited error |                |
        ",
    );
}
