//! How whole numbers are distributed.

use std::collections::BTreeMap;

use serde::Serialize;

/// How often each whole number occurred.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    counts: BTreeMap<usize, u64>,
}

/// Mean, quartiles and extremes; all 0 of nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Arithmetic mean.
    pub mean: f64,
    /// Smallest.
    pub min: usize,
    /// First quartile.
    pub q1: usize,
    /// Median.
    pub median: usize,
    /// Third quartile.
    pub q3: usize,
    /// Largest.
    pub max: usize,
}

impl Distribution {
    /// Counts a number.
    pub fn add(&mut self, number: usize) {
        *self.counts.entry(number).or_default() += 1;
    }

    /// Mean, quartiles and extremes. A quartile is the smallest number that is not below the given share of all (the
    /// inverse of the empirical distribution function, type 1 of Hyndman and Fan, 1996).
    pub fn summary(&self) -> Summary {
        let total: u64 = self.counts.values().sum();
        let sum: f64 = self.counts.iter().map(|(number, count)| *number as f64 * *count as f64).sum();
        let quantile = |quarters: u64| {
            let mut seen = 0;
            let reached = |(_, count): &(&usize, &u64)| {
                seen += **count;
                4 * seen >= quarters * total
            };
            self.counts.iter().find(reached).map_or(0, |(number, _)| *number)
        };
        let mean = if total == 0 { 0.0 } else { sum / total as f64 };
        Summary { mean, min: quantile(0), q1: quantile(1), median: quantile(2), q3: quantile(3), max: quantile(4) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quartiles_are_those_of_the_sorted_numbers(mut numbers in prop::collection::vec(0_usize..50, 1..60)) {
            let mut distribution = Distribution::default();
            numbers.iter().for_each(|number| distribution.add(*number));
            numbers.sort_unstable();
            let at = |quarters: usize| numbers[(quarters * numbers.len()).div_ceil(4).max(1) - 1];
            let mean = numbers.iter().sum::<usize>() as f64 / numbers.len() as f64;
            let expected = Summary { mean, min: numbers[0], q1: at(1), median: at(2), q3: at(3), max: at(4) };
            prop_assert_eq!(distribution.summary(), expected);
        }
    }

    #[test]
    fn of_nothing_everything_is_0() {
        assert_eq!(Distribution::default().summary(), Summary::default());
    }
}
