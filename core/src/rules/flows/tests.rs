use std::time::Duration;

use etherparse::PacketBuilder;

use super::*;
use crate::rules::Service;

const OUR: [u8; 4] = [198, 18, 0, 2];
const THEIR: [u8; 4] = [198, 18, 0, 3];

fn permission(text: &str) -> Permission {
    match text {
        "everything" => Permission::Everything,
        "" => Permission::Nothing,
        text => Permission::of(text.split(' ').map(|one| one.parse::<Service>().unwrap()).collect()),
    }
}

fn permissions(out: &str, back: &str) -> Permissions {
    Permissions { serial: 1, out: permission(out), back: permission(back) }
}

fn ends(is_ours: bool, is_v4: bool) -> PacketBuilderStep {
    let (from, to) = if is_ours { (OUR, THEIR) } else { (THEIR, OUR) };
    if is_v4 {
        PacketBuilder::ipv4(from, to, 64)
    } else {
        let v6 = |end: [u8; 4]| [0x20, 1, 0xd, 0xb8, 0, 0xc, 0, 0, 0, 0, 0, 0, 0, 0, end[2], end[3]];
        PacketBuilder::ipv6(v6(from), v6(to), 64)
    }
}

type PacketBuilderStep = etherparse::PacketBuilderStep<etherparse::IpHeaders>;

/// "tcp 1000 443", "udp 53 1000", "ping 7", "pong 7".
fn packet(text: &str, is_ours: bool, is_v4: bool) -> Vec<u8> {
    let words: Vec<&str> = text.split(' ').collect();
    let number = |at: usize| words[at].parse::<u16>().unwrap();
    let step = ends(is_ours, is_v4);
    let mut out = Vec::new();
    match (words[0], is_v4) {
        ("tcp", _) => step.tcp(number(1), number(2), 0, 1_000).write(&mut out, &[]).unwrap(),
        ("udp", _) => step.udp(number(1), number(2)).write(&mut out, b"data").unwrap(),
        ("ping", true) => step.icmpv4_echo_request(number(1), 0).write(&mut out, b"data").unwrap(),
        ("pong", true) => step.icmpv4_echo_reply(number(1), 0).write(&mut out, b"data").unwrap(),
        ("ping", false) => step.icmpv6_echo_request(number(1), 0).write(&mut out, b"data").unwrap(),
        ("pong", false) => step.icmpv6_echo_reply(number(1), 0).write(&mut out, b"data").unwrap(),
        other => panic!("{other:?}"),
    }
    out
}

/// What passes, in order: `>` is ours, `<` the peer's; `!` before those that may not pass.
fn play(out: &str, back: &str, steps: &[&str]) {
    for is_v4 in [true, false] {
        let mut flows = Flows::new(permissions(out, back));
        for step in steps {
            let (step, passes) = step.strip_prefix('!').map_or((*step, true), |step| (step, false));
            let (is_ours, text) = (step.starts_with('>'), step[1..].trim());
            let admitted = flows.admits(Instant::ZERO, is_ours, &packet(text, is_ours, is_v4));
            assert_eq!(admitted, passes, "{out:?} {back:?}: {step}, IPv4: {is_v4}");
        }
    }
}

#[test]
fn a_node_opens_what_it_may_and_gets_answers() {
    play("tcp/443", "", &["> tcp 1000 443", "< tcp 443 1000", "!> tcp 1000 80", "!> udp 1000 443", "!> ping 1"]);
    play("", "tcp/443", &["< tcp 1000 443", "> tcp 443 1000", "!< tcp 1000 80", "!> tcp 1000 443"]);
    play("udp/53", "icmp", &["> udp 9 53", "< udp 53 9", "< ping 3", "> pong 3", "!> ping 3", "!< udp 9 53"]);
    play("everything", "", &["> tcp 1 2", "< tcp 2 1", "> ping 5", "< pong 5", "!< tcp 9 9", "!< ping 6"]);
}

#[test]
fn what_looks_like_an_answer_passes_only_if_something_was_asked() {
    play("tcp/443 udp/53 icmp", "", &["!< tcp 443 1000", "!< udp 53 1000", "!< pong 7"]);
    play("udp/53", "", &["> udp 9 53", "!< udp 53 10", "!< udp 54 9", "< udp 53 9"]);
    play("", "icmp", &["!> pong 7", "< ping 7", "> pong 7", "!> pong 8"]);
    // Both nodes may use one identifier: a request is no answer to a request.
    play("icmp", "", &["> ping 7", "!< ping 7", "< pong 7"]);
}

