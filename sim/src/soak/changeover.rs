//! The change of a node that finds out by which of its networks UDP gets out.
//!
//! A node in two networks may begin in the one that blocks UDP. It reaches the services by TCP there. Its attempts at
//! UDP have each of its addresses in turn, so it finds the other network later. Then it hands over: under `rebuild` and
//! `migrate` its relayed tunnels are built anew, as after a move (paper §2.1). Packets that are under way then are
//! lost, although nothing happened to the network. It changes once, and stays.

use std::time::Duration;

use cyphonic_core::event::Event;
use cyphonic_core::time::Instant;
use cyphonic_scenarios::{Pair, Scenario};

use super::model::{self, PROMPT};
use crate::run::Run;

/// Packets that were sent this long before the change may be under way. It is more than an echo takes through the
/// relay, over the slowest links on which delivery is demanded.
const UNDER_WAY: Duration = Duration::from_secs(3);

/// When each node changed over.
pub(super) struct Changes(Vec<Option<Instant>>);

impl Changes {
    /// The first change of each node that may change.
    pub(super) fn of(scenario: &Scenario, run: &Run) -> Self {
        let first = |node: usize| {
            let short = scenario.nodes[node].name.short();
            let works = |(at, host, event): &(Instant, String, Event)| {
                (matches!(event, Event::UdpWorks) && host == short).then_some(*at)
            };
            run.events.iter().find_map(works)
        };
        let may_change = model::finds_udp_later(scenario).into_iter().enumerate();
        Self(may_change.map(|(node, may_change)| may_change.then(|| first(node)).flatten()).collect())
    }

    /// Whether this is the moment at which a node changes over.
    pub(super) fn is_one(&self, node: usize, at: Instant) -> bool {
        self.0.get(node).is_some_and(|change| *change == Some(at))
    }

    /// Whether a packet between two nodes that was sent at this time may be lost.
    pub(super) fn excuses(&self, pair: Pair, sent: Instant) -> bool {
        let changes = [pair.from, pair.to].into_iter().filter_map(|node| *self.0.get(node)?);
        changes.into_iter().any(|at| sent <= at + PROMPT && at <= sent + UNDER_WAY)
    }
}
