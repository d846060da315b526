//! What set-up costs: every packet that a host sends is counted once, where it leaves that host.

use std::net::IpAddr;
use std::time::Duration;

use cyphonic_core::event::Event;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::rows::{Phase, Setup};
use cyphonic_scenarios::{Link, Row, Scenario, Service};

use super::{MeasureError, last_tunnel};
use crate::host::apps::ProbeOutcome;
use crate::net::Tapped;
use crate::net::packet::Ip;
use crate::run::{Run, StepOutcome};
use crate::world::Station;

/// A packet where it left a host.
struct Sent {
    at: Instant,
    source: IpAddr,
    destination: IpAddr,
    len: u64,
    /// Which host, as [`stations`] orders them.
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
    // The node turns to the NMS in the moment in which the login is done.
    let logged_in = sent.iter().filter(|p| p.host == initiator && to(nms, p)).map(|p| p.at).min().unwrap_or(started);
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
    let round_trip = round_trip(&scenario.sites[scenario.nodes[pair.from].interfaces[0].site].link, nms);
    let row = |phase, took: Duration, pattern, packets: Vec<&Sent>| {
        Row::Setup(Setup {
            phase,
            pattern,
            ms: took.as_secs_f64() * 1e3,
            round_trips: took.as_secs_f64() / round_trip.as_secs_f64(),
            packets: packets.len() as u64,
            bytes: packets.iter().map(|p| p.len).sum(),
        })
    };
    let login = sent.iter().filter(|p| to(auth, p)).collect();
    let registration = sent.iter().filter(|p| to(nms, p) && p.at <= last_registered).collect();
    let tunnel = sent.iter().filter(|p| p.at >= asked && p.at <= answered && !to(auth, p)).collect();
    let pattern = last_tunnel(scenario, run, pair).map(|(pattern, _)| pattern);
    Ok(vec![
        row(Phase::Login, logged_in - started, None, login),
        row(Phase::Registration, registered - logged_in, None, registration),
        row(Phase::Tunnel, answered - asked, pattern, tunnel),
    ])
}

/// Where nodes begin in [`stations`].
const NODES: usize = 3;

fn stations(run: &Run) -> impl Iterator<Item = &Station> {
    [&run.world.auth, &run.world.nms, &run.world.trs].into_iter().chain(&run.world.nodes)
}

fn all_sent(run: &Run) -> Vec<Sent> {
    let mut all = Vec::new();
    for (host, station) in stations(run).enumerate() {
        for Tapped { departs, packet, .. } in run.world.sent(station) {
            if let Some(ip) = Ip::parse(&packet) {
                let (source, destination, len) = (ip.source, ip.destination, packet.len() as u64);
                all.push(Sent { at: departs, source, destination, len, host });
            }
        }
    }
    all
}

/// Between a site's node and a service, without what rates and jitter add.
fn round_trip(site: &Link, service: &Service) -> Duration {
    site.up.delay + service.link.down.delay + service.link.up.delay + site.down.delay
}
