//! Makes result rows from the results of a run.

mod flights;
mod handover;
mod setup;
mod traffic;
mod unfinished;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::event::Event;
use cyphonic_core::node::Node;
use cyphonic_core::route::{Dialer, Pattern};
use cyphonic_scenarios::rows::{Composition, Field, Flow, LATE, Millis, Outcome, Rtt, TcpFailure};
use cyphonic_scenarios::{Action, Cipher, Family, Measure, Over, Pair, Probes, Row, Scenario};
use thiserror::Error;

use crate::capture::composition::{compose, compose_cbc};
use crate::dissect::Secrets;
use crate::dissect::quic::Opener;
use crate::host::Host;
use crate::host::apps::{AppReport, EchoReport, FlowReport, ProbeOutcome, Resolution, TransferError, TransferReport};
use crate::net::{Storm, TapMode};
use crate::run::{Run, StepOutcome};
use crate::world::Watch;

/// Why a run gives no rows.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MeasureError {
    /// A step was not complete when the duration limit came.
    #[error("step {step} was not complete after {limit_s} s: {why}")]
    Incomplete {
        /// The step's number, from 0.
        step: usize,
        /// The limit, seconds.
        limit_s: u64,
        /// What the step waited for, and what may be in the way.
        why: String,
    },
    /// `composition` without a packet to take apart.
    #[error("no probe crossed in one packet, so there is nothing to take apart")]
    NoPacket,
    /// A packet on the wire does not look as its framing says.
    #[error("the captured packet is no {0} packet")]
    Foreign(&'static str),
    /// The packet holds more than the tunnelled packet, so its sum would not be the framing's.
    #[error("{0} bytes of other QUIC frames share the captured packet")]
    Shared(u32),
    /// It had to be stopped.
    #[error("{0}")]
    Storm(Storm),
    /// `setup` without an echo that was answered.
    #[error("no echo was answered, so the tunnel was never used")]
    NoEcho,
    /// `handover` without traffic in both directions.
    #[error("no two flows, one in each direction, were started")]
    NoFlows,
    /// `traffic` without a `wait` that lasts.
    #[error("no `wait` step lasts longer than nothing")]
    NoWait,
}

/// What has to be watched for a measure.
pub fn watch_for(measure: Measure) -> Watch {
    match measure {
        Measure::Outcome | Measure::Rtt | Measure::Flow => Watch::default(),
        Measure::Setup | Measure::Handover | Measure::Traffic => Watch { tap: TapMode::Keep, ..Watch::default() },
        Measure::Composition => {
            Watch { tap: TapMode::Keep, secrets: Some(Arc::new(Secrets::default())), ..Watch::default() }
        }
    }
}

/// The rows of a run. `watch` is what was watched in it.
pub fn rows(scenario: &Scenario, run: &Run, watch: &Watch) -> Result<Vec<Row>, MeasureError> {
    if let Some(storm) = &run.storm {
        return Err(MeasureError::Storm(storm.clone()));
    }
    if !run.complete {
        let step = run.steps.iter().position(|s| s.completed.is_none()).unwrap_or(run.steps.len());
        let why = unfinished::why(scenario, run, step);
        return Err(MeasureError::Incomplete { step, limit_s: scenario.duration_limit.as_secs(), why });
    }
    match scenario.measure {
        Measure::Outcome => Ok(outcomes(scenario, run).into_iter().map(Row::Outcome).collect()),
        Measure::Rtt => Ok(rtts(scenario, run).into_iter().map(Row::Rtt).collect()),
        Measure::Flow => Ok(flows(scenario, run).into_iter().map(Row::Flow).collect()),
        Measure::Composition => composition(scenario, run, watch),
        Measure::Setup => setup::rows(scenario, run),
        Measure::Handover => handover::rows(scenario, run),
        Measure::Traffic => traffic::rows(scenario, run),
    }
}

/// The tunnel of a pair that was built last, as its first node saw it.
pub fn last_tunnel(scenario: &Scenario, run: &Run, pair: Pair) -> Option<(Pattern, Dialer)> {
    let (from, to) = (&scenario.nodes[pair.from].name, &scenario.nodes[pair.to].name);
    let own = run.events.iter().rev().filter(|(_, host, _)| host == from.short());
    let (_, pattern) = own.clone().filter_map(|(.., event)| event.path()).find(|(peer, _)| *peer == to)?;
    own.into_iter().find_map(|(.., event)| match event {
        Event::TunnelUp(up) if up.peer == *to => {
            Some((pattern, if up.dialed { Dialer::Initiator } else { Dialer::Responder }))
        }
        _ => None,
    })
}

