//! A run as one HTML page, which loads nothing from elsewhere.
//!
//! The page has five parts: the topology with its NATs and firewalls; a timeline of the packets on the wires; the
//! sequence of messages beside it; the decisions that `explain` tells, at their times; the loss and the gaps of each
//! flow. The page of a run ([`of_run`]) has all of them. The page of an event log of a real run ([`of_log`]) has no
//! packets.

mod layout;

use std::path::Path;

use cyphonic_core::event::Event;
use cyphonic_core::route::Pattern;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::log::{Entry, What};
use cyphonic_scenarios::{Action, Document, Engine, Pair, Plan, Scenario, write_whole};
use cyphonic_sequence::{Arrow, Sequence, escaped};
use serde::Serialize;

use super::{batch, explain, sequences};
use crate::error::LabError;
use crate::host::apps::{AppReport, EchoReport, Outcome, ProbeOutcome};
use crate::net::TapMode;
use crate::run::{Run, StepOutcome, run};
use crate::world::Watch;

/// Most packets of a page. If a run has more, the page has every nth of them, and says so.
const MOST_PACKETS: usize = 20_000;
/// Most messages in the sequence of a page.
const MOST_ARROWS: usize = 2_000;

/// All that a page shows.
#[derive(Serialize)]
struct Page {
    title: String,
    about: String,
    ended_ms: f64,
    topology: layout::Topology,
    packets: Vec<Packet>,
    /// Packets of the run that are not among them.
    packets_left_off: usize,
    /// The times of the messages of the sequence.
    messages: Vec<f64>,
    messages_left_off: usize,
    moments: Vec<Moment>,
    flows: Vec<Flow>,
}

/// Departure, arrival (none if lost), the two ends by number, bytes.
type Packet = (f64, Option<f64>, usize, usize, usize);

/// Something that happened.
#[derive(Serialize)]
struct Moment {
    ms: f64,
    /// `step`, `tunnel`, `node`, `decision` or `outcome`.
    kind: &'static str,
    host: String,
    text: String,
}

/// What became of a flow.
#[derive(Serialize)]
struct Flow {
    name: String,
    /// When each probe or datagram was sent or came, and whether it was answered.
    points: Vec<(f64, bool)>,
    sent: u64,
    lost: u64,
    /// The longest time without a delivery, and when it began.
    gap_ms: Option<f64>,
    gap_at: Option<f64>,
}

/// What a run must be watched with to be drawn.
pub fn watch() -> Watch {
    Watch { tap: TapMode::Keep, ..Watch::default() }
}

/// The page of a run that was watched with [`watch`].
pub fn of_run(title: &str, scenario: &Scenario, run: &Run) -> String {
    let topology = layout::of_run(scenario, run);
    let (packets, packets_left_off) = packets(run, &topology);
    let all = sequences::arrows(run.events.iter().map(|(at, _, event)| (*at, event)));
    let page = Page {
        title: title.to_owned(),
        about: format!("{}. {}", scenario.title, scenario.about),
        ended_ms: run.ended.as_millis_f64(),
        topology,
        packets,
        packets_left_off,
        messages: Vec::new(),
        messages_left_off: 0,
        moments: moments(scenario, run),
        flows: flows(scenario, run),
    };
    page.html(title, all)
}

/// Runs the first cell of a plan with a seed, and writes the page of the run.
///
/// # Errors
/// The page cannot be written.
pub fn write(plan: &Plan, seed: u64, engine: Option<Engine>, out: &Path) -> Result<(), LabError> {
    let cell = &plan.cells[0];
    let scenario = &cell.scenario;
    let run = run(scenario, seed, engine.unwrap_or(scenario.engine), &watch());
    Ok(write_whole(out, of_run(&batch::name_of(plan, cell, seed), scenario, &run).as_bytes())?)
}

/// As [`write()`], of a file with its first seed.
///
/// # Errors
/// The file is no scenario, or the page cannot be written.
pub fn file(file: &str, out: &Path) -> Result<(), LabError> {
    let plan = Plan::expand(&Document::open(file)?, &[])?;
    write(&plan, *plan.seeds.start(), None, out)
}

