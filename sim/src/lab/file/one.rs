//! One run: its rows, its sequence diagram, its captures.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use cyphonic_core::event::Event;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Plan, Row, ServiceName, Table, write_whole};
use serde_json::json;

use super::RunRequest;
use crate::capture::pcapng::pcapng;
use crate::dissect::Secrets;
use crate::error::LabError;
use crate::lab::{batch, explain, tables};
use crate::measure;
use crate::net::packet::Ip;
use crate::net::{TapMode, Tapped};
use crate::run::{Run, run};
use crate::world::Watch;

/// The results of one run.
pub(super) struct Single {
    cell: usize,
    seed: u64,
    run: Run,
    /// Its rows, or the reason why there are none.
    pub(super) rows: Result<Vec<Row>, LabError>,
}

impl Single {
    /// Runs a cell with a seed, and writes its captures and traces.
    pub(super) fn run(request: &RunRequest, plan: &Plan, cell: usize, seed: u64) -> Result<Self, LabError> {
        let scenario = &plan.cells[cell].scenario;
        let mut watch = measure::watch_for(scenario.measure);
        if watch.tap == TapMode::Off {
            watch.tap = TapMode::Digest;
        }
        let stem = format!("{}-{cell}-seed{seed}", plan.name);
        if request.pcap {
            watch.tap = TapMode::Keep;
            watch.secrets.get_or_insert_default();
        }
        if let (true, Some(out)) = (request.qlog, &request.out) {
            watch.qlog = Some(super::qlog::sinks(out.clone(), stem.clone()));
        }
        // The measures take packets from the taps, so a capture needs a run of its own.
        if let (true, Some(out)) = (request.pcap, &request.out) {
            let secrets = Arc::new(Secrets::default());
            let watch = Watch { tap: TapMode::Keep, secrets: Some(secrets.clone()), ..Watch::default() };
            let kept = run(scenario, seed, request.engine.unwrap_or(scenario.engine), &watch);
            write_captures(out, plan, cell, &stem, &kept, &secrets)?;
            // Wireshark gives Lua no secrets from the capture. The dissector of the conventional method reads a file
            // instead.
            write_whole(&out.join(format!("{stem}.keys")), secrets.to_sslkeylog().as_bytes())?;
        }
        let ran = run(scenario, seed, request.engine.unwrap_or(scenario.engine), &watch);
        let rows = batch::rows(plan, &plan.cells[cell], seed, &ran, &watch);
        Ok(Self { cell, seed, run: ran, rows })
    }

    /// The text to print.
    pub(super) fn print(&self, request: &RunRequest, plan: &Plan) -> String {
        let mut text = String::new();
        let name = batch::name_of(plan, &plan.cells[self.cell], self.seed);
        let _ = writeln!(text, "{name}: {} simulated, wires {}", self.run.ended, self.run.digest());
        if request.sequence {
            for (at, host, event) in &self.run.events {
                let _ = match event {
                    Event::Signal(signal) if !signal.repeated => writeln!(text, "{:>14}  {signal}", at.to_string()),
                    Event::PathSwitched { peer, pattern, .. } => {
                        writeln!(text, "{:>14}  ({host}: pattern {pattern} to {})", at.to_string(), peer.short())
                    }
                    Event::TunnelUp(up) => {
                        writeln!(text, "{:>14}  ({host}: tunnel to {} up)", at.to_string(), up.peer.short())
                    }
                    _ => Ok(()),
                };
            }
        }
        for ((host, reason), count) in &self.run.drops {
            let _ = writeln!(text, "  {host} dropped {count}: {}", reason.name());
        }
        text
    }

    /// The same for programs, as JSON.
    pub(super) fn json(&self, plan: &Plan) -> serde_json::Value {
        let cell = &plan.cells[self.cell];
        let labels: serde_json::Map<_, _> = cell.labels.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        let mut table = Table::new(plan);
        for row in self.rows.iter().flatten() {
            table.push(&cell.labels, self.seed, row.clone());
        }
        let header = table.header();
        let rows = table.records().map(|record| {
            let own = cell.labels.len() + 1;
            tables::object(&header[own..], &record[own..])
        });
        let drops: serde_json::Map<_, _> =
            self.run.drops.iter().map(|((host, reason), n)| (format!("{host} {}", reason.name()), json!(n))).collect();
        let signals = self.run.events.iter().filter_map(|(at, _, event)| match event {
            Event::Signal(signal) => Some(json!({
                "ms": at.as_millis_f64(), "from": signal.from.to_string(), "to": signal.to.to_string(),
                "what": signal.what, "detail": signal.detail, "bytes": signal.bytes,
                "repeated": signal.repeated,
            })),
            _ => None,
        });
        let scenario = &plan.cells[self.cell].scenario;
        let steps = self.run.steps.iter().zip(&scenario.steps).map(|(report, step)| {
            json!({
                "step": step.words, "started_ms": report.started.as_millis_f64(),
                "completed_ms": report.completed.map(Instant::as_millis_f64),
            })
        });
        let largest: serde_json::Map<_, _> =
            self.run.tables.iter().map(|((host, table), n)| (format!("{host} {table}"), json!(n))).collect();
        json!({
            "scenario": plan.name, "cell": labels, "seed": self.seed, "simulated_ms": self.run.ended.as_millis_f64(),
            "failed": self.rows.as_ref().err().map(ToString::to_string),
            "wires": self.run.digest(), "rows": rows.collect::<Vec<_>>(), "dropped": drops,
            "largest_tables": largest, "steps": steps.collect::<Vec<_>>(),
            "tunnels": self.run.events.iter().filter_map(tunnel).collect::<Vec<_>>(),
            "decisions": self.run.events.iter().filter_map(decision).collect::<Vec<_>>(),
            "signals": signals.collect::<Vec<_>>(),
        })
    }
}

