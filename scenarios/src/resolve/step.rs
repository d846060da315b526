//! Steps: who, when, and whether that can be.

use std::collections::BTreeSet;
use std::time::Duration;

use cyphonic_core::time::Instant;

use super::{Context, MAX_STEPS, MOST_MS, site};
use crate::address::Hosts;
use crate::error::{Problem, ScenarioError};
use crate::scenario::{Action, Node, Pair, Probes, Site, Step};
use crate::schema;
use crate::words::{Family, Measure};

const MOST_COUNT: f64 = 1_000_000.0;
const MOST_BYTES: f64 = 1e12;
const DEFAULT_INTERVAL_MS: u64 = 1000;
/// As `ping` sends it.
const DEFAULT_PAYLOAD_BYTES: u32 = 56;
/// The header of ICMP echo, and that of UDP.
const PROBE_HEADER: u16 = 8;

/// What steps are judged against.
pub(super) struct Rules<'a> {
    pub(super) sites: &'a [Site],
    pub(super) nodes: &'a [Node],
    pub(super) tun_mtu: u16,
    pub(super) duration_limit_s: u64,
    pub(super) measure: Measure,
}

/// Resolves all steps.
pub(super) fn steps(
    context: Context<'_, '_>,
    steps: Vec<(Option<u64>, schema::Action)>,
    rules: &Rules<'_>,
    hosts: &mut Hosts,
) -> Result<Vec<Step>, ScenarioError> {
    if steps.is_empty() {
        return context.fail("", Problem::NoSteps);
    }
    context.at_most("step", steps.len(), MAX_STEPS)?;
    let mut judge = Judge { context, rules, hosts, started: BTreeSet::new(), earlier_ms: 0, path: String::new() };
    let mut resolved = Vec::new();
    for (index, (at_ms, action)) in steps.into_iter().enumerate() {
        judge.path = format!("step.{index}");
        let at = at_ms.map(|at_ms| judge.time(at_ms)).transpose()?;
        resolved.push(Step { at, action: judge.action(action)? });
    }
    let (needed, found) = needs(rules.measure, &resolved);
    if !found {
        return context.fail("measure", Problem::MeasureNeeds { measure: rules.measure, steps: needed });
    }
    Ok(resolved)
}

/// Which steps a measure needs one of, and whether there is one.
fn needs(measure: Measure, steps: &[Step]) -> (&'static [&'static str], bool) {
    let any = |test: fn(&Action) -> bool| steps.iter().any(|step| test(&step.action));
    match measure {
        Measure::Outcome => (&["echo", "tcp"], any(|a| matches!(a, Action::Echo(_) | Action::Tcp { .. }))),
        Measure::Rtt | Measure::Setup => (&["echo"], any(|a| matches!(a, Action::Echo(_)))),
        Measure::Composition => (&["probe_mtu"], any(|a| matches!(a, Action::ProbeMtu(_)))),
    }
}

struct Judge<'a, 'i, 'r> {
    context: Context<'a, 'i>,
    rules: &'r Rules<'r>,
    hosts: &'r mut Hosts,
    started: BTreeSet<usize>,
    earlier_ms: u64,
    /// The step's.
    path: String,
}

