//! What time it is for each role, and how long its certificate counts.
//!
//! Clocks stand still, at [`EPOCH`] plus the time of the run at which the role began its life; a
//! scenario's steps move them. A certificate that a step lets expire ends half a day before the time to which that step
//! moves every clock.

use std::collections::BTreeMap;
use std::time::Duration;

use cyphonic_core::name::Fqdn;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Action, Scenario};

use crate::seeded::{EPOCH, SharedTime};

const DAY: Duration = Duration::from_secs(86_400);

/// Clocks and certificates of a network.
#[derive(Clone, Debug)]
pub(super) struct Civil {
    clocks: BTreeMap<Fqdn, Clock>,
    /// How often a node got a new certificate.
    renewed: BTreeMap<Fqdn, u32>,
}

#[derive(Clone, Debug)]
struct Clock {
    shown: SharedTime,
    /// By how much steps have moved it, seconds.
    moved_s: i64,
}

impl Civil {
    /// At the beginning.
    pub(super) fn new(names: impl IntoIterator<Item = Fqdn>) -> Self {
        let clocks = names.into_iter().map(|name| (name, Clock { shown: SharedTime::at(EPOCH), moved_s: 0 })).collect();
        Self { clocks, renewed: BTreeMap::new() }
    }

    pub(super) fn clock(&self, name: &Fqdn) -> SharedTime {
        self.clocks[name].shown.clone()
    }

    /// A role begins another life.
    pub(super) fn begin(&self, name: &Fqdn, now: Instant) {
        let clock = &self.clocks[name];
        clock.shown.set(moved(EPOCH + (now - Instant::ZERO), clock.moved_s));
    }

    /// Moves a role's clock.
    pub(super) fn step(&mut self, name: &Fqdn, by_s: i64) {
        let clock = self.clocks.get_mut(name).expect("every role has a clock");
        clock.moved_s += by_s;
        clock.shown.set(moved(clock.shown.get(), by_s));
    }

    /// A day passes, for everybody.
    pub(super) fn pass_a_day(&mut self) {
        let names: Vec<Fqdn> = self.clocks.keys().cloned().collect();
        for name in &names {
            self.step(name, DAY.as_secs().cast_signed());
        }
    }

    /// How often a name's certificate was renewed.
    pub(super) fn renewals(&self, name: &Fqdn) -> u32 {
        self.renewed.get(name).copied().unwrap_or_default()
    }

    pub(super) fn renew(&mut self, name: &Fqdn) {
        *self.renewed.entry(name.clone()).or_default() += 1;
    }

    /// Until when the certificate counts that a name has now, time since 1970; `None` if no step of the scenario lets
    /// it expire. One that is renewed in time ends with the next day that passes.
    pub(super) fn certificate_ends(&self, scenario: &Scenario, name: &Fqdn) -> Option<Duration> {
        let (mut days, mut renewals) = (0, 0);
        for step in &scenario.steps {
            match &step.action {
                Action::Renew(node) | Action::RenewRunning(node) if scenario.nodes[*node].name == *name => {
                    renewals += 1;
                }
                Action::Expire(node) => {
                    let is_its_own = scenario.nodes[*node].name == *name && renewals == self.renewals(name);
                    if is_its_own || renewals > self.renewals(name) {
                        return Some(EPOCH + DAY * days + DAY / 2);
                    }
                    days += 1;
                }
                _ => {}
            }
        }
        None
    }
}

fn moved(from: Duration, by_s: i64) -> Duration {
    let by = Duration::from_secs(by_s.unsigned_abs());
    if by_s < 0 { from.saturating_sub(by) } else { from + by }
}
