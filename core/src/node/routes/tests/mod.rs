//! Tables of [`Routes`]; see [`rows`](crate::node::rows) for how they are read.
//!
//! A tunnel is `t0`, and `t0r` if it is relayed. In a state, the number after `@` is the instant at which a timer is
//! due, in milliseconds.

mod optimal;

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;

use super::peer::{Origin, PeerState, PendingRequest};
use super::*;
use crate::message::{AtEnd, Framing, Want};
use crate::node::rows::{Numbers, Rows, check};
use crate::paths::strategy::Handover;
use crate::route::Pattern;
use crate::signaling::Signaling;
use crate::timing::node::TUNNEL_LIFETIME;

struct Case {
    routes: Routes,
    numbers: Numbers,
}

impl Case {
    /// `reliable` is false in the conventional method, whose messages to the NMS are retransmitted. It is true in the
    /// proposed method.
    fn new(reliable: bool) -> Self {
        let overlay = Overlay::new("cyphonic.test".parse().unwrap());
        Self { routes: Routes::new(fqdn("me"), overlay, reliable, Some(TUNNEL_LIFETIME)), numbers: Numbers::default() }
    }

    fn request(&mut self, request: &PendingRequest) -> String {
        format!("asks {}{}", want(request.want), self.numbers.write(request.transaction))
    }
}

fn fqdn(name: &str) -> Fqdn {
    format!("{name}.cyphonic.test").parse().unwrap()
}

/// The virtual addresses of a name. Names differ in the last octet only.
fn virtual_of(name: &str) -> Virtual {
    let last = match name {
        "me" => 2,
        "bob" => 10,
        "carol" => 11,
        "dns" => 1,
        other => panic!("{other}"),
    };
    Virtual { v4: [198, 18, 0, last].into(), v6: format!("2001:db8:c::{last:x}").parse().unwrap() }
}

fn want(want: Want) -> String {
    match want {
        Want::Any => "any".into(),
        Want::Relayed => "relayed".into(),
        Want::Direct(attempt) => format!("direct{attempt}"),
    }
}

fn tunnel(word: &str) -> TunnelId {
    TunnelId(word.trim_start_matches('t').trim_end_matches('r').parse().unwrap())
}

fn sends(carried: Carried) -> String {
    format!("send t{}{}", carried.tunnel.0, if carried.watched { "?" } else { "" })
}

fn failure(word: &str) -> Failure {
    match word {
        "timeout" => Failure::Timeout,
        "lost" => Failure::ConnectionLost,
        other => panic!("{other}"),
    }
}

fn code(word: &str) -> ErrorCode {
    match word {
        "unknown" => ErrorCode::UnknownPeer,
        "offline" => ErrorCode::PeerOffline,
        "no-way" => ErrorCode::NoDirectWay,
        "forbidden" => ErrorCode::NotPermitted,
        other => panic!("{other}"),
    }
}

fn query_for(name: &str) -> HeldQuery {
    let question = crate::dns::parse(&crate::dns::query(7, &fqdn(name), crate::dns::QueryKind::A)).unwrap();
    let at = |port| SocketAddr::from(([198, 18, 0, 2], port));
    HeldQuery { question: Box::new(question), client: at(40_000), server: at(53), over_tcp: false }
}

/// A Route Direction as tables write it: `direction #0 bob dials direct any`. After the word `direction` there are:
///
/// 1. the transaction: `#0` if it answers a request of this node, `@7` if it comes from a peer's request;
/// 2. the peer's name;
/// 3. `dials` if this node has to dial, `listens` if the peer does;
/// 4. `direct`, or `relayed` for a route through a TRS;
/// 5. the kind of route that was asked for, or `paper` under `policy = "paper"`;
/// 6. exceptions: `as carol` for the virtual addresses of another name, `count 1` for a first retransmission.
fn direction(transaction: u32, words: &[&str]) -> RouteInput {
    let &[number, name, dial, kind, wanted, ref rest @ ..] = words else { panic!("{words:?}") };
    let (mut addresses, mut count) = (virtual_of(name), 0);
    for pair in rest.chunks(2) {
        match pair {
            ["as", other] => addresses = virtual_of(other),
            ["count", n] => count = n.parse().unwrap(),
            other => panic!("{other:?}"),
        }
    }
    let direction = RouteDirection {
        peer: fqdn(name),
        virtual_addresses: addresses,
        pattern: if kind == "relayed" { Pattern::Relayed } else { Pattern::Direct },
        dial: dial == "dials",
        candidates: Vec::new(),
        keys: None,
        relay: None,
        want: match wanted {
            "paper" => None,
            "any" => Some(Want::Any),
            "relayed" => Some(Want::Relayed),
            direct => Some(Want::Direct(direct.trim_start_matches("direct").parse().unwrap())),
        },
        permissions: AtEnd(None),
    };
    let initiator = number.starts_with('#');
    let (slow, signaling) = (false, Signaling::Paper);
    let asked = Asked { initiator, transaction, slow, signaling, granted: false, searches: Duration::ZERO };
    RouteInput::Direction { count, asked, direction: Box::new(direction) }
}

