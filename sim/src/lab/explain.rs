//! Why two nodes met as they did: what was observed of their networks, what the NMS weighed, and what came of it, by
//! time.

use std::fmt::Write as _;

use cyphonic_core::event::{Basis, Event, RouteChosen};
use cyphonic_core::message::{NetworkReport, Want};
use cyphonic_core::name::{Fqdn, Party};
use cyphonic_core::route::optimal::{Behaviour, Considered, Filtering, Mapping, Verdict};
use cyphonic_core::route::{Dialer, Pattern};
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Document, Family, Pair, Plan, Scenario};
use serde_json::json;

use super::{batch, tables};
use crate::error::LabError;
use crate::measure::last_tunnel;
use crate::oracle::{self, End};
use crate::run::{Run, run};
use crate::world::Watch;

/// Runs the first cell of a scenario once, and explains one pair of its nodes; on demand as JSON.
pub fn explain(
    file: &str,
    (a, b): &(String, String),
    seed: Option<u64>,
    sets: &[(String, String)],
    as_json: bool,
) -> Result<String, LabError> {
    let plan = Plan::expand(&Document::open(file)?, sets)?;
    let seed = seed.unwrap_or(*plan.seeds.start());
    let cell = &plan.cells[0];
    let scenario = &cell.scenario;
    let find = |name: &str| {
        let known = || scenario.nodes.iter().map(|node| node.name.short()).collect::<Vec<_>>().join(", ");
        let node = scenario.nodes.iter().position(|node| node.name.short() == name);
        node.ok_or_else(|| LabError::Usage(format!("there is no node {name:?} in {file}; its nodes are {}", known())))
    };
    let (a, b) = (find(a)?, find(b)?);
    if a == b {
        return Err(LabError::Usage("a pair has two nodes: name two".to_owned()));
    }
    let run = run(scenario, seed, scenario.engine, &Watch::default());
    let (name, story) = (batch::name_of(&plan, cell, seed), Story { scenario, run: &run, a, b });
    if as_json {
        let mut json = story.json();
        (json["run"], json["title"]) = (json!(name), json!(scenario.title));
        return Ok(format!("{json:#}\n"));
    }
    let mut text = format!("{name}: {}\n\n", scenario.title);
    story.tell(&mut text);
    Ok(text)
}

/// The columns of what a node observed.
const NETWORK: [&str; 8] = ["node", "family", "seen at", "mapping", "lets in", "turns around", "sends to", "known at"];
/// The columns of what the oracle tried.
const ATTEMPT: [&str; 4] = ["dialer", "listener", "over", "result"];

struct Story<'a> {
    scenario: &'a Scenario,
    run: &'a Run,
    a: usize,
    b: usize,
}

