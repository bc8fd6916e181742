//! Bootstrap confidence intervals.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// The most samples that programs should ask for: more change no digit that is printed, and each takes 8 bytes and as many
/// draws as there are values.
pub const MOST_SAMPLES: usize = 1_000_000;

/// A confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The percentile bootstrap interval of a mean.
///
/// `values` are resampled with replacement `resamples` times; the interval contains the middle `level` (in `0..=1`) of
/// the means. `None` if `values` is empty or `resamples` is 0. For the mean difference of two systems, pass the
/// differences of their values on the same queries.
///
/// ```
/// let interval = care_eval::stats::bootstrap_interval(&[0.0, 1.0, 1.0, 0.5], 0.95, 1000, 42).unwrap();
/// assert!(interval.low < 0.625 && 0.625 < interval.high);
/// ```
///
/// # Reference
/// Efron and Tibshirani, *An introduction to the bootstrap*, 1993, chapter 13.
pub fn bootstrap_interval(values: &[f64], level: f64, resamples: usize, seed: u64) -> Option<Interval> {
    if values.is_empty() || resamples == 0 {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || values[rng.random_range(0..values.len())];
    let mean = |_| (0..values.len()).map(|_| draw()).sum::<f64>() / values.len() as f64;
    percentile_interval((0..resamples).map(mean).collect(), level)
}

/// The interval that contains the middle `level` (in `0..=1`) of a statistic's values on resampled data; `None` if
/// `values` is empty. For a mean, use [`bootstrap_interval`].
pub fn percentile_interval(mut values: Vec<f64>, level: f64) -> Option<Interval> {
    let last = values.len().checked_sub(1)?;
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((share * last as f64).round() as usize).min(last)];
    let tail = (1.0 - level.clamp(0.0, 1.0)) / 2.0;
    Some(Interval { low: at(tail), high: at(1.0 - tail) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_normal_distribution_for_many_values() {
        // 400 values of a uniform distribution: the mean's standard error is 1 / sqrt(12 * 400).
        let values: Vec<f64> = (0..400).map(|n| (f64::from(n) + 0.5) / 400.0).collect();
        let interval = bootstrap_interval(&values, 0.95, 20_000, 1).expect("values");
        let reach = 1.96 / (12.0f64 * 400.0).sqrt();
        assert!((interval.low - (0.5 - reach)).abs() < 0.002, "{interval:?}");
        assert!((interval.high - (0.5 + reach)).abs() < 0.002, "{interval:?}");
    }

    #[test]
    fn the_seed_decides_and_edges_are_defined() {
        let values = [0.1, 0.9, 0.4, 0.33, 0.71, 0.57, 0.06];
        let interval = |seed| bootstrap_interval(&values, 0.9, 500, seed);
        assert_eq!(interval(3), interval(3));
        assert_ne!(interval(3), interval(4));
        assert_eq!(bootstrap_interval(&[0.5; 7], 0.95, 10, 0), Some(Interval { low: 0.5, high: 0.5 }));
        assert_eq!(bootstrap_interval(&[], 0.95, 10, 0), None);
        assert_eq!(bootstrap_interval(&values, 0.95, 0, 0), None);
        let whole = bootstrap_interval(&values, 1.0, 2000, 0).expect("values");
        assert!(whole.low < 0.2 && whole.high > 0.7, "{whole:?}");
    }
}
