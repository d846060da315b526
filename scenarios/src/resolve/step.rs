//! Resolves steps, and checks that each is possible when it happens.

use std::collections::BTreeSet;
use std::time::Duration;

use cyphonic_core::time::Instant;

use super::hosts::Hosts;
use super::{Context, LEAST_MTU_V6, MAX_STEPS, MOST_MS, boxes, link, site};
use crate::error::{Problem, ScenarioError};
use crate::scenario::{
    Action, Carrier, Far, Interface, Link, LinkAt, NatAt, Node, Pair, Probes, Role, Site, SiteV4, SiteV6, Step, ZONE,
};
use crate::schema;
use crate::words::{Family, HostClock, Measure, Over, ServiceName, Towards};

/// The largest number of probes of a step. Their reports still fit into memory.
const MOST_COUNT: f64 = 1_000_000.0;
/// The longest transfer. With the longest run it takes 1 Mbyte/s.
const MOST_BYTES: f64 = 1e12;
/// 63 years: a clock that lost its battery begins in 1970.
const MOST_CLOCK_S: f64 = 2_000_000_000.0;
/// Time between two probes, milliseconds. At the least, one node sends 100,000 a second.
const INTERVAL_MS: (f64, f64) = (0.01, MOST_MS);
/// As `ping` waits.
const DEFAULT_INTERVAL_MS: f64 = 1000.0;
/// As `ping` sends.
const DEFAULT_PAYLOAD_BYTES: u32 = 56;
/// The header of ICMP echo, and that of UDP.
const PROBE_HEADER: u16 = 8;

/// What a step is checked against.
pub(super) struct Rules<'a> {
    /// The carriers that it may name.
    pub(super) carriers: &'a [Carrier],
    /// The sites that it may name.
    pub(super) sites: &'a [Site],
    /// The nodes that it may name.
    pub(super) nodes: &'a [Node],
    /// The MTU of virtual interfaces, bytes. No inner packet is longer.
    pub(super) tun_mtu: u16,
    /// The end of the run, seconds. No step begins later.
    pub(super) duration_limit_s: u64,
    /// The measure of the scenario, which needs certain steps.
    pub(super) measure: Measure,
}

/// Resolves all steps.
pub(super) fn steps(
    context: Context<'_, '_>,
    steps: Vec<(schema::Timing, schema::Action)>,
    rules: &Rules<'_>,
    hosts: &mut Hosts,
) -> Result<Vec<Step>, ScenarioError> {
    if steps.is_empty() {
        return context.fail("", Problem::NoSteps);
    }
    context.at_most("step", steps.len(), MAX_STEPS)?;
    let sites = |node: &Node| node.interfaces.iter().map(|place| place.site).collect();
    let places = rules.nodes.iter().map(sites).collect();
    let mut judge =
        Judge { context, rules, hosts, started: BTreeSet::new(), places, earlier_ms: 0, path: String::new() };
    let mut resolved = Vec::new();
    for (index, (timing, action)) in steps.into_iter().enumerate() {
        judge.path = format!("step.{index}");
        let at = timing.at_ms.map(|at_ms| judge.time(at_ms)).transpose()?;
        let spread = judge.spread(&timing)?;
        // A skipped step must be valid too.
        let action = judge.action(action)?;
        let (action, words) =
            if timing.skip { (Action::Wait(Duration::ZERO), "skipped".to_owned()) } else { (action, timing.words) };
        resolved.push(Step { at, spread, action, words });
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
        Measure::Outcome => {
            (&["echo", "tcp"], any(|a| matches!(a, Action::Echo(_) | Action::Tcp { .. } | Action::BareTcp { .. })))
        }
        Measure::Rtt | Measure::Setup => (&["echo"], any(|a| matches!(a, Action::Echo(_)))),
        Measure::Handover => {
            let flows: Vec<Pair> = steps
                .iter()
                .filter_map(|step| match step.action {
                    Action::Udp(probes) if probes.count > 1 => Some(probes.pair),
                    _ => None,
                })
                .collect();
            let both_ways = flows.first().is_some_and(|a| flows.iter().any(|b| (a.from, a.to) == (b.to, b.from)));
            (&["udp"], both_ways)
        }
        Measure::Traffic => (&["wait"], any(|a| matches!(a, Action::Wait(wait) if !wait.is_zero()))),
        Measure::Flow => (&["udp"], any(|a| matches!(a, Action::Udp(_)))),
        Measure::Composition => (&["probe_mtu"], any(|a| matches!(a, Action::ProbeMtu(_)))),
    }
}

