//! Statistics of a sample, as the paper prints them: minimum, mean, maximum, standard deviation, and quartiles.

/// The statistics of a sample, in the sample's unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// How many numbers.
    pub count: usize,
    /// The smallest.
    pub min: f64,
    /// The lower quartile, see [`quantile`].
    pub q1: f64,
    /// The middle.
    pub median: f64,
    /// The upper quartile.
    pub q3: f64,
    /// The largest.
    pub max: f64,
    /// The arithmetic mean.
    pub mean: f64,
    /// The sample standard deviation (divisor n − 1); none of a single number.
    pub stddev: Option<f64>,
}

impl Summary {
    /// Summarises a sample; none if it is empty.
    pub fn of(sample: &[f64]) -> Option<Self> {
        let sorted = sorted(sample);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let mean = mean(&sorted)?;
        // Rounding may push the mean of equal numbers out of their range by one bit.
        let mean = mean.clamp(min, max);
        let squares: f64 = sorted.iter().map(|x| (x - mean).powi(2)).sum();
        let stddev = (sorted.len() > 1).then(|| (squares / (sorted.len() - 1) as f64).sqrt());
        let at = |p| quantile(&sorted, p).unwrap_or(mean);
        Some(Self { count: sorted.len(), min, q1: at(0.25), median: at(0.5), q3: at(0.75), max, mean, stddev })
    }
}

/// The sample in ascending order.
pub fn sorted(sample: &[f64]) -> Vec<f64> {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The arithmetic mean; none if there is nothing.
pub fn mean(sample: &[f64]) -> Option<f64> {
    (!sample.is_empty()).then(|| sample.iter().sum::<f64>() / sample.len() as f64)
}

/// The quantile `p` (0 to 1) of a sample **in ascending order**, interpolated linearly between its neighbours (type 7
/// of Hyndman and Fan, 1996: the default of R and `NumPy`); none if it is empty.
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = p.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    Some(low + (high - low) * (position - below as f64))
}

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2_000;

/// The 95 % percentile bootstrap interval of a statistic; none of fewer than three numbers. The resamples come from a
/// generator with a fixed start, so the same sample gives the same interval.
pub fn interval(sample: &[f64], statistic: impl Fn(&[f64]) -> f64) -> Option<(f64, f64)> {
    if sample.len() < 3 {
        return None;
    }
    // SplitMix64 (Steele, Lea and Flood, 2014).
    let mut state = 0_u64;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut found = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let resample: Vec<f64> = sample.iter().map(|_| sample[(next() % sample.len() as u64) as usize]).collect();
        found.push(statistic(&resample));
    }
    let found = sorted(&found);
    Some((quantile(&found, 0.025)?, quantile(&found, 0.975)?))
}

/// Welch's test of two samples: the 95 % interval of the difference of their means (second less first), and the
/// two-sided p-value; none of fewer than two numbers in either, or without any spread.
pub fn welch(a: &[f64], b: &[f64]) -> Option<(f64, f64, f64)> {
    let part = |sample: &[f64]| {
        let summary = Summary::of(sample)?;
        Some((summary.mean, summary.stddev?, summary.count as f64))
    };
    welch_of(part(a)?, part(b)?)
}

/// As [`welch`], of samples of which only mean, standard deviation and number are known.
pub fn welch_of((mean_a, sd_a, n_a): (f64, f64, f64), (mean_b, sd_b, n_b): (f64, f64, f64)) -> Option<(f64, f64, f64)> {
    if n_a < 2.0 || n_b < 2.0 {
        return None;
    }
    let (share_a, share_b) = (sd_a.powi(2) / n_a, sd_b.powi(2) / n_b);
    let error = (share_a + share_b).sqrt();
    if error <= 0.0 {
        return None;
    }
    // Welch and Satterthwaite.
    let freedom = (share_a + share_b).powi(2) / (share_a.powi(2) / (n_a - 1.0) + share_b.powi(2) / (n_b - 1.0));
    let difference = mean_b - mean_a;
    let p = 2.0 * tail(difference.abs() / error, freedom);
    // The quantile by bisection: the tail falls with its argument.
    let (mut low, mut high) = (0.0, 1e3);
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if tail(middle, freedom) > 0.025 {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some((difference - low * error, difference + low * error, p))
}

/// The probability that Student's t with these degrees of freedom is greater than `t` ≥ 0: Simpson's rule over the
/// density, with t = √ν tan θ.
fn tail(t: f64, freedom: f64) -> f64 {
    const STEPS: u32 = 2_000;
    // The density becomes cos^(ν−1) θ, up to a factor that the whole integral gives.
    let density = |angle: f64| angle.cos().max(0.0).powf(freedom - 1.0);
    let integral = |from: f64, to: f64| {
        let step = (to - from) / f64::from(STEPS);
        let weight = |i: u32| {
            if i == 0 || i == STEPS {
                1.0
            } else if i % 2 == 1 {
                4.0
            } else {
                2.0
            }
        };
        (0..=STEPS).map(|i| weight(i) * density(from + f64::from(i) * step)).sum::<f64>() * step / 3.0
    };
    let right = std::f64::consts::FRAC_PI_2;
    let angle = (t / freedom.sqrt()).atan();
    integral(angle, right) / (2.0 * integral(0.0, right))
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
    fn welchs_test_is_that_of_r() {
        // t.test(c(1, 2, 3, 4, 5), c(2, 4, 6, 8, 10)) of R 4.3: t = 1.897, df = 5.88, p = 0.1075.
        let (low, high, p) = welch(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 4.0, 6.0, 8.0, 10.0]).unwrap();
        assert!((p - 0.107_5).abs() < 5e-4, "{p}");
        assert!((low + high - 6.0).abs() < 1e-9 && low < 0.0 && high > 6.0, "{low} {high}");
        assert_eq!(welch(&[1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn an_interval_is_that_of_theory_and_the_same_again() {
        let sample: Vec<f64> = (0..100).map(|i| f64::from(i * 37 % 100)).collect();
        let average = |sample: &[f64]| mean(sample).unwrap();
        let (low, high) = interval(&sample, average).unwrap();
        let error = 1.96 * Summary::of(&sample).unwrap().stddev.unwrap() / 10.0;
        assert!((low - 49.5 + error).abs() < 0.5 && (high - 49.5 - error).abs() < 0.5, "{low} {high}");
        assert_eq!(interval(&sample, average), Some((low, high)));
        assert_eq!(interval(&[1.0, 2.0], average), None);
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
