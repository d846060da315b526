//! The statistics that only the report uses: bootstrap intervals with fixed draws, and the signed-rank test.

use cyphonic_statistics::bootstrap;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2_000;

/// The 95 % percentile bootstrap interval of a statistic. `None` for fewer than three numbers. The random numbers begin
/// with a fixed state, so the same sample gives the same interval.
pub fn interval(sample: &[f64], statistic: impl Fn(&[f64]) -> f64) -> Option<(f64, f64)> {
    if sample.len() < 3 {
        return None;
    }
    // SplitMix64 (Steele, Lea and Flood, 2014).
    let mut state = 0_u64;
    let random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    bootstrap(sample, RESAMPLES, random, statistic)
}

/// The Wilcoxon signed-rank test of paired differences: the two-sided p-value, and the rank-biserial correlation.
///
/// The correlation (Kerby, 2014) is the sum of the ranks of positive differences less that of negative ones, as a share
/// of both: 1 if all are positive, −1 if all are negative. `None` without a difference that is not zero.
///
/// Zeros are left out, equal sizes share their ranks, and the p-value is exact: all signs of the ranks are counted.
pub fn signed_rank(differences: &[f64]) -> Option<(f64, f64)> {
    let mut sizes: Vec<(f64, bool)> = differences.iter().filter(|d| **d != 0.0).map(|d| (d.abs(), *d > 0.0)).collect();
    sizes.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Twice the ranks, from 1: whole numbers even where equal sizes share them.
    let doubled: Vec<usize> = sizes
        .iter()
        .map(|(size, _)| {
            let first = sizes.partition_point(|(other, _)| other < size) + 1;
            let last = sizes.partition_point(|(other, _)| other <= size);
            first + last
        })
        .collect();
    let all: usize = doubled.iter().sum();
    let positive: usize = doubled.iter().zip(&sizes).filter(|(_, (_, is_positive))| *is_positive).map(|(r, _)| r).sum();
    // How probable each sum of the ranks of positive differences is if each sign is as probable as the other.
    let mut probable = vec![0.0; all + 1];
    probable[0] = 1.0;
    for rank in &doubled {
        for sum in (0..=all).rev() {
            let with = if sum >= *rank { probable[sum - rank] } else { 0.0 };
            probable[sum] = f64::midpoint(probable[sum], with);
        }
    }
    let smaller = positive.min(all - positive);
    let tail: f64 = probable[..=smaller].iter().sum();
    (all > 0).then(|| ((2.0 * tail).min(1.0), (2.0 * positive as f64 - all as f64) / all as f64))
}

#[cfg(test)]
mod tests {
    use cyphonic_statistics::{Summary, mean};

    use super::*;

    #[test]
    fn the_signed_rank_test_is_that_of_r() {
        // wilcox.test(x, y, paired = TRUE) of the example in R 4.3's help: V = 40, p-value = 0.03906.
        let before = [1830, 500, 1620, 2480, 1680, 1880, 1550, 3060, 1300];
        let after = [878, 647, 598, 2050, 1060, 1290, 1060, 3140, 1290];
        let differences: Vec<f64> = before.iter().zip(after).map(|(x, y)| f64::from(x - y) / 1e3).collect();
        let (p, effect) = signed_rank(&differences).unwrap();
        assert!((p - 0.039_062_5).abs() < 1e-12, "{p}");
        assert!((effect - 35.0 / 45.0).abs() < 1e-12, "{effect}");
        // All of one sign: 2 / 2^n. Equal sizes and zeros change nothing in that.
        assert_eq!(signed_rank(&[0.5, 0.5, 0.5, 0.5, 0.5, 0.0]), Some((0.0625, 1.0)));
        assert_eq!(signed_rank(&[1.0, -1.0]), Some((1.0, 0.0)));
        assert_eq!(signed_rank(&[0.0]), None);
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
}