/// A node's event about a tunnel of its own: it is up, uses another path, stays on the relay, or is gone.
fn tunnel((at, host, event): &(Instant, String, Event)) -> Option<serde_json::Value> {
    let mut said = match event {
        Event::TunnelUp(up) => json!({
            "what": "up", "peer": up.peer.as_str(), "pattern": up.pattern.to_string(), "dialed": up.dialed,
            "framing": up.framing.name(), "remote": up.remote.to_string(), "handover": up.handover.to_string(),
            "signaling": up.signaling.to_string(),
        }),
        Event::PathSwitched { peer, remote, pattern } => json!({
            "what": "path", "peer": peer.as_str(), "pattern": pattern.to_string(), "remote": remote.to_string(),
        }),
        Event::StillRelayed { peer, reason } => {
            json!({ "what": "still relayed", "peer": peer, "reason": reason.to_string() })
        }
        Event::TunnelDown { peer, reason } => json!({ "what": "down", "peer": peer, "reason": reason.to_string() }),
        _ => return None,
    };
    (said["ms"], said["node"]) = (json!(at.as_millis_f64()), json!(host));
    Some(said)
}

/// The ways that the NMS considered, and its choice.
fn decision((at, _, event): &(Instant, String, Event)) -> Option<serde_json::Value> {
    let Event::RouteChosen(chosen) = event else { return None };
    Some(json!({
        "ms": at.as_millis_f64(), "initiator": chosen.initiator.as_str(), "responder": chosen.responder.as_str(),
        "pattern": chosen.choice.as_ref().map(|choice| choice.pattern.to_string()), "why": explain::decision(chosen),
    }))
}

/// Writes one capture of all wires, and a folder beside it with a capture of each wire. Wireshark follows a QUIC
/// connection by its addresses. Behind a NAT these differ from wire to wire, so only a single wire is decrypted whole.
///
/// At the TRS a relayed connection comes in from one node and goes out to another, with the same connection IDs. So
/// each node has a file of its own there.
fn write_captures(
    out: &Path,
    plan: &Plan,
    cell: usize,
    stem: &str,
    run: &Run,
    secrets: &Secrets,
) -> Result<(), LabError> {
    let trs = plan.cells[cell].scenario.services.of(ServiceName::Trs);
    let trs: [IpAddr; 2] = [trs.v4.into(), trs.v6.into()];
    let network = run.world.network();
    let title = format!("{}: {stem}", plan.title);
    let all: Vec<_> = network.directions().map(|wire| (network.wire_name(wire), network.take_tapped(wire))).collect();
    write_whole(&out.join(format!("{stem}.pcapng")), &pcapng(&title, &all, Some(secrets)))?;
    // A direction is called `alice:0>router:1`; both directions of a wire have the same two ends.
    let mut wires: BTreeMap<String, BTreeMap<String, Vec<Tapped>>> = BTreeMap::new();
    for (name, packets) in all {
        let (from, to) = name.split_once('>').unwrap_or((&name, ""));
        let mut ends = [from, to].map(|end| end.replace(':', "."));
        ends.sort();
        let wire = ends.join("-");
        let at_trs = ends.iter().any(|end| end.starts_with("trs."));
        for packet in packets {
            let ip = if at_trs { Ip::parse(&packet.packet) } else { None };
            let far = ip.and_then(|ip| [ip.source, ip.destination].into_iter().find(|address| !trs.contains(address)));
            let file = match far {
                Some(far) => format!("{wire}-with-{}", far.to_string().replace(':', ".")),
                None => wire.clone(),
            };
            wires.entry(file).or_default().entry(name.clone()).or_default().push(packet);
        }
    }
    for (file, directions) in wires {
        let file = out.join(format!("{stem}-wires")).join(format!("{file}.pcapng"));
        let directions: Vec<_> = directions.into_iter().collect();
        write_whole(&file, &pcapng(&title, &directions, Some(secrets)))?;
    }
    Ok(())
}
