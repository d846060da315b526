//! What the NMS has granted at a TRS, and what each node has used of it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::grant::Grants;
use crate::message::RelayGrant;
use crate::name::{Fqdn, NodeId};
use crate::quic::LinkId;
use crate::time::Instant;
use crate::timers::{Timers, pay};
use crate::timing::trs::{RELAY_BURST, RELAY_COUNTED};

/// Most nodes that may have a grant for one leg, now or before.
const MAX_GRANTS_PER_LEG: usize = 64;
/// Most nodes whose bytes are counted. Beyond, the ones that are new are not limited by bytes: their rate is.
const MAX_COUNTED: usize = 100_000;

/// What one node may send through a TRS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayLimits {
    /// Bytes a second, of UDP payload.
    pub rate: u64,
    /// Bytes an hour, of UDP payload.
    pub hourly: u64,
}

/// A leg, and a node that asks to be bound to it.
pub(super) type Pair = (LinkId, NodeId);

/// The last grant of a pair.
struct One {
    /// It stays when the time is over, so that no grant counts twice.
    serial: u64,
    /// The serial number of the pair's first grant, and when the TRS saw it.
    first: (u64, Instant),
    holds: bool,
}

/// The grants that a TRS has seen.
pub(super) struct Granted {
    grants: Grants,
    /// The grants for each leg, by the node that may be bound to it.
    legs: BTreeMap<LinkId, BTreeMap<NodeId, One>>,
    ends: Timers<Pair>,
}

impl Granted {
    pub(super) fn new(grants: Grants) -> Self {
        Self { grants, legs: BTreeMap::new(), ends: Timers::default() }
    }

    /// Takes a grant for a leg. False if the NMS did not make it, if it is not newer than the last one, or if its time
    /// is over.
    ///
    /// Serial numbers grow by one in each nanosecond of the NMS's life. So the TRS knows how long after the pair's
    /// first grant this one was made, and its time begins no later than that. Otherwise a node could collect grants,
    /// and use them one after another when it gets no more.
    pub(super) fn take(&mut self, now: Instant, leg: LinkId, grant: &RelayGrant) -> bool {
        let (known, from) = (self.legs.get(&leg), NodeId::of(&grant.from));
        let last = known.and_then(|known| known.get(&from)).map(|one| one.serial);
        let room = last.is_some() || known.is_none_or(|known| known.len() < MAX_GRANTS_PER_LEG);
        if last.is_some_and(|last| last >= grant.serial) || !room || !self.grants.is_good(grant) {
            return false;
        }
        let first = known.and_then(|known| known.get(&from)).map_or((grant.serial, now), |one| one.first);
        let made = first.1 + Duration::from_nanos(grant.serial.saturating_sub(first.0));
        let ends = now.min(made) + Duration::from_secs(grant.seconds.into());
        if ends <= now {
            return false;
        }
        self.legs.entry(leg).or_default().insert(from, One { serial: grant.serial, first, holds: true });
        self.ends.set((leg, from), Some(ends));
        true
    }

    /// Whether a node may be bound to a leg now.
    pub(super) fn holds(&self, leg: LinkId, from: &Fqdn) -> bool {
        self.legs.get(&leg).and_then(|known| known.get(&NodeId::of(from))).is_some_and(|one| one.holds)
            || defect!(GrantUnchecked)
    }

    /// The next pair whose time is over.
    pub(super) fn pop_over(&mut self, now: Instant) -> Option<Pair> {
        let pair = self.ends.pop_due(now)?;
        if let Some(one) = self.legs.get_mut(&pair.0).and_then(|known| known.get_mut(&pair.1)) {
            one.holds = false;
        }
        Some(pair)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.ends.next()
    }

    /// A leg is gone, and with it the grants for it.
    pub(super) fn forget(&mut self, leg: LinkId) {
        for from in self.legs.remove(&leg).into_iter().flat_map(BTreeMap::into_keys) {
            self.ends.set((leg, from), None);
        }
    }