impl Rows for Case {
    type Part = Routes;

    fn part(&mut self) -> &mut Routes {
        &mut self.routes
    }

    fn ask(&mut self, now: Instant, words: &[&str]) -> Option<String> {
        match *words {
            ["packet", to] => self.routes.carry(now, virtual_of(to).v4.into(), b"packet").map(sends),
            ["arrived", id] => {
                let peer = Cell::new(None);
                let judge = |addresses: Option<Virtual>, _: &[u8]| {
                    peer.set(addresses);
                    Ok(1)
                };
                let (packets, _) = self.routes.arrived(now, tunnel(id), vec![b"packet"[..].into()], judge);
                packets.first()?;
                Some(format!("deliver {}", peer.get().map_or("?".into(), |own| own.v4.to_string())))
            }
            _ => None,
        }
    }

    fn input(&mut self, _now: Instant, words: &[&str]) -> RouteInput {
        match *words {
            ["registered"] => RouteInput::Registered(virtual_of("me")),
            ["unregistered"] => RouteInput::Unregistered,
            ["moved"] => RouteInput::Moved(Vec::new()),
            ["surveyed"] => RouteInput::Surveyed,
            ["stop"] => RouteInput::Stop,
            ["revoked", name] => RouteInput::Revoked(fqdn(name), ErrorCode::Unauthorized),
            ["packet", to] => {
                RouteInput::Packet { to: virtual_of(to).v4.into(), packet: Bytes::from_static(b"packet") }
            }
            ["query", name] => RouteInput::Query { name: fqdn(name), query: query_for(name) },
            ["direction", ref words @ ..] => direction(self.numbers.read(words[0]), words),
            ["refused", number, why] => RouteInput::Refused { transaction: self.numbers.read(number), code: code(why) },
            ["up", id] => RouteInput::TunnelUp(
                tunnel(id),
                TunnelUp {
                    peer: fqdn("bob"),
                    pattern: Pattern::Direct,
                    dialed: true,
                    framing: Framing::Stream,
                    remote: SocketAddr::from(([203, 0, 113, 10], 443)),
                    handover: Handover::Rebuild,
                    signaling: Signaling::Paper,
                },
            ),
            ["ready", id] => RouteInput::TunnelReady(tunnel(id)),
            ["down", id, why] => RouteInput::TunnelDown(tunnel(id), failure(why)),
            ["sending", id, heard, due] => RouteInput::Sending {
                tunnel: tunnel(id),
                heard_at: heard.parse().ok().map(Instant::from_millis),
                answer_due: due == "due",
            },
            ["timeout"] => RouteInput::Timeout,
            ref other => panic!("{other:?}"),
        }
    }

    fn output(&mut self, output: RouteOutput) -> String {
        match output {
            RouteOutput::Request { transaction, count, request } => {
                let name = match &request.peer {
                    PeerRef::Name(name) => name.short().to_string(),
                    PeerRef::Virtual(address) => address.to_string(),
                };
                let again = if count > 0 { " again" } else { "" };
                format!("request {name} {} {}{again}", want(request.want), self.numbers.write(transaction))
            }
            RouteOutput::Confirm { transaction, .. } => format!("confirm {}", self.numbers.write(transaction)),
            RouteOutput::DoubtNms => "doubt".into(),
            RouteOutput::Build { tunnel, .. } => format!("build t{}", tunnel.0),
            RouteOutput::Forget(tunnel) => format!("forget t{}", tunnel.0),
            RouteOutput::Send(carried, _) => sends(carried),
            RouteOutput::Flush => "flush".into(),
            RouteOutput::Prohibited(_) => "say prohibited".into(),
            RouteOutput::Answer(_, Answer::Addresses(addresses)) => format!("answer {}", addresses.v4),
            RouteOutput::Answer(_, Answer::NoSuchName) => "answer no such name".into(),
            RouteOutput::Answer(_, Answer::Failed) => "answer failed".into(),
            RouteOutput::Event(Event::RouteRequested { .. }) => "tell wanted".into(),
            RouteOutput::Event(Event::TunnelReady { .. }) => "tell ready".into(),
            RouteOutput::Event(Event::TunnelUp(_)) => "tell up".into(),
            RouteOutput::Event(Event::TunnelDown { reason, .. }) => format!("tell down: {reason}"),
            RouteOutput::Event(Event::StillRelayed { .. }) => "tell still relayed".into(),
            RouteOutput::Event(Event::Dropped(reason)) => format!("drop {}", reason.name()),
            RouteOutput::Event(other) => panic!("{other:?}"),
        }
    }

