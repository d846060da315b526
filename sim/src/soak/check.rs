//! The invariants, checked on a run.
//!
//! * **I1, authenticity.** Every flow, connection and echo at a virtual interface came from the owner of its source
//!   address. The nodes, all honest, never send each other anything else.
//! * **I2, addresses.** A node's virtual addresses never change, and no two nodes share one. Here and in I1, I3 and I6,
//!   a machine that is a copy of another node counts as that node.
//! * **I3, relaying.** On the wires of the TRS: a datagram that it forwards unchanged goes between two nodes that the
//!   NMS sent there together, and to an address that its owner proved.
//! * **I4, no amplification.** On the wires of AS, NMS and TRS: an address that sent nothing receives nothing, and an
//!   address that sent only Initials receives at most three times as much. On the wires of a node the same holds for
//!   its dialers.
//! * **I5, limits.** No log, table or list of the hosts overflowed. No table of a role was larger than so many nodes
//!   need, at the start of any step or at the end. No role reached a limit of its own. No node knows more peers than
//!   exist. No path is asked more often whether it works than a slow path can bear.
//! * **I6, no replay.** Each probe arrived at most once, at its destination: of two machines with one name and key, at
//!   one of them. No transfer delivered other bytes than
//!   were sent.
//! * **I7, liveness.** Everything that the [`model`] demands is answered, and the run ends. If nothing happens to the
//!   network, no registration and no tunnel is lost.
//! * **I8, no panic and no secret.** No panic, and nothing logged as an error. No TLS secret, and no common key, in the
//!   text of any event.
//! * **I9, determinism.** The same bytes in a second run, and on the other engine.
//! * **I10, secrecy.** No plaintext of an application on any wire. In the conventional method, no end key that the TRS
//!   could unwrap.
//! * **I11, access rules.** Nothing passes between two nodes that the rules forbid to talk, and the NMS chooses no
//!   route for them.
//! * **I12, the end of access.** Five seconds after the revocation of a node's certificate no peer has a tunnel to it:
//!   see `assault`.
//! * **I13, no reflection.** An address that an insider names, or whose datagrams it forges, gets nothing from nodes,
//!   and from the NMS what three times the forged bytes and one registration allow: see `assault`.
//!
//! I3, I8's secrets and I10 are expensive, so they are checked in a share of the runs: see [`Depth`]. Checks that need
//! an attacker are in `assault`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::event::{Basis, DropReason, Event, Failure};
use cyphonic_core::message::ErrorCode;
use cyphonic_core::name::Virtual;
use cyphonic_core::node::Node;
use cyphonic_core::route::optimal::{Verdict, Way};
use cyphonic_core::route::{Dialer, Pattern};
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Action, Engine, Family, Invariant, Pair, Scenario, Step};

use super::changeover::Changes;
use super::coverage::Paths;
use super::depth::Depth;
use super::errors::Errors;
use super::model::{self, Wanted};
use super::violation::{Violation, violation};
use super::{assault, wires};
use crate::dissect::Secrets;
use crate::host::apps::{AppReport, EchoReport, FlowReport, Probe, ProbeOutcome, TransferError, TransferReport};
use crate::host::{Host, Loss};
use crate::net::TapMode;
use crate::run::{self, Run, StepOutcome, StepReport};
use crate::world::Watch;

/// How long a datagram may take: its tunnel may have to be built first.
const UNDER_WAY: Duration = Duration::from_secs(3);

/// The result of checking a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// A digest of all packets on all wires; empty if the run panicked.
    pub digest: String,
    /// The first invariant, in their order, that did not hold.
    pub violation: Option<Violation>,
    /// The number of demands: rows of echoes, flows and transfers.
    pub demanded: usize,
    /// Simulated seconds.
    pub simulated_s: u64,
    /// The patterns of each node's tunnels.
    pub paths: Paths,
}

