//! Limits for what a node sends to an address that is not validated.
//!
//! Two limits hold at once. An address that sent authentic datagrams, and has not answered a challenge yet, gets three
//! times their bytes ([`Allowance`], RFC 9000 §8.1). An address that was only *named* gets [`SILENT_BYTES`] in
//! [`SILENT_TIME`], over all of its ports and all peers that name it ([`SilentTargets`]).

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::time::Instant;
use crate::timers::Timers;
use crate::timing::paths::SILENT_TIME;

/// The amplification limit: a multiple of the bytes that came from an address before it is validated (RFC 9000 §8.1).
pub const AMPLIFICATION: usize = 3;
/// Bytes of UDP payload that one silent IP address gets in [`SILENT_TIME`]: five QUIC Initials of 1,200 bytes, or 125
/// path probes.
pub const SILENT_BYTES: usize = 6_000;
/// Most silent addresses that one node sends to in [`SILENT_TIME`].
pub const MAX_SILENT: usize = 1_024;

/// The bytes of one address that is not validated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    received: usize,
    sent: usize,
}

impl Allowance {
    /// Counts authentic and new bytes that came from the address.
    pub fn received(&mut self, len: usize) {
        self.received = self.received.saturating_add(len);
    }

    /// Whether `len` bytes may go to the address. If so, they are counted as sent.
    pub fn take(&mut self, len: usize) -> bool {
        let good = self.sent + len <= AMPLIFICATION * self.received || defect!(UnprovedAnswered);
        self.sent += if good { len } else { 0 };
        good
    }
}

/// One node's bytes to addresses that it was told and that never answered. The paths of all peers share it.
#[derive(Clone, Debug, Default)]
pub struct SilentTargets {
    sent: BTreeMap<IpAddr, usize>,
    ends: Timers<IpAddr>,
}

impl SilentTargets {
    /// Whether `len` bytes may go to `target` now. If so, they are counted as sent.
    pub fn take(&mut self, now: Instant, target: IpAddr, len: usize) -> bool {
        while let Some(over) = self.ends.pop_due(now) {
            self.sent.remove(&over);
        }
        let sent = self.sent.get(&target).copied().unwrap_or(0);
        let is_new = sent == 0;
        if sent + len > SILENT_BYTES || (is_new && self.sent.len() >= MAX_SILENT) {
            return false;
        }
        self.sent.insert(target, sent + len);
        if is_new {
            self.ends.set(target, Some(now + SILENT_TIME));
        }
        true
    }

    /// Notes that a host at this address has answered. The address is no longer silent; other peers may be behind it.
    pub fn answered(&mut self, target: IpAddr) {
        self.sent.remove(&target);
        self.ends.set(target, None);
    }

    /// How many addresses are counted.
    pub fn count(&self) -> usize {
        self.sent.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_silent_address_gets_its_bytes_and_no_more_until_the_time_is_over() {
        let (mut targets, victim) = (SilentTargets::default(), IpAddr::from([192, 0, 2, 1]));
        let mut sent = 0;
        for second in 0..600 {
            let now = Instant::from_millis(second * 1_000);
            while targets.take(now, victim, 48) {
                sent += 48;
            }
        }
        assert_eq!(sent, SILENT_BYTES);
        assert!(targets.take(Instant::from_millis(600_000), victim, 48));
    }

    #[test]
    fn as_many_addresses_as_there_are_cost_bounded_memory() {
        let mut targets = SilentTargets::default();
        for n in 0..2 * MAX_SILENT as u32 {
            let taken = targets.take(Instant::ZERO, IpAddr::from(n.to_be_bytes()), 48);
            assert_eq!(taken, (n as usize) < MAX_SILENT);
        }
        assert_eq!(targets.count(), MAX_SILENT);
        assert!(targets.take(Instant::ZERO + SILENT_TIME, IpAddr::from([9, 9, 9, 9]), 48));
        assert_eq!(targets.count(), 1);
    }

    proptest! {
        #[test]
        fn three_times_what_came_and_never_more(steps in prop::collection::vec((any::<bool>(), 1_usize..1500), 0..200)) {
            let (mut allowance, mut received, mut sent) = (Allowance::default(), 0, 0);
            for (comes, len) in steps {
                if comes {
                    allowance.received(len);
                    received += len;
                } else if allowance.take(len) {
                    sent += len;
                }
                prop_assert!(sent <= AMPLIFICATION * received);
            }
        }
    }
}
