//! The cost of set-up. Every packet is counted where it leaves a host; nodes, services and relay are counted apart.
//! Round trips follow from which host waited for which ([`super::flights`]).

use std::net::IpAddr;
use std::time::Duration;

use cyphonic_core::event::Event;
use cyphonic_core::paths::path::LEAST_MTU;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::rows::{Phase, Setup};
use cyphonic_scenarios::{Row, Scenario, Service};

use super::flights::Flights;
use super::{MeasureError, last_tunnel};
use crate::host::apps::ProbeOutcome;
use crate::net::Tapped;
use crate::net::packet::{Ip, protocol};
use crate::run::{Run, StepOutcome};
use crate::world::Station;

/// A packet, as it left a host.
struct Sent {
    source: IpAddr,
    destination: IpAddr,
    packet: Tapped,
    /// Whether it searches for a path MTU.
    searches: bool,
    /// The host, in the order of [`stations`].
    host: usize,
}

pub(super) fn rows(scenario: &Scenario, run: &Run) -> Result<Vec<Row>, MeasureError> {
    let (pair, echo) = run
        .steps
        .iter()
        .find_map(|step| match &step.outcome {
            StepOutcome::App(pair, report) => report.echo().map(|echo| (*pair, (report.started, echo))),
            _ => None,
        })
        .ok_or(MeasureError::NoEcho)?;
    let (asked, echo) = echo;
    let answered = echo.probes.iter().find_map(|probe| match probe.outcome {
        ProbeOutcome::Answered { rtt_ns } => Some(probe.sent + Duration::from_nanos(rtt_ns)),
        _ => None,
    });
    let answered = answered.ok_or(MeasureError::NoEcho)?;
    let sent = all_sent(run);
    let started = run.steps.first().map_or(Instant::ZERO, |step| step.started);
    let to = |service: &Service, packet: &Sent| {
        let own = [IpAddr::from(service.v4), IpAddr::from(service.v6)];
        own.contains(&packet.destination) || own.contains(&packet.source)
    };
    let (auth, nms) = (&scenario.services.auth, &scenario.services.nms);
    let initiator = NODES + pair.from;
    // The node turns to the NMS at the moment when the login is done.
    let logged_in =
        sent.iter().filter(|p| p.host == initiator && to(nms, p)).map(|p| p.packet.departs).min().unwrap_or(started);
    let name = scenario.nodes[pair.from].name.short();
    let registered = run
        .events
        .iter()
        .find(|(_, host, event)| host == name && matches!(event, Event::Registered { .. }))
        .map_or(logged_in, |(at, ..)| *at);
    let last_registered = run
        .events
        .iter()
        .filter(|(_, _, event)| matches!(event, Event::Registered { .. }))
        .map(|(at, ..)| *at)
        .max()
        .unwrap_or(registered);
    let flights = Flights::new(&by_host(&sent), &came(run));
    let row = |phase, (begin, end): (Instant, Instant), pattern, packets: Vec<&Sent>| {
        let leaving = |hosts: std::ops::Range<usize>| {
            let of: Vec<u64> =
                packets.iter().filter(|p| hosts.contains(&p.host)).map(|p| p.packet.packet.len() as u64).collect();
            (of.len() as u64, of.iter().sum())
        };
        let searching = packets.iter().filter(|p| p.host >= NODES && p.searches);
        let (search_packets, search_bytes) =
            searching.fold((0, 0), |(count, sum), p| (count + 1, sum + p.packet.packet.len() as u64));
        let ((packets, bytes), (service_packets, service_bytes), (trs_packets, trs_bytes)) =
            (leaving(NODES..usize::MAX), leaving(0..TRS), leaving(TRS..NODES));
        Row::Setup(Setup {
            phase,
            pattern,
            ms: (end - begin).as_secs_f64() * 1e3,
            round_trips: f64::from(flights.between(begin, initiator, end)) / 2.0,
            packets,
            bytes,
            search_packets,
            search_bytes,
            service_packets,
            service_bytes,
            trs_packets,
            trs_bytes,
        })
    };
    let login = sent.iter().filter(|p| to(auth, p)).collect();
    let registration = sent.iter().filter(|p| to(nms, p) && p.packet.departs <= last_registered).collect();
    let during = |p: &&Sent| p.packet.departs >= asked && p.packet.departs <= answered;
    let tunnel = sent.iter().filter(|p| during(p) && !to(auth, p)).collect();
    let pattern = last_tunnel(scenario, run, pair).map(|(pattern, _)| pattern);
    Ok(vec![
        row(Phase::Login, (started, logged_in), None, login),
        row(Phase::Registration, (logged_in, registered), None, registration),
        row(Phase::Tunnel, (asked, answered), pattern, tunnel),
    ])
}

/// The place of the TRS in [`stations`], behind AS and NMS. Nodes follow after it.
const TRS: usize = 2;
const NODES: usize = 3;

fn stations(run: &Run) -> impl Iterator<Item = &Station> {
    [&run.world.auth, &run.world.nms, &run.world.trs].into_iter().chain(&run.world.nodes)
}