/// Runs a scenario with its first seed and checks the invariants.
pub fn examine(scenario: &Scenario, depth: Depth) -> Examined {
    let seed = *scenario.seeds.start();
    let errors = Errors::default();
    let logged = errors.clone();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        tracing::subscriber::with_default(logged, || {
            let tap = TapMode::Keep;
            let secrets = depth.packets.then(|| Arc::new(Secrets::default()));
            let watch = Watch { tap, secrets: secrets.clone(), ..Watch::default() };
            let mut run = run::run(scenario, seed, Engine::Events, &watch);
            let digest = run.digest();
            let (mut found, demanded) = violations(scenario, &mut run, depth);
            let kept = run.world.network().take_all_tapped();
            found.extend(wires::amplified(scenario, &run, &kept));
            if let Some(secrets) = secrets {
                found.extend(wires::violations(scenario, &run, &kept, &secrets));
            }
            let simulated_s = (run.ended - Instant::ZERO).as_secs();
            let paths = paths(scenario, &run);
            for (engine, wanted) in [(Engine::Events, depth.again), (Engine::Turmoil, depth.turmoil)] {
                let watch = Watch { tap: TapMode::Digest, ..Watch::default() };
                if wanted && run::run(scenario, seed, engine, &watch).digest() != digest {
                    found.push(violation(
                        Invariant::I9,
                        format!("another run, on {engine}, put other bytes on the wires"),
                    ));
                }
            }
            if depth.assault && found.is_empty() {
                found.extend(assault::violations(scenario, depth, run.world, &kept, &watch));
            }
            found.extend(errors.first().map(|text| violation(Invariant::I8, format!("an error was logged: {text}"))));
            found.sort_by_key(|violation| violation.invariant);
            Examined { digest, violation: found.into_iter().next(), demanded, simulated_s, paths }
        })
    }));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
        let violation = violation(Invariant::I8, format!("a panic: {text}"));
        let paths = Paths::new(scenario.nodes.len());
        Examined { digest: String::new(), violation: Some(violation), demanded: 0, simulated_s: 0, paths }
    })
}

fn paths(scenario: &Scenario, run: &Run) -> Paths {
    let mut paths = Paths::new(scenario.nodes.len());
    for (_, host, event) in &run.events {
        if let (Some((_, pattern)), Some(node)) = (event.path(), scenario.node(host)) {
            paths.note(node, pattern);
        }
    }
    paths
}

fn violations(scenario: &Scenario, run: &mut Run, depth: Depth) -> (Vec<Violation>, usize) {
    let mut found = Vec::new();
    let owners = owners(scenario, run, &mut found);
    deliveries(scenario, run, &owners, &mut found);
    reports(scenario, run, &mut found);
    limits(scenario, run, &mut found);
    let demanded = liveness(scenario, run, depth, &mut found);
    rest(scenario, run, &mut found);
    routes(scenario, run, &mut found);
    (found, demanded)
}

/// I2: the owner of each virtual address, by the Registration Responses.
fn owners(scenario: &Scenario, run: &Run, found: &mut Vec<Violation>) -> BTreeMap<IpAddr, usize> {
    let mut owners: BTreeMap<IpAddr, usize> = BTreeMap::new();
    let mut told: BTreeMap<usize, Virtual> = BTreeMap::new();
    for (at, host, event) in &run.events {
        let Event::Registered { addresses, .. } = event else { continue };
        let Some(node) = scenario.node(host).map(|node| scenario.original(node)) else { continue };
        let before = *told.entry(node).or_insert(*addresses);
        if before != *addresses {
            let text = format!("{host} was {before:?}, and is {addresses:?} since {at}");
            found.push(violation(Invariant::I2, text));
        }
        for address in [IpAddr::from(addresses.v4), addresses.v6.into()] {
            let owner = *owners.entry(address).or_insert(node);
            if owner != node {
                let text = format!("{address} is {}'s, and {host} was given it at {at}", name(scenario, owner));
                found.push(violation(Invariant::I2, text));
            }
        }
    }
    owners
}

fn name(scenario: &Scenario, node: usize) -> &str {
    scenario.nodes[node].name.short()
}

