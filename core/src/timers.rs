//! Timers, one for each key; the times of retransmissions; and token buckets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::time::Instant;
use crate::timing::common::LONGEST_RETRY;

/// At most one deadline for each key. The earliest is found in logarithmic time.
#[derive(Clone, Debug)]
pub struct Timers<K> {
    queue: BTreeSet<(Instant, K)>,
    by_key: BTreeMap<K, Instant>,
}

impl<K: Ord + Copy> Default for Timers<K> {
    fn default() -> Self {
        Self { queue: BTreeSet::new(), by_key: BTreeMap::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Sets, moves or (with `None`) removes the deadline of `key`.
    pub fn set(&mut self, key: K, at: Option<Instant>) {
        let old = match at {
            Some(at) => self.by_key.insert(key, at),
            None => self.by_key.remove(&key),
        };
        if old == at {
            return;
        }
        if let Some(old) = old {
            self.queue.remove(&(old, key));
        }
        if let Some(at) = at {
            self.queue.insert((at, key));
        }
    }

    /// The number of keys with a deadline.
    pub fn count(&self) -> usize {
        self.by_key.len()
    }

    /// Whether `key` has a deadline.
    pub fn contains(&self, key: K) -> bool {
        self.by_key.contains_key(&key)
    }

    /// The deadline of `key`.
    pub fn at(&self, key: K) -> Option<Instant> {
        self.by_key.get(&key).copied()
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.first().map(|(at, _)| at)
    }

    /// The earliest deadline, and its key.
    pub fn first(&self) -> Option<(Instant, K)> {
        self.queue.first().copied()
    }

    /// Takes one key whose deadline has come.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        let &(at, key) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.pop_first();
        self.by_key.remove(&key);
        Some(key)
    }
}

/// The time of the next retransmission: after `first`, then after twice the previous wait each time, up to a second.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Transmissions so far.
    pub sent: u8,
    /// When the next one is due.
    pub next: Instant,
    wait: Duration,
}

impl Backoff {
    /// After the first transmission at `now`.
    pub fn start(now: Instant, first: Duration) -> Self {
        let first = if defect!(RetransmissionOff) { first * 100_000 } else { first };
        Self { sent: 1, next: now + first, wait: first }
    }

    /// After one more transmission at `now`.
    pub fn again(&mut self, now: Instant) {
        self.sent = self.sent.saturating_add(1);
        self.wait = (self.wait * 2).min(LONGEST_RETRY.max(self.wait));
        self.next = now + self.wait;
    }
}

/// Takes from a token bucket, which is kept as the instant at which it will be full again, `full`. What is taken comes
/// back in the time `cost`, and the bucket holds what comes in the time `saved`. Returns when it will be full again, or
/// `None` if it holds too little now.
pub fn pay(full: Instant, now: Instant, cost: Duration, saved: Duration) -> Option<Instant> {
    let again = full.max(now) + cost;
    (again <= now + saved).then_some(again)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_second() {
        let mut backoff = Backoff::start(Instant::ZERO, Duration::from_millis(300));
        let mut at = Vec::new();
        for _ in 0..5 {
            at.push(backoff.next);
            backoff.again(backoff.next);
        }
        assert_eq!(at, [300, 900, 1900, 2900, 3900].map(Instant::from_millis));
        assert_eq!(backoff.sent, 6);
    }

    #[test]
    fn a_moved_timer_fires_once_at_its_last_deadline() {
        let at = Instant::from_millis;
        let mut timers = Timers::default();
        timers.set(1, Some(at(5)));
        timers.set(2, Some(at(3)));
        timers.set(1, Some(at(2)));
        assert_eq!(timers.next(), Some(at(2)));
        assert_eq!(timers.pop_due(at(3)), Some(1));
        assert_eq!(timers.pop_due(at(3)), Some(2));
        timers.set(2, Some(at(9)));
        timers.set(2, None);
        assert_eq!((timers.next(), timers.pop_due(at(10))), (None, None));
    }
}