impl Story<'_> {
    fn name(&self, node: usize) -> &Fqdn {
        &self.scenario.nodes[node].name
    }

    fn tell(&self, text: &mut String) {
        let networks = self.networks();
        if !networks.is_empty() {
            let grid = tables::grid(&NETWORK, 7, networks);
            let _ = writeln!(text, "What the nodes found out, and where the NMS sees them\n{grid}\n");
        }
        let _ = writeln!(text, "What happened, in milliseconds of the scenario");
        for (at, line) in self.moments() {
            let _ = writeln!(text, "{:>10.1}  {}", at.as_millis_f64(), line.replace('\n', "\n            "));
        }
        let (a, b) = (self.name(self.a).short(), self.name(self.b).short());
        let _ = match self.outcome() {
            None => writeln!(text, "\nIn the end: {a} has no tunnel to {b}."),
            Some((pattern, how, dialed)) => {
                writeln!(text, "\nIn the end: {how}, pattern {pattern}; {dialed} dialed.")
            }
        };
        let (is_direct, attempts) = self.oracle();
        let direct = if is_direct { "a direct path exists" } else { "no direct path exists" };
        let _ = writeln!(text, "By the rules of their networks, where they start, {direct}:");
        let _ = writeln!(text, "{}", tables::grid(&ATTEMPT, 4, attempts));
    }

    fn json(&self) -> serde_json::Value {
        let objects = |columns: &[&str], rows: Vec<Vec<String>>| {
            rows.iter().map(|row| tables::object(columns, row)).collect::<Vec<_>>()
        };
        let moments = self.moments().into_iter().map(|(at, what)| json!({ "ms": at.as_millis_f64(), "what": what }));
        let outcome = self
            .outcome()
            .map(|(pattern, how, dialed)| json!({ "pattern": pattern.to_string(), "path": how, "dialed": dialed }));
        let (is_direct, attempts) = self.oracle();
        json!({
            "networks": objects(&NETWORK, self.networks()), "moments": moments.collect::<Vec<_>>(),
            "outcome": outcome, "oracle": { "direct": is_direct, "attempts": objects(&ATTEMPT, attempts) },
        })
    }

    /// What the nodes found out about their networks: the columns [`NETWORK`].
    fn networks(&self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for node in [self.a, self.b] {
            let name = self.name(node).short();
            let surveyed = self.run.events.iter().rev().find_map(|(at, host, event)| match event {
                Event::Surveyed(report) if host == name => Some((*at, report)),
                _ => None,
            });
            let Some((at, NetworkReport { v6, v4, .. })) = surveyed else { continue };
            for (family, behaviour) in [("IPv6", v6), ("IPv4", v4)] {
                if let Some(behaviour) = *behaviour {
                    rows.push(self.network(node, family, behaviour, at));
                }
            }
        }
        rows
    }

    fn network(&self, node: usize, family: &str, behaviour: Behaviour, at: Instant) -> Vec<String> {
        let mapping = behaviour.mapping.map_or("unknown", |mapping| match mapping {
            Mapping::Independent => "one for all",
            Mapping::Port => "a port for each",
            Mapping::Address => "an address for each",
        });
        let filtering = behaviour.filtering.map_or("unknown", |filtering| match filtering {
            Filtering::Independent => "everybody",
            Filtering::Address => "addresses sent to",
            Filtering::AddressAndPort => "ports sent to",
        });
        let seen = self.choices().filter_map(|(_, chosen)| self.place(chosen, node, family)).last();
        vec![
            self.name(node).short().to_owned(),
            family.to_owned(),
            seen.unwrap_or_else(|| "?".to_owned()),
            mapping.to_owned(),
            filtering.to_owned(),
            if behaviour.hairpin { "yes" } else { "no" }.to_owned(),
            if behaviour.any_port { "any port" } else { "own port" }.to_owned(),
            at.to_string(),
        ]
    }

    /// Where the NMS sees a node, by what it weighed.
    fn place(&self, chosen: &RouteChosen, node: usize, family: &str) -> Option<String> {
        let Basis::Ways(ways) = &chosen.basis else { return None };
        let initiates = chosen.initiator == *self.name(node);
        let way = ways.iter().find(|way| way.way.to_string() == family)?;
        let dials = (way.dialer == Dialer::Initiator) == initiates;
        Some(if dials { way.from } else { way.listener }.to_string())
    }

    /// Every decision about the pair.
    fn choices(&self) -> impl Iterator<Item = (Instant, &RouteChosen)> {
        let (a, b) = (self.name(self.a), self.name(self.b));
        self.run.events.iter().filter_map(move |(at, _, event)| match event {
            Event::RouteChosen(chosen)
                if (&chosen.initiator, &chosen.responder) == (a, b)
                    || (&chosen.initiator, &chosen.responder) == (b, a) =>
            {
                Some((*at, &**chosen))
            }
            _ => None,
        })
    }

    /// What happened, in order: every step of the scenario, and what the two nodes and the NMS did from their first
    /// wish to talk on.
    fn moments(&self) -> Vec<(Instant, String)> {
        let steps = self.run.steps.iter().zip(&self.scenario.steps).enumerate();
        let mut all: Vec<(Instant, String)> =
            steps.map(|(i, (report, step))| (report.started, format!("step {i}: {}", step.words))).collect();
        let (a, b) = (self.name(self.a), self.name(self.b));
        let names = [a.short(), b.short()];
        let about = |host: &str, peer: &str| {
            let other = if host == names[0] { b } else { a };
            names.contains(&host) && peer == other.as_str()
        };
        let wanted = |(_, host, event): &(Instant, String, Event)| match event {
            Event::RouteRequested { peer } => names.contains(&host.as_str()) && !peer.is_empty(),
            _ => false,
        };
        let Some(first) = self.run.events.iter().position(wanted) else {
            all.push((self.run.ended, "neither of them ever wanted to talk to the other".to_owned()));
            return all;
        };
        for (at, host, event) in &self.run.events[first..] {
            let line = match event {
                Event::RouteRequested { peer } if names.contains(&host.as_str()) => {
                    format!("{host} wants a way to {peer}")
                }
                Event::RouteChosen(chosen)
                    if self.choices().any(|(_, other)| std::ptr::eq(other, &raw const **chosen)) =>
                {
                    decision(chosen)
                }
                Event::Signal(signal) if !signal.repeated && self.concerns(&signal.from, &signal.to) => {
                    signal.to_string()
                }
                Event::TunnelUp(up) if about(host, up.peer.as_str()) => {
                    let how = if up.pattern == Pattern::Relayed { "through the TRS" } else { "directly" };
                    let who = if up.dialed { "dialed" } else { "was dialed" };
                    format!("{host} sends {how}, to {} (pattern {}; it {who})", up.remote, up.pattern)
                }
                Event::PathSwitched { peer, remote, pattern } if about(host, peer.as_str()) => {
                    let how = if *pattern == Pattern::Relayed { "through the TRS" } else { "directly" };
                    format!("{host} sends {how} now, to {remote} (pattern {pattern}): another path")
                }
                Event::StillRelayed { peer, reason } if about(host, peer) => {
                    format!("{host} stays on the relay: {reason}")
                }
                Event::TunnelDown { peer, reason } if about(host, peer) => format!("{host} has no tunnel: {reason}"),
                _ => continue,
            };
            all.push((*at, line));
        }
        // A step comes before what it causes at the same instant.
        all.sort_by_key(|(at, _)| *at);
        all
    }

    /// Whether a signal is about the pair: between the two of them, or of one of them with NMS or TRS.
    fn concerns(&self, from: &Party, to: &Party) -> bool {
        let known = |party: &Party| match party {
            Party::Node(name) => name == self.name(self.a) || name == self.name(self.b),
            Party::As | Party::Nms | Party::Trs => true,
        };
        known(from) && known(to)
    }

    /// The pattern of the tunnel at the end, what it is called, and the dialer.
    fn outcome(&self) -> Option<(Pattern, &'static str, &str)> {
        let (a, b) = (self.name(self.a).short(), self.name(self.b).short());
        let pair = Pair { from: self.a, to: self.b, family: Family::Ipv6 };
        let (pattern, dialer) = last_tunnel(self.scenario, self.run, pair)?;
        let how = if pattern == Pattern::Relayed { "relayed" } else { "direct" };
        Some((pattern, how, if dialer == Dialer::Initiator { a } else { b }))
    }

    /// Whether the rules of the networks allow a direct path, and each attempt: the columns [`ATTEMPT`].
    fn oracle(&self) -> (bool, Vec<Vec<String>>) {
        let verdict =
            oracle::judge(self.scenario, End::start(self.scenario, self.a), End::start(self.scenario, self.b));
        let name = |node: usize| self.name(node).short().to_owned();
        let rows = verdict.attempts.iter().map(|attempt| {
            let result = match &attempt.result {
                Ok(success) => success.to_string(),
                Err(obstacle) => format!("no: {obstacle}"),
            };
            vec![name(attempt.dialer), name(attempt.listener), attempt.medium.to_string(), result]
        });
        (verdict.is_direct(), rows.collect())
    }
}

