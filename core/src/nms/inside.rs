//! Limits how often the NMS tells inside addresses. Nobody can prove an inside address, so the bytes that are sent to
//! one are bounded.
//!
//! The NMS tells an inside address only to a node that it sees behind the same public address. Each such node sends at
//! most [`SILENT_BYTES`](crate::paths::budget::SILENT_BYTES) in `SILENT_TIME` to an address that does not answer. The
//! NMS tells the address to at most [`MAX_ASKERS`] nodes in that time. So an address that a hostile node invents gets
//! at most 768 kB in ten minutes, which is 10 kbit/s, and only from hosts in its own network.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::name::NodeId;
use crate::time::Instant;
use crate::timers::Timers;
use crate::timing::paths::SILENT_TIME;

/// The largest number of nodes to which one inside address is told in `SILENT_TIME`. In a LAN of 254 hosts hardly so
/// many build a tunnel to one host within ten minutes. Later ones use another way until the ten minutes are over.
const MAX_ASKERS: usize = 128;
/// The largest number of remembered pairs of an inside address and an asker. While it is reached, no further pair is
/// told.
pub const MAX_INSIDE: usize = 65_536;

/// A public address, and an inside address behind it. The same inside address exists behind many public ones.
type Target = (IpAddr, IpAddr);

/// The nodes that were told inside addresses in the last `SILENT_TIME`.
#[derive(Default)]
pub(super) struct InsideTold {
    told: BTreeSet<(Target, NodeId)>,
    ends: Timers<Target>,
}

impl InsideTold {
    /// Whether a node may be told the address now.
    pub(super) fn may_be_told(&mut self, now: Instant, target: Target, asker: NodeId) -> bool {
        while let Some(over) = self.ends.pop_due(now) {
            let askers: Vec<_> = self.of(over).copied().collect();
            for pair in askers {
                self.told.remove(&pair);
            }
        }
        self.told.contains(&(target, asker))
            || self.told.len() < MAX_INSIDE && self.of(target).count() < MAX_ASKERS
            || defect!(NamedAddressBelieved)
    }

    /// Notes that a node is told the address.
    pub(super) fn note(&mut self, now: Instant, target: Target, asker: NodeId) {
        if self.of(target).next().is_none() {
            self.ends.set(target, Some(now + SILENT_TIME));
        }
        self.told.insert((target, asker));
    }

    /// The number of remembered pairs.
    pub(super) fn count(&self) -> usize {
        self.told.len()
    }

    fn of(&self, target: Target) -> impl Iterator<Item = &(Target, NodeId)> {
        self.told.range((target, NodeId([0; 16]))..=(target, NodeId([255; 16])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inside_address_is_told_to_so_many_nodes_and_to_others_later() {
        let target = ("203.0.113.1".parse().unwrap(), "192.168.1.1".parse().unwrap());
        let elsewhere = ("203.0.113.2".parse().unwrap(), target.1);
        let node = |n: usize| NodeId((n as u128).to_be_bytes());
        let mut told = InsideTold::default();
        let mut tell = |now, target, n| {
            let good = told.may_be_told(now, target, node(n));
            if good {
                told.note(now, target, node(n));
            }
            good
        };
        let now = Instant::from_millis(1_000);
        assert_eq!((0..1_000).filter(|&n| tell(now, target, n)).count(), MAX_ASKERS);
        assert!(tell(now, target, 5), "again the same");
        assert!(tell(now, elsewhere, 999), "the same inside address of another network");
        assert!(!tell(now + SILENT_TIME / 2, target, 999));
        assert!(tell(now + SILENT_TIME, target, 999));
        assert_eq!(told.count(), 1);
    }
}