#[test]
fn an_error_belongs_to_a_known_flow() {
    let mut flows = Flows::new(permissions("udp/53", ""));
    let error = |about: &[u8]| {
        let unreachable =
            etherparse::Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Port);
        let mut out = Vec::new();
        ends(false, true).icmpv4(unreachable).write(&mut out, &about[..28]).unwrap();
        out
    };
    let asked = packet("udp 9 53", true, true);
    assert!(!flows.admits(Instant::ZERO, false, &error(&asked)), "nothing was sent");
    assert!(flows.admits(Instant::ZERO, true, &asked));
    assert!(flows.admits(Instant::ZERO, false, &error(&asked)));
    assert!(!flows.admits(Instant::ZERO, false, &error(&packet("udp 10 53", true, true))));
}

#[test]
fn a_flow_that_is_silent_for_long_is_over() {
    let mut flows = Flows::new(permissions("udp/53 tcp/1", ""));
    let at = |after: Duration| Instant::ZERO + after;
    for (name, ask, answer, silence) in
        [("udp", "udp 9 53", "udp 53 9", FLOW_SILENCE), ("tcp", "tcp 9 1", "tcp 1 9", TCP_SILENCE)]
    {
        let answer = packet(answer, false, true);
        assert!(flows.admits(at(Duration::ZERO), true, &packet(ask, true, true)));
        assert!(flows.admits(at(silence / 4 * 3), false, &answer), "{name}");
        assert!(flows.admits(at(silence * 3 / 2), false, &answer), "{name}: it was used meanwhile");
        assert!(!flows.admits(at(silence * 3), false, &answer), "{name}");
    }
}

#[test]
fn other_permissions_end_only_what_they_do_not_admit() {
    let mut flows = Flows::new(permissions("tcp", "udp/9"));
    for (is_ours, text) in [(true, "tcp 1000 443"), (true, "tcp 1000 80"), (false, "udp 1000 9")] {
        assert!(flows.admits(Instant::ZERO, is_ours, &packet(text, is_ours, true)));
    }
    flows.permit(permissions("tcp/443", ""));
    assert_eq!((flows.len(), flows.by_age.len()), (1, 1));
    assert!(flows.admits(Instant::ZERO, false, &packet("tcp 443 1000", false, true)), "the peer may go on first");
    assert!(!flows.admits(Instant::ZERO, false, &packet("tcp 80 1000", false, true)));
    assert!(!flows.admits(Instant::ZERO, false, &packet("udp 1000 9", false, true)));
}

#[test]
fn what_was_under_way_when_limits_came_still_arrives() {
    let mut flows = Flows::new(permissions("everything", "everything"));
    assert!(flows.admits(Instant::ZERO, false, &packet("pong 8", false, true)), "of a time before the rules");
    assert!(flows.admits(Instant::ZERO, true, &packet("ping 7", true, true)));
    flows.permit(permissions("icmp", ""));
    assert!(flows.admits(Instant::ZERO, false, &packet("pong 7", false, true)));
    assert!(!flows.admits(Instant::ZERO, false, &packet("ping 7", false, true)));
}

#[test]
fn a_flood_of_flows_costs_the_oldest_ones() {
    let mut flows = Flows::new(permissions("udp", ""));
    let flow = |i: usize| format!("udp {} {}", 1_000 + i % 60_000, 1);
    for i in 0..MAX_FLOWS + 10 {
        let now = Instant::ZERO + Duration::from_millis(i as u64);
        assert!(flows.admits(now, true, &packet(&flow(i), true, true)));
        assert!(flows.len() <= MAX_FLOWS && flows.len() == flows.by_age.len());
    }
    let now = Instant::ZERO + Duration::from_secs(60);
    assert!(!flows.admits(now, false, &packet("udp 1 1000", false, true)), "the oldest");
    assert!(flows.admits(now, false, &packet("udp 1 1100", false, true)));
}

#[test]
fn ports_that_are_not_there_open_nothing_and_no_bytes_are_a_panic() {
    let mut flows = Flows::new(permissions("tcp/443 udp icmp", "icmp"));
    for text in ["tcp 1000 443", "udp 1 2", "ping 3"] {
        for is_v4 in [true, false] {
            let whole = packet(text, true, is_v4);
            let header = if is_v4 { 20 } else { 40 };
            for len in 0..whole.len() {
                let is_admitted = flows.admits(Instant::ZERO, true, &whole[..len]);
                assert!(!is_admitted || len > header, "{text} {len}");
            }
        }
    }
    // A fragment after the first is nothing alone; the first one is judged.
    let mut later = packet("udp 1000 80", true, true);
    later[7] = 1;
    assert!(Flows::new(permissions("", "")).admits(Instant::ZERO, true, &later));
    later[7] = 0;
    later[6] = 0x20;
    assert!(!Flows::new(permissions("", "")).admits(Instant::ZERO, true, &later));
}