/// I1 and I6 at the receivers: every flow and connection was made by the owner of its source address, to this node.
fn deliveries(scenario: &Scenario, run: &mut Run, owners: &BTreeMap<IpAddr, usize>, found: &mut Vec<Violation>) {
    let sent: Vec<_> = run
        .reports()
        .filter_map(|(pair, report)| report.flow().map(|flow| (pair.from, pair.to, flow.flow, flow.sent)))
        .collect();
    let original = |node: usize| scenario.original(node);
    let transfers = |from: Option<&usize>, to: usize| {
        let mine = |action: &&Action| {
            matches!(action, Action::Tcp { pair, .. }
                if (Some(&original(pair.from)), original(pair.to)) == (from, original(to)))
        };
        scenario.steps.iter().map(|step| &step.action).filter(mine).count()
    };
    // What the machines of one node received of each flow, together.
    let mut together: BTreeMap<(usize, SocketAddr, u64), u64> = BTreeMap::new();
    for node in 0..scenario.nodes.len() {
        let me = name(scenario, node);
        let (flows, records, losses, drops) = run.world.node(node, |_, host| {
            let flows: Vec<_> = host.flows().map(|(from, flow, arrivals)| (from, flow, arrivals.clone())).collect();
            (flows, host.sink_records().to_vec(), host.losses().clone(), host.drops().clone())
        });
        for (from, flow, arrivals) in flows {
            let owner = owners.get(&from.ip());
            let is_it = |(f, t, id, _): &&(usize, usize, u64, u64)| {
                (Some(&original(*f)), original(*t), *id) == (owner, original(node), flow)
            };
            let Some((.., sent)) = sent.iter().find(is_it) else {
                let text = format!("{me} received a flow from {from} that its owner never sent it");
                found.push(violation(Invariant::I1, text));
                continue;
            };
            let new = together.entry((original(node), from, flow)).or_default();
            *new += arrivals.received;
            if arrivals.duplicates > 0 || *new > *sent {
                let again = arrivals.duplicates;
                let text = format!("of {sent} datagrams from {from}, {me} received {new}, and {again} of them again");
                found.push(violation(Invariant::I6, text));
            }
        }
        for record in &records {
            let owner = owners.get(&record.remote.ip());
            if transfers(owner, node) == 0 {
                let text = format!("{me} received a connection from {} that its owner never made", record.remote);
                found.push(violation(Invariant::I1, text));
            }
        }
        for (loss, invariant, what) in [
            (Loss::InnerNotOurs, Invariant::I1, "was handed packets for another address"),
            (Loss::LogFull, Invariant::I5, "logged more than its log holds"),
            (Loss::StreamLimit, Invariant::I5, "used more TCP connections than it may"),
        ] {
            if let Some(count) = losses.get(&loss) {
                found.push(violation(invariant, format!("{me} {what}: {count}")));
            }
        }
        // A packet for another destination is no violation: a node may be registered and not have received its
        // addresses yet.
        if let Some(count) = drops.get(&DropReason::InnerSource) {
            let text = format!("{me} got {count} packets from other sources than their senders' own addresses");
            found.push(violation(Invariant::I1, text));
        }
    }
}

/// I1 and I6 at the senders: every answer has the bytes that were sent, comes once, and comes from the node that was
/// asked.
fn reports(scenario: &Scenario, run: &Run, found: &mut Vec<Violation>) {
    for (pair, report) in run.reports() {
        let (from, to) = (name(scenario, pair.from), name(scenario, pair.to));
        if let Some(echo) = report.echo() {
            if echo.corrupt > 0 {
                let text =
                    format!("{from} got {} answers to echoes to {to} that are not what it sent there", echo.corrupt);
                found.push(violation(Invariant::I1, text));
            }
            if echo.duplicates > 0 {
                let text = format!("{from} got {} answers from {to} more than once", echo.duplicates);
                found.push(violation(Invariant::I6, text));
            }
        }
        if report.transfer().is_some_and(|transfer| transfer.result == Some(Err(TransferError::WrongHash))) {
            found.push(violation(Invariant::I6, format!("{to} received other bytes than {from} sent over TCP")));
        }
    }
}

/// I5: the sizes of all tables are bounded. Peers are counted at the end of the run. A peer that was not found may have
/// three entries: its name and its two addresses.
fn limits(scenario: &Scenario, run: &mut Run, found: &mut Vec<Violation>) {
    let nodes = scenario.nodes.len();
    for node in 0..nodes {
        let peers = run.world.node(node, |_, host| host.machine().peers());
        let known = peers.iter().filter(|peer| peer.addresses.is_some()).count();
        if known >= nodes || peers.len() > 3 * (nodes - 1) {
            let text = format!("{} keeps {} peers, of {nodes} nodes in all", name(scenario, node), peers.len());
            found.push(violation(Invariant::I5, text));
        }
    }
    // Every node, and every pair of nodes, may have a few entries: a tunnel that is up, the one that it replaced, and
    // one that is being built. Route Directions are remembered for twelve seconds. In that time a peer that cannot be
    // reached is asked for every 1.6 s, with up to two Route Directions each time.
    for ((host, table), count) in &run.tables {
        let each = if *table == "directions obeyed" { 16 } else { 6 };
        let bound = 8 + each * if scenario.node(host).is_some() { nodes } else { nodes * nodes };
        if *count > bound {
            found.push(violation(Invariant::I5, format!("{host} had {count} {table}, with {nodes} nodes in all")));
        }
    }
    // Every limit of a role is far above what so few nodes need. A role that reaches a limit leaks entries.
    for ((host, _), count) in run.drops.iter().filter(|((_, reason), _)| *reason == DropReason::Limit) {
        found.push(violation(Invariant::I5, format!("{host} came to a limit {count} times")));
    }
}