/// The number of echoes that the steps of a scenario ask of a pair, even if the node cannot send them.
pub fn echoes_asked(scenario: &Scenario, pair: Pair) -> u32 {
    let counts = scenario.steps.iter().map(|step| match &step.action {
        Action::Echo(probes) if (probes.pair.from, probes.pair.to) == (pair.from, pair.to) => probes.count,
        _ => 0,
    });
    counts.sum()
}

fn outcomes(scenario: &Scenario, run: &Run) -> Vec<Outcome> {
    let mut pairs: Vec<Pair> = Vec::new();
    for (pair, report) in run.reports() {
        let known = pairs.iter().any(|p| (p.from, p.to) == (pair.from, pair.to));
        if !known && report.flow().is_none() {
            pairs.push(*pair);
        }
    }
    let bare = run.bare().map(|(pair, _)| pair).collect::<BTreeSet<_>>();
    let bare = bare.into_iter().map(|pair| bare_outcome(scenario, run, pair));
    pairs.into_iter().map(|pair| outcome(scenario, run, pair)).chain(bare).collect()
}

/// The TCP columns of some transfers, with nothing in the others.
fn transfers(over: Over, mine: &[&AppReport]) -> Outcome {
    let transfers = || mine.iter().filter_map(|report| report.transfer().map(|t| (*report, t)));
    let mut ended = transfers().filter_map(|(report, transfer)| {
        let first = report.resolution.as_ref().and_then(|r| r.finished).unwrap_or(report.started);
        transfer.completed.map(|completed| Millis::new(completed - first))
    });
    let is_asked = transfers().count() > 0;
    Outcome {
        initiator: String::new(),
        responder: String::new(),
        pattern: None,
        dialer: None,
        echo_sent: 0,
        echo_received: 0,
        tcp_bytes: transfers().map(|(_, transfer)| transfer.acknowledged).sum(),
        tcp_ok: is_asked && transfers().all(|(_, transfer)| transfer.ok()),
        tcp_ms: ended.next_back(),
        tcp_over: is_asked.then_some(over),
        tcp_failed: transfers().find_map(|(report, transfer)| failure(report, transfer)),
    }
}

/// Why a transfer failed; `None` if it did not.
fn failure(report: &AppReport, transfer: &TransferReport) -> Option<TcpFailure> {
    Some(match transfer.result {
        Some(Ok(())) => return None,
        Some(Err(TransferError::NoAddress)) => TcpFailure::NoAddress,
        Some(Err(TransferError::NoAnswer)) => TcpFailure::NoAnswer,
        Some(Err(TransferError::Refused)) => TcpFailure::Refused,
        Some(Err(TransferError::Broken)) => TcpFailure::Broken,
        Some(Err(TransferError::WrongHash)) => TcpFailure::WrongHash,
        None => match &report.resolution {
            Some(Resolution { result: Some(Err(_)), .. }) => TcpFailure::NoName,
            _ => TcpFailure::Unfinished,
        },
    })
}

/// The outcome of a pair's TCP without a tunnel.
fn bare_outcome(scenario: &Scenario, run: &Run, (from, to): (usize, usize)) -> Outcome {
    let mine: Vec<&AppReport> = run.bare().filter(|(pair, _)| *pair == (from, to)).map(|(_, report)| report).collect();
    let short = |node: usize| scenario.nodes[node].name.short().to_owned();
    Outcome { initiator: short(from), responder: short(to), ..transfers(Over::Underlay, &mine) }
}

fn outcome(scenario: &Scenario, run: &Run, pair: Pair) -> Outcome {
    let mine: Vec<&AppReport> =
        run.reports().filter(|(p, _)| (p.from, p.to) == (pair.from, pair.to)).map(|(_, report)| report).collect();
    let echoes = || mine.iter().filter_map(|report| report.echo());
    let tunnel = last_tunnel(scenario, run, pair);
    Outcome {
        initiator: scenario.nodes[pair.from].name.short().to_owned(),
        responder: scenario.nodes[pair.to].name.short().to_owned(),
        pattern: tunnel.map(|(pattern, _)| pattern),
        dialer: tunnel.map(|(_, dialer)| dialer),
        echo_sent: echoes_asked(scenario, pair),
        echo_received: echoes().map(|echo| echo.answered() as u32).sum(),
        ..transfers(Over::Tunnel, &mine)
    }
}

