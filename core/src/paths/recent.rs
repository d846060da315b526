//! The datagrams that left last. They are sent again when the path changes.
//!
//! QUIC finds a loss by itself. But it never sends a DATAGRAM frame again (RFC 9221 §5), and a STREAM frame only a
//! round trip later. It is safe to send the same datagrams again: QUIC drops a packet number that arrives twice.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;
use crate::timing::paths::PATH_TOO_FAST;

/// Most datagrams that are kept. quinn-proto recognises a duplicate only within 129 packet numbers. So the copies, and
/// as many newer packets that overtake them, must fit.
pub const MAX_RECENT: usize = 63;

/// One datagram, or several of one length, that QUIC wants to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagrams {
    /// The UDP payload, or several, one after another.
    pub payload: Vec<u8>,
    /// If there are several: the length of each, bytes. Only the last one may be shorter.
    pub segment: Option<usize>,
    /// Whether the peer has to acknowledge (ack-eliciting, RFC 9002 §2). If not, silence afterwards means nothing.
    pub asks: bool,
}

impl Datagrams {
    fn count(&self) -> usize {
        self.segment.map_or(1, |segment| self.payload.len().div_ceil(segment.max(1)))
    }

    /// Length of the longest datagram, bytes.
    pub fn longest(&self) -> usize {
        self.segment.unwrap_or(self.payload.len()).min(self.payload.len())
    }
}

/// The last datagrams, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    kept: VecDeque<(Instant, Datagrams)>,
    count: usize,
    /// Until this time nothing is kept: more than [`MAX_RECENT`] datagrams left within [`PATH_TOO_FAST`].
    paused: Option<Instant>,
}

impl Recent {
    /// Keeps datagrams that leave now.
    pub fn keep(&mut self, now: Instant, datagrams: &Datagrams) {
        if self.paused.is_some_and(|until| now < until) {
            return;
        }
        self.paused = None;
        self.count += datagrams.count();
        self.kept.push_back((now, datagrams.clone()));
        while self.count > MAX_RECENT {
            let Some((at, gone)) = self.kept.pop_front() else { break };
            self.count -= gone.count();
            if now - at < PATH_TOO_FAST {
                (self.count, self.paused) = (0, Some(now + PATH_TOO_FAST));
                self.kept.clear();
            }
        }
    }

    /// The datagrams that left within this time.
    pub fn left(&self, now: Instant, within: Duration) -> Vec<Datagrams> {
        self.kept.iter().filter(|(at, _)| now - *at <= within).map(|(_, kept)| kept.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(byte: u8) -> Datagrams {
        Datagrams { payload: vec![byte; 100], segment: None, asks: true }
    }

    #[test]
    fn what_left_within_the_time_is_given_again_in_order() {
        let mut recent = Recent::default();
        for n in 0..10 {
            recent.keep(Instant::from_millis(u64::from(n) * 10), &one(n));
        }
        let again = recent.left(Instant::from_millis(100), Duration::from_millis(50));
        assert_eq!(again.iter().map(|d| d.payload[0]).collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
        assert_eq!(recent.left(Instant::from_millis(100), Duration::MAX).len(), 10);
    }

    #[test]
    fn never_more_than_quic_can_tell_apart_twice() {
        let mut recent = Recent::default();
        let three = Datagrams { payload: vec![0; 250], segment: Some(100), asks: true };
        assert_eq!((three.count(), three.longest()), (3, 100));
        for n in 0..100 {
            recent.keep(Instant::from_millis(n * 5), &three);
        }
        let again = recent.left(Instant::from_millis(500), Duration::from_secs(9));
        assert_eq!(again.len() * 3, MAX_RECENT);
    }

    #[test]
    fn at_a_high_rate_nothing_is_copied() {
        let mut recent = Recent::default();
        let at = |n: u64| Instant::from_nanos(n * 20_000);
        (0..10_000).for_each(|n| recent.keep(at(n), &one(1)));
        assert!(recent.left(at(10_000), Duration::from_secs(1)).len() <= MAX_RECENT);
        // The flow slows down, and datagrams are kept again.
        let later = at(10_000) + Duration::from_secs(1);
        recent.keep(later, &one(2));
        assert_eq!(recent.left(later, Duration::from_millis(900)).len(), 1);
    }
}