    fn state(&mut self) -> String {
        let peers = std::mem::take(&mut self.routes.peers);
        let states: Vec<String> = peers.iter().map(|peer| self.peer(peer)).collect();
        self.routes.peers = peers;
        states.join("; ")
    }
}

impl Case {
    fn peer(&mut self, peer: &peer::Peer) -> String {
        let name =
            |tunnel: TunnelId, origin: &Origin| format!("t{}{}", tunnel.0, if origin.relayed { "r" } else { "" });
        let mut words = vec![peer.label().split(".cyphonic").next().unwrap().to_string()];
        match &peer.state {
            PeerState::Wanted { retry } => {
                words.push("wanted".into());
                words.extend(retry.map(|(at, kind)| format!("{}@{}", want(kind), at.as_millis_f64())));
            }
            PeerState::Requested(_) => {}
            PeerState::Building { .. } => words.push("builds".into()),
            PeerState::Up(up) => {
                words.push(format!("up {}", name(up.tunnel, &up.origin)));
                if let Some(old) = &up.replaced {
                    words.push(format!("replaced {}@{}", name(old.tunnel, &old.origin), old.until.as_millis_f64()));
                }
                words.extend(up.improve.map(|improve| format!("improve@{}", improve.at.as_millis_f64())));
                if !up.attempts.is_empty() {
                    words.push("builds".into());
                }
            }
        }
        words.extend(peer.attempts().map(|(tunnel, origin)| name(tunnel, origin)));
        words.extend(peer.request().map(|request| self.request(request)));
        words.extend(peer.search.relay_at.map(|at| format!("relay@{}", at.as_millis_f64())));
        if !peer.held.is_empty() {
            words.push("holds".into());
        }
        words.join(" ")
    }
}

#[test]
fn a_query_is_answered_when_the_tunnel_is_up_and_at_once_from_then_on() {
    check(
        Case::new(true),
        "
        0   | registered                         |                                      |
        0   | query bob                          | tell wanted; request bob any #0      | bob asks any#0 holds
        40  | direction #0 bob dials direct paper| build t0                             | bob builds t0 holds
        90  | up t0                              | tell up; answer 198.18.0.10          | bob up t0
        95  | query bob                          | answer 198.18.0.10                   | bob up t0
        99  | packet bob                         | send t0                              | bob up t0
        99  | arrived t0                         | deliver 198.18.0.10                  | bob up t0
        ",
    );
}

#[test]
fn two_networks_that_cannot_meet_under_table_1_are_told_so_and_others_are_not() {
    check(
        Case::new(true),
        "
        0     | registered                         |                                 |
        0     | query bob                          | tell wanted; request bob any #0 | bob asks any#0 holds
        40    | direction #0 bob dials direct paper| build t0                        | bob builds t0 holds
        11999 | down t0 timeout                    | answer failed; tell down: these two networks cannot meet under Table 1: its direct way does not work |
        ",
    );
}

#[test]
fn a_query_whose_answer_is_known_waits_no_longer_than_a_resolver() {
    check(
        Case::new(true),
        "
        0    | registered                         |                                      |
        0    | query bob                          | tell wanted; request bob any #0      | bob asks any#0 holds
        40   | direction #0 bob dials direct paper| build t0                             | bob builds t0 holds
        50   | packet bob                         |                                      | bob builds t0 holds
        899  | timeout                            |                                      | bob builds t0 holds
        900  | timeout                            | answer 198.18.0.10                   | bob builds t0 holds
        1000 | query bob                          |                                      | bob builds t0 holds
        1900 | timeout                            | answer 198.18.0.10                   | bob builds t0 holds
        5001 | up t0                              | tell up; send t0; flush              | bob up t0
        ",
    );
}