/// The page of an event log. Times are counted from its first entry.
pub fn of_log(title: &str, entries: &[Entry]) -> String {
    let begin = entries.iter().map(|entry| entry.at_ns).min().unwrap_or(0);
    let ms = |entry: &Entry| (entry.at_ns - begin) as f64 / 1e6;
    let mut moments = Vec::new();
    let mut arrows = Vec::new();
    let mut hosts: Vec<String> = Vec::new();
    for entry in entries {
        if entry.host != "lab" && !hosts.contains(&entry.host) {
            hosts.push(entry.host.clone());
        }
        let (kind, text) = match &entry.what {
            What::Signal(signal) if signal.repeated => continue,
            What::Signal(signal) => {
                let protection =
                    if signal.bytes.is_none() { "handshake".to_owned() } else { signal.protection.clone() };
                arrows.push(Arrow {
                    ms: ms(entry),
                    from: signal.from.clone(),
                    to: signal.to.clone(),
                    what: signal.what.clone(),
                    detail: signal.detail.clone(),
                    protection,
                    bytes: signal.bytes.map(|bytes| bytes.to_string()).unwrap_or_default(),
                    note: String::new(),
                });
                continue;
            }
            What::Registered { nat } => ("node", format!("registered{}", if *nat { ", behind a NAT" } else { "" })),
            What::Unregistered { reason } => ("node", format!("not registered: {reason}")),
            What::RouteChosen { initiator, responder, pattern } => {
                let pattern = pattern.map_or("no route".to_owned(), |pattern| format!("pattern {pattern}"));
                ("decision", format!("{initiator} to {responder}: {pattern}"))
            }
            What::TunnelUp { peer, pattern, dialed, framing } => {
                let dialed = if *dialed { "dialed" } else { "was dialed" };
                ("tunnel", format!("tunnel to {peer} up: pattern {pattern}, {dialed}, {framing}"))
            }
            What::TunnelDown { peer, reason } => ("tunnel", format!("tunnel to {peer} down: {reason}")),
            What::Step { step } => ("step", format!("step {step}")),
            What::Outcome { step, outcome } => ("outcome", format!("step {step}: {outcome}")),
        };
        moments.push(Moment { ms: ms(entry), kind, host: entry.host.clone(), text });
    }
    let page = Page {
        title: title.to_owned(),
        about: "An event log: it has no packets, and no topology but the hosts.".to_owned(),
        ended_ms: entries.iter().map(ms).fold(0.0, f64::max),
        topology: layout::of_hosts(&hosts),
        packets: Vec::new(),
        packets_left_off: 0,
        messages: Vec::new(),
        messages_left_off: 0,
        moments,
        flows: Vec::new(),
    };
    page.html(title, arrows)
}

/// Reads an event log and writes its page; gives what to print.
///
/// # Errors
/// The log cannot be read, or the page not written.
pub fn log_file(log: &Path, out: &Path) -> Result<String, LabError> {
    let told = |what: &dyn std::fmt::Display| LabError::Usage(format!("{}: {what}", log.display()));
    let text = std::fs::read_to_string(log).map_err(|error| told(&error))?;
    let entries = Entry::read(&text).map_err(|error| told(&error))?;
    let first = entries.first().ok_or_else(|| told(&"there is no event in it"))?.cell;
    let of_first: Vec<Entry> = entries.into_iter().filter(|entry| entry.cell == first).collect();
    write_whole(out, of_log(&log.display().to_string(), &of_first).as_bytes())?;
    Ok(format!("{} events: {}\n", of_first.len(), out.display()))
}

impl Page {
    fn html(mut self, title: &str, mut arrows: Vec<Arrow>) -> String {
        self.messages_left_off = arrows.len().saturating_sub(MOST_ARROWS);
        arrows.truncate(MOST_ARROWS);
        self.messages = arrows.iter().map(|arrow| arrow.ms).collect();
        let drawing = if arrows.is_empty() { String::new() } else { Sequence::new(title, arrows).svg() };
        // `</script>` must not end the script, whatever a name or reason says.
        let data = serde_json::to_string(&self).expect("numbers and texts").replace('<', "\\u003c");
        include_str!("page.html")
            .replace("{{TITLE}}", &escaped(title))
            .replace("{{ABOUT}}", &escaped(&self.about))
            .replace("{{SEQUENCE}}", &drawing)
            .replace("{{DATA}}", &data)
    }
}

