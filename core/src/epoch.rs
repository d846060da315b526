//! Epochs: numbers that only grow, over restarts too. A request whose epoch is not above the last one is a replay.
//!
//! A sender gives out [`Epochs`]. A receiver takes an epoch that is [newer than the last one](is_timely) and within a
//! limit. A refused sender gets the least epoch that is accepted, in an authenticated answer, and goes on from there.
//! So a sender with a wrong clock, or a hostile one, cannot use up the numbers of its name. Later registrations are
//! always possible, and a clock that is ten years off costs one round trip.
//!
//! | how epochs arrive | limit | why |
//! |---|---|---|
//! | on a link | [`EPOCH_SLACK`] ahead of the receiver's clock | the link tells a new request from a repeated one |
//! | in datagrams | [`LAST_OF_CLOCKS`] | if the limit moved with the clock, a refused request could be replayed later |

use std::sync::Arc;

use crate::time::Instant;
use crate::timing::common::EPOCH_SLACK;
use crate::tls::WallClock;

/// [`EPOCH_SLACK`], ns.
const SLACK: u64 = EPOCH_SLACK.as_nanos() as u64;

/// The latest epoch that a clock gives, ns since 1970: a day of the year 2262. Half of all 64-bit numbers lie above it.
/// They are given out one by one, after a refusal.
pub const LAST_OF_CLOCKS: u64 = i64::MAX as u64;

/// Whether a receiver accepts an epoch. `last` is the last one that it accepted, and `most` its limit (see the
/// [module](self)).
///
/// The direct successor of `last` is accepted even above the limit, because a refused sender is told exactly that
/// number. So a receiver whose clock was set back still accepts every sender. A successor moves `last` by 1 ns only, so
/// nobody can use up the numbers in this way.
pub fn is_timely(last: Option<u64>, epoch: u64, most: u64) -> bool {
    let successor = last.and_then(|last| last.checked_add(1));
    last.is_none_or(|last| epoch > last) && (epoch <= most || successor == Some(epoch) || defect!(EpochWithoutLimit))
}

/// The limit of epochs that arrive on a link.
pub fn most_on_link(clock: &dyn WallClock) -> u64 {
    civil(clock).saturating_add(SLACK)
}

/// The least epoch that a receiver accepts after `last`.
pub fn least_after(last: Option<u64>) -> u64 {
    last.map_or(0, |last| last.saturating_add(1))
}

/// The civil time of a clock, ns since 1970; at most [`LAST_OF_CLOCKS`].
pub fn civil(clock: &dyn WallClock) -> u64 {
    u64::try_from(clock.since_unix_epoch().as_nanos()).map_or(LAST_OF_CLOCKS, |civil| civil.min(LAST_OF_CLOCKS))
}

/// Gives out epochs: nanoseconds of civil time, or what the receiver asked for.
///
/// The epochs grow until the process ends. If the clock jumps ahead, they follow it; if it jumps back, they do not. The
/// receiver refuses an epoch if the clock is ahead of its own, or was behind when the process started. [`Self::told`]
/// then goes on from the number that the receiver accepts. From then on the civil clock is ignored: epochs grow with
/// the time that passes.
#[derive(Debug)]
pub struct Epochs {
    clock: Arc<dyn WallClock>,
    last: u64,
    /// A starting epoch and the instant at which it was valid: the clock's first reading, or what the receiver told.
    origin: Option<(u64, Instant)>,
    /// Whether the receiver told an epoch, so that the civil clock is ignored.
    told: bool,
}

impl Epochs {
    /// The source of epochs that follow this clock.
    pub fn new(clock: Arc<dyn WallClock>) -> Self {
        Self { clock, last: 0, origin: None, told: false }
    }

    /// Reads the clock, if it was never read before. From now on epochs grow with time even if the clock stands still.
    pub fn begin(&mut self, now: Instant) {
        let civil = civil(&*self.clock);
        self.origin.get_or_insert((civil, now));
    }

    /// The next epoch. It is greater than all before. After [`Self::told`] it is at least the number that the receiver
    /// told.
    pub fn next(&mut self, now: Instant) -> u64 {
        let civil = civil(&*self.clock);
        let (first, at) = *self.origin.get_or_insert((civil, now));
        let passed = u64::try_from((now - at).as_nanos()).unwrap_or(u64::MAX / 2);
        let followed = if self.told { 0 } else { civil };
        // Above LAST_OF_CLOCKS a receiver accepts only the direct successor, so time does not count there.
        let timed = followed.max(first.saturating_add(passed)).min(LAST_OF_CLOCKS);
        self.last = self.last.saturating_add(1).max(timed);
        self.last
    }

    /// Goes on from `least`, which the receiver accepts, after it refused the last epoch. `least` may be lower than the
    /// last epoch, because the receiver accepted none above it.
    pub fn told(&mut self, now: Instant, least: u64) {
        self.last = least.saturating_sub(1);
        self.origin = Some((least, now));
        self.told = true;
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

    #[test]
    fn a_sender_goes_on_from_what_the_receiver_accepts_whatever_its_clock_says() {
        const YEAR: u64 = 365 * 86_400_000_000_000;
        let now = 56 * YEAR;
        for (clock, last) in [(now - 10 * YEAR, now), (now + 10 * YEAR, now), (now, now + YEAR), (u64::MAX / 2, 5)] {
            let clock = Arc::new(Clock(AtomicU64::new(clock)));
            let mut epochs = Epochs::new(clock.clone());
            let first = epochs.next(Instant::ZERO);
            let most = now + SLACK;
            assert!(!is_timely(Some(last), first, most), "{first} after {last}");
            epochs.told(Instant::from_nanos(50), least_after(Some(last)));
            let second = epochs.next(Instant::from_nanos(50));
            assert!(is_timely(Some(last), second, most));
            let third = epochs.next(Instant::from_nanos(70));
            assert_eq!((second, third), (last + 1, last + 21), "what passes counts, the clock does not");
        }
    }

    #[test]
    fn nobody_uses_up_the_numbers() {
        let now = 7 * SLACK;
        for most in [now, LAST_OF_CLOCKS] {
            assert!(is_timely(None, most, most));
            assert!(!is_timely(None, most + 1, most));
            assert!(!is_timely(None, u64::MAX, most));
            assert!(is_timely(Some(most), most + 1, most), "each costs a nanosecond");
            assert!(!is_timely(Some(most), most + 2, most));
            // An earlier version accepted this epoch.
            assert!(!is_timely(Some(u64::MAX), u64::MAX, most));
        }
        assert_eq!(least_after(Some(u64::MAX)), u64::MAX);
    }

    #[test]
    fn above_what_clocks_give_a_sender_counts_one_by_one() {
        let mut epochs = Epochs::new(Arc::new(Clock(AtomicU64::new(u64::MAX))));
        let mut last = None;
        for at in [0, 5_000, 5_000, 90_000] {
            let epoch = epochs.next(Instant::from_nanos(at));
            assert!(is_timely(last, epoch, LAST_OF_CLOCKS), "{epoch} after {last:?}");
            last = Some(epoch);
        }
        assert_eq!(last, Some(LAST_OF_CLOCKS + 3), "a clock at the end of time, too, is no end");
        epochs.told(Instant::from_nanos(90_000), LAST_OF_CLOCKS + 900);
        assert_eq!(epochs.next(Instant::from_nanos(95_000)), LAST_OF_CLOCKS + 900);
    }
}