#[test]
fn packets_go_ahead_once_the_peer_has_proved_itself_and_are_counted_if_the_tunnel_fails() {
    check(
        Case::new(true),
        "
        0   | registered                         |                                      |
        0   | query bob                          | tell wanted; request bob any #0      | bob asks any#0 holds
        40  | direction #0 bob dials direct paper| build t0                             | bob builds t0 holds
        50  | packet bob                         |                                      | bob builds t0 holds
        80  | ready t0                           | tell ready; answer 198.18.0.10; send t0; flush | bob builds t0
        81  | packet bob                         | send t0                              | bob builds t0
        82  | query bob                          | answer 198.18.0.10                   | bob builds t0
        99  | down t0 lost                       | drop no-tunnel; drop no-tunnel       | bob wanted any@299
        100 | packet bob                         |                                      | bob wanted any@299 holds
        299 | timeout                            | request bob any #1                   | bob asks any#1 holds
        340 | direction #1 bob dials direct paper| build t1                             | bob builds t1 holds
        380 | ready t1                           | tell ready; send t1; flush           | bob builds t1
        420 | up t1                              | tell up                              | bob up t1
        500 | direction @7 bob dials direct direct0 | build t2                          | bob up t1 builds t2
        510 | ready t2                           |                                      | bob up t1 builds t2
        ",
    );
}

#[test]
fn a_packet_waits_for_the_registration_and_leaves_by_itself() {
    check(
        Case::new(true),
        "
        0   | packet bob                         | tell wanted                    | 198.18.0.10 wanted holds
        10  | packet bob                         |                                | 198.18.0.10 wanted holds
        50  | registered                         | request 198.18.0.10 any #0     | 198.18.0.10 asks any#0 holds
        90  | direction #0 bob dials direct paper| build t0                       | bob builds t0 holds
        99  | up t0                              | tell up; send t0; flush; send t0; flush | bob up t0
        ",
    );
}

#[test]
fn a_packet_to_a_peer_that_the_rules_forbid_is_refused_at_once_and_not_only_lost() {
    check(
        Case::new(true),
        "
        0    | registered                         |                                              |
        0    | packet bob                         | tell wanted; request 198.18.0.10 any #0      | 198.18.0.10 asks any#0 holds
        9    | refused #0 forbidden               | say prohibited; drop no-tunnel; tell down: refused: not permitted |
        ",
    );
}

#[test]
fn a_refused_request_is_repeated_only_for_a_peer_that_may_be_moving() {
    check(
        Case::new(true),
        "
        0    | registered                         |                                              |
        0    | query bob                          | tell wanted; request bob any #0              | bob asks any#0 holds
        9    | refused #0 unknown                 | answer no such name; tell down: refused: unknown peer |
        10   | query bob                          | tell wanted; request bob any #1              | bob asks any#1 holds
        19   | refused #1 offline                 | answer failed; tell down: refused: peer offline |
        20   | query bob                          | tell wanted; request bob any #2              | bob asks any#2 holds
        30   | direction #2 bob dials direct paper| build t0                                     | bob builds t0 holds
        40   | down t0 lost                       |                                              | bob wanted any@240 holds
        240  | timeout                            | request bob any #3                           | bob asks any#3 holds
        250  | refused #3 offline                 |                                              | bob wanted any@750 holds
        750  | timeout                            | request bob any #4                           | bob asks any#4 holds
        760  | refused @9 offline                 | drop unexpected                              | bob asks any#4 holds
        ",
    );
}

#[test]
fn of_simultaneous_requests_ours_gives_way_and_may_still_be_answered_once() {
    check(
        Case::new(false),
        "
        0   | registered                           |                                  |
        0   | query bob                            | tell wanted; request bob any #0  | bob asks any#0 holds
        40  | direction @7 bob listens direct paper| build t0                         | bob builds t0 holds
        60  | direction #0 bob dials direct paper  | forget t0; build t1              | bob builds t1 holds
        70  | direction #0 bob dials direct paper  | drop unexpected                  | bob builds t1 holds
        ",
    );
}