/// The packets of all wires by departure, and how many are left off.
fn packets(run: &Run, topology: &layout::Topology) -> (Vec<Packet>, usize) {
    let network = run.world.network();
    let mut all = Vec::new();
    for direction in network.directions() {
        let Some([from, to]) = topology.ends_of(&network.wire_name(direction)) else { continue };
        for tapped in network.take_tapped(direction) {
            let arrives = tapped.arrives.map(Instant::as_millis_f64);
            all.push((tapped.departs.as_millis_f64(), arrives, from, to, tapped.packet.len()));
        }
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.2.cmp(&b.2)).then(a.3.cmp(&b.3)));
    let count = all.len();
    let nth = count.div_ceil(MOST_PACKETS).max(1);
    let kept: Vec<_> = all.into_iter().step_by(nth).collect();
    let left_off = count - kept.len();
    (kept, left_off)
}

/// Everything that happened beside messages, by time.
fn moments(scenario: &Scenario, run: &Run) -> Vec<Moment> {
    let mut moments = Vec::new();
    for (index, report) in run.steps.iter().enumerate() {
        let action = &scenario.steps[index].action;
        moments.push(Moment {
            ms: report.started.as_millis_f64(),
            kind: "step",
            host: "lab".to_owned(),
            text: format!("step {index}: {}", said(action, scenario)),
        });
    }
    for (at, host, event) in &run.events {
        let (kind, text) = match event {
            Event::Registered { nat, .. } => {
                ("node", format!("registered{}", if *nat { ", behind a NAT" } else { "" }))
            }
            Event::Unregistered { reason } => ("node", format!("not registered: {reason}")),
            Event::RouteChosen(chosen) => ("decision", explain::decision(chosen)),
            Event::RouteRequested { peer } => ("node", format!("wants a way to {peer}")),
            Event::TunnelUp(up) => {
                let how = if up.pattern == Pattern::Relayed { "through the TRS" } else { "directly" };
                (
                    "tunnel",
                    format!("tunnel to {} up, {how}, to {} (pattern {})", up.peer.short(), up.remote, up.pattern),
                )
            }
            Event::PathSwitched { peer, remote, pattern } => {
                ("tunnel", format!("path to {} is now {remote} (pattern {pattern})", peer.short()))
            }
            Event::StillRelayed { peer, reason } => ("tunnel", format!("stays on the relay to {peer}: {reason}")),
            Event::TunnelDown { peer, reason } => ("tunnel", format!("tunnel to {peer} down: {reason}")),
            Event::UdpBlocked { service } => {
                ("node", format!("no UDP gets out; {} and all services by TCP port 443", service.short()))
            }
            Event::UdpWorks => ("node", "UDP gets out again".to_owned()),
            Event::NoTcp(why) => ("node", format!("{} not by TCP either: {why}", why.service.short())),
            Event::AddressesDiffer { name, shown, stored } => {
                let text =
                    format!("{} has {} by its certificate, {} by the database", name.short(), shown.v4, stored.v4);
                ("node", text)
            }
            Event::OtherMachine { name, served, refused } => {
                ("node", format!("{} is two machines: {served} is served, {refused} is refused", name.short()))
            }
            Event::TunnelReady { peer } => ("tunnel", format!("packets go ahead to {peer}")),
            Event::Surveyed(_) | Event::Signal(_) | Event::Dropped(_) => continue,
        };
        moments.push(Moment { ms: at.as_millis_f64(), kind, host: host.clone(), text });
    }
    moments.sort_by(|a, b| a.ms.total_cmp(&b.ms));
    moments
}

