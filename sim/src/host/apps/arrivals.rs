//! The arrivals of numbered flows.

use std::time::Duration;

use cyphonic_core::time::Instant;

/// Most packets of one flow.
pub const FLOW_LIMIT: u64 = 1 << 20;

/// The arrivals of one numbered flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Packets that arrived, each counted once.
    pub received: u64,
    /// Packets that had arrived before.
    pub duplicates: u64,
    /// Packets that arrived after one that was sent later.
    pub reordered: u64,
    /// The longest time from one new packet to the next.
    pub longest_gap: Duration,
    /// When that time began.
    pub longest_gap_began: Option<Instant>,
    /// When the first new packet arrived.
    pub first: Option<Instant>,
    /// When the last new packet arrived.
    pub last: Option<Instant>,
    highest: Option<u64>,
    /// One bit for each sequence number.
    seen: Vec<u64>,
    /// Numbers and times of new packets, in the order of arrival.
    order: Vec<(u64, Instant)>,
}

impl Arrivals {
    /// Whether packet `sequence` arrived.
    pub fn has(&self, sequence: u64) -> bool {
        let word = usize::try_from(sequence / 64).ok().and_then(|index| self.seen.get(index));
        word.is_some_and(|word| word & (1 << (sequence % 64)) != 0)
    }

    /// The number of each new packet and when it arrived, in that order.
    pub fn order(&self) -> &[(u64, Instant)] {
        &self.order
    }

    /// Notes one arrival; false if the sequence number is not below [`FLOW_LIMIT`].
    pub(crate) fn note(&mut self, now: Instant, sequence: u64) -> bool {
        if sequence >= FLOW_LIMIT {
            return false;
        }
        if self.has(sequence) {
            self.duplicates += 1;
            return true;
        }
        let index = (sequence / 64) as usize;
        if self.seen.len() <= index {
            self.seen.resize(index + 1, 0);
        }
        self.seen[index] |= 1 << (sequence % 64);
        self.received += 1;
        self.order.push((sequence, now));
        if self.highest.is_some_and(|highest| sequence < highest) {
            self.reordered += 1;
        } else {
            self.highest = Some(sequence);
        }
        if let Some(last) = self.last
            && now - last > self.longest_gap
        {
            self.longest_gap = now - last;
            self.longest_gap_began = Some(last);
        }
        self.first.get_or_insert(now);
        self.last = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_reordering_and_the_longest_gap_are_told_apart() {
        let mut arrivals = Arrivals::default();
        for (ms, sequence) in [(0, 0), (10, 2), (11, 1), (40, 3), (41, 3), (50, 70)] {
            assert!(arrivals.note(Instant::from_millis(ms), sequence));
        }
        assert_eq!((arrivals.received, arrivals.duplicates, arrivals.reordered), (5, 1, 1));
        assert_eq!(arrivals.longest_gap, Duration::from_millis(29));
        assert_eq!(arrivals.longest_gap_began, Some(Instant::from_millis(11)));
        assert!(arrivals.has(70) && !arrivals.has(69) && !arrivals.has(u64::MAX));
        assert!(!arrivals.note(Instant::from_millis(60), FLOW_LIMIT), "memory is bounded");
        assert_eq!(arrivals.last, Some(Instant::from_millis(50)));
    }
}