#[test]
fn a_repeated_route_direction_is_confirmed_again_and_takes_no_tunnel_away() {
    check(
        Case::new(false),
        "
        0    | registered                                   |                     |
        0    | direction @7 bob listens direct paper        | build t0            | bob builds t0
        400  | direction @7 bob listens direct paper count 1| confirm @7          | bob builds t0
        500  | up t0                                        | tell up             | bob up t0
        800  | direction @7 bob listens direct paper count 2| confirm @7          | bob up t0
        900  | direction @8 bob listens direct paper        | forget t0; build t1 | bob builds t1
        990  | direction @7 bob listens direct paper count 3|                     | bob builds t1
        1000 | direction @9 carol dials direct paper        | build t2            | bob builds t1; carol builds t2
        1400 | direction @9 carol dials direct paper count 1|                     | bob builds t1; carol builds t2
        ",
    );
}

#[test]
fn a_request_without_an_answer_is_repeated_then_doubted_then_given_up() {
    check(
        Case::new(false),
        "
        0     | registered |                                              |
        0     | query bob  | tell wanted; request bob any #0              | bob asks any#0 holds
        499   | timeout    |                                              | bob asks any#0 holds
        500   | timeout    | request bob any #0 again                     | bob asks any#0 holds
        1500  | timeout    | request bob any #0 again; doubt              | bob asks any#0 holds
        11999 | timeout    | request bob any #0 again; doubt              | bob asks any#0 holds
        12000 | timeout    | answer failed                                | bob asks any#0
        24000 | timeout    | tell down: no answer in time                 |
        ",
    );
}

#[test]
fn where_the_nms_answers_at_once_a_query_without_an_answer_waits_no_longer_than_a_resolver() {
    check(
        Case::new(true),
        "
        0     | registered |                                              |
        0     | query bob  | tell wanted; request bob any #0              | bob asks any#0 holds
        3999  | timeout    |                                              | bob asks any#0 holds
        4000  | timeout    | answer failed                                | bob asks any#0
        ",
    );
}

#[test]
fn an_initiator_that_listens_repeats_its_request_until_the_peer_dials() {
    check(
        Case::new(false),
        "
        0    | registered                           |                                 |
        0    | query bob                            | tell wanted; request bob any #0 | bob asks any#0 holds
        40   | direction #0 bob listens direct paper| build t0                        | bob builds t0 holds
        540  | timeout                              | request bob any #0 again        | bob builds t0 holds
        900  | timeout                              | answer 198.18.0.10              | bob builds t0
        1540 | timeout                              | request bob any #0 again; doubt | bob builds t0
        1600 | up t0                                | tell up                         | bob up t0
        2540 | timeout                              |                                 | bob up t0
        ",
    );
}

#[test]
fn a_route_direction_can_take_nobodys_name_or_address() {
    check(
        Case::new(true),
        "
        0   | registered                                    |                                 |
        0   | query bob                                     | tell wanted; request bob any #0 | bob asks any#0 holds
        10  | direction #0 carol dials direct paper         | drop wrong-identity             | bob asks any#0 holds
        20  | direction #0 bob dials direct paper as me     | drop wrong-identity             | bob asks any#0 holds
        30  | direction #0 bob dials direct paper as dns    | drop wrong-identity             | bob asks any#0 holds
        40  | direction #0 bob dials direct paper           | build t0                        | bob builds t0 holds
        50  | direction @7 carol listens direct paper as bob| drop wrong-identity             | bob builds t0 holds
        60  | direction @7 bob listens direct paper as carol| drop wrong-identity             | bob builds t0 holds
        70  | direction @7 me listens direct paper          | drop unexpected                 | bob builds t0 holds
        80  | direction @7 carol listens direct paper       | build t1                        | bob builds t0 holds; carol builds t1
        ",
    );
}

#[test]
fn what_waits_by_name_and_by_address_is_joined_when_they_are_known_to_be_one_peer() {
    check(
        Case::new(true),
        "
        0  | registered                          |                                         |
        0  | packet bob                          | tell wanted; request 198.18.0.10 any #0 | 198.18.0.10 asks any#0 holds
        5  | query bob                           | tell wanted; request bob any #1         | 198.18.0.10 asks any#0 holds; bob asks any#1 holds
        40 | direction #1 bob dials direct paper | build t0                                | bob builds t0 holds
        50 | direction #0 bob dials direct paper | drop unexpected                         | bob builds t0 holds
        60 | up t0                               | tell up; answer 198.18.0.10; send t0; flush | bob up t0
        ",
    );
}

