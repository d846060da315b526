//! Statistics of samples: order statistics, and intervals by a seeded bootstrap.
//!
//! The same sample gives the same numbers everywhere. The seed of the bootstrap is the name of the estimated value, and
//! only operations that IEEE 754 rounds exactly are used.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Resamples of a bootstrap. With this number the ends of a 95 % interval vary by a hundredth of its width.
const RESAMPLES: usize = 10_000;

/// The statistics of a sample, in the sample's own unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The smallest.
    pub min: f64,
    /// The arithmetic mean.
    pub mean: f64,
    /// The median.
    pub median: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The largest.
    pub max: f64,
    /// The sample standard deviation (divisor n − 1); 0 of a single number.
    pub stddev: f64,
}

impl Summary {
    /// Summarises a sample; none if it is empty.
    pub fn of(sample: &[f64]) -> Option<Self> {
        let sorted = sorted(sample);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let mean = mean(&sorted)?;
        let squares: f64 = sorted.iter().map(|x| (x - mean) * (x - mean)).sum();
        let stddev = if sorted.len() > 1 { (squares / (sorted.len() - 1) as f64).sqrt() } else { 0.0 };
        let at = |p| quantile(&sorted, p).unwrap_or(mean);
        Some(Self { min, mean, median: at(0.5), p95: at(0.95), p99: at(0.99), max, stddev })
    }
}

/// The sample in ascending order.
pub fn sorted(sample: &[f64]) -> Vec<f64> {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The arithmetic mean. None for an empty sample.
pub fn mean(sample: &[f64]) -> Option<f64> {
    (!sample.is_empty()).then(|| sample.iter().sum::<f64>() / sample.len() as f64)
}

/// The quantile `p` (0 to 1) of a sample **in ascending order**, interpolated linearly between neighbours (type 7 of
/// Hyndman and Fan, 1996: the default of R and `NumPy`). None for an empty sample.
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = p.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    Some(low + (high - low) * (position - below as f64))
}

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

/// The 95 % interval of a statistic by the percentile bootstrap (Efron, 1979). `RESAMPLES` samples of the same size are
/// drawn from this one with replacement. The interval is the middle 95 % of their statistics. None for fewer than two
/// numbers.
///
/// The numbers have to be independent of each other: one for each seed, not one for each packet. `name` is the seed of
/// the draws.
pub fn bootstrap(name: &str, sample: &[f64], statistic: impl Fn(&[f64]) -> f64) -> Option<Interval> {
    if sample.len() < 2 {
        return None;
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
    let mut rng = ChaCha8Rng::from_seed(*digest.as_ref().first_chunk()?);
    let mut resample = vec![0.0; sample.len()];
    let mut found = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        for slot in &mut resample {
            // The bias of a remainder of 64 bits is below 1 in 10^17.
            *slot = sample[(rng.next_u64() % sample.len() as u64) as usize];
        }
        found.push(statistic(&resample));
    }
    let found = sorted(&found);
    Some(Interval { low: quantile(&found, 0.025)?, high: quantile(&found, 0.975)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_sample_has_its_textbook_summary() {
        let summary = Summary::of(&[9.0, 2.0, 4.0, 4.0, 5.0, 4.0, 5.0, 7.0]).unwrap();
        assert_eq!((summary.min, summary.mean, summary.median, summary.max), (2.0, 5.0, 4.5, 9.0));
        // Squares sum to 32: 32/7, where the population's would be 32/8.
        assert!((summary.stddev - (32.0_f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.25), Some(1.75));
    }

    /// The interval of a mean of n numbers is that of the central limit theorem, 1.96 standard errors to either side.
    #[test]
    fn the_interval_of_a_mean_is_that_of_theory() {
        let sample: Vec<f64> = (0..100).map(|i| f64::from(i * 37 % 100)).collect();
        let interval = bootstrap("theory", &sample, |s| mean(s).unwrap()).unwrap();
        let standard_error = Summary::of(&sample).unwrap().stddev / 10.0;
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
