//! How much work the NMS does for one node, and for datagrams whose sender proved nothing.
//!
//! **Requests of a node.** Each registered name has a rate of Registration Requests, one of Direction Requests and
//! Grant Requests, and one of Peer Reports. A registration costs a write to the database, a Direction Request costs
//! messages to other parts, and a Peer Report costs look-ups. What exceeds the rate is dropped, and the node sends it
//! again.
//!
//! **Datagrams on the conventional port.** A datagram in the name of a node that is not registered costs a look into
//! the database and a key derivation before it can be refused. Anybody can send such datagrams, from any source
//! address. So this work has a rate for each [`Standing`], and for each source of one standing:
//!
//! | the datagram | why it counts so |
//! |---|---|
//! | [`Standing::There`] | its sender returned a challenge to its address and port, for its transaction |
//! | [`Standing::Good`] | an authentic message came from its source before |
//! | [`Standing::Stranger`] | nothing is known of its source |
//!
//! A flood from spoofed addresses uses up the rates of strangers, or of the good sources that it spoofs. A Registration
//! Request beyond these rates is answered by a challenge, a Probe whose id only the NMS can make, and which is not
//! longer than the request. A node that is registering returns it in a Probe Reply. Its retransmitted request then has
//! another rate. An attacker that spoofs the node's own address does not share that rate, because it cannot see the
//! node's transactions. Below the rates no challenge is sent, and no byte on the wire is another one.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::name::NodeId;
use crate::probe;
use crate::shares::source_of;
use crate::time::Instant;
use crate::timers::{Timers, pay};
use crate::timing::nms::{
    GOOD_SOURCE_KEPT, REGISTRATION_EVERY, REGISTRATIONS_SAVED, REQUEST_EVERY, REQUESTS_SAVED, THERE_SOURCE_KEPT,
    UNPROVED_EVERY, UNPROVED_FROM_ONE_EVERY, UNPROVED_SAVED,
};

/// Most keys of one rate, and most sources of one standing. The next one takes the place of the one that is due first.
pub(super) const MAX_KEYS: usize = 65_536;

/// A token bucket for each key. A bucket is kept as the instant at which it will be full again.
#[derive(Debug)]
struct Rate<K> {
    every: Duration,
    saved: Duration,
    full: Timers<K>,
}

impl<K: Ord + Copy> Rate<K> {
    /// One token in the time `every`, and as many saved as come in the time `saved`.
    fn new(every: Duration, saved: Duration) -> Self {
        Self { every, saved, full: Timers::default() }
    }

    /// Takes a token, if there is one.
    fn take(&mut self, now: Instant, key: K) -> bool {
        while self.full.pop_due(now).is_some() {}
        let full = self.full.at(key).unwrap_or(now);
        let Some(full) = pay(full, now, self.every, self.saved) else { return false };
        keep(&mut self.full, key, full);
        true
    }
}

/// Sets the deadline of a key. If there are too many, the one that is due first makes room.
fn keep<K: Ord + Copy>(timers: &mut Timers<K>, key: K, at: Instant) {
    if timers.count() >= MAX_KEYS
        && !timers.contains(key)
        && let Some((_, first)) = timers.first()
    {
        timers.set(first, None);
    }
    timers.set(key, Some(at));
}

/// What is known of a datagram's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Stranger,
    There,
    Good,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Rates {
    registrations: Rate<NodeId>,
    requests: Rate<NodeId>,
    reports: Rate<NodeId>,
    /// Work for datagrams that prove nothing, by standing.
    unproved: Rate<Standing>,
    /// The same by source.
    by_source: Rate<(Standing, IpAddr)>,
    good: Timers<IpAddr>,
    /// Where a challenge came back from, and the transaction that it was for.
    there: Timers<(SocketAddr, u32)>,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            registrations: Rate::new(REGISTRATION_EVERY, REGISTRATIONS_SAVED),
            requests: Rate::new(REQUEST_EVERY, REQUESTS_SAVED),
            reports: Rate::new(REQUEST_EVERY, REQUESTS_SAVED),
            unproved: Rate::new(UNPROVED_EVERY, UNPROVED_SAVED),
            by_source: Rate::new(UNPROVED_FROM_ONE_EVERY, UNPROVED_SAVED),
            good: Timers::default(),
            there: Timers::default(),
        }
    }
}

impl Rates {
    /// Whether a node may register now.
    pub(super) fn may_register(&mut self, now: Instant, node: NodeId) -> bool {
        self.registrations.take(now, node) || defect!(RequestsUnlimited)
    }

    /// Whether a node may ask for a route now.
    pub(super) fn may_ask(&mut self, now: Instant, node: NodeId) -> bool {
        self.requests.take(now, node) || defect!(RequestsUnlimited)
    }

    /// Whether a node may name peers now (Peer Report). Each of up to sixteen names is looked up in the database.
    pub(super) fn may_report(&mut self, now: Instant, node: NodeId) -> bool {
        self.reports.take(now, node) || defect!(RequestsUnlimited)
    }

    /// Whether work may be done for a datagram of this transaction that proves nothing yet.
    pub(super) fn may_work(&mut self, now: Instant, from: SocketAddr, transaction: u32) -> bool {
        if defect!(UnprovedUnlimited) {
            return true;
        }
        let source = source_of(from.ip());
        let standing = self.standing(now, from, transaction);
        // The source's own rate comes first: what it refuses takes nothing from others.
        self.by_source.take(now, (standing, source)) && self.unproved.take(now, standing)
    }

