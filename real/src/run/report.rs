//! Events of roles as log lines.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cyphonic_core::event::{DropReason, Event};
use cyphonic_core::name::Party;
use cyphonic_scenarios::log::{Entry, What};

use crate::drive;
use crate::error::Failure;

use super::kept_open::{KeptOpen, Limit};
use super::metrics::Page;

/// The event log of some settings, and how long it may get.
macro_rules! event_log {
    ($settings:ident) => {
        $settings
            .event_log
            .clone()
            .map(|path| (path, $crate::run::kept_open::Limit::of($settings.event_log_bytes, $settings.event_log_files)))
    };
}
pub(super) use event_log;

/// Writes events to the log, and counts drops.
pub(super) struct Report {
    drops: BTreeMap<DropReason, u64>,
    /// How often each event happened.
    counts: BTreeMap<&'static str, u64>,
    events: Option<EventLog>,
}

/// The log of the setting `event-log`. Unlike the other log no
/// line is left out, so it can be compared with a simulated one. It is rotated by its size.
struct EventLog {
    host: String,
    file: KeptOpen,
}

impl EventLog {
    fn open(host: &Party, (path, limit): (PathBuf, Limit)) -> Result<Self, Failure> {
        Ok(Self { host: host.to_string(), file: KeptOpen::open(&path, "event-log")?.limited(limit) })
    }

    fn write(&mut self, event: &Event) {
        let Some(what) = What::of(event) else { return };
        let at_ns = u64::try_from(drive::since_epoch().as_nanos()).unwrap_or(u64::MAX);
        self.file.write(&Entry { cell: 0, at_ns, host: self.host.clone(), what }.to_line());
    }
}

impl Report {
    /// The report of this role. Its event log goes to a file if a setting names one.
    pub(super) fn new(host: &Party, event_log: Option<(PathBuf, Limit)>) -> Result<Self, Failure> {
        let events = event_log.map(|log| EventLog::open(host, log)).transpose()?;
        Ok(Self { drops: BTreeMap::new(), counts: BTreeMap::new(), events })
    }

    pub(super) fn event(&mut self, event: &Event) {
        if let Some(log) = &mut self.events {
            log.write(event);
        }
        *self.counts.entry(kind(event)).or_default() += 1;
        match event {
            Event::Signal(signal) => tracing::debug!("{signal}"),
            Event::Registered { addresses, nat } => {
                tracing::info!(v4 = %addresses.v4, v6 = %addresses.v6, nat, "registered");
            }
            // The code around the node logs the reason.
            Event::Unregistered { reason } => tracing::debug!(%reason, "not registered"),
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
            Event::PathSwitched { peer, remote, pattern } => {
                let pattern = pattern.number();
                tracing::info!(%peer, %remote, pattern, "another path");
            }
            Event::TunnelDown { peer, reason } => tracing::info!(%peer, %reason, "tunnel down"),
            Event::UdpBlocked { service } => {
                tracing::info!(%service, "this network lets no UDP out: the services are reached by TCP port 443");
            }
            Event::UdpWorks => tracing::info!("this network lets UDP out again"),
            Event::NoTcp(why) => {
                let (service, remedy) = (&why.service, why.remedy());
                tracing::warn!(%service, %why, remedy, "no answer by UDP, and no connection by TCP");
            }
            Event::TunnelReady { peer } => tracing::debug!(%peer, "packets go ahead"),
            Event::AddressesDiffer { name, shown, stored } => {
                let remedy = "the certificate counts; restore the database from a backup, or renew the certificate";
                let (shown_v4, stored_v4) = (shown.v4, stored.v4);
                tracing::warn!(%name, %shown_v4, %stored_v4, remedy, "the database has another node's virtual address");
            }
            Event::OtherMachine { name, served, refused } => {
                let remedy = "if it is one machine too many, enrol it under another name (`cyphonic device invite`); if its key \
                              may be stolen, `cyphonic ca revoke NAME`, and enrol the right machine anew";
                tracing::warn!(%name, %served, %refused, remedy, "two machines use one name and key: one is refused");
            }
            Event::Dropped(reason) => {
                let count = self.drops.entry(*reason).or_default();
                *count += 1;
                // Powers of two are logged: often enough to be seen, and too seldom to fill a disk.
                if count.is_power_of_two() && *reason == DropReason::UnknownVersion {
                    let remedy = "upgrade cyphonic on the machine that cannot register, or here; `cyphonic --version`";
                    tracing::warn!(count, remedy, "a part that speaks another version of the protocol was refused");
                } else if count.is_power_of_two() {
                    tracing::debug!(reason = reason.name(), count, "dropped");
                }
            }
        }
    }

    /// Writes the counts to a page of numbers.
    pub(super) fn on(&self, page: &mut Page) {
        page.by("events_total", "What happened, by kind.", "kind", &self.counts);
        page.by("dropped_total", "What came in and was dropped, by reason.", "reason", &self.drops());
    }

    /// The drops by reason.
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
        Event::PathSwitched { .. } => "path-switched",
        Event::TunnelDown { .. } => "tunnel-down",
        Event::UdpBlocked { .. } => "udp-blocked",
        Event::UdpWorks => "udp-works",
        Event::NoTcp(_) => "no-tcp",
        Event::TunnelReady { .. } => "tunnel-ready",
        Event::AddressesDiffer { .. } => "addresses-differ",
        Event::OtherMachine { .. } => "other-machine",
        Event::Dropped(_) => "dropped",
    }
}