#[test]
fn without_a_registration_for_long_a_query_waits_for_nothing_unless_the_tunnel_is_up() {
    check(
        Case::new(true),
        "
        0     | registered                          |                                     |
        0     | query bob                           | tell wanted; request bob any #0     | bob asks any#0 holds
        40    | direction #0 bob dials direct paper | build t0                            | bob builds t0 holds
        90    | up t0                               | tell up; answer 198.18.0.10         | bob up t0
        100   | unregistered                        |                                     | bob up t0
        200   | unregistered                        |                                     | bob up t0
        4099  | query carol                         | tell wanted                         | bob up t0; carol wanted holds
        4100  | query carol                         | answer failed                       | bob up t0; carol wanted holds
        4100  | query bob                           | answer 198.18.0.10                  | bob up t0; carol wanted holds
        ",
    );
}

#[test]
fn a_move_builds_every_tunnel_anew_once_the_node_is_registered_again() {
    check(
        Case::new(true),
        "
        0     | registered                          |                                     |
        0     | query bob                           | tell wanted; request bob any #0     | bob asks any#0 holds
        40    | direction #0 bob dials direct paper | build t0                            | bob builds t0 holds
        90    | up t0                               | tell up; answer 198.18.0.10         | bob up t0
        11000 | unregistered                        |                                     | bob up t0
        11000 | moved                               | tell down: own address changed      | bob wanted
        11010 | packet bob                          |                                     | bob wanted holds
        12000 | timeout                             |                                     | bob wanted holds
        12100 | registered                          | request bob any #1                  | bob asks any#1 holds
        12110 | down t0 lost                        |                                     | bob asks any#1 holds
        ",
    );
}

#[test]
fn a_responder_leaves_a_failed_attempt_to_the_initiator_unless_something_waits() {
    check(
        Case::new(true),
        "
        0   | registered                             |                          |
        0   | direction @7 bob listens direct any    | build t0                 | bob builds t0
        10  | down t0 timeout                        | tell down: no answer in time |
        20  | direction @8 bob listens direct any    | build t1                 | bob builds t1
        25  | packet bob                             |                          | bob builds t1 holds
        30  | down t1 timeout                        |                          | bob wanted direct1@230 holds
        ",
    );
}

#[test]
fn a_new_session_repeats_what_was_asked_in_the_lost_one() {
    check(
        Case::new(true),
        "
        0    | registered                          |                                  |
        0    | query bob                           | tell wanted; request bob any #0  | bob asks any#0 holds
        10   | registered                          | request bob any #1               | bob asks any#1 holds
        40   | direction #1 bob dials direct any   | build t0                         | bob builds t0 relay@540 holds
        540  | timeout                             | request bob relayed #2           | bob builds t0 asks relayed#2 holds
        550  | registered                          | request bob relayed #3           | bob builds t0 asks relayed#3 holds
        560  | refused #2 offline                  | drop unexpected                  | bob builds t0 asks relayed#3 holds
        ",
    );
}

#[test]
fn revoked_peers_and_a_stopped_node_leave_nothing_behind() {
    let mut case = Case::new(true);
    case.routes.registered = true;
    check(
        case,
        "
        0  | direction @7 bob listens direct paper | build t0                                    | bob builds t0
        10 | up t0                                 | tell up                                     | bob up t0
        20 | revoked bob                           | forget t0; tell down: refused: unauthorized |
        30 | direction @8 bob listens direct paper | build t1                                    | bob builds t1
        40 | stop                                  |                                             |
        50 | up t1                                 |                                             |
        60 | timeout                               |                                             |
        ",
    );
}

#[test]
fn an_application_cannot_make_the_node_remember_more_than_its_limit_of_peers() {
    let mut case = Case::new(true);
    let mut random = crate::node::part::Random::new(rand_chacha::rand_core::SeedableRng::from_seed([1; 32]));
    let mut out = Vec::new();
    for i in 0..=MAX_PEERS as u32 {
        out.clear();
        let to = IpAddr::from((u32::from_be_bytes([198, 18, 0, 0]) + 100 + i).to_be_bytes());
        let input = RouteInput::Packet { to, packet: Bytes::from_static(b"packet") };
        case.routes.handle(&mut Turn::new(Instant::ZERO, &mut random, &mut out), input);
    }
    let written: Vec<String> = out.into_iter().map(|output| case.output(output)).collect();
    assert_eq!(written, ["drop limit"]);
    assert_eq!(case.routes.tables()[0], ("peers", MAX_PEERS));
}
