//! The statistics that only the report uses: bootstrap intervals with fixed draws, and Welch's test.

use cyphonic_statistics::{Summary, bootstrap};

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
    use cyphonic_statistics::mean;

    use super::*;

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
}
