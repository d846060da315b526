//! Places of a limited table, by the source of what takes them: a share for each source.
//!
//! The number of places is limited for all sources together. When the limit is reached, a place of the network that has
//! most of them gives way to a new one: the oldest place of the source in it that has most. So a source that floods
//! displaces itself, and every other one has its share. So does a network: one subscriber may have 65,536 sources of
//! IPv6 (a /48, RFC 6177). Half-open QUIC handshakes and logins over TCP are such tables.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The source of an address: an IPv4 address, or the /64 of an IPv6 address, as one subscriber has it.
pub fn source_of(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// The network of a source: the largest one that many subscribers get, a /48 of IPv6, or a /24 of IPv4.
pub fn network_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80).into(),
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() >> 8 << 8).into(),
    }
}

/// How many places, and the oldest of them. The greatest gives way: of those with most places, the one with the oldest.
type Rank<Id> = (usize, Reverse<Id>);

/// The sources of one network.
#[derive(Debug)]
struct Network<Id> {
    places: usize,
    ranks: BTreeSet<(Rank<Id>, IpAddr)>,
}

impl<Id: Copy + Ord> Network<Id> {
    /// The rank of the network: with the place of it that gives way.
    fn rank(&self) -> Option<Rank<Id>> {
        self.ranks.last().map(|&((_, oldest), _)| (self.places, oldest))
    }
}

/// See the [module](self). Each change costs O(log n).
#[derive(Debug)]
pub(crate) struct Shares<Id> {
    sources: BTreeMap<Id, IpAddr>,
    of: BTreeMap<IpAddr, BTreeSet<Id>>,
    networks: BTreeMap<IpAddr, Network<Id>>,
    ranks: BTreeSet<(Rank<Id>, IpAddr)>,
}

impl<Id> Default for Shares<Id> {
    fn default() -> Self {
        let (networks, ranks) = (BTreeMap::new(), BTreeSet::new());
        Self { sources: BTreeMap::new(), of: BTreeMap::new(), networks, ranks }
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
        self.ranks.last().map(|((_, Reverse(oldest)), _)| *oldest)
    }

    fn change(&mut self, source: IpAddr, change: impl FnOnce(&mut BTreeSet<Id>)) {
        let at = network_of(source);
        let network = self.networks.entry(at).or_insert_with(|| Network { places: 0, ranks: BTreeSet::new() });
        if let Some(before) = network.rank() {
            self.ranks.remove(&(before, at));
        }
        let ids = self.of.entry(source).or_default();
        let rank = |ids: &BTreeSet<Id>| ids.first().map(|&oldest| (ids.len(), Reverse(oldest)));
        if let Some(before) = rank(ids) {
            network.ranks.remove(&(before, source));
        }
        network.places -= ids.len();
        change(ids);
        network.places += ids.len();
        match rank(ids) {
            Some(after) => {
                network.ranks.insert((after, source));
            }
            None => {
                self.of.remove(&source);
            }
        }
        match network.rank() {
            Some(after) => {
                self.ranks.insert((after, at));
            }
            None => {
                self.networks.remove(&at);
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
        assert_eq!(half.gives_way(), Some(2), "the /48 with three");
        half.end(4);
        assert_eq!(half.gives_way(), Some(1), "two networks with two: the older source");
        half.end(1);
        half.end(1);
        assert_eq!((half.gives_way(), half.count()), (Some(2), 3));
    }

    #[test]
    fn a_subscriber_with_many_networks_of_ipv6_does_not_displace_others() {
        let mut half = Shares::<u32>::default();
        half.begin(0, "198.51.100.1".parse().unwrap());
        half.begin(1, "2001:db8:1::1".parse().unwrap());
        for id in 2..2_000 {
            half.begin(id, Ipv6Addr::new(0x2001, 0xdb8, 2, id as u16, 0, 0, 0, 1).into());
            if id > 100 {
                let gone = half.gives_way().unwrap();
                assert_eq!(gone, id - 99, "the oldest of the flood, not the two that came first");
                half.end(gone);
            }
        }
        assert_eq!(half.count(), 101);
    }

    proptest! {
        #[test]
        fn the_ranks_are_what_counting_gives(steps in prop::collection::vec((any::<bool>(), 0_u8..5), 0..200)) {
            let mut half = Shares::<u64>::default();
            let mut model: BTreeMap<u64, u8> = BTreeMap::new();
            // Sources of two networks.
            let address = |source: u8| IpAddr::from([192, 0, source % 2, source]);
            for (n, (begins, source)) in steps.into_iter().enumerate() {
                if begins {
                    half.begin(n as u64, address(source));
                    model.insert(n as u64, source);
                } else if let Some((&id, _)) = model.iter().nth(usize::from(source)) {
                    half.end(id);
                    model.remove(&id);
                }
                let count = |source: u8| model.values().filter(|&&other| other == source).count();
                // Of each network: how many places it has, and the one that gives way.
                let of = |network: u8| {
                    let sources = || (0..5).filter(move |source| source % 2 == network);
                    let largest = sources().map(count).max().unwrap_or(0);
                    let is_largest = |source: u8| source % 2 == network && count(source) == largest;
                    let oldest = model.iter().find(|&(_, &source)| is_largest(source)).map(|(&id, _)| id);
                    oldest.map(|oldest| (sources().map(count).sum::<usize>(), Reverse(oldest)))
                };
                let gives_way = [0, 1].into_iter().filter_map(of).max().map(|(_, Reverse(oldest))| oldest);
                prop_assert_eq!((half.count(), half.gives_way()), (model.len(), gives_way));
            }
        }
    }
}
