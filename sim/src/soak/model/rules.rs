//! What access rules demand: which pairs may talk, and when.

use std::time::Duration;

use cyphonic_core::name::Fqdn;
use cyphonic_core::rules::{Permission, Protocol, Rules};
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Action, Pair, Probes, Scenario, Step};

use super::trouble::RESOLVING;
use super::{EXPULSION, HEALING};
use crate::host::{TCP_SINK_PORT, UDP_SINK_PORT};

/// The access rules of a run: those in force and earlier ones.
#[derive(Clone)]
pub(super) struct Access {
    names: Vec<Fqdn>,
    now: Rules,
    past: Vec<Past>,
}

/// Rules that were replaced.
#[derive(Clone)]
struct Past {
    rules: Rules,
    /// When other rules replaced them.
    until: Instant,
    /// When each node that is told of the change has ended the access that these rules allowed.
    expelled: Instant,
}

/// What the rules demand of a flow between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Packets may arrive.
    Allowed,
    /// No packet may arrive.
    Refused,
    /// The rules change meanwhile, or a node may not have heard of the last change.
    Doubtful,
}

impl Access {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let names = (0..scenario.nodes.len()).map(|node| scenario.shown_name(node).clone()).collect();
        Self { names, now: scenario.rules.clone(), past: Vec::new() }
    }

    fn by(&self, rules: &Rules, sent: Sent) -> bool {
        let [from, to] = [sent.pair.from, sent.pair.to].map(|node| rules.roles(&self.names[node]));
        rules.permission(&from, &to).admits(sent.protocol, sent.port)
    }

    /// Whether there are limits to what the two nodes may open.
    fn limits(&self, rules: &Rules, sent: Sent) -> bool {
        let [from, to] = [sent.pair.from, sent.pair.to].map(|node| rules.roles(&self.names[node]));
        [rules.permission(&from, &to), rules.permission(&to, &from)].iter().any(|way| *way != Permission::Everything)
    }

    /// Whether a flow may be opened now.
    pub(super) fn allows(&self, sent: Sent) -> bool {
        self.by(&self.now, sent)
    }

    /// Whether two nodes may have a tunnel now.
    pub(super) fn lets_meet(&self, pair: Pair) -> bool {
        let [from, to] = [pair.from, pair.to].map(|node| self.now.roles(&self.names[node]));
        self.now.may_meet(&from, &to)
    }

    /// Puts other rules in force at `at`. `expelled`: when the access that they end has ended at every node.
    pub(super) fn change(&mut self, rules: &Rules, at: Instant, expelled: Instant) {
        let rules = std::mem::replace(&mut self.now, rules.clone());
        self.past.push(Past { rules, until: at, expelled });
    }

    /// What the rules demand of a flow that begins at `at`. `is_calm`: nothing else ever happens to the network.
    /// `is_heard`: whether one of the two nodes has heard that access ended at a time.
    pub(super) fn judge(
        &self,
        (scenario, began): (&Scenario, &[Instant]),
        at: Instant,
        sent: Sent,
        is_calm: bool,
        is_heard: impl Fn(Instant) -> bool,
    ) -> Verdict {
        let is_allowed = self.allows(sent);
        let ends = at + sent.lasts;
        let later = began.iter().zip(&scenario.steps).filter(|(began, _)| at <= **began && **began < ends);
        let is_other = |rules: &Rules| {
            self.by(rules, sent) != is_allowed || self.limits(rules, sent) != self.limits(&self.now, sent)
        };
        let changes = |step: &Step| matches!(&step.action, Action::Rules(rules) if is_other(rules));
        if later.into_iter().any(|(_, step)| changes(step)) {
            return Verdict::Doubtful;
        }
        // A tunnel that is about to end may lose a packet. So may one that gets its first limits: nodes note no flows
        // without limits, so they do not know an answer that is on its way then.
        let ending = if is_calm { EXPULSION } else { HEALING };
        let mut others = self.past.iter().filter(|past| self.by(&past.rules, sent) != is_allowed);
        match is_allowed {
            true if self.past.iter().all(|past| past.until + ending <= at || !is_other(&past.rules)) => {
                Verdict::Allowed
            }
            false if others.all(|past| is_heard(past.expelled)) => Verdict::Refused,
            _ => Verdict::Doubtful,
        }
    }
}

/// A flow that an action opens.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    /// `from` opens the flow.
    pub(super) pair: Pair,
    protocol: Protocol,
    port: u16,
    /// The longest time for which packets are sent.
    lasts: Duration,
}

impl Sent {
    /// The flow of an action, if it opens any.
    pub(super) fn of(scenario: &Scenario, action: &Action) -> Option<Self> {
        let row = |probes: &Probes| probes.lasts() + RESOLVING + EXPULSION;
        Some(match action {
            Action::Echo(probes) => Self { lasts: row(probes), ..Self::echo(probes.pair) },
            Action::Udp(probes) => {
                Self { pair: probes.pair, protocol: Protocol::Udp, port: UDP_SINK_PORT, lasts: row(probes) }
            }
            Action::Tcp { pair, .. } => {
                Self { pair: *pair, protocol: Protocol::Tcp, port: TCP_SINK_PORT, lasts: scenario.duration_limit }
            }
            _ => return None,
        })
    }

    /// A single echo.
    pub(super) fn echo(pair: Pair) -> Self {
        Self { pair, protocol: Protocol::Icmp, port: 0, lasts: Duration::ZERO }
    }
}
