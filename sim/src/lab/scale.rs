//! Signaling with 2 to 250 nodes: what the services and the nodes send until all are registered.
//!
//! All nodes begin at once. Or the NMS was restarted, and has lost its memory.
//!
//! There are two kinds of restarts. Nodes that began at once send their keep-alives at the same nanosecond. Nodes that
//! began at different times do so one after another. Both notice the restart by the answer to their next keep-alive: a
//! stateless reset (QUIC), or an Error (the conventional method).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use cyphonic_core::event::Event;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Engine, first_cell, write_whole};
use cyphonic_statistics::{quantile, sorted};

use super::batch;
use super::statistics::bootstrap;
use super::tables;
use crate::error::LabError;
use crate::manifest::{self, Manifest, Request};
use crate::net::TapMode;
use crate::run::{Run, run};
use crate::world::{Actor, Watch};

/// The file in the folder of results.
pub const FILE: &str = "scale.csv";
/// The numbers of nodes. A scenario has at most 254 sites, and each node has its own.
const NODES: [usize; 5] = [2, 10, 50, 100, 250];
/// Method and framing. Signaling is the same in both framings of the proposed method.
const WAYS: [(&str, &str); 2] = [("conventional", "udp4501"), ("proposed", "stream")];
/// The last seed; the first is 1.
const SEEDS: u64 = 30;
/// When the NMS is restarted: every registration is over by then.
const RESTART: Duration = Duration::from_secs(60);
/// Where nodes do not begin at once: they begin one after another within this span, each at random within its share,
/// milliseconds.
const SPREAD_MS: u64 = 20_000;
/// For how long the run goes on after that.
const AFTER: Duration = Duration::from_secs(120);

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// All nodes start at once.
    Start,
    /// The NMS was restarted. The nodes had begun at different times.
    Restart,
    /// The NMS was restarted. The nodes had begun at once.
    RestartInStep,
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Restart => "nms_restart",
            Self::RestartInStep => "nms_restart_in_step",
        }
    }
}

/// What one phase of one run showed.
struct Seen {
    method: &'static str,
    nodes: usize,
    seed: u64,
    phase: Phase,
    /// The nodes that were registered at the end.
    registered: usize,
    /// Until the last of them was.
    took: Duration,
    /// Packets that left nodes meanwhile, and their bytes.
    of_nodes: (u64, u64),
    /// The same of AS and NMS.
    of_services: (u64, u64),
}

/// How nodes begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    AtOnce,
    Spread,
}

fn text(framing: &str, nodes: usize, begin: Begin) -> String {
    let starts = match begin {
        Begin::AtOnce => "[[step]]\ndo = \"start\"\n".to_owned(),
        Begin::Spread => {
            // One after another: a step never starts before the step above it.
            let apart = SPREAD_MS / nodes as u64;
            let start = |node: usize| {
                let at = apart * (node as u64 - 1);
                format!("[[step]]\ndo = \"start\"\nnodes = [\"n{node}\"]\nat_ms = {at}\nspread_ms = {apart}\n\n")
            };
            (1..=nodes).map(start).collect()
        }
    };
    let mut text = format!(
        r#"title = "Signaling of {nodes} nodes"
about = "Nodes start, each behind a NAT of its own. Later the NMS is restarted."
measure = "traffic"
engine = "events"
framing = "{framing}"
duration_limit_s = 300
link = {{ delay_ms = 10 }}

# A good server's link.
[services]
as = {{ delay_ms = 10, rate_mbps = 1000 }}
nms = {{ delay_ms = 10, rate_mbps = 1000 }}

{starts}
[[step]]
do = "restart"
what = "nms"
at_ms = {}

[[step]]
do = "wait"
ms = {}
"#,
        RESTART.as_millis(),
        AFTER.as_millis()
    );
    for node in 1..=nodes {
        let _ = write!(
            text,
            "\n[[site]]\nname = \"s{node}\"\nkind = \"ipv4-private\"\n\n[[node]]\nname = \"n{node}\"\nsite = \"s{node}\"\n"
        );
    }
    text
}