    /// The legs that have grants.
    pub(super) fn count(&self) -> usize {
        self.legs.len()
    }
}

/// What each node has sent.
#[derive(Default)]
pub(super) struct Used {
    /// When a node's token bucket will be full again.
    rates: BTreeMap<NodeId, Instant>,
    hourly: BTreeMap<NodeId, u64>,
    ends: Timers<NodeId>,
}

impl Used {
    /// Whether a node may send so many bytes now; then they are counted.
    pub(super) fn take(&mut self, now: Instant, limits: RelayLimits, node: NodeId, len: usize) -> bool {
        while let Some(over) = self.ends.pop_due(now) {
            self.hourly.remove(&over);
            self.rates.remove(&over);
        }
        let nanos = u128::from(len as u64) * 1_000_000_000 / u128::from(limits.rate.max(1));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let full = self.rates.get(&node).copied().unwrap_or(now);
        let Some(full) = pay(full, now, cost, RELAY_BURST.max(cost)) else { return false };
        let sent = self.hourly.get(&node).copied().unwrap_or(0) + len as u64;
        if sent > limits.hourly {
            return false;
        }
        if !self.hourly.contains_key(&node) {
            if self.hourly.len() >= MAX_COUNTED {
                return true;
            }
            self.ends.set(node, Some(now + RELAY_COUNTED));
        }
        self.rates.insert(node, full);
        self.hourly.insert(node, sent);
        true
    }

    pub(super) fn count(&self) -> usize {
        self.hourly.len().max(self.ends.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_that_were_collected_do_not_last_longer_than_the_last_one_of_them() {
        let key = crate::key::Key128([3; 16]);
        let mut granted = Granted::new(Grants::new(&key));
        let (nms, leg, cid) = (Grants::new(&key), LinkId::default(), crate::name::RelayCid([1; 8]));
        let [a, b] = ["a.test", "b.test"].map(|name| name.parse::<Fqdn>().unwrap());
        let at = |seconds: u64| Instant::ZERO + Duration::from_secs(seconds);
        let second = |seconds: u64| 1_800_000_000_000_000_000 + seconds * 1_000_000_000;
        let made = |seconds: u64| nms.grant(a.clone(), b.clone(), cid, second(seconds), 600);
        assert!(granted.take(at(1_000), leg, &made(0)));
        // An honest node: the next grant begins when it comes.
        assert!(granted.take(at(1_300), leg, &made(300)));
        assert_eq!(granted.next(), Some(at(1_900)));
        // One that was collected at that time, and is shown late.
        assert!(granted.take(at(1_800), leg, &made(310)));
        assert_eq!(granted.next(), Some(at(1_910)));
        assert!(!granted.take(at(1_950), leg, &made(320)), "it has ended before it came");
        // A clock of the NMS that was set forward gives nothing.
        assert!(granted.take(at(1_960), leg, &made(90_000)));
        assert_eq!(granted.next(), Some(at(2_560)));
    }

    #[test]
    fn a_node_has_its_rate_a_short_burst_and_its_bytes_an_hour() {
        let (mut used, node) = (Used::default(), NodeId([1; 16]));
        let limits = RelayLimits { rate: 100_000, hourly: 1_000_000 };
        let mut send = |ms: u64| {
            let now = Instant::from_millis(ms);
            std::iter::repeat_with(|| used.take(now, limits, node, 1_000)).take_while(|good| *good).count()
        };
        assert_eq!((send(1_000), send(1_000)), (25, 0), "a quarter of a second");
        assert_eq!((send(1_010), send(1_110)), (1, 10));
        let hour: usize = (0..60).map(|second| send(2_000 + second * 1_000)).sum();
        assert_eq!(hour + 36, 1_000, "the bytes of the hour are used up");
        assert_eq!(send(3_601_100), 25, "another hour");
    }
}