/// A step in a few words.
fn said(action: &Action, scenario: &Scenario) -> String {
    let name = |node: usize| scenario.nodes[node].name.short();
    let of = |pair: &Pair| format!("{} to {}", name(pair.from), name(pair.to));
    match action {
        Action::Start { nodes, .. } => {
            format!("start {}", nodes.iter().map(|&node| name(node)).collect::<Vec<_>>().join(", "))
        }
        Action::Echo(probes) => format!("{} echoes, {}", probes.count, of(&probes.pair)),
        Action::Udp(probes) => format!("{} datagrams, {}", probes.count, of(&probes.pair)),
        Action::BareTcp { from, to, bytes, .. } => {
            let [from, to] = [*from, *to].map(|node| scenario.nodes[node].name.short());
            format!("{bytes} bytes over TCP without a tunnel, {from} to {to}")
        }
        Action::Tcp { pair, bytes, .. } => format!("{bytes} bytes over TCP, {}", of(pair)),
        Action::ProbeMtu(pair) => format!("the largest packet, {}", of(pair)),
        Action::Move { node, to } => format!("{} moves to {}", name(*node), scenario.sites[to.site].name),
        Action::Wait(time) => format!("wait {} ms", time.as_millis()),
        // Names of fields and numbers: what the file says, as the program has it.
        other => format!("{other:?}").chars().take(160).collect(),
    }
}

fn flows(scenario: &Scenario, run: &Run) -> Vec<Flow> {
    let mut flows = Vec::new();
    for (index, report) in run.steps.iter().enumerate() {
        let (from, to, app) = match &report.outcome {
            StepOutcome::App(pair, app) => (pair.from, pair.to, app),
            StepOutcome::Bare((from, to), app) => (*from, *to, app),
            StepOutcome::None | StepOutcome::Mtu(..) => continue,
        };
        let [sender, receiver] = [from, to].map(|node| scenario.nodes[node].name.short());
        flows.extend(flow(&format!("step {index}, {sender} to {receiver}"), to, app, run));
    }
    flows
}

fn flow(name: &str, to: usize, app: &AppReport, run: &Run) -> Option<Flow> {
    match &app.outcome {
        Outcome::Echo(echo) => Some(of_echo(format!("{name}: echoes"), echo)),
        Outcome::Flow(sent) => {
            let arrivals = run.world.look(to, |host| {
                host.flows().find(|(_, flow, _)| *flow == sent.flow).map(|(.., arrivals)| arrivals.clone())
            });
            let arrivals = arrivals.unwrap_or_default();
            let points = arrivals.order().iter().map(|(_, at)| (at.as_millis_f64(), true)).collect();
            let gap_at = arrivals.longest_gap_began.map(Instant::as_millis_f64);
            Some(Flow {
                name: format!("{name}: datagrams"),
                points,
                sent: sent.sent + sent.unsent,
                lost: (sent.sent + sent.unsent).saturating_sub(arrivals.received),
                gap_ms: gap_at.map(|_| arrivals.longest_gap.as_secs_f64() * 1e3),
                gap_at,
            })
        }
        Outcome::Transfer(transfer) => {
            let points = [transfer.connected, transfer.completed].into_iter().flatten();
            Some(Flow {
                name: format!("{name}: TCP, longest stall {} ms", transfer.longest_stall.as_millis()),
                points: points.map(|at| (at.as_millis_f64(), true)).collect(),
                sent: 1,
                lost: u64::from(!transfer.ok()),
                gap_ms: None,
                gap_at: None,
            })
        }
        Outcome::Resolve => None,
    }
}

fn of_echo(name: String, echo: &EchoReport) -> Flow {
    let answered = |outcome: &ProbeOutcome| matches!(outcome, ProbeOutcome::Answered { .. });
    let points: Vec<_> = echo.probes.iter().map(|p| (p.sent.as_millis_f64(), answered(&p.outcome))).collect();
    let came: Vec<f64> = points.iter().filter(|(_, ok)| *ok).map(|(at, _)| *at).collect();
    let gap = came.windows(2).map(|two| (two[1] - two[0], two[0])).max_by(|a, b| a.0.total_cmp(&b.0));
    let lost = points.iter().filter(|(_, ok)| !ok).count() as u64;
    let sent = points.len() as u64;
    Flow { name, points, sent, lost, gap_ms: gap.map(|(gap, _)| gap), gap_at: gap.map(|(_, at)| at) }
}