/// I7. Gives the number of demands.
fn liveness(scenario: &Scenario, run: &Run, depth: Depth, found: &mut Vec<Violation>) -> usize {
    if let Some(storm) = &run.storm {
        found.push(violation(Invariant::I7, storm.to_string()));
        return 0;
    }
    // A TCP connection without a peer ends only after its timeouts.
    let is_pending = |(step, report): (&Step, &StepReport)| {
        report.completed.is_none() && !matches!(step.action, Action::Tcp { .. } | Action::BareTcp { .. })
    };
    let pending = scenario.steps.iter().zip(&run.steps).position(is_pending);
    if let Some(step) = pending.or_else(|| (run.steps.len() < scenario.steps.len()).then_some(run.steps.len())) {
        found.push(violation(
            Invariant::I7,
            format!("step {step} was not complete when the run ended, {}; {}", run.ended, waits(run)),
        ));
        return 0;
    }
    let began: Vec<Instant> = run.steps.iter().map(|step| step.started).collect();
    let demands = model::demands(scenario, &began);
    let changes = Changes::of(scenario, run);
    for demand in &demands {
        let (pair, report) = match &run.steps[demand.step].outcome {
            StepOutcome::App(pair, report) => (*pair, report),
            StepOutcome::Bare(_, report) => (demand.pair, report),
            StepOutcome::None | StepOutcome::Mtu(..) => continue,
        };
        let came = match demand.what {
            Wanted::LastEcho | Wanted::EchoesFrom(_) | Wanted::EveryEcho { .. } | Wanted::Silence => {
                report.echo().map(|echo| echoes(echo, demand.what, |sent| changes.excuses(pair, sent)))
            }
            Wanted::Refusal => refused(scenario, run, demand.step, report),
            Wanted::EveryDatagram => {
                report.flow().and_then(|flow| datagrams(scenario, run, demand.step, flow, &changes))
            }
            Wanted::Transfer => report.transfer().map(|transfer| transferred(scenario, run, demand.step, transfer)),
        };
        let Some((good, what)) = came else { continue };
        if good != depth.broken {
            if demand.what == (Wanted::EveryEcho { is_direct: true }) {
                directness(scenario, run, demand, found);
            }
            continue;
        }
        let (from, to) = (name(scenario, pair.from), name(scenario, pair.to));
        let mut text = format!("{from} does not reach {to}, {} s after the last fault: {what}", demand.quiet.as_secs());
        if demand.what == Wanted::Silence {
            text = format!(
                "{from} and {to} talk, though the certificate of one of them was taken back or has expired: {what}"
            );
        }
        if demand.what == Wanted::Refusal {
            let text = format!("{from} and {to} talk, though the access rules forbid it: {what}");
            found.push(violation(Invariant::I11, text));
            continue;
        }
        if matches!(demand.what, Wanted::EveryEcho { .. } | Wanted::EveryDatagram) {
            text.push_str("; and nothing ever happened to the network");
        }
        let _ = write!(text, "; {}", waits(run));
        found.push(violation(Invariant::I7, text));
    }
    demands.len()
}

/// The timer for which each role waited at the end: a wrong one often explains why a row of echoes failed.
fn waits(run: &Run) -> String {
    let waits = run.world.timers().into_iter().map(|(name, due)| match due {
        Some(due) => format!("{name}: {due}"),
        None => format!("{name}: nothing"),
    });
    format!("roles waited for: {}", waits.collect::<Vec<_>>().join(", "))
}

/// Whether a row of echoes met the demand, with a sentence on its outcome. Echoes under way may be lost when a better
/// tunnel replaces the present one. The last echo of a row may not. `excused`: whether one that was sent at this time
/// may be lost.
fn echoes(echo: &EchoReport, wanted: Wanted, excused: impl Fn(Instant) -> bool) -> (bool, String) {
    let is_answered = |probe: &Probe| matches!(probe.outcome, ProbeOutcome::Answered { .. }) || excused(probe.sent);
    let last = echo.probes.last().is_some_and(is_answered);
    let whole = echo.probes.iter().all(is_answered) && !echo.probes.is_empty();
    let mut text = format!("{} of {} echoes were answered", echo.answered(), echo.probes.len());
    if echo.probes.is_empty() {
        text.push_str("; not even its name was found");
    }
    let good = match wanted {
        Wanted::EveryEcho { .. } => whole,
        Wanted::Silence | Wanted::Refusal => echo.answered() == 0,
        Wanted::EchoesFrom(over) => last && echo.probes.iter().filter(|probe| probe.sent >= over).all(is_answered),
        Wanted::LastEcho | Wanted::EveryDatagram | Wanted::Transfer => last,
    };
    if let Wanted::EchoesFrom(over) = wanted {
        let late = echo.probes.iter().filter(|probe| probe.sent >= over && !is_answered(probe)).count();
        let _ = write!(text, ", {late} of those that were not had been sent after {over}");
    }
    (good, text)
}