/// What the NMS weighed, and what it chose.
pub(super) fn decision(chosen: &RouteChosen) -> String {
    let want = match chosen.want {
        Want::Any => "any way".to_owned(),
        Want::Relayed => "the relay".to_owned(),
        Want::Direct(attempt) => format!("a direct way, attempt {}", u16::from(attempt) + 1),
    };
    let mut text = format!("NMS is asked for {want} from {} to {}", chosen.initiator.short(), chosen.responder.short());
    match &chosen.basis {
        Basis::Table1(Some((initiator, responder))) => {
            let _ = write!(text, "\n  Table 1: {initiator} to {responder}");
        }
        Basis::Table1(None) => text.push_str("\n  Table 1: one of them is nowhere"),
        Basis::Ways(ways) => ways.iter().for_each(|way| text.push_str(&considered(chosen, way))),
    }
    let choice = match &chosen.choice {
        None => "nothing".to_owned(),
        Some(choice) if choice.pattern == Pattern::Relayed => "pattern 3, the relay".to_owned(),
        Some(choice) => {
            let dialer = match choice.dialer {
                Dialer::Initiator => &chosen.initiator,
                Dialer::Responder => &chosen.responder,
            };
            format!("pattern {}, {} dials", choice.pattern, dialer.short())
        }
    };
    let _ = write!(text, "\n  chosen: {choice}");
    text
}

fn considered(chosen: &RouteChosen, way: &Considered) -> String {
    let dialer = match way.dialer {
        Dialer::Initiator => &chosen.initiator,
        Dialer::Responder => &chosen.responder,
    };
    let answers = if way.moves && way.verdict == Verdict::Yes { ", and is answered from another port" } else { "" };
    format!("\n  {:<8} dials {} ({}): {}{answers}", dialer.short(), way.listener, way.way, way.verdict)
}