fn all_sent(run: &Run) -> Vec<Sent> {
    let mut all = Vec::new();
    for (host, station) in stations(run).enumerate() {
        for packet in run.world.sent(station) {
            if let Some(ip) = Ip::parse(&packet.packet) {
                let (source, destination) = (ip.source, ip.destination);
                // Above IP are UDP's header and its payload.
                let searches = ip.protocol == protocol::UDP && ip.payload.len() > 8 + usize::from(LEAST_MTU);
                all.push(Sent { source, destination, packet, searches, host });
            }
        }
    }
    all
}

/// The packets that each host sent.
fn by_host(sent: &[Sent]) -> Vec<(usize, Vec<Tapped>)> {
    sent.iter().map(|sent| (sent.host, vec![sent.packet.clone()])).collect()
}

/// The packets that each host received.
fn came(run: &Run) -> Vec<(usize, Vec<Tapped>)> {
    let network = run.world.network();
    let of = |station: &Station| station.wires.iter().flat_map(|wire| network.take_tapped(wire.reversed())).collect();
    stations(run).map(of).enumerate().collect()
}

#[cfg(test)]
mod tests {
    use cyphonic_scenarios::{Document, Engine, Plan};

    use super::*;
    use crate::measure::{rows, watch_for};
    use crate::run::run;

    /// The round trips of login, registration and tunnel in the first cell of `setup`, with this framing and this delay
    /// to the NMS.
    fn round_trips(framing: &str, nms_delay_ms: &str) -> Vec<f64> {
        let sets = [("framing", framing), ("services.nms.delay_ms", nms_delay_ms)];
        let sets: Vec<_> = sets.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let plan = Plan::expand(&Document::embedded("setup").unwrap(), &sets).unwrap();
        let (scenario, watch) = (&plan.cells[0].scenario, watch_for(plan.measure));
        let run = run(scenario, 1, Engine::Events, &watch);
        let rows = rows(scenario, &run, &watch).unwrap();
        let of = |row: &Row| if let Row::Setup(setup) = row { setup.round_trips } else { panic!("{row:?}") };
        rows.iter().map(of).collect()
    }

    /// The row of the tunnel in this cell of `setup`.
    fn tunnel(sets: &[(&str, &str)]) -> Setup {
        let sets: Vec<_> = sets.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let plan = Plan::expand(&Document::embedded("setup").unwrap(), &sets).unwrap();
        let (scenario, watch) = (&plan.cells[0].scenario, watch_for(plan.measure));
        let run = run(scenario, 1, Engine::Events, &watch);
        let rows = rows(scenario, &run, &watch).unwrap();
        let Some(Row::Setup(tunnel)) = rows.into_iter().last() else { panic!("no rows") };
        tunnel
    }

    /// What the search for the path MTU costs has its own columns. Without it a relayed tunnel takes less than 7 kB of
    /// the two nodes, if both have a standing leg and neither knows the other.
    #[test]
    fn the_search_for_the_path_mtu_is_counted_apart() {
        let private = [("site.a.kind", "ipv4-private"), ("site.b.kind", "ipv4-private")];
        let conventional = tunnel(&[&private[..], &[("framing", "udp4501")]].concat());
        assert_eq!((conventional.search_packets, conventional.search_bytes), (0, 0));
        for framing in ["stream", "compact"] {
            let relayed = tunnel(&[&private[..], &[("framing", framing), ("signaling", "fast")]].concat());
            assert!(relayed.search_packets > 0 && relayed.search_bytes > relayed.search_packets * 1_228, "{relayed:?}");
            assert!(relayed.bytes - relayed.search_bytes <= 7_000, "{relayed:?}");
        }
    }

    /// Any two hosts are 40 ms apart, there and back.
    #[test]
    fn the_first_echo_comes_back_as_early_as_the_signaling_lets_it() {
        let (global, private) = ("ipv4-global", "ipv4-private");
        for framing in ["stream", "compact"] {
            for (a, b, signaling, expected) in [
                (global, global, "paper", (1, 160.0)),
                (global, global, "confirmed", (1, 200.0)),
                (global, global, "fast", (1, 120.0)),
                (private, global, "paper", (2, 160.0)),
                (private, global, "confirmed", (2, 200.0)),
                (private, global, "fast", (2, 120.0)),
                (global, private, "paper", (2, 140.0)),
                (global, private, "confirmed", (2, 140.0)),
                // The responder dials: the initiator's packets wait for its Tunnel Request.
                (global, private, "fast", (2, 140.0)),
                (private, private, "paper", (3, 480.0)),
                (private, private, "confirmed", (3, 480.0)),
                (private, private, "fast", (3, 200.0)),
            ] {
                let sets = [("framing", framing), ("signaling", signaling), ("site.a.kind", a), ("site.b.kind", b)];
                let tunnel = tunnel(&sets);
                assert_eq!((tunnel.pattern.unwrap().number(), tunnel.ms), expected, "{sets:?}");
            }
        }
    }

    /// The number of round trips does not depend on the distances.
    #[test]
    fn round_trips_are_the_same_however_far_the_nms_is() {
        for framing in ["udp4501", "stream", "compact"] {
            assert_eq!(round_trips(framing, "10"), round_trips(framing, "50"), "{framing}");
        }
        // Conventional: TCP, TLS and the login request; then the registration. Proposed: two QUIC handshakes, each with
        // a request.
        assert_eq!(round_trips("udp4501", "50")[..2], [3.0, 1.0]);
        assert_eq!(round_trips("stream", "50")[..2], [2.0, 2.0]);
    }
}