/// Whether nothing of an action arrived, and what did; `None` if nothing can be said.
fn refused(scenario: &Scenario, run: &Run, step: usize, report: &AppReport) -> Option<(bool, String)> {
    if let Some(echo) = report.echo() {
        return Some(echoes(echo, Wanted::Refusal, |_| false));
    }
    if let Some(flow) = report.flow() {
        let received = arrived(scenario, run, step, flow)?;
        return Some((received == 0, format!("{received} datagrams of step {step} arrived")));
    }
    let transfer = report.transfer()?;
    let (_, text) = transferred(scenario, run, step, transfer);
    Some((transfer.acknowledged == 0 && transfer.result != Some(Ok(())), text))
}

/// I11: the NMS chooses no route for nodes that the access rules forbid to talk.
fn routes(scenario: &Scenario, run: &Run, found: &mut Vec<Violation>) {
    let began: Vec<Instant> = run.steps.iter().map(|step| step.started).collect();
    for (at, _, event) in &run.events {
        let Event::RouteChosen(chosen) = event else { continue };
        if !model::may_meet(scenario, &began, *at, [&chosen.initiator, &chosen.responder]) {
            let (a, b) = (chosen.initiator.short(), chosen.responder.short());
            let text = format!("at {at} the NMS chose a route for {a} and {b}, which the access rules forbid");
            return found.push(violation(Invariant::I11, text));
        }
    }
}

/// How many datagrams of a flow arrived; `None` if there was no step of that kind.
fn arrived(scenario: &Scenario, run: &Run, step: usize, flow: &FlowReport) -> Option<u64> {
    let Action::Udp(probes) = &scenario.steps[step].action else { return None };
    let arrivals = |host: &Host<Node>| {
        host.flows().find(|(_, id, _)| *id == flow.flow).map_or(0, |(.., arrivals)| arrivals.received)
    };
    Some(run.world.look(probes.pair.to, arrivals))
}

/// Whether every datagram of a flow arrived, and how many did; `None` if there was no time, or some may be lost.
fn datagrams(
    scenario: &Scenario,
    run: &Run,
    step: usize,
    flow: &FlowReport,
    changes: &Changes,
) -> Option<(bool, String)> {
    let Action::Udp(probes) = &scenario.steps[step].action else { return None };
    // The step is complete when its last datagram is sent.
    run.steps[step].completed.filter(|sent| *sent + UNDER_WAY <= run.ended)?;
    let sent = (0..probes.count).map(|number| run.steps[step].started + probes.interval * number);
    if sent.into_iter().any(|sent| changes.excuses(probes.pair, sent)) {
        return None;
    }
    let (count, received) = (u64::from(probes.count), arrived(scenario, run, step, flow)?);
    Some((received == count, format!("{received} of {count} datagrams of step {step} arrived")))
}

/// Whether a transfer is complete, and how it ended. It counts as complete if every byte was acknowledged, even without
/// the end of the connection: smoltcp does not retransmit a FIN after three duplicate acknowledgements.
fn transferred(scenario: &Scenario, run: &Run, step: usize, transfer: &TransferReport) -> (bool, String) {
    let text = match transfer.result {
        Some(Ok(())) => format!("the TCP transfer of step {step} is complete"),
        Some(Err(error)) => format!("the TCP transfer of step {step} ended: {error:?}"),
        None => format!("the TCP transfer of step {step} is not complete, or nobody of that name was found"),
    };
    let (to, bytes, is_bare) = match &scenario.steps[step].action {
        Action::Tcp { pair, bytes, .. } => (pair.to, *bytes, false),
        Action::BareTcp { to, bytes, .. } => (*to, *bytes, true),
        _ => return (false, text),
    };
    let waits = |host: &Host<Node>| {
        let records = if is_bare { host.bare_records() } else { host.sink_records() };
        records.iter().any(|record| record.bytes == bytes && record.sha256.is_none())
    };
    let lacks_fin = || transfer.acknowledged == bytes && run.world.look(to, waits);
    (transfer.ok() || transfer.result == Some(Err(TransferError::Broken)) && lacks_fin(), text)
}

