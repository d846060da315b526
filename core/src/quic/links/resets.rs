//! Limits for stateless resets (RFC 9000 §10.3): how many one source may draw, and all sources together.
//!
//! quinn has one interval between any two resets. With it, one reset a millisecond went out after a restart of the NMS.
//! 250 nodes whose keep-alives came at the same moment got one reset in all, and the others waited for their next
//! keep-alives. So quinn's interval is off, and each source has a share of its own.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use crate::shares::source_of;
use crate::time::Instant;
use crate::timing::quic::{RESET_EVERY, RESET_OF_ONE_EVERY};

/// Resets that one source may draw at once: about as many as the nodes of one office, or behind a carrier's address,
/// have links.
const BURST: u32 = 256;
/// Resets that all sources together may draw at once: some for each of a service's nodes, whose keep-alives may come at
/// one moment. They are less than 100 kB.
const BURST_OF_ALL: u32 = 2_048;
/// Sources that are remembered. The oldest is forgotten first, and may then draw a whole burst again. The limit of all
/// resets together still holds.
const MAX_SOURCES: usize = 4096;

/// When each source may draw resets again.
#[derive(Debug, Default)]
pub(super) struct Resets {
    /// When a source may draw a whole burst again.
    full_at: BTreeMap<IpAddr, Instant>,
    /// When all sources together may draw a whole burst again.
    all_full_at: Instant,
    /// The sources, the oldest first.
    order: VecDeque<IpAddr>,
}

impl Resets {
    /// Whether a reset may go to this source now. If so, it is counted.
    pub(super) fn may_go(&mut self, now: Instant, remote: SocketAddr) -> bool {
        let source = source_of(remote.ip());
        let full_at = self.full_at.get(&source).copied();
        let next = full_at.unwrap_or(now).max(now) + RESET_OF_ONE_EVERY;
        let next_of_all = self.all_full_at.max(now) + RESET_EVERY;
        if next > now + RESET_OF_ONE_EVERY * BURST || next_of_all > now + RESET_EVERY * BURST_OF_ALL {
            return false;
        }
        self.all_full_at = next_of_all;
        if full_at.is_none() {
            if self.order.len() >= MAX_SOURCES
                && let Some(oldest) = self.order.pop_front()
            {
                self.full_at.remove(&oldest);
            }
            self.order.push_back(source);
        }
        self.full_at.insert(source, next);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_source_draws_a_burst_and_then_a_trickle_and_others_are_not_kept_from_theirs() {
        let mut resets = Resets::default();
        let mut now = Instant::ZERO + Duration::from_secs(5);
        let place = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let loud = [place("[2001:db8:1:2::5]:443"), place("[2001:db8:1:2:ffff::6]:9")];
        let drawn = (0..1_000).filter(|at| resets.may_go(now, loud[at % 2])).count();
        assert_eq!(drawn, 256);
        assert!(resets.may_go(now, place("[2001:db8:1:3::5]:443")) && resets.may_go(now, place("192.0.2.1:443")));
        now += RESET_OF_ONE_EVERY * 10;
        assert_eq!((0..1_000).filter(|_| resets.may_go(now, loud[0])).count(), 10);
        // A flood with forged sources: a burst, and then one in a millisecond for all of them together.
        let forged = |from: u32| SocketAddr::new(IpAddr::V4(from.into()), 1);
        now += Duration::from_secs(3);
        assert_eq!((0..10_000).filter(|from| resets.may_go(now, forged(*from))).count(), 2_048);
        now += Duration::from_millis(500);
        assert_eq!((10_000..20_000).filter(|from| resets.may_go(now, forged(*from))).count(), 500);
        assert!(resets.order.len() <= MAX_SOURCES && resets.full_at.len() <= MAX_SOURCES);
    }
}
