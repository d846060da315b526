//! How long a NAT or firewall keeps a path open, and how often packets are needed for that.
//!
//! | what is in front of the node | one exchange every |
//! |---|---|
//! | nothing | never |
//! | something, lifetime not known | 0.8 × 30 s, the shortest lifetime that is common |
//! | something, idle lifetime observed | 0.8 × that |
//!
//! An *absolute* lifetime ends a mapping in full use. No keep-alive helps, but the age at which it ends is known. From
//! nine tenths of that age on, everything is sent on the second path too, until the peer has answered on the new
//! mapping.

use std::time::Duration;

use crate::time::Instant;
use crate::timing::paths::{ASSUMED_IDLE, LEAST_ABSOLUTE, LEAST_IDLE};

/// Packets an hour, both directions together, that keeping a second path warm may cost. One exchange is two packets.
pub const WARM_PACKETS_PER_HOUR: u64 = 360;
/// Two mappings ended by the same cause if their ages, or their silences, differ by at most a tenth.
const SAME_AGE: u32 = 10;

/// What is known of NATs and firewalls in front of one of our addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetimes {
    /// A NAT or a stateful firewall is in front of us, or of the peer.
    pub guarded: bool,
    /// The idle lifetime: the silence of ours after which the path was found closed.
    pub idle: Option<Duration>,
    /// The absolute lifetime: the age at which paths in use end.
    pub absolute: Option<Duration>,
    /// The silence before the last mapping ended idle, and the age at which the last one in use ended.
    last_idle: Option<Duration>,
    last_end: Option<Duration>,
}

impl Lifetimes {
    /// For a node behind a NAT or firewall whose lifetimes are not known.
    pub fn guarded() -> Self {
        Self { guarded: true, ..Self::default() }
    }

    /// How long after our last packet the next exchange is due. `None`: never.
    pub fn interval(&self) -> Option<Duration> {
        self.guarded.then(|| self.idle.unwrap_or(ASSUMED_IDLE) * 4 / 5)
    }

    /// Whether a second path can be kept warm within [`WARM_PACKETS_PER_HOUR`].
    pub fn affords_warmth(&self) -> bool {
        self.interval().is_none_or(|every| 2 * 3_600 <= WARM_PACKETS_PER_HOUR * every.as_secs())
    }

    /// Notes that the path was closed after this silence of ours, and open again once we had sent a packet. Two nearly
    /// equal silences are taken for the idle lifetime.
    pub fn ended_idle(&mut self, after: Duration) {
        let after = after.max(LEAST_IDLE);
        let before = self.last_idle.replace(after);
        if before.is_some_and(|before| before.abs_diff(after) * SAME_AGE <= before) {
            self.guarded = true;
            self.idle = Some(self.idle.map_or(after, |known| known.min(after)));
        }
    }

    /// Notes that a path in use ended at this age. Two nearly equal ages are taken for the absolute lifetime.
    pub fn ended_in_use(&mut self, age: Duration) {
        if age < LEAST_ABSOLUTE {
            return;
        }
        let before = self.last_end.replace(age);
        if before.is_some_and(|before| before.abs_diff(age) * SAME_AGE <= before) {
            self.absolute = before.map(|before| before.min(age));
        }
    }

    /// When a path that was opened at `born` may begin to end by its absolute lifetime.
    pub fn ends_from(&self, born: Instant) -> Option<Instant> {
        self.absolute.map(|absolute| born + absolute * 9 / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_exchange_every_four_fifths_of_the_lifetime_and_none_without_a_guard() {
        assert_eq!(Lifetimes::default().interval(), None);
        assert_eq!(Lifetimes::guarded().interval(), Some(s(24)));
        let mut observed = Lifetimes::guarded();
        observed.ended_idle(s(100));
        assert_eq!(observed.interval(), Some(s(24)), "once may be an accident");
        observed.ended_idle(s(100));
        assert_eq!(observed.interval(), Some(s(80)));
        observed.ended_idle(s(120));
        observed.ended_idle(s(120));
        assert_eq!(observed.interval(), Some(s(80)), "the shortest counts");
        observed.ended_idle(s(1));
        observed.ended_idle(s(1));
        assert_eq!(observed.interval(), Some(LEAST_IDLE * 4 / 5));
    }

    #[test]
    fn a_second_path_is_kept_warm_where_that_is_cheap() {
        assert!(Lifetimes::default().affords_warmth());
        assert!(Lifetimes::guarded().affords_warmth(), "2 packets in 24 s are 300 an hour");
        let mut short = Lifetimes::guarded();
        short.ended_idle(s(20));
        short.ended_idle(s(20));
        assert!(!short.affords_warmth(), "2 packets in 16 s are 450 an hour");
    }

    #[test]
    fn two_ends_at_one_age_are_the_clocks() {
        let mut lifetimes = Lifetimes::guarded();
        lifetimes.ended_in_use(s(61));
        assert_eq!(lifetimes.absolute, None);
        lifetimes.ended_in_use(s(200));
        lifetimes.ended_in_use(s(60));
        assert_eq!(lifetimes.absolute, None, "never twice the same");
        lifetimes.ended_in_use(s(62));
        assert_eq!(lifetimes.absolute, Some(s(60)));
        assert_eq!(lifetimes.ends_from(Instant::from_millis(1_000)), Some(Instant::from_millis(55_000)));
        let mut bad = Lifetimes::guarded();
        bad.ended_in_use(s(3));
        bad.ended_in_use(s(3));
        assert_eq!(bad.absolute, None);
    }
}
