//! The rate limit of password checks. A check is slow on purpose ([`crate::store::PasswordHash`]), and the AS answers
//! nothing else meanwhile. So the AS spends only a part of its time on checks.
//!
//! Token buckets count iterations: one bucket for all sources together, which gains [`ALL`] a second, and one for each
//! source, which gains [`ONE`] a second. A check takes its iterations out of both. So guesses from one source leave
//! most of the AS's time to others.
//!
//! A source that has sent a right password is *known*. All known sources share a bucket of their own, which gains
//! [`KNOWN`] a second, instead of the one for all sources. Strangers cannot empty it. So a device that logs in from a
//! known source is served at once, however many addresses guess.
//!
//! A bucket is kept as the instant at which it will be full again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::shares::source_of;
use crate::time::Instant;
use crate::timers::pay;
use crate::timing::auth::{PASSWORDS_SAVED_BY_ALL, PASSWORDS_SAVED_BY_ONE};

/// Iterations a second for all sources: two passwords of 600,000 iterations, which take less than half of a slow core's
/// time.
const ALL: u64 = 1_200_000;
/// Iterations a second for one source: one password of 600,000 iterations every five seconds.
const ONE: u64 = 120_000;
/// Iterations a second for all known sources together: one password of 600,000 iterations.
const KNOWN: u64 = 600_000;
/// The largest number of known sources. If there is one more, the source whose last right password is the oldest is
/// forgotten.
const MOST_KNOWN: usize = 1024;
/// If there are this many sources, those with a full bucket are forgotten. Nothing is lost: a new bucket is full, too.
const MANY: usize = 1024;

/// The buckets.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    all: Instant,
    sources: BTreeMap<IpAddr, Instant>,
    /// As `all`, but for the known sources.
    by_known: Instant,
    /// The known sources, each with the time of its last right password.
    known: BTreeMap<IpAddr, Instant>,
}

/// When the bucket will be full again after this check; `None` if it holds too little now.
fn check(full: Instant, now: Instant, iterations: NonZeroU32, rate: u64, saved: Duration) -> Option<Instant> {
    let cost = Duration::from_nanos(u64::from(iterations.get()) * 1_000_000_000 / rate).min(saved);
    pay(full, now, cost, saved)
}

impl Guesses {
    /// Whether a password of this many iterations may be checked now for this source. If so, the iterations are taken
    /// out of the buckets.
    pub(super) fn may(&mut self, now: Instant, from: IpAddr, iterations: NonZeroU32) -> bool {
        if self.sources.len() >= MANY {
            self.sources.retain(|_, earned| *earned > now);
        }
        let source = source_of(from);
        let own = self.sources.get(&source).copied().unwrap_or_default();
        let Some(own) = check(own, now, iterations, ONE, PASSWORDS_SAVED_BY_ONE) else { return false };
        let is_known = self.known.contains_key(&source);
        let (all, rate) = if is_known { (&mut self.by_known, KNOWN) } else { (&mut self.all, ALL) };
        let Some(paid) = check(*all, now, iterations, rate, PASSWORDS_SAVED_BY_ALL) else { return false };
        *all = paid;
        self.sources.insert(source, own);
        true
    }

    /// Notes that a right password came from this address: its source is known from now on.
    pub(super) fn was_right(&mut self, now: Instant, from: IpAddr) {
        self.known.insert(source_of(from), now);
        if self.known.len() > MOST_KNOWN
            && let Some(oldest) = self.known.iter().min_by_key(|(_, at)| **at).map(|(&source, _)| source)
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::SIMULATION_ITERATIONS;

    const REAL: NonZeroU32 = NonZeroU32::new(600_000).unwrap();

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn from(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_guesses_a_few_times_at_once_and_then_every_five_seconds_and_others_are_served_meanwhile() {
        let mut guesses = Guesses::default();
        let mut tries = |second, who: &str| (0..10).filter(|_| guesses.may(at(second), from(who), REAL)).count();
        assert_eq!(tries(0, "2001:db8::1"), 3);
        assert_eq!(tries(0, "2001:db8::2"), 0, "a source of the same network");
        assert_eq!(tries(1, "192.0.2.1"), 3);
        assert_eq!(tries(4, "2001:db8::1"), 0);
        assert_eq!(tries(5, "2001:db8::1"), 1);
        assert_eq!(tries(100, "2001:db8::1"), 3, "not more than can be saved");
    }

    #[test]
    fn all_sources_together_get_two_a_second() {
        let mut guesses = Guesses::default();
        let mut checked = 0;
        for second in 0..10 {
            for n in 0..200 {
                checked += usize::from(guesses.may(at(second), from(&format!("192.0.2.{n}")), REAL));
            }
        }
        assert_eq!(checked, 4 + 2 * 9);
    }

    #[test]
    fn a_device_that_logged_in_before_is_served_at_once_beside_two_hundred_guessers() {
        let mut guesses = Guesses::default();
        assert!(guesses.may(at(0), from("198.51.100.7"), REAL));
        guesses.was_right(at(0), from("198.51.100.7"));
        for second in 100..110 {
            let guessed = (0..200).filter(|n| guesses.may(at(second), from(&format!("192.0.2.{n}")), REAL)).count();
            assert!(guessed <= 4);
        }
        assert!(!guesses.may(at(109), from("203.0.113.1"), REAL), "a stranger has to wait");
        assert!(guesses.may(at(109), from("198.51.100.7"), REAL));
        for n in 0..2 * MOST_KNOWN as u32 {
            guesses.was_right(at(200 + u64::from(n)), IpAddr::from((10 << 24 | n).to_be_bytes()));
        }
        assert_eq!(guesses.known.len(), MOST_KNOWN);
    }

    #[test]
    fn simulated_passwords_cost_next_to_nothing_and_one_that_costs_more_than_can_be_saved_takes_all_of_it() {
        let mut guesses = Guesses::default();
        assert!((0..10_000).all(|_| guesses.may(at(0), from("192.0.2.1"), SIMULATION_ITERATIONS)));
        assert!(!guesses.may(at(0), from("192.0.2.2"), NonZeroU32::MAX));
        assert!(guesses.may(at(20), from("192.0.2.2"), NonZeroU32::MAX));
        assert!(!guesses.may(at(20), from("192.0.2.3"), REAL));
    }

    proptest! {
        #[test]
        fn whatever_is_asked_the_work_of_any_time_is_bounded(
            asked in prop::collection::vec((0u64..500, 0u8..50, 1u32..2_000_000), 1..300),
        ) {
            let (mut guesses, mut now, mut work) = (Guesses::default(), Instant::ZERO, 0);
            for (pause, who, iterations) in asked {
                now += Duration::from_millis(pause);
                let who = IpAddr::from([192, 0, 2, who]);
                if guesses.may(now, who, NonZeroU32::new(iterations).unwrap()) {
                    work += u64::from(iterations);
                }
            }
            let earned = ALL * u64::try_from((now - Instant::ZERO + PASSWORDS_SAVED_BY_ALL).as_millis()).unwrap() / 1_000;
            prop_assert!(work <= earned + 300, "{work} of {earned}");
        }
    }
}
