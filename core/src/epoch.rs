//! Numbers that only grow, over restarts too: what carries an older one than the last is a replay.

use std::sync::Arc;
use std::time::Duration;

use crate::time::Instant;
use crate::timing::common::{EPOCH_FIRST_LEAP, EPOCH_LONGEST_LEAP};
use crate::tls::WallClock;

/// Gives out epochs: nanoseconds of civil time, or more.
///
/// Within one life they grow whatever the civil clock does. A clock that jumps ahead is followed. If it was set back
/// before the next life begins, that life's first ones are refused as old; then [`Self::leap`] goes beyond the last
/// life's.
#[derive(Debug)]
pub struct Epochs {
    clock: Arc<dyn WallClock>,
    last: u64,
    /// How far the next leap goes.
    leap: Duration,
    /// The first reading of the clock, and the instant of it.
    origin: Option<(u64, Instant)>,
}

impl Epochs {
    /// Epochs that follow this clock.
    pub fn new(clock: Arc<dyn WallClock>) -> Self {
        Self { clock, last: 0, leap: EPOCH_FIRST_LEAP, origin: None }
    }

    /// Reads the clock, if it was never read before: what passes from now on counts, even if the clock stands still.
    pub fn begin(&mut self, now: Instant) {
        let civil = self.civil();
        self.origin.get_or_insert((civil, now));
    }

    fn civil(&self) -> u64 {
        u64::try_from(self.clock.since_unix_epoch().as_nanos()).unwrap_or(u64::MAX / 2)
    }

    /// The next one; greater than all before.
    pub fn next(&mut self, now: Instant) -> u64 {
        let civil = self.civil();
        let (first, at) = *self.origin.get_or_insert((civil, now));
        let passed = u64::try_from((now - at).as_nanos()).unwrap_or(u64::MAX / 2);
        self.last = (self.last + 1).max(civil).max(first.saturating_add(passed));
        self.last
    }

    /// Some other one was seen, of a life whose clock was ahead of ours: the next one will be later.
    pub fn follow(&mut self, seen: u64) {
        self.last = self.last.max(seen);
    }

    /// The last one was refused: an earlier life had a clock that was ahead of ours. The next one will be later by an
    /// hour, and by four times as much after each further leap, so that a day takes four and a year eight. False once
    /// that has gone so far that a clock cannot be why.
    pub fn leap(&mut self) -> bool {
        self.last = self.last.saturating_add(u64::try_from(self.leap.as_nanos()).unwrap_or(u64::MAX));
        self.leap = self.leap.saturating_mul(4).min(EPOCH_LONGEST_LEAP);
        self.leap < EPOCH_LONGEST_LEAP
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Debug)]
    struct Clock(AtomicU64);

    impl WallClock for Clock {
        fn since_unix_epoch(&self) -> Duration {
            Duration::from_nanos(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn epochs_grow_through_every_step_of_the_clock_and_a_long_life_does_not_outrun_the_next() {
        let clock = Arc::new(Clock(AtomicU64::new(1_000)));
        let at = Instant::from_nanos;
        let mut first = Epochs::new(clock.clone());
        assert_eq!(first.next(at(50)), 1_000);
        assert_eq!(first.next(at(50)), 1_001);
        clock.0.store(1_500, Ordering::Relaxed);
        assert_eq!(first.next(at(550)), 1_500, "what passed is not counted twice");
        clock.0.store(10, Ordering::Relaxed);
        assert_eq!(first.next(at(650)), 1_600, "a clock set back is not followed");
        clock.0.store(9_000, Ordering::Relaxed);
        assert_eq!(first.next(at(660)), 9_000, "one that jumps ahead is");
        let mut second = Epochs::new(clock);
        assert_eq!(second.next(at(0)), 9_000);
        second.follow(70_000);
        second.follow(50_000);
        assert_eq!(second.next(at(1)), 70_001);
    }

    #[test]
    fn a_life_whose_clock_was_set_back_by_a_day_leaps_over_the_last_one_in_four() {
        let day = u64::try_from(Duration::from_secs(86_400).as_nanos()).unwrap();
        let clock = Arc::new(Clock(AtomicU64::new(10 * day)));
        let before = Epochs::new(clock.clone()).next(Instant::ZERO);
        clock.0.store(9 * day, Ordering::Relaxed);
        let mut epochs = Epochs::new(clock);
        let mut leaps = 0;
        while epochs.next(Instant::ZERO) <= before {
            assert!(epochs.leap());
            leaps += 1;
        }
        assert_eq!(leaps, 4, "1, 4, 16 and 64 hours");
        assert!((0..10).any(|_| !epochs.leap()));
        assert!(!epochs.leap() && epochs.next(Instant::ZERO) > 400 * day);
    }
}