fn texts() -> String {
    let of = |framing: &str| {
        NODES.map(|nodes| [Begin::AtOnce, Begin::Spread].map(|begin| text(framing, nodes, begin)).concat()).concat()
    };
    WAYS.iter().map(|(_, framing)| of(framing)).collect()
}

/// When each node was registered for the first time in a span.
fn registrations(run: &Run, from: Instant, until: Instant) -> BTreeMap<&str, Instant> {
    let mut first = BTreeMap::new();
    for (at, host, event) in &run.events {
        if matches!(event, Event::Registered { .. }) && (from..until).contains(at) {
            first.entry(host.as_str()).or_insert(*at);
        }
    }
    first
}

fn look(method: &'static str, framing: &str, nodes: usize, begin: Begin, seed: u64) -> Result<Vec<Seen>, LabError> {
    let scenario = first_cell("scale", &text(framing, nodes, begin))?;
    let run = run(&scenario, seed, Engine::Events, &Watch { tap: TapMode::Keep, ..Watch::default() });
    let mut packets: Vec<(Instant, bool, u64)> = Vec::new();
    for actor in run.world.actors() {
        let is_node = matches!(actor, Actor::Node(_));
        let sent = run.world.sent(run.world.station(actor));
        packets.extend(sent.into_iter().map(|packet| (packet.departs, is_node, packet.packet.len() as u64)));
    }
    let restart = Instant::ZERO + RESTART;
    let after = |phase| (phase, restart, restart + AFTER);
    let phases = match begin {
        Begin::AtOnce => vec![(Phase::Start, Instant::ZERO, restart), after(Phase::RestartInStep)],
        Begin::Spread => vec![after(Phase::Restart)],
    };
    let seen = phases.into_iter().map(|(phase, from, until)| {
        let first = registrations(&run, from, until);
        let last = first.values().max().copied().unwrap_or(until);
        let count = |of_nodes: bool| {
            let meanwhile =
                packets.iter().filter(|(at, is_node, _)| *is_node == of_nodes && (from..=last).contains(at));
            meanwhile.fold((0, 0), |(packets, bytes), (.., len)| (packets + 1, bytes + len))
        };
        let (of_nodes, of_services) = (count(true), count(false));
        Seen { method, nodes, seed, phase, registered: first.len(), took: last - from, of_nodes, of_services }
    });
    Ok(seen.collect())
}

/// Runs every case. Gives the file, and what to print.
///
/// # Errors
/// A scenario makes no sense, which would be a bug.
pub fn made() -> Result<(Vec<u8>, String), LabError> {
    let mut cases = Vec::new();
    for (method, framing) in WAYS {
        for nodes in NODES {
            for begin in [Begin::AtOnce, Begin::Spread] {
                cases.extend((1..=SEEDS).map(|seed| (method, framing, nodes, begin, seed)));
            }
        }
    }
    let looks = batch::each("scale", &cases, |&(method, framing, nodes, begin, seed)| {
        look(method, framing, nodes, begin, seed)
    });
    let mut all = Vec::new();
    for seen in looks {
        all.extend(seen?);
    }
    Ok((csv(&all), report(&all)))
}

fn csv(all: &[Seen]) -> Vec<u8> {
    let mut text = String::from("method,nodes,seed,phase,registered,ms,packets,bytes,service_packets,service_bytes\n");
    for seen in all {
        let Seen { method, nodes, seed, phase, registered, took, of_nodes, of_services } = seen;
        let (phase, ms) = (phase.name(), took.as_secs_f64() * 1e3);
        let ((packets, bytes), (service_packets, service_bytes)) = (of_nodes, of_services);
        let _ = writeln!(
            text,
            "{method},{nodes},{seed},{phase},{registered},{ms:.3},{packets},{bytes},{service_packets},{service_bytes}"
        );
    }
    text.into_bytes()
}

