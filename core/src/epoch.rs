//! Numbers that only grow, over restarts too: what carries an older one than the last is a replay.

use std::sync::Arc;

use crate::time::Instant;
use crate::tls::WallClock;

/// Gives out epochs: nanoseconds of civil time, or more.
///
/// Within one life they grow whatever the civil clock does. A clock that jumps ahead is followed. If one that was set
/// back outlives its user, the next life has to wait until it has caught up with the last.
#[derive(Debug)]
pub struct Epochs {
    clock: Arc<dyn WallClock>,
    last: u64,
    /// The first reading of the clock, and the instant of it.
    origin: Option<(u64, Instant)>,
}

impl Epochs {
    /// Epochs that follow this clock.
    pub fn new(clock: Arc<dyn WallClock>) -> Self {
        Self { clock, last: 0, origin: None }
    }

    /// The next one; greater than all before.
    pub fn next(&mut self, now: Instant) -> u64 {
        let civil = u64::try_from(self.clock.since_unix_epoch().as_nanos()).unwrap_or(u64::MAX / 2);
        let (first, at) = *self.origin.get_or_insert((civil, now));
        let passed = u64::try_from((now - at).as_nanos()).unwrap_or(u64::MAX / 2);
        self.last = (self.last + 1).max(civil).max(first.saturating_add(passed));
        self.last
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

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
    }
}