/// Whether a site has a box that translates with mappings.
fn has_nat(site: &Site) -> bool {
    let v4 = matches!(site.v4, Some(SiteV4::Private { .. }));
    let v6 = matches!(site.v6, Some(SiteV6::Private { .. }));
    v4 || v6 || site.nat64.is_some()
}

struct Judge<'a, 'i, 'r> {
    context: Context<'a, 'i>,
    rules: &'r Rules<'r>,
    hosts: &'r mut Hosts,
    started: BTreeSet<usize>,
    /// The sites of each node at this step.
    places: Vec<BTreeSet<usize>>,
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

    fn spread(&self, timing: &schema::Timing) -> Result<Duration, ScenarioError> {
        let Some(spread_ms) = timing.spread_ms else { return Ok(Duration::ZERO) };
        let Some(at_ms) = timing.at_ms else { return self.context.fail(&self.key("spread_ms"), Problem::SpreadAlone) };
        let limit_s = self.rules.duration_limit_s;
        let latest_ms = at_ms.saturating_add(spread_ms);
        if latest_ms >= limit_s * 1000 {
            return self.context.fail(&self.key("spread_ms"), Problem::AfterTheEnd { at_ms: latest_ms, limit_s });
        }
        Ok(Duration::from_millis(spread_ms))
    }

    fn action(&mut self, action: schema::Action) -> Result<Action, ScenarioError> {
        Ok(match action {
            schema::Action::Start(start) => {
                let give_up = start.give_up_s.map(|s| self.millis("give_up_s", s.saturating_mul(1000))).transpose()?;
                Action::Start { nodes: self.start(start)?, give_up }
            }
            schema::Action::Echo(probes) => Action::Echo(self.probes(probes)?),
            schema::Action::Udp(probes) => Action::Udp(self.probes(probes)?),
            schema::Action::Tcp(tcp) => {
                self.context.within(&self.key("bytes"), tcp.bytes as f64, 1.0, MOST_BYTES)?;
                let (least, most) = link::RATE_MBPS;
                let rate = |mbps| self.context.within(&self.key("rate_mbps"), mbps, least, most);
                let rate_bps = tcp.rate_mbps.map(rate).transpose()?.map(|mbps| (mbps * 1e6).round() as u64);
                let bytes = tcp.bytes;
                if tcp.over == Some(Over::Underlay) {
                    let node = |key: &str, name: &str| self.context.at(&self.key(key), self.find(name));
                    let (from, to) = (node("from", &tcp.from)?, node("to", &tcp.to)?);
                    if from == to {
                        return self.context.fail(&self.key("to"), Problem::SamePair(tcp.to));
                    }
                    Action::BareTcp { from, to, family: tcp.family, bytes, rate_bps }
                } else {
                    Action::Tcp { pair: self.pair(&tcp.from, &tcp.to, tcp.family)?, bytes, rate_bps }
                }
            }
            schema::Action::Move(schema::Move { node, to }) => {
                let node = self.started_node("node", &node)?;
                let to = self.place(node, &to)?;
                self.places[node] = BTreeSet::from([to.site]);
                Action::Move { node, to }
            }
            schema::Action::Attach(schema::Move { node: name, to: site }) => {
                let node = self.started_node("node", &name)?;
                let to = self.place(node, &site)?;
                if !self.places[node].insert(to.site) {
                    return self.context.fail(&self.key("to"), Problem::AlreadyThere { node: name, site });
                }
                Action::Attach { node, to }
            }
            schema::Action::Detach(schema::Detach { node: name, from }) => {
                let node = self.started_node("node", &name)?;
                let site = self.context.at(&self.key("from"), site::find(self.rules.sites, &from))?;
                if !self.places[node].remove(&site) {
                    return self.context.fail(&self.key("from"), Problem::NotThere { node: name, site: from });
                }
                Action::Detach { node, site }
            }
            schema::Action::Rebind(schema::Rebind { node: name, to }) => {
                let node = self.started_node("node", &name)?;
                if !self.places[node].iter().any(|&site| has_nat(&self.rules.sites[site])) {
                    return self.context.fail(&self.key("node"), Problem::NoNatInFront(name));
                }
                Action::Rebind { node, to: to.map(|to| self.far(&to)).transpose()? }
            }
            schema::Action::Path(words) => self.path_step(*words)?,
            schema::Action::Wait(schema::Wait { ms }) => Action::Wait(self.millis("ms", ms)?),
            schema::Action::ProbeMtu(schema::ProbeMtu { from, to, family }) => {
                Action::ProbeMtu(self.pair(&from, &to, family)?)
            }
            schema::Action::Idle => Action::Idle,
            schema::Action::NatReboot(place) => Action::NatReboot(self.nat_at(&place)?),
            schema::Action::Firewall(place, off, firewall) => self.firewall(&place, off, firewall)?,
            schema::Action::Link(place, words) => {
                let at = self.link_at(&place)?;
                Action::Link { at, link: Box::new(self.link(at, *words)?) }
            }
            schema::Action::LinkDown(place) => Action::LinkUp { at: self.link_at(&place)?, up: false },
            schema::Action::LinkUp(place) => Action::LinkUp { at: self.link_at(&place)?, up: true },
            schema::Action::Restart(schema::Restart { what, graceful }) => {
                let role = self.role(&what)?;
                if graceful == Some(true) { Action::RestartInOrder(role) } else { Action::Restart(role) }
            }
            schema::Action::Stop(schema::Stop { node, graceful }) => {
                let node = self.started_node("node", &node)?;
                if graceful == Some(true) { Action::StopInOrder(node) } else { Action::Stop(node) }
            }
            schema::Action::Revoke(schema::OfNode { node }) => Action::Revoke(self.named_node("node", &node)?),
            schema::Action::Expire(schema::OfNode { node }) => Action::Expire(self.named_node("node", &node)?),
            schema::Action::Renew(schema::Renew { node, running }) => {
                let node = self.named_node("node", &node)?;
                if running == Some(true) { Action::RenewRunning(node) } else { Action::Renew(node) }
            }
            schema::Action::Pause(schema::Pause { what, ms }) => {
                Action::Pause { role: self.role(&what)?, lasts: self.millis("ms", ms)? }
            }
            schema::Action::Suspend(schema::Suspend { what, ms, clock }) => Action::Suspend {
                role: self.role(&what)?,
                lasts: self.millis("ms", ms)?,
                clock: clock.unwrap_or(HostClock::Boottime),
            },
            schema::Action::Clock(schema::Clock { what, step_s }) => {
                self.context.within(&self.key("step_s"), f64::from(step_s), -MOST_CLOCK_S, MOST_CLOCK_S)?;
                Action::Clock { role: self.role_at_any_time(&what)?, step_s }
            }
            schema::Action::DiskFull => Action::DiskFull(true),
            schema::Action::DiskFree => Action::DiskFull(false),
            schema::Action::Rules(words) => {
                Action::Rules(super::rules::rules(self.context, &self.path, &words, Some(ZONE))?)
            }
        })
    }

    /// A service, or a node that was started.
    fn role(&self, what: &str) -> Result<Role, ScenarioError> {
        match self.role_at_any_time(what)? {
            Role::Node(_) => self.started_node("what", what).map(Role::Node),
            service @ Role::Service(_) => Ok(service),
        }
    }

    /// A service, or a node that may be started later.
    fn role_at_any_time(&self, what: &str) -> Result<Role, ScenarioError> {
        let services = ServiceName::ALL.iter();
        if let Some(&service) = services.clone().find(|service| service.name() == what) {
            return Ok(Role::Service(service));
        }
        if let Ok(node) = self.find(what) {
            return Ok(Role::Node(node));
        }
        let nodes = self.rules.nodes.iter().map(|node| node.name.short());
        let known = services.map(|service| service.name()).chain(nodes).map(str::to_owned).collect();
        self.context.fail(&self.key("what"), Problem::UnknownValue { found: what.to_owned(), known })
    }

    fn site(&self, name: &str) -> Result<usize, ScenarioError> {
        self.context.at(&self.key("site"), site::find(self.rules.sites, name))
    }

    fn carrier(&self, name: &str) -> Result<usize, ScenarioError> {
        self.context.at(&self.key("carrier"), site::find_carrier(self.rules.carriers, name))
    }

    fn no_place<T>(&self, places: &'static [&'static str]) -> Result<T, ScenarioError> {
        self.context.fail(&self.path, Problem::NoPlace(places))
    }

    fn nat_at(&self, place: &schema::Where) -> Result<NatAt, ScenarioError> {
        match (&place.site, &place.carrier) {
            (Some(name), None) => {
                let site = self.site(name)?;
                if !has_nat(&self.rules.sites[site]) {
                    return self.context.fail(&self.key("site"), Problem::NoNat(name.clone()));
                }
                Ok(NatAt::Site(site))
            }
            (None, Some(name)) => Ok(NatAt::Carrier(self.carrier(name)?)),
            _ => self.no_place(&["`site`", "`carrier`"]),
        }
    }

    fn link_at(&self, place: &schema::Where) -> Result<LinkAt, ScenarioError> {
        match (&place.site, place.service, &place.carrier) {
            (Some(name), None, None) => Ok(LinkAt::Site(self.site(name)?)),
            (None, Some(service), None) => Ok(LinkAt::Service(service)),
            (None, None, Some(name)) => Ok(LinkAt::Carrier(self.carrier(name)?)),
            _ => self.no_place(&["`site`", "`service`", "`carrier`"]),
        }
    }

    fn link(&self, at: LinkAt, words: schema::Link) -> Result<Link, ScenarioError> {
        let least_mtu = match at {
            LinkAt::Site(site) => site::least_mtu(self.rules.sites[site].kind),
            LinkAt::Service(_) | LinkAt::Carrier(_) => (LEAST_MTU_V6, "IPv6"),
        };
        link::link(self.context, &self.path, Some(words), least_mtu)
    }

    /// The place of a node in a site.
    fn place(&mut self, node: usize, name: &str) -> Result<Interface, ScenarioError> {
        let path = self.key("to");
        let site = self.context.at(&path, site::find(self.rules.sites, name))?;
        self.context.at(&path, self.hosts.place(node, site, &self.rules.sites[site]))
    }

    /// A service, or a site.
    fn far(&self, name: &str) -> Result<Far, ScenarioError> {
        if let Some(&service) = ServiceName::ALL.iter().find(|service| service.name() == name) {
            return Ok(Far::Service(service));
        }
        self.context.at(&self.key("to"), site::find(self.rules.sites, name)).map(Far::Site)
    }

    fn path_step(&self, words: schema::Path) -> Result<Action, ScenarioError> {
        let site = self.site(&words.site)?;
        let far = self.far(&words.to)?;
        if far == Far::Site(site) {
            return self.context.fail(&self.key("to"), Problem::SameSite(words.to));
        }
        let way = Box::new(link::path(self.context, &self.path, &schema::Way::from(&words))?);
        let towards = words.towards.unwrap_or(Towards::Both);
        Ok(Action::Path { site, far, towards, family: words.family, way })
    }

    fn firewall(&self, place: &schema::Where, off: bool, words: schema::Firewall) -> Result<Action, ScenarioError> {
        let Some(name) = &place.site else { return self.no_place(&["`site`"]) };
        let site = self.site(name)?;
        if self.rules.sites[site].firewall.is_none() {
            return self.context.fail(&self.key("site"), Problem::NoFirewall(name.clone()));
        }
        let schema::Firewall { stateful, egress, mode, reaction, inspect } = &words;
        let is_empty =
            stateful.is_none() && egress.is_none() && mode.is_none() && reaction.is_none() && inspect.is_empty();
        let firewall = match (off, is_empty) {
            (true, true) => boxes::open(),
            (true, false) => return self.context.fail(&self.key("off"), Problem::OffAndRules),
            (false, _) => boxes::firewall(self.context, &self.path, words)?,
        };
        Ok(Action::Firewall { site, firewall: Box::new(firewall) })
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

    /// As [`Self::started_node`], for a step about a name or a certificate, which a copy does not have for itself.
    fn named_node(&self, key: &str, name: &str) -> Result<usize, ScenarioError> {
        let node = self.started_node(key, name)?;
        let Some(of) = self.rules.nodes[node].copy_of else { return Ok(node) };
        let of = self.rules.nodes[of].name.short().to_owned();
        self.context.fail(&self.key(key), Problem::CopyHasNoName { copy: name.to_owned(), of })
    }

    fn pair(&self, from: &str, to: &str, family: Option<Family>) -> Result<Pair, ScenarioError> {
        let pair = Pair {
            from: self.started_node("from", from)?,
            to: self.named_node("to", to)?,
            family: family.unwrap_or(Family::Ipv6),
        };
        if self.rules.nodes[pair.from].copy_of.unwrap_or(pair.from) == pair.to {
            return self.context.fail(&self.key("to"), Problem::SamePair(to.to_owned()));
        }
        Ok(pair)
    }

    fn probes(&self, probes: schema::Probes) -> Result<Probes, ScenarioError> {
        let schema::Probes { from, to, count, interval_ms, payload_bytes, family } = probes;
        let pair = self.pair(&from, &to, family)?;
        let count = count.unwrap_or(1);
        self.context.within(&self.key("count"), f64::from(count), 1.0, MOST_COUNT)?;
        let interval_ms = interval_ms.unwrap_or(DEFAULT_INTERVAL_MS);
        let (least, most) = INTERVAL_MS;
        self.context.within(&self.key("interval_ms"), interval_ms, least, most)?;
        let interval = Duration::from_secs_f64(interval_ms / 1000.0);
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
