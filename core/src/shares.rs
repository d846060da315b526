//! Places of a limited table, by the source of what takes them: a share for each source.
//!
//! The number of places is limited for all sources together. When the limit is reached, the oldest place of the source
//! that has most of them gives way to a new one. So a source that floods displaces itself, and every other one has its
//! share. Half-open QUIC handshakes and logins over TCP are such tables.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

/// The source of an address: an IPv4 address, or the /64 of an IPv6 address, as one subscriber has it.
pub fn source_of(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// See the [module](self). Each change costs O(log n).
#[derive(Debug)]
pub(crate) struct Shares<Id> {
    sources: BTreeMap<Id, IpAddr>,
    of: BTreeMap<IpAddr, BTreeSet<Id>>,
    /// How many places a source has, its oldest one, and the source. The last entry is the source that gives way: of
    /// those with most places, the one with the oldest.
    ranks: BTreeSet<(usize, Reverse<Id>, IpAddr)>,
}

impl<Id> Default for Shares<Id> {
    fn default() -> Self {
        Self { sources: BTreeMap::new(), of: BTreeMap::new(), ranks: BTreeSet::new() }
    }
}

impl<Id: Copy + Ord> Shares<Id> {
    /// The number of places that are taken.
    pub(crate) fn count(&self) -> usize {
        self.sources.len()
    }

    /// A place is taken. Ids only grow, so the least of a source is its oldest.
    pub(crate) fn begin(&mut self, id: Id, from: IpAddr) {
        let source = source_of(from);
        self.sources.insert(id, source);
        self.change(source, |ids| {
            ids.insert(id);
        });
    }

    /// A place is free again.
    pub(crate) fn end(&mut self, id: Id) {
        if let Some(source) = self.sources.remove(&id) {
            self.change(source, |ids| {
                ids.remove(&id);
            });
        }
    }

    /// The place that gives way to a new one.
    pub(crate) fn gives_way(&self) -> Option<Id> {
        self.ranks.last().map(|(_, Reverse(oldest), _)| *oldest)
    }

    fn change(&mut self, source: IpAddr, change: impl FnOnce(&mut BTreeSet<Id>)) {
        let ids = self.of.entry(source).or_default();
        let rank = |ids: &BTreeSet<Id>| ids.first().map(|&oldest| (ids.len(), Reverse(oldest), source));
        if let Some(before) = rank(ids) {
            self.ranks.remove(&before);
        }
        change(ids);
        match rank(ids) {
            Some(after) => {
                self.ranks.insert(after);
            }
            None => {
                self.of.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_oldest_of_the_largest_source_gives_way_and_a_network_of_ipv6_is_one_source() {
        let mut half = Shares::<u64>::default();
        let mut next = 0;
        let mut begin = |half: &mut Shares<u64>, from: &str| {
            next += 1;
            half.begin(next, from.parse().unwrap());
        };
        begin(&mut half, "192.0.2.1");
        begin(&mut half, "2001:db8::1");
        begin(&mut half, "2001:db8::2");
        begin(&mut half, "2001:db8:0:1::1");
        assert_eq!(half.gives_way(), Some(2), "the /64 with two");
        begin(&mut half, "192.0.2.1");
        assert_eq!(half.gives_way(), Some(1), "two sources with two: the older one");
        half.end(1);
        half.end(1);
        assert_eq!((half.gives_way(), half.count()), (Some(2), 4));
    }

    proptest! {
        #[test]
        fn the_ranks_are_what_counting_gives(steps in prop::collection::vec((any::<bool>(), 0_u8..5), 0..200)) {
            let mut half = Shares::<u64>::default();
            let mut model: BTreeMap<u64, u8> = BTreeMap::new();
            for (n, (begins, source)) in steps.into_iter().enumerate() {
                if begins {
                    half.begin(n as u64, [192, 0, 2, source].into());
                    model.insert(n as u64, source);
                } else if let Some((&id, _)) = model.iter().nth(usize::from(source)) {
                    half.end(id);
                    model.remove(&id);
                }
                let count = |source: u8| model.values().filter(|&&other| other == source).count();
                let largest = (0..5).map(count).max().unwrap_or(0);
                let oldest = model.iter().find(|&(_, &source)| count(source) == largest).map(|(&id, _)| id);
                prop_assert_eq!((half.count(), half.gives_way()), (model.len(), oldest));
            }
        }
    }
}
