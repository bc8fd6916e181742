//! The distribution of scores.

use serde::Serialize;

/// Bins of a histogram.
const BINS: usize = 40;

/// Count, moments, quartiles and a histogram of numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Distribution {
    /// Number of values. The other numbers are 0 if there are none.
    pub count: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation, with `count - 1`.
    pub std: f64,
    /// Least value.
    pub min: f64,
    /// 25th percentile, interpolated linearly between neighbours as by numpy's default.
    pub quartile_1: f64,
    /// 50th percentile.
    pub median: f64,
    /// 75th percentile.
    pub quartile_3: f64,
    /// Greatest value.
    pub max: f64,
    /// Values in 40 equal parts of the range from `min` to `max`, each without its upper end, but the last with it.
    pub histogram: Vec<usize>,
}

impl Distribution {
    /// The distribution of values, which are finite.
    pub fn of(values: &[f32]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f32::total_cmp);
        let (count, n) = (sorted.len(), sorted.len() as f64);
        let mean = if count == 0 { 0.0 } else { values.iter().map(|&value| f64::from(value)).sum::<f64>() / n };
        let squares: f64 = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum();
        let at = |share: f64| {
            let place = share * (n - 1.0).max(0.0);
            let value = |place: f64| sorted.get(place as usize).map_or(0.0, |&value| f64::from(value));
            let (below, above) = (value(place.floor()), value(place.ceil()));
            below + (above - below) * place.fract()
        };
        let (min, max) = (at(0.0), at(1.0));
        let mut histogram = vec![0; BINS];
        for &value in values {
            let place = (f64::from(value) - min) / (max - min) * BINS as f64;
            histogram[(place as usize).min(BINS - 1)] += 1;
        }
        let std = if count < 2 { 0.0 } else { (squares / (n - 1.0)).sqrt() };
        let (quartile_1, median, quartile_3) = (at(0.25), at(0.5), at(0.75));
        Self { count, mean, std, min, quartile_1, median, quartile_3, max, histogram }
    }

    /// Bounds of a part of the histogram.
    #[cfg_attr(not(feature = "plots"), allow(dead_code, reason = "for plots"))]
    pub(super) fn bin(&self, part: usize) -> (f64, f64) {
        let width = (self.max - self.min) / BINS as f64;
        (self.min + part as f64 * width, self.min + (part + 1) as f64 * width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_numpy() {
        // numpy: mean, std(ddof=1), percentile of [0, 25, 50, 75, 100].
        let of = Distribution::of(&[0.5, -1.0, 2.0, 4.0]);
        assert_eq!((of.count, of.mean, of.min, of.max), (4, 1.375, -1.0, 4.0));
        assert_eq!((of.quartile_1, of.median, of.quartile_3), (0.125, 1.25, 2.5));
        assert!((of.std - 2.136_000_936_329_382_7).abs() < 1e-12, "{}", of.std);
        assert_eq!(of.histogram.iter().sum::<usize>(), 4);
        assert_eq!((of.histogram[0], of.histogram[12], of.histogram[24], of.histogram[39]), (1, 1, 1, 1));
        assert_eq!(of.bin(12), (0.5, 0.625));
    }

    #[test]
    fn few_and_equal_values_have_a_distribution() {
        assert_eq!(Distribution::of(&[]).count, 0);
        let one = Distribution::of(&[0.25; 3]);
        assert_eq!((one.mean, one.std, one.median, one.histogram[0]), (0.25, 0.0, 0.25, 3));
    }
}