impl Judge<'_, '_, '_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    fn time(&mut self, at_ms: u64) -> Result<Instant, ScenarioError> {
        let limit_s = self.rules.duration_limit_s;
        let earlier_ms = std::mem::replace(&mut self.earlier_ms, at_ms);
        if at_ms < earlier_ms {
            return self.context.fail(&self.key("at_ms"), Problem::TimeBackwards { at_ms, earlier_ms });
        }
        if at_ms >= limit_s * 1000 {
            return self.context.fail(&self.key("at_ms"), Problem::AfterTheEnd { at_ms, limit_s });
        }
        Ok(Instant::from_millis(at_ms))
    }

    fn action(&mut self, action: schema::Action) -> Result<Action, ScenarioError> {
        Ok(match action {
            schema::Action::Start(start) => Action::Start { nodes: self.start(start)? },
            schema::Action::Echo(echo) => {
                let schema::Echo { from, to, count, interval_ms, payload_bytes, family } = echo;
                let pair = self.pair(&from, &to, family)?;
                Action::Echo(self.probes(pair, count, interval_ms, payload_bytes)?)
            }
            schema::Action::Udp(udp) => {
                let schema::Udp { from, to, count, interval_ms, payload_bytes, family } = udp;
                let pair = self.pair(&from, &to, family)?;
                Action::Udp(self.probes(pair, count, interval_ms, payload_bytes)?)
            }
            schema::Action::Tcp(tcp) => {
                let pair = self.pair(&tcp.from, &tcp.to, tcp.family)?;
                self.context.within(&self.key("bytes"), tcp.bytes as f64, 1.0, MOST_BYTES)?;
                Action::Tcp { pair, bytes: tcp.bytes }
            }
            schema::Action::Move(schema::Move { node, to }) => {
                let node = self.started_node("node", &node)?;
                let path = self.key("to");
                let site = self.context.at(&path, site::find(self.rules.sites, &to))?;
                let to = self.context.at(&path, self.hosts.place(node, site, &self.rules.sites[site]))?;
                Action::Move { node, to }
            }
            schema::Action::Wait(schema::Wait { ms }) => Action::Wait(self.millis("ms", ms)?),
            schema::Action::ProbeMtu(schema::ProbeMtu { from, to, family }) => {
                Action::ProbeMtu(self.pair(&from, &to, family)?)
            }
            schema::Action::Idle => Action::Idle,
        })
    }

    fn start(&mut self, start: schema::Start) -> Result<Vec<usize>, ScenarioError> {
        let Some(names) = start.nodes else {
            let rest: Vec<usize> = (0..self.rules.nodes.len()).filter(|node| !self.started.contains(node)).collect();
            self.started.extend(&rest);
            return Ok(rest);
        };
        let mut nodes = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let path = self.key(&format!("nodes.{index}"));
            let node = self.context.at(&path, self.find(name))?;
            if !self.started.insert(node) {
                return self.context.fail(&path, Problem::StartedTwice(name.clone()));
            }
            nodes.push(node);
        }
        Ok(nodes)
    }

    fn find(&self, name: &str) -> Result<usize, Problem> {
        let known = || self.rules.nodes.iter().map(|node| node.name.short().to_owned()).collect();
        let unknown = || Problem::UnknownNode { found: name.to_owned(), known: known() };
        self.rules.nodes.iter().position(|node| node.name.short() == name).ok_or_else(unknown)
    }

    fn started_node(&self, key: &str, name: &str) -> Result<usize, ScenarioError> {
        let path = self.key(key);
        let node = self.context.at(&path, self.find(name))?;
        if !self.started.contains(&node) {
            return self.context.fail(&path, Problem::NotStarted(name.to_owned()));
        }
        Ok(node)
    }

    fn pair(&self, from: &str, to: &str, family: Option<Family>) -> Result<Pair, ScenarioError> {
        let pair = Pair {
            from: self.started_node("from", from)?,
            to: self.started_node("to", to)?,
            family: family.unwrap_or(Family::Ipv6),
        };
        if pair.from == pair.to {
            return self.context.fail(&self.key("to"), Problem::SamePair(to.to_owned()));
        }
        Ok(pair)
    }

    fn probes(
        &self,
        pair: Pair,
        count: Option<u32>,
        interval_ms: Option<u64>,
        payload_bytes: Option<u32>,
    ) -> Result<Probes, ScenarioError> {
        let count = count.unwrap_or(1);
        self.context.within(&self.key("count"), f64::from(count), 1.0, MOST_COUNT)?;
        let interval = self.millis("interval_ms", interval_ms.unwrap_or(DEFAULT_INTERVAL_MS))?;
        let found = payload_bytes.unwrap_or(DEFAULT_PAYLOAD_BYTES);
        let ip_header = match pair.family {
            Family::Ipv4 => 20,
            Family::Ipv6 => 40,
        };
        let tun_mtu = self.rules.tun_mtu;
        let most = tun_mtu - ip_header - PROBE_HEADER;
        match u16::try_from(found) {
            Ok(payload_bytes) if payload_bytes <= most => Ok(Probes { pair, count, interval, payload_bytes }),
            _ => self.context.fail(&self.key("payload_bytes"), Problem::PayloadTooBig { found, tun_mtu, most }),
        }
    }

    fn millis(&self, key: &str, ms: u64) -> Result<Duration, ScenarioError> {
        self.context.within(&self.key(key), ms as f64, 1.0, MOST_MS)?;
        Ok(Duration::from_millis(ms))
    }
}