fn rtts(scenario: &Scenario, run: &Run) -> Vec<Rtt> {
    let steps = run.steps.iter().enumerate();
    let echoes = steps.filter_map(|(step, done)| match &done.outcome {
        StepOutcome::App(pair, report) => Some((step as u32, *pair, report.echo()?)),
        _ => None,
    });
    let rows = |(step, pair, echo): (u32, Pair, &EchoReport)| {
        let short = |node: usize| scenario.nodes[node].name.short().to_owned();
        let row = |(index, outcome): (usize, ProbeOutcome)| {
            let rtt_ms = match outcome {
                ProbeOutcome::Answered { rtt_ns } => Some(Millis::new(std::time::Duration::from_nanos(rtt_ns))),
                _ => None,
            };
            let (initiator, responder) = (short(pair.from), short(pair.to));
            Rtt { step, initiator, responder, probe: index as u32 + 1, rtt_ms }
        };
        echo.probes.iter().map(|probe| probe.outcome).enumerate().map(row).collect::<Vec<_>>()
    };
    echoes.flat_map(rows).collect()
}

fn flows(scenario: &Scenario, run: &Run) -> Vec<Flow> {
    let steps = scenario.steps.iter().zip(&run.steps).enumerate();
    let flows = steps.filter_map(|(index, (words, step))| match (&words.action, &step.outcome) {
        (Action::Udp(probes), StepOutcome::App(pair, report)) => {
            Some(flow(scenario, run, (index as u32, probes, *pair), report.flow()?))
        }
        _ => None,
    });
    flows.collect()
}

fn flow(scenario: &Scenario, run: &Run, (step, probes, pair): (u32, &Probes, Pair), sent: &FlowReport) -> Flow {
    // Every flow has a name of its own.
    let arrivals =
        |host: &Host<Node>| host.flows().find(|(_, id, _)| *id == sent.flow).map(|(.., found)| found.clone());
    let arrivals = run.world.look(pair.to, arrivals).unwrap_or_default();
    let mut delays: Vec<Duration> = arrivals
        .order()
        .iter()
        .filter_map(|&(sequence, at)| Some(at - (sent.begun? + probes.interval * u32::try_from(sequence).ok()?)))
        .collect();
    delays.sort_unstable();
    let name = |node: usize| scenario.nodes[node].name.short().to_owned();
    Flow {
        step,
        initiator: name(pair.from),
        responder: name(pair.to),
        sent: sent.sent,
        lost: sent.sent.saturating_sub(arrivals.received),
        duplicated: arrivals.duplicates,
        reordered: arrivals.reordered,
        late: delays.iter().filter(|delay| **delay > LATE).count() as u64,
        gap_ms: (arrivals.received > 1).then(|| Millis::new(arrivals.longest_gap)),
        delay_ms: delays.get(delays.len() / 2).map(|delay| Millis::new(*delay)),
        worst_ms: delays.last().map(|delay| Millis::new(*delay)),
    }
}

fn composition(scenario: &Scenario, run: &Run, watch: &Watch) -> Result<Vec<Row>, MeasureError> {
    let found = run.steps.iter().find_map(|step| match &step.outcome {
        StepOutcome::Mtu(pair, found) => Some((pair, found)),
        _ => None,
    });
    let (pair, found) = found.filter(|(_, found)| !found.outer.is_empty()).ok_or(MeasureError::NoPacket)?;
    let secrets = watch.secrets.clone().unwrap_or_default();
    let mut opener = Opener::new(&secrets);
    let inner_v6 = pair.family == Family::Ipv6;
    let composed = match scenario.cipher {
        Cipher::AesCtr => compose(&found.outer, &mut opener, scenario.framing, inner_v6),
        Cipher::AesCbcMd5 => compose_cbc(&found.outer, inner_v6, found.largest),
    };
    let composed = composed.ok_or(MeasureError::Foreign(scenario.framing.name()))?;
    if composed.other_frames > 0 {
        return Err(MeasureError::Shared(composed.other_frames));
    }
    let of_cbc = Field::OF_CBC.into_iter().filter(|_| scenario.cipher == Cipher::AesCbcMd5);
    let row = |field| Row::Composition(Composition { field, bytes: composed.bytes(field) });
    Ok(Field::ALL.into_iter().chain(of_cbc).map(row).collect())
}
