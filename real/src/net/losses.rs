//! Counts how often another program removes what the node restores, and how long to wait before the next time. Two
//! managers that both insist would change a route many times a second, and lose half of all packets.

use std::time::{Duration, Instant};

/// The first wait. Each further wait is twice as long.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);
/// After this long without a loss the next wait is the first one again.
const CALM: Duration = Duration::from_secs(120);

/// The losses of one address or route so far.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// How many losses came soon after one another.
    row: u32,
    last: Option<Instant>,
    /// Nothing is restored until this time.
    until: Option<Instant>,
}

impl Losses {
    /// Notes that something is missing that was given before. Returns how long to wait, or zero if it is restored now.
    pub(super) fn lost(&mut self, now: Instant) -> Duration {
        if let Some(left) =
            self.until.and_then(|until| until.checked_duration_since(now)).filter(|left| !left.is_zero())
        {
            return left;
        }
        if self.last.is_none_or(|last| now.duration_since(last) > CALM) {
            self.row = 0;
        }
        self.until = Some(now + FIRST.saturating_mul(1 << self.row.min(16)).min(LONGEST));
        self.row += 1;
        self.last = Some(now);
        Duration::ZERO
    }

    /// Whether the losses are more than accidents.
    pub(super) fn is_a_fight(&self) -> bool {
        self.row > 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_loss_is_made_good_at_once_and_the_tenth_after_a_minute() {
        let (mut losses, start) = (Losses::default(), Instant::now());
        let mut now = start;
        for _ in 0..10 {
            assert_eq!(losses.lost(now), Duration::ZERO);
            now += losses.lost(now);
        }
        assert!(now.duration_since(start) > Duration::from_secs(100) && losses.is_a_fight());
        assert_eq!((losses.lost(now), losses.lost(now)), (Duration::ZERO, LONGEST));
        // An hour later a loss is an accident again.
        let later = now + Duration::from_secs(3600);
        assert_eq!(losses.lost(later), Duration::ZERO);
        assert!(!losses.is_a_fight());
    }
}
