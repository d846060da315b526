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

use super::{batch, tables};
use crate::error::LabError;
use crate::measure::last_tunnel;
use crate::oracle::{self, End};
use crate::run::{Run, run};
use crate::world::Watch;

/// Runs the first cell of a scenario once, and explains one pair of its nodes.
pub fn explain(
    file: &str,
    (a, b): &(String, String),
    seed: Option<u64>,
    sets: &[(String, String)],
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
    let mut text = format!("{}: {}\n\n", batch::name_of(&plan, cell, seed), scenario.title);
    Story { scenario, run: &run, a, b }.tell(&mut text);
    Ok(text)
}

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
        self.networks(text);
        self.steps(text);
        self.outcome(text);
        self.oracle(text);
    }

    /// What the nodes found out about their networks.
    fn networks(&self, text: &mut String) {
        let mut rows = Vec::new();
        for node in [self.a, self.b] {
            let name = self.name(node).short();
            let surveyed = self.run.events.iter().rev().find_map(|(at, host, event)| match event {
                Event::Surveyed(report) if host == name => Some((*at, report)),
                _ => None,
            });
            let Some((at, NetworkReport { v6, v4 })) = surveyed else { continue };
            for (family, behaviour) in [("IPv6", v6), ("IPv4", v4)] {
                if let Some(behaviour) = *behaviour {
                    rows.push(self.network(node, family, behaviour, at));
                }
            }
        }
        if rows.is_empty() {
            return;
        }
        let header = ["node", "family", "seen at", "mapping", "lets in", "turns around", "sends to", "known at"];
        let _ = writeln!(
            text,
            "What the nodes found out, and where the NMS sees them\n{}\n",
            tables::grid(&header, 7, rows)
        );
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

    /// What happened between the two, from the first wish to talk on.
    fn steps(&self, text: &mut String) {
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
            let _ = writeln!(text, "Neither of them ever wanted to talk to the other.\n");
            return;
        };
        let began = self.run.events[first].0;
        let _ = writeln!(text, "What happened, in milliseconds from the first packet");
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
            let ms = (*at - began).as_secs_f64() * 1000.0;
            let _ = writeln!(text, "{ms:>10.1}  {}", line.replace('\n', "\n            "));
        }
        text.push('\n');
    }

    /// Whether a signal is about the pair: between the two of them, or of one of them with NMS or TRS.
    fn concerns(&self, from: &Party, to: &Party) -> bool {
        let known = |party: &Party| match party {
            Party::Node(name) => name == self.name(self.a) || name == self.name(self.b),
            Party::As | Party::Nms | Party::Trs => true,
        };
        known(from) && known(to)
    }

    fn outcome(&self, text: &mut String) {
        let (a, b) = (self.name(self.a).short(), self.name(self.b).short());
        let pair = Pair { from: self.a, to: self.b, family: Family::Ipv6 };
        let _ = match last_tunnel(self.scenario, self.run, pair) {
            None => writeln!(text, "In the end: {a} has no tunnel to {b}."),
            Some((pattern, dialer)) => {
                let dialed = if dialer == Dialer::Initiator { a } else { b };
                let how = if pattern == Pattern::Relayed { "relayed" } else { "direct" };
                writeln!(text, "In the end: {how}, pattern {pattern}; {dialed} dialed.")
            }
        };
    }

    fn oracle(&self, text: &mut String) {
        let verdict =
            oracle::judge(self.scenario, End::start(self.scenario, self.a), End::start(self.scenario, self.b));
        let direct = if verdict.is_direct() { "a direct path exists" } else { "no direct path exists" };
        let _ = writeln!(text, "By the rules of their networks, where they start, {direct}:");
        let name = |node: usize| self.name(node).short().to_owned();
        let rows = verdict.attempts.iter().map(|attempt| {
            let result = match &attempt.result {
                Ok(success) => success.to_string(),
                Err(obstacle) => format!("no: {obstacle}"),
            };
            vec![name(attempt.dialer), name(attempt.listener), attempt.medium.to_string(), result]
        });
        let _ = writeln!(text, "{}", tables::grid(&["dialer", "listener", "over", ""], 4, rows.collect()));
    }
}

/// What the NMS weighed, and what it chose.
fn decision(chosen: &RouteChosen) -> String {
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
