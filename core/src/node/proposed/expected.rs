//! Peers that are expected to dial, and peers whose path MTU is not searched.
//!
//! Every datagram from outside may begin a connection, and QUIC has to know before it reads the datagram whether the
//! new connection searches for its path MTU. So the peers that are in both sets are counted as the sets change, and no
//! datagram costs a walk through either of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::name::Fqdn;
use crate::node::part::TunnelId;
use crate::node::routes::MAX_PEERS;

/// Most peers whose path is not searched. Beyond it all are forgotten: each is learnt again when its path ends.
const MAX_UNSEARCHED: usize = MAX_PEERS;

/// See the [module](self). Each change and each question costs O(log n) at most.
#[derive(Default)]
pub(super) struct Expected {
    dialers: BTreeMap<Fqdn, TunnelId>,
    unsearched: BTreeSet<Fqdn>,
    /// How many peers are in both.
    both: usize,
}

impl Expected {
    /// A peer is expected to dial for this tunnel, in place of an earlier one.
    pub(super) fn expect(&mut self, peer: &Fqdn, tunnel: TunnelId) {
        if self.dialers.insert(peer.clone(), tunnel).is_none() && self.unsearched.contains(peer) {
            self.both += 1;
        }
    }

    /// The tunnel for which a peer is expected to dial.
    pub(super) fn tunnel_of(&self, peer: &Fqdn) -> Option<TunnelId> {
        self.dialers.get(peer).copied()
    }

    /// A peer is not expected any more.
    pub(super) fn end(&mut self, peer: &Fqdn) {
        if self.dialers.remove(peer).is_some() && self.unsearched.contains(peer) {
            self.both -= 1;
        }
    }

    /// No peer is expected any more.
    pub(super) fn end_all(&mut self) {
        self.dialers.clear();
        self.both = 0;
    }

    /// The path to a peer is not searched from now on.
    pub(super) fn do_not_search(&mut self, peer: &Fqdn) {
        if self.unsearched.len() >= MAX_UNSEARCHED {
            self.search_all();
        }
        if self.unsearched.insert(peer.clone()) && self.dialers.contains_key(peer) {
            self.both += 1;
        }
    }

    /// Every path is searched again.
    pub(super) fn search_all(&mut self) {
        self.unsearched.clear();
        self.both = 0;
    }

    /// Whether the path to a peer is searched.
    pub(super) fn is_searched(&self, peer: &Fqdn) -> bool {
        !self.unsearched.contains(peer)
    }

    /// Whether the path of a peer that is expected to dial is not searched.
    pub(super) fn has_unsearched(&self) -> bool {
        self.both > 0
    }

    /// The peers that are expected, and those whose path is not searched.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.dialers.len(), self.unsearched.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_count_is_what_a_walk_through_both_gives(steps in prop::collection::vec((0_u8..6, 0_u8..4), 0..200)) {
            let mut expected = Expected::default();
            for (step, peer) in steps {
                let peer: Fqdn = format!("p{peer}.test").parse().unwrap();
                match step {
                    0 | 1 => expected.expect(&peer, TunnelId(u32::from(step))),
                    2 => expected.end(&peer),
                    3 => expected.do_not_search(&peer),
                    4 if peer.as_str() == "p0.test" => expected.search_all(),
                    5 if peer.as_str() == "p0.test" => expected.end_all(),
                    _ => {}
                }
                let walked = expected.unsearched.iter().any(|peer| expected.dialers.contains_key(peer));
                prop_assert_eq!(expected.has_unsearched(), walked);
            }
        }
    }
}