    fn standing(&mut self, now: Instant, from: SocketAddr, transaction: u32) -> Standing {
        while self.good.pop_due(now).is_some() {}
        while self.there.pop_due(now).is_some() {}
        if self.there.contains((from, probe::transaction(transaction))) && !defect!(ChallengeOfAnybody) {
            Standing::There
        } else if self.good.contains(source_of(from.ip())) {
            Standing::Good
        } else {
            Standing::Stranger
        }
    }

    /// An authentic message came from there.
    pub(super) fn was_good(&mut self, now: Instant, from: IpAddr) {
        let source = source_of(from);
        // It is noted again only now and then: this is done for each message.
        if self.good.at(source).is_none_or(|until| until < now + GOOD_SOURCE_KEPT / 2) {
            keep(&mut self.good, source, now + GOOD_SOURCE_KEPT);
        }
    }

    /// A challenge came back from there, for a transaction that was reduced to that of a Probe.
    pub(super) fn is_there(&mut self, now: Instant, from: SocketAddr, transaction: u32) {
        keep(&mut self.there, (from, transaction), now + THERE_SOURCE_KEPT);
    }

    /// The largest of the tables.
    pub(super) fn count(&self) -> usize {
        let nodes = self.registrations.full.count().max(self.requests.full.count());
        let nodes = nodes.max(self.reports.full.count());
        nodes.max(self.by_source.full.count()).max(self.good.count()).max(self.there.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> SocketAddr {
        (std::net::Ipv4Addr::from_bits(0x0a00_0000 + n), 4501).into()
    }

    /// How much work is done for this many datagrams, each from another address, at one instant.
    fn from_many(rates: &mut Rates, now: Instant, many: std::ops::Range<u32>) -> usize {
        many.filter(|n| rates.may_work(now, address(*n), 7)).count()
    }

    #[test]
    fn spoofed_addresses_take_the_strangers_part_and_leave_the_others_theirs() {
        let mut rates = Rates::default();
        let (good, there) = (address(1 << 20), address(1 << 21));
        let mut now = Instant::from_millis(1_000);
        rates.was_good(now, good.ip());
        rates.is_there(now, there, 7);
        let burst = usize::try_from(UNPROVED_SAVED.as_nanos() / UNPROVED_EVERY.as_nanos()).unwrap();
        assert_eq!(from_many(&mut rates, now, 0..10_000), burst);
        let mut work = 0;
        for step in 0..100 {
            now += Duration::from_millis(10);
            work += from_many(&mut rates, now, step * 1_000..step * 1_000 + 500);
            assert!(step % 10 != 0 || rates.may_work(now, good, 7) && rates.may_work(now, there, 7), "{step}");
        }
        assert_eq!(work, usize::try_from(Duration::from_secs(1).as_nanos() / UNPROVED_EVERY.as_nanos()).unwrap());
        assert!(!rates.may_work(now, address(1 << 22), 7), "another stranger");
        rates.is_there(now, address(1 << 22), 7);
        assert!(rates.may_work(now, address(1 << 22), 7), "it has returned the challenge");
    }

    #[test]
    fn one_source_has_its_own_rate_and_takes_no_more_from_others() {
        let mut rates = Rates::default();
        let now = Instant::from_millis(1_000);
        let one = (0..10_000).filter(|_| rates.may_work(now, address(1), 7)).count();
        assert_eq!(one, usize::try_from(UNPROVED_SAVED.as_nanos() / UNPROVED_FROM_ONE_EVERY.as_nanos()).unwrap());
        assert!(rates.may_work(now, address(2), 7));
    }

    #[test]
    fn a_source_that_is_spoofed_has_its_rate_for_what_returned_a_challenge() {
        let mut rates = Rates::default();
        let now = Instant::from_millis(1_000);
        let spoofed = (0..10_000).filter(|n| rates.may_work(now, address(1), *n)).count();
        assert!(spoofed < 10_000 && !rates.may_work(now, address(1), 77));
        rates.is_there(now, address(1), 77);
        assert!(!rates.may_work(now, address(1), 78), "another transaction");
        let elsewhere = SocketAddr::new(address(1).ip(), 9);
        assert!(!rates.may_work(now, elsewhere, 77), "another port");
        let there = (0..10_000).filter(|_| rates.may_work(now, address(1), 77)).count();
        assert_eq!(there, spoofed, "a source that proves itself has a rate too");
    }

    #[test]
    fn a_node_has_a_rate_of_its_own_and_the_tables_have_a_limit() {
        let mut rates = Rates::default();
        let now = Instant::from_millis(1_000);
        let [a, b] = [1, 2].map(|n| NodeId([n; 16]));
        let asked = (0..10_000).filter(|_| rates.may_ask(now, a)).count();
        let within = |saved: Duration, every: Duration| usize::try_from(saved.as_nanos() / every.as_nanos()).unwrap();
        assert_eq!(asked, within(REQUESTS_SAVED, REQUEST_EVERY));
        assert!(rates.may_ask(now, b) && rates.may_ask(now + REQUEST_EVERY, a));
        let registered = (0..10_000).filter(|_| rates.may_register(now, a)).count();
        assert_eq!(registered, within(REGISTRATIONS_SAVED, REGISTRATION_EVERY));
        for n in 0..70_000_u32 {
            rates.is_there(now, address(n), 7);
            rates.was_good(now, address(n).ip());
            let mut id = [0; 16];
            id[..4].copy_from_slice(&n.to_be_bytes());
            rates.may_ask(now, NodeId(id));
        }
        assert_eq!(rates.count(), MAX_KEYS);
        assert_eq!(rates.standing(now + GOOD_SOURCE_KEPT, address(69_999), 7), Standing::Stranger, "nothing lasts");
    }
}
