//! Intervals by a bootstrap whose draws have a name.
//!
//! The same sample gives the same interval everywhere: the seed of the draws is the name of the estimated value.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Resamples of a bootstrap. With this number the ends of a 95 % interval vary by a hundredth of its width.
const RESAMPLES: usize = 10_000;

/// A 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} to {:.3}", self.low, self.high)
    }
}

/// The 95 % interval of a statistic by the [percentile bootstrap](cyphonic_statistics::bootstrap). `None` for fewer
/// than two numbers. `name` is the seed of the draws.
pub fn bootstrap(name: &str, sample: &[f64], statistic: impl Fn(&[f64]) -> f64) -> Option<Interval> {
    if sample.len() < 2 {
        return None;
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
    let mut rng = ChaCha8Rng::from_seed(*digest.as_ref().first_chunk()?);
    let (low, high) = cyphonic_statistics::bootstrap(sample, RESAMPLES, || rng.next_u64(), statistic)?;
    Some(Interval { low, high })
}

#[cfg(test)]
mod tests {
    use cyphonic_statistics::{Summary, mean};

    use super::*;

    /// The interval of a mean of n numbers is that of the central limit theorem, 1.96 standard errors to either side.
    #[test]
    fn the_interval_of_a_mean_is_that_of_theory() {
        let sample: Vec<f64> = (0..100).map(|i| f64::from(i * 37 % 100)).collect();
        let interval = bootstrap("theory", &sample, |s| mean(s).unwrap()).unwrap();
        let standard_error = Summary::of(&sample).unwrap().stddev.unwrap() / 10.0;
        for (found, expected) in
            [(interval.low, 49.5 - 1.96 * standard_error), (interval.high, 49.5 + 1.96 * standard_error)]
        {
            assert!((found - expected).abs() < 0.3, "{found} is not {expected}");
        }
        assert_eq!(bootstrap("theory", &sample, |s| mean(s).unwrap()), Some(interval), "the same again");
        assert_ne!(bootstrap("another", &sample, |s| mean(s).unwrap()), Some(interval));
        assert_eq!(bootstrap("one", &[1.0], |s| s[0]), None);
    }

    #[test]
    fn an_interval_covers_the_truth_as_often_as_it_says() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        // Sums of twelve uniform numbers less six: nearly normal, with mean 0 and variance 1 (Irwin-Hall).
        let mut normal = || (0..12).map(|_| (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64).sum::<f64>() - 6.0;
        let covered = (0..100).filter(|round| {
            let sample: Vec<f64> = (0..30).map(|_| normal()).collect();
            let interval = bootstrap(&round.to_string(), &sample, |s| mean(s).unwrap()).unwrap();
            (interval.low..=interval.high).contains(&0.0)
        });
        let covered = covered.count();
        assert!(
            (86..=100).contains(&covered),
            "95 % intervals of 30 numbers covered the mean in {covered} of 100 rounds"
        );
    }
}
