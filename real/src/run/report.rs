//! Events of roles as log lines.

use std::collections::BTreeMap;

use cyphonic_core::event::{DropReason, Event, Failure};
use cyphonic_core::message::ErrorCode;

use super::metrics::Page;

/// Writes events to the log, and counts what is dropped.
#[derive(Default)]
pub(super) struct Report {
    drops: BTreeMap<DropReason, u64>,
    /// How often what happened.
    counts: BTreeMap<&'static str, u64>,
}

impl Report {
    pub(super) fn event(&mut self, event: &Event) {
        *self.counts.entry(kind(event)).or_default() += 1;
        match event {
            Event::Signal(signal) => tracing::debug!("{signal}"),
            Event::Registered { addresses, nat } => {
                tracing::info!(v4 = %addresses.v4, v6 = %addresses.v6, nat, "registered");
            }
            Event::Unregistered { reason } => {
                tracing::warn!(%reason, remedy = remedy(reason), "not registered; trying again");
            }
            Event::RouteRequested { peer } => tracing::debug!(%peer, "looking for a route"),
            Event::TunnelUp(up) => {
                let (pattern, framing) = (up.pattern.number(), up.framing.name());
                tracing::info!(peer = %up.peer, pattern, dialed = up.dialed, framing, "tunnel up");
            }
            Event::RouteChosen(chosen) => {
                let pattern = chosen.choice.as_ref().map(|choice| choice.pattern.number());
                tracing::debug!(initiator = %chosen.initiator, responder = %chosen.responder, pattern, "route chosen");
            }
            Event::Surveyed(report) => tracing::debug!(?report, "the network is known"),
            Event::StillRelayed { peer, reason } => tracing::debug!(%peer, %reason, "no direct way"),
            Event::TunnelDown { peer, reason } => tracing::info!(%peer, %reason, "tunnel down"),
            Event::Dropped(reason) => {
                let count = self.drops.entry(*reason).or_default();
                *count += 1;
                // Often enough to be seen, seldom enough that nobody can fill a disk with it.
                if count.is_power_of_two() {
                    tracing::debug!(reason = reason.name(), count, "dropped");
                }
            }
        }
    }

    /// Puts what was counted on a page of numbers.
    pub(super) fn on(&self, page: &mut Page) {
        page.by("events_total", "What happened, by kind.", "kind", &self.counts);
        page.by("dropped_total", "What came in and was dropped, by reason.", "reason", &self.drops());
    }

    /// How often something was dropped, by reason.
    pub(super) fn drops(&self) -> BTreeMap<&'static str, u64> {
        self.drops.iter().map(|(reason, count)| (reason.name(), *count)).collect()
    }
}

/// The event's name among the numbers.
fn kind(event: &Event) -> &'static str {
    match event {
        Event::Signal(_) => "signal",
        Event::Registered { .. } => "registered",
        Event::Unregistered { .. } => "unregistered",
        Event::RouteRequested { .. } => "route-requested",
        Event::TunnelUp(_) => "tunnel-up",
        Event::RouteChosen(_) => "route-chosen",
        Event::Surveyed(_) => "surveyed",
        Event::StillRelayed { .. } => "still-relayed",
        Event::TunnelDown { .. } => "tunnel-down",
        Event::Dropped(_) => "dropped",
    }
}

/// What a person can do about a failed login or registration.
fn remedy(reason: &Failure) -> &'static str {
    match reason {
        Failure::Timeout | Failure::ConnectionLost => {
            "check that AS and NMS run, `as-addresses`, and that no firewall stops the port"
        }
        Failure::Authentication => "one side does not believe the other's certificate: same CA, names and clocks?",
        Failure::Refused(ErrorCode::Unauthorized) => {
            "the AS does not know this device: `cyphonic device add NAME` there"
        }
        Failure::Refused(ErrorCode::StaleEpoch) => "the clock was set back: set it right",
        Failure::Refused(_) | Failure::Protocol => "are both sides of the same version?",
        Failure::NoAddress => "no address of this machine has the family of a service: check the network",
        Failure::Replaced | Failure::Moved => "none needed",
    }
}
