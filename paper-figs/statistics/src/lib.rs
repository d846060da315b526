//! Statistics of samples: minimum, mean, maximum, standard deviation, quantiles, and percentile bootstrap intervals.
//!
//! The simulator's tables and the figures print the same statistics of the same samples, so both use this crate. The
//! same sample gives the same numbers everywhere: only operations that IEEE 754 rounds exactly are used.

/// The statistics of a sample, in the sample's unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// How many numbers.
    pub count: usize,
    /// The smallest.
    pub min: f64,
    /// The lower quartile, see [`quantile`].
    pub q1: f64,
    /// The median.
    pub median: f64,
    /// The upper quartile.
    pub q3: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The largest.
    pub max: f64,
    /// The arithmetic mean.
    pub mean: f64,
    /// The sample standard deviation (divisor n − 1). `None` for a single number.
    pub stddev: Option<f64>,
}

impl Summary {
    /// Summarises a sample. `None` if it is empty.
    pub fn of(sample: &[f64]) -> Option<Self> {
        let sorted = sorted(sample);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        // Rounding may push the mean of equal numbers out of their range by one bit.
        let mean = mean(&sorted)?.clamp(min, max);
        let squares: f64 = sorted.iter().map(|x| (x - mean) * (x - mean)).sum();
        let stddev = (sorted.len() > 1).then(|| (squares / (sorted.len() - 1) as f64).sqrt());
        let at = |p| quantile(&sorted, p).unwrap_or(mean);
        let (q1, median, q3, p95, p99) = (at(0.25), at(0.5), at(0.75), at(0.95), at(0.99));
        Some(Self { count: sorted.len(), min, q1, median, q3, p95, p99, max, mean, stddev })
    }
}

/// The sample in ascending order.
pub fn sorted(sample: &[f64]) -> Vec<f64> {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The arithmetic mean. `None` for an empty sample.
pub fn mean(sample: &[f64]) -> Option<f64> {
    (!sample.is_empty()).then(|| sample.iter().sum::<f64>() / sample.len() as f64)
}

/// The quantile `p` (0 to 1) of a sample **in ascending order**, interpolated linearly between neighbours (type 7 of
/// Hyndman and Fan, 1996: the default of R and `NumPy`). `None` for an empty sample.
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = p.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    Some(low + (high - low) * (position - below as f64))
}

/// The 95 % interval of a statistic by the percentile bootstrap (Efron, 1979). This many samples of the same size are
/// drawn from this one with replacement. The interval is the middle 95 % of their statistics. `None` for an empty
/// sample.
///
/// The numbers have to be independent of each other: one for each seed, not one for each packet. `random` gives random
/// numbers of 64 bits, so that the caller decides which intervals come from the same draws.
pub fn bootstrap(
    sample: &[f64],
    resamples: usize,
    mut random: impl FnMut() -> u64,
    statistic: impl Fn(&[f64]) -> f64,
) -> Option<(f64, f64)> {
    if sample.is_empty() {
        return None;
    }
    let mut resample = vec![0.0; sample.len()];
    let mut found = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        for slot in &mut resample {
            // The bias of a remainder of 64 bits is below 1 in 10^17.
            *slot = sample[(random() % sample.len() as u64) as usize];
        }
        found.push(statistic(&resample));
    }
    let found = sorted(&found);
    Some((quantile(&found, 0.025)?, quantile(&found, 0.975)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn assert_close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1e-12, "{actual} is not {expected}");
    }

    #[test]
    fn a_known_sample_has_its_textbook_summary() {
        let summary = Summary::of(&[9.0, 2.0, 4.0, 4.0, 5.0, 4.0, 5.0, 7.0]).unwrap();
        assert_eq!((summary.count, summary.min, summary.max), (8, 2.0, 9.0));
        assert_close(summary.mean, 5.0);
        // Squares sum to 32: 32/7, where the population's would be 32/8.
        assert_close(summary.stddev.unwrap(), (32.0_f64 / 7.0).sqrt());
        assert_close(summary.median, 4.5);
    }

    #[test]
    fn quantiles_interpolate_as_r_does() {
        let sample = [1.0, 2.0, 3.0, 4.0];
        for (p, expected) in [(0.0, 1.0), (0.25, 1.75), (0.5, 2.5), (0.75, 3.25), (0.9, 3.7), (1.0, 4.0)] {
            assert_close(quantile(&sample, p).unwrap(), expected);
        }
    }

    #[test]
    fn a_single_number_has_no_spread() {
        let summary = Summary::of(&[3.5]).unwrap();
        assert_eq!((summary.q1, summary.median, summary.q3, summary.stddev), (3.5, 3.5, 3.5, None));
    }

    #[test]
    fn nothing_has_no_summary() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(mean(&[]), None);
    }

    proptest! {
        #[test]
        fn every_statistic_is_in_order(sample in prop::collection::vec(-1e6..1e6_f64, 1..200)) {
            let s = Summary::of(&sample).unwrap();
            prop_assert!(s.min <= s.q1 && s.q1 <= s.median && s.median <= s.q3 && s.q3 <= s.max);
            prop_assert!(s.min <= s.mean && s.mean <= s.max);
            prop_assert!(s.stddev.is_none_or(|sd| sd >= 0.0 && sd <= (s.max - s.min) + 1e-9));
        }

        #[test]
        fn order_does_not_matter(mut sample in prop::collection::vec(-1e6..1e6_f64, 1..50)) {
            let before = Summary::of(&sample);
            sample.reverse();
            prop_assert_eq!(before, Summary::of(&sample));
        }
    }
}