/// I7: two nodes that have a direct path use it, once there was time to find it.
fn directness(scenario: &Scenario, run: &Run, demand: &model::Demand, found: &mut Vec<Violation>) {
    let (from, to) = (name(scenario, demand.pair.from), &scenario.nodes[demand.pair.to].name);
    let ends = run.steps[demand.step].completed.unwrap_or(run.ended);
    let of_pair = |(at, host, _): &&(Instant, String, Event)| host == from && *at <= ends;
    let paths = run.events.iter().rev().filter(of_pair).filter_map(|(_, _, event)| event.path());
    let mut patterns = paths.filter(|(peer, _)| *peer == to).map(|(_, pattern)| pattern);
    if patterns.next() == Some(Pattern::Relayed) {
        let text = format!("{from} and {} are relayed, though there is a direct way, and nothing happened", to.short());
        found.push(violation(Invariant::I7, text));
    }
}

/// I7: if nothing happens to the network, registered nodes stay registered and tunnels stay up.
fn rest(scenario: &Scenario, run: &Run, found: &mut Vec<Violation>) {
    let began: Vec<Instant> = run.steps.iter().map(|step| step.started).collect();
    let Some(well) = model::undisturbed(scenario, &began) else { return };
    promises(scenario, run, found);
    let is_well = |short: &str| scenario.node(short).is_some_and(|node| well[node]);
    let changes = Changes::of(scenario, run);
    let changes_over = |short: &str, at: Instant| scenario.node(short).is_some_and(|node| changes.is_one(node, at));
    let mut registered = BTreeSet::new();
    let mut up = BTreeSet::new();
    for (at, host, event) in run.events.iter().filter(|(_, host, _)| is_well(host)) {
        match event {
            Event::Registered { .. } => {
                registered.insert(host);
            }
            Event::Unregistered { reason } if registered.contains(host) => {
                let text = format!("{host} lost its registration at {at}, though nothing had happened: {reason}");
                found.push(violation(Invariant::I7, text));
            }
            Event::TunnelUp(tunnel) => {
                up.insert((host.as_str(), tunnel.peer.short()));
            }
            Event::TunnelDown { peer, reason } => {
                let short = peer.split('.').next().unwrap_or_default();
                let is_moved = *reason == Failure::Moved && changes_over(host, *at);
                if is_moved || *reason == Failure::Refused(ErrorCode::NotPermitted) {
                    up.remove(&(host.as_str(), short));
                    continue;
                }
                // If the paper's policy chooses a blocked path, the listener's answer may never arrive.
                if up.remove(&(host.as_str(), short)) && up.contains(&(short, host.as_str())) {
                    let text =
                        format!("{host} lost its tunnel to {short} at {at}, though nothing had happened: {reason}");
                    found.push(violation(Invariant::I7, text));
                }
            }
            _ => {}
        }
    }
}

/// I7, under the optimal policy if nothing happens: a way of which the NMS is certain works. Otherwise the initiator
/// would lose half a second.
fn promises(scenario: &Scenario, run: &Run, found: &mut Vec<Violation>) {
    for (at, _, event) in &run.events {
        let Event::RouteChosen(chosen) = event else { continue };
        let Basis::Ways(considered) = &chosen.basis else { continue };
        let ends = [chosen.initiator.short(), chosen.responder.short()].map(|short| scenario.node(short));
        let [Some(from), Some(to)] = ends else { continue };
        let Some(ways) = model::ways(scenario, Pair { from, to, family: Family::Ipv6 }) else { continue };
        for way in considered.iter().filter(|way| way.verdict == Verdict::Yes) {
            let dialer = if way.dialer == Dialer::Initiator { from } else { to };
            let family = match way.way {
                Way::Inside => continue,
                Way::V6 => Family::Ipv6,
                Way::V4 => Family::Ipv4,
            };
            if ways.get(&(dialer, family)) == Some(&false) {
                let (dialer, pair) = (name(scenario, dialer), [from, to].map(|node| name(scenario, node)));
                let text = format!("at {at} the NMS was sure that {dialer} can dial, of {pair:?}, by {}", way.way);
                return found.push(violation(Invariant::I7, text));
            }
        }
    }
}
