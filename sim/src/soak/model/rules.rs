//! What access rules demand: which pairs may talk when.

use std::time::Duration;

use cyphonic_core::name::Fqdn;
use cyphonic_core::rules::Rules;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Action, Pair, Scenario, Step};

use super::trouble::FOUND;
use super::{EXPULSION, HEALING};

/// The access rules, as they came into force.
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
    until: Instant,
    /// When that is over which they allowed, for everybody that hears of it.
    expelled: Instant,
}

/// What the rules say of packets between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They may arrive.
    Allowed,
    /// None may arrive.
    Refused,
    /// The rules change meanwhile, or not everybody may have heard of them.
    Doubtful,
}

impl Access {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let names = scenario.nodes.iter().map(|node| node.name.clone()).collect();
        Self { names, now: scenario.rules.clone(), past: Vec::new() }
    }

    fn by(&self, rules: &Rules, pair: Pair) -> bool {
        rules.may_meet(&rules.roles(&self.names[pair.from]), &rules.roles(&self.names[pair.to]))
    }

    /// Whether two nodes may talk now.
    pub(super) fn allows(&self, pair: Pair) -> bool {
        self.by(&self.now, pair)
    }

    /// Other rules from now on; `expelled`: when the access that they end has ended for everybody.
    pub(super) fn change(&mut self, rules: &Rules, at: Instant, expelled: Instant) {
        let rules = std::mem::replace(&mut self.now, rules.clone());
        self.past.push(Past { rules, until: at, expelled });
    }

    /// What the rules say of packets that are sent from `at` on, until `ends`. `is_calm`: nothing else ever happens.
    /// `is_heard`: whether one of the two nodes has heard that access ended then.
    pub(super) fn judge(
        &self,
        (scenario, began): (&Scenario, &[Instant]),
        (at, ends): (Instant, Instant),
        pair: Pair,
        is_calm: bool,
        is_heard: impl Fn(Instant) -> bool,
    ) -> Verdict {
        let is_allowed = self.allows(pair);
        let later = began.iter().zip(&scenario.steps).filter(|(began, _)| at <= **began && **began < ends);
        let changes = |step: &Step| matches!(&step.action, Action::Rules(rules) if self.by(rules, pair) != is_allowed);
        if later.into_iter().any(|(_, step)| changes(step)) {
            return Verdict::Doubtful;
        }
        let mut others = self.past.iter().filter(|past| self.by(&past.rules, pair) != is_allowed);
        // A tunnel that is about to end may lose a packet.
        let settles = if is_calm { EXPULSION } else { HEALING };
        match is_allowed {
            true if others.all(|past| past.until + settles <= at) => Verdict::Allowed,
            false if others.all(|past| is_heard(past.expelled)) => Verdict::Refused,
            _ => Verdict::Doubtful,
        }
    }
}

/// Between which nodes an action sends packets, and for how long at most.
pub(super) fn sent(scenario: &Scenario, action: &Action) -> Option<(Pair, Duration)> {
    match action {
        Action::Echo(probes) | Action::Udp(probes) => Some((probes.pair, probes.lasts() + FOUND + EXPULSION)),
        Action::Tcp { pair, .. } => Some((*pair, scenario.duration_limit)),
        _ => None,
    }
}
