//! The numbered requirements on NATs of RFC 4787 (UDP), RFC 5382 (TCP) and RFC 5508 (ICMP), each as a black-box test: a
//! conforming box passes, and boxes that differ in one setting fail the same test.

mod bench;

use std::time::Duration;

use bench::{Bench, Proto};

use super::*;
use crate::net::packet::IcmpError;

/// A box to be checked.
struct Setup {
    config: NatConfig,
    reports_too_big: bool,
}

/// How the requirement can be violated.
enum Violation {
    /// By boxes with these settings.
    Boxes(Vec<Setup>),
    /// By no box; why.
    Impossible(&'static str),
}

struct Requirement {
    rfc: u16,
    number: &'static str,
    text: &'static str,
    conforming: Setup,
    violating: Violation,
    check: fn(&mut Bench) -> Result<(), String>,
}

/// Requirements that cannot be tested on a box here, and why.
const NOT_APPLICABLE: &[(u16, &str, &str)] = &[
    (4787, "REQ-7", "external addresses come from the scenario, which refuses overlapping prefixes; no DHCP outside"),
    (4787, "REQ-10", "there is no application layer gateway to turn off: payloads are never touched"),
    (5382, "REQ-6", "there is no application layer gateway to turn off: payloads are never touched"),
    (5508, "REQ-9", "permits a policy; there is none"),
    (5508, "REQ-11", "permits dropping other ICMP messages, which the box does"),
];

#[test]
fn every_requirement_is_kept_by_a_conforming_box_and_seen_to_be_broken_by_the_others() {
    let mut seen = std::collections::BTreeSet::new();
    for Requirement { rfc, number, text, conforming, violating, check } in requirements() {
        let context = format!("RFC {rfc}, {number}: {text}");
        check(&mut Bench::new(&conforming)).unwrap_or_else(|why| panic!("{context}\nconforming box: {why}"));
        match violating {
            Violation::Boxes(boxes) => {
                assert!(!boxes.is_empty(), "{context}");
                for setup in boxes {
                    let verdict = check(&mut Bench::new(&setup));
                    assert!(verdict.is_err(), "{context}\nnot seen to be broken by {:?}", setup.config);
                }
            }
            Violation::Impossible(why) => assert!(!why.is_empty(), "{context}"),
        }
        seen.insert((rfc, number.trim_end_matches(char::is_lowercase)));
    }
    seen.extend(NOT_APPLICABLE.iter().map(|&(rfc, number, _)| (rfc, number)));
    for (rfc, last) in [(4787, 14), (5382, 10), (5508, 11)] {
        for number in 1..=last {
            let number = format!("REQ-{number}");
            assert!(seen.contains(&(rfc, number.as_str())), "RFC {rfc}, {number} is neither checked nor excused");
        }
    }
}

/// The default box, with one change.
fn but(change: impl FnOnce(&mut NatConfig)) -> Setup {
    let mut config = NatConfig::new("203.0.113.1".parse().unwrap());
    change(&mut config);
    Setup { config, reports_too_big: true }
}

fn one(setup: Setup) -> Violation {
    Violation::Boxes(vec![setup])
}

const SYMMETRIC: Dependence = Dependence::AddressAndPort;

fn udp_requirements() -> Vec<Requirement> {
    let rule = |number, text, conforming, violating, check| Requirement {
        rfc: 4787,
        number,
        text,
        conforming,
        violating,
        check,
    };
    let pool =
        |c: &mut NatConfig| c.external.extend(["203.0.113.2", "203.0.113.3"].map(|a| a.parse::<IpAddr>().unwrap()));
    vec![
        rule(
            "REQ-1",
            "mapping is endpoint-independent",
            but(|_| {}),
            Violation::Boxes(vec![but(|c| c.mapping = SYMMETRIC), but(|c| c.mapping = Dependence::Address)]),
            |b| b.mapping_is_independent(Proto::Udp),
        ),
        rule(
            "REQ-2",
            "address pooling is paired",
            but(|c| pool(c)),
            one(but(|c| {
                pool(c);
                c.pooling = Pooling::Arbitrary;
            })),
            Bench::pooling_is_paired,
        ),
        rule(
            "REQ-3",
            "ports are not overloaded",
            but(|_| {}),
            one(but(|c| c.allocation = PortChoice::Overloading)),
            |b| b.ports_are_not_shared(Proto::Udp),
        ),
        rule(
            "REQ-3a",
            "a well-known port is mapped to a well-known one, and others to others",
            but(|c| c.likeness.range = true),
            Violation::Boxes(vec![but(|_| {}), but(|c| c.allocation = PortChoice::Random)]),
            |b| b.ports_are_alike(|port| port < 1024),
        ),
        rule(
            "REQ-4",
            "port parity is preserved",
            but(|c| c.likeness.parity = true),
            Violation::Boxes(vec![but(|_| {}), but(|c| c.allocation = PortChoice::Random)]),
            |b| b.ports_are_alike(|port| port % 2 == 0),
        ),
        rule(
            "REQ-5",
            "a mapping lives for at least two minutes",
            but(|_| {}),
            Violation::Boxes(vec![
                but(|c| c.times.idle.udp = Duration::from_secs(119)),
                but(|c| c.times.lifetime = Some(Duration::from_secs(90))),
            ]),
            |b| b.outlives(Proto::Udp, 120),
        ),
        rule(
            "REQ-5c",
            "a mapping lives for five minutes or more by default (recommended)",
            but(|c| c.times.idle.udp = Duration::from_secs(300)),
            one(but(|_| {})),
            |b| b.outlives(Proto::Udp, 300),
        ),
        rule(
            "REQ-6",
            "packets from inside refresh a mapping",
            but(|_| {}),
            Violation::Boxes(vec![
                but(|c| c.times.refresh = Refresh::Inbound),
                but(|c| c.times.lifetime = Some(Duration::from_secs(130))),
            ]),
            Bench::outbound_refreshes,
        ),
        rule(
            "REQ-8",
            "filtering is endpoint-independent or address-dependent",
            but(|c| c.filtering = Dependence::Address),
            one(but(|_| {})),
            |b| b.other_ports_of_a_host_may_answer(Proto::Udp),
        ),
        rule("REQ-9", "hairpinning works", but(|c| c.hairpin = Hairpin::ExternalSource), one(but(|_| {})), |b| {
            b.hairpin(Proto::Udp).map(|_| ())
        }),
        rule(
            "REQ-9a",
            "hairpinned packets have an external source",
            but(|c| c.hairpin = Hairpin::ExternalSource),
            Violation::Boxes(vec![but(|c| c.hairpin = Hairpin::InternalSource), but(|_| {})]),
            |b| b.hairpin_source_is_external(Proto::Udp),
        ),
        rule(
            "REQ-11",
            "translation and filtering do not change over time",
            but(|_| {}),
            one(but(|c| c.times.flush = Some(Duration::from_secs(600)))),
            Bench::behaviour_stays,
        ),
        rule(
            "REQ-12",
            "no ICMP message ends a mapping",
            but(|_| {}),
            one(but(|c| c.icmp_errors = IcmpErrors::EndMapping)),
            |b| b.errors_end_nothing(Proto::Udp),
        ),
        rule(
            "REQ-12b",
            "ICMP destination unreachable is carried from any source (12a)",
            but(|_| {}),
            one(but(|c| c.icmp_errors = IcmpErrors::Dropped)),
            |b| b.errors_come_back(Proto::Udp, IcmpError::PortUnreachable),
        ),
        rule(
            "REQ-13",
            "a packet too big that may not be fragmented is reported",
            but(|_| {}),
            one(Setup { reports_too_big: false, ..but(|_| {}) }),
            Bench::too_big_is_reported,
        ),
        rule(
            "REQ-13a",
            "a packet too big that may be fragmented is, in order",
            but(|_| {}),
            Violation::Impossible("every forwarding box fragments"),
            Bench::fragments_leave_in_order,
        ),
        rule(
            "REQ-14",
            "fragments are received in any order",
            but(|_| {}),
            one(but(|c| c.fragments = false)),
            Bench::fragments_come_in_any_order,
        ),
        rule(
            "REQ-14a",
            "nobody fills the memory with fragments",
            but(|_| {}),
            Violation::Impossible("every reassembler is bounded"),
            Bench::fragments_are_bounded,
        ),
    ]
}

fn tcp_requirements() -> Vec<Requirement> {
    let rule = |number, text, conforming, violating, check| Requirement {
        rfc: 5382,
        number,
        text,
        conforming,
        violating,
        check,
    };
    let open = |c: &mut NatConfig| c.filtering = Dependence::Endpoint;
    vec![
        rule("REQ-1", "mapping is endpoint-independent", but(|_| {}), one(but(|c| c.mapping = SYMMETRIC)), |b| {
            b.mapping_is_independent(Proto::Tcp)
        }),
        rule(
            "REQ-2",
            "connections initiated outside work where the filter permits them",
            but(|c| {
                open(c);
                c.mapping = SYMMETRIC;
                c.reuses_inbound = true;
            }),
            one(but(|c| {
                open(c);
                c.mapping = SYMMETRIC;
            })),
            Bench::connections_from_outside_work,
        ),
        rule(
            "REQ-2a",
            "simultaneous open works",
            but(|_| {}),
            one(but(|c| c.times.idle.tcp_transitory = Duration::from_millis(10))),
            Bench::simultaneous_open_works,
        ),
        rule("REQ-3", "filtering is endpoint-independent or address-dependent", but(open), one(but(|_| {})), |b| {
            b.other_ports_of_a_host_may_answer(Proto::Tcp)
        }),
        rule(
            "REQ-4",
            "an unsolicited SYN is not answered for six seconds",
            but(|_| {}),
            one(but(|c| c.answers.unsolicited = true)),
            Bench::unsolicited_syn_is_not_answered,
        ),
        rule(
            "REQ-5",
            "an established connection is kept for 2 h 4 min",
            but(|_| {}),
            Violation::Boxes(vec![
                but(|c| c.times.idle.tcp_established = Duration::from_secs(7439)),
                but(|c| c.times.lifetime = Some(Duration::from_secs(3600))),
            ]),
            |b| b.connection_is_kept(true, 7440),
        ),
        rule(
            "REQ-5",
            "a connection not yet established is kept for 4 min",
            but(|_| {}),
            one(but(|c| c.times.idle.tcp_transitory = Duration::from_secs(239))),
            |b| b.connection_is_kept(false, 240),
        ),
        rule(
            "REQ-7",
            "ports are not overloaded",
            but(|_| {}),
            one(but(|c| c.allocation = PortChoice::Overloading)),
            |b| b.ports_are_not_shared(Proto::Tcp),
        ),
        rule(
            "REQ-8",
            "hairpinning works, with an external source",
            but(|c| c.hairpin = Hairpin::ExternalSource),
            Violation::Boxes(vec![but(|_| {}), but(|c| c.hairpin = Hairpin::InternalSource)]),
            |b| b.hairpin_source_is_external(Proto::Tcp),
        ),
        rule(
            "REQ-9",
            "ICMP destination unreachable is translated",
            but(|_| {}),
            one(but(|c| c.icmp_errors = IcmpErrors::Dropped)),
            |b| b.errors_come_back(Proto::Tcp, IcmpError::AddressUnreachable),
        ),
        rule(
            "REQ-10",
            "no ICMP message ends a mapping or connection",
            but(|_| {}),
            one(but(|c| c.icmp_errors = IcmpErrors::EndMapping)),
            |b| b.errors_end_nothing(Proto::Tcp),
        ),
    ]
}

fn icmp_requirements() -> Vec<Requirement> {
    let rule = |number, text, conforming, violating, check| Requirement {
        rfc: 5508,
        number,
        text,
        conforming,
        violating,
        check,
    };
    vec![
        rule(
            "REQ-1",
            "queries go out and responses come back",
            but(|_| {}),
            one(but(|c| c.max_sessions_per_host = 0)),
            Bench::queries_are_answered,
        ),
        rule(
            "REQ-1a",
            "query identifiers are mapped independently of the external host",
            but(|_| {}),
            one(but(|c| c.mapping = SYMMETRIC)),
            |b| b.mapping_is_independent(Proto::Echo),
        ),
        rule(
            "REQ-2",
            "a query session lives for at least 60 s",
            but(|_| {}),
            one(but(|c| c.times.idle.icmp = Duration::from_secs(59))),
            |b| b.outlives(Proto::Echo, 60),
        ),
        rule(
            "REQ-3",
            "an error with a wrong checksum, its own or that of the header it quotes (3a), is dropped",
            but(|_| {}),
            Violation::Impossible("the box always checks"),
            Bench::damaged_errors_are_dropped,
        ),
        rule(
            "REQ-4",
            "an error from outside is carried to whom it concerns, in his own terms, and others are dropped",
            but(|_| {}),
            one(but(|c| c.icmp_errors = IcmpErrors::Dropped)),
            |b| b.errors_come_back(Proto::Udp, IcmpError::Other { kind: 3, code: 9 }),
        ),
        rule(
            "REQ-5",
            "an error from inside is carried to whom it concerns, in his own terms, from an external address",
            but(|_| {}),
            one(but(|c| c.icmp_errors = IcmpErrors::Dropped)),
            Bench::errors_go_out,
        ),
        rule(
            "REQ-6",
            "an error about a query neither refreshes nor deletes its session",
            but(|_| {}),
            one(but(|c| c.icmp_errors = IcmpErrors::EndMapping)),
            |b| b.errors_end_nothing(Proto::Echo),
        ),
        rule(
            "REQ-7",
            "hairpinned errors are carried",
            but(|c| c.hairpin = Hairpin::ExternalSource),
            one(but(|_| {})),
            Bench::hairpinned_errors_are_carried,
        ),
        rule(
            "REQ-8",
            "where there is no room for a session, its sender is told",
            but(|c| c.max_sessions = 1),
            one(but(|c| {
                c.max_sessions = 1;
                c.answers.full = false;
            })),
            Bench::refusals_for_want_of_room_are_told,
        ),
        rule(
            "REQ-10",
            "time exceeded is carried (10a)",
            but(|_| {}),
            one(but(|c| c.icmp_errors = IcmpErrors::Dropped)),
            |b| b.errors_come_back(Proto::Udp, IcmpError::TimeExceeded),
        ),
    ]
}

fn requirements() -> Vec<Requirement> {
    [udp_requirements(), tcp_requirements(), icmp_requirements()].into_iter().flatten().collect()
}