fn report(all: &[Seen]) -> String {
    let mut cells: BTreeMap<(Phase, &str, usize), Vec<&Seen>> = BTreeMap::new();
    for seen in all {
        cells.entry((seen.phase, seen.method, seen.nodes)).or_default().push(seen);
    }
    let median = |sample: &[f64]| quantile(&sorted(sample), 0.5).unwrap_or(0.0);
    let mut rows = Vec::new();
    for ((phase, method, nodes), seen) in &cells {
        let of = |number: &dyn Fn(&Seen) -> f64| -> Vec<f64> { seen.iter().map(|seen| number(seen)).collect() };
        let seconds = of(&|seen| seen.took.as_secs_f64());
        let bounds = bootstrap("scale", &seconds, median);
        let missing: usize = seen.iter().map(|seen| nodes - seen.registered).sum();
        rows.push(vec![
            phase.name().replace('_', " "),
            (*method).to_owned(),
            nodes.to_string(),
            format!("{:.2}", median(&seconds)),
            bounds.map_or(String::new(), |bounds| format!("{:.2} to {:.2}", bounds.low, bounds.high)),
            format!("{:.1}", median(&of(&|seen| seen.of_nodes.1 as f64 / *nodes as f64 / 1e3))),
            format!("{:.1}", median(&of(&|seen| seen.of_services.1 as f64 / *nodes as f64 / 1e3))),
            missing.to_string(),
        ]);
    }
    let header =
        ["after", "method", "nodes", "all registered s", "95 %", "kB sent, a node", "kB received, a node", "missing"];
    format!(
        "Signaling until all nodes are registered, when all begin at once and after the NMS was restarted\n{}\n\
         Medians over {SEEDS} seeds. The services' links carry 1 Gbit/s; the simulator has no processor time. Received: \
         what AS and NMS sent.\nMissing: nodes of all seeds that were not registered {} s later. In step: the nodes had \
         begun at once, so their keep-alives come\ntogether.\n",
        tables::grid(&header, 2, rows),
        AFTER.as_secs()
    )
}

/// The manifest of the file.
pub fn manifest(command: &str, file: &Path, bytes: &[u8]) -> Manifest {
    let request = Request {
        command: command.to_owned(),
        scenario: "built in: sim/src/lab/scale.rs",
        text: texts().into_bytes(),
        sets: &[],
        cells: 2 * WAYS.len() * NODES.len(),
        seeds: 1..=SEEDS,
        engines: [Engine::Events.name()].into(),
    };
    request.manifest(file, bytes)
}

/// Runs every case, writes the results where asked, and gives what to print.
///
/// # Errors
/// The results cannot be written.
pub fn scale(out: Option<&Path>) -> Result<String, LabError> {
    if let Some(out) = out {
        super::writable(out)?;
    }
    let (bytes, report) = made()?;
    if let Some(out) = out {
        let file = out.join(FILE);
        write_whole(&file, &bytes)?;
        manifest::write(&file, &manifest("cyphonic-lab scale --out DIR", &file, &bytes))?;
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_nodes_are_registered_at_once_and_again_after_the_restart() {
        for (method, framing) in WAYS {
            let mut seen = look(method, framing, 3, Begin::AtOnce, 1).unwrap();
            seen.extend(look(method, framing, 3, Begin::Spread, 1).unwrap());
            let [start, in_step, restart] = &seen[..] else { panic!("three phases") };
            assert_eq!((start.registered, in_step.registered, restart.registered), (3, 3, 3), "{method}");
            assert!(start.took < Duration::from_secs(1), "{method}: {:?}", start.took);
            // A node notices by the NMS's silence or its refusal of the next Keep Alive.
            assert!(restart.took > Duration::from_millis(100) && restart.took < Duration::from_secs(30), "{method}");
            // Keep-alives that come at one moment are all answered.
            let many = look(method, framing, 20, Begin::AtOnce, 1).unwrap();
            assert!(many[1].registered == 20 && many[1].took < Duration::from_secs(3), "{method}: {:?}", many[1].took);
            assert!(start.of_nodes.1 > 3 * 500 && start.of_services.1 > 3 * 500, "{method}");
        }
    }
}
