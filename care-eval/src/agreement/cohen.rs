//! Cohen's kappa of two raters.

use std::collections::BTreeMap;

use super::chance::unanimous;
use super::estimate::{Statistic, undefined};
use super::ratings::Ratings;
use super::weights::{WeightTable, Weights};
use crate::error::Result;

/// Agreement of two raters, corrected by the agreement of two raters with the same shares of categories who rate at random.
pub(super) struct Cohen {
    weights: WeightTable,
    /// The categories of both raters.
    rows: Vec<[usize; 2]>,
    counts: Vec<u64>,
}

impl Cohen {
    /// Units that one of the two has not rated are left out.
    pub(super) fn new(ratings: &Ratings, weights: Weights) -> Result<Self> {
        if ratings.raters() != 2 {
            let message = format!("Cohen's kappa is for 2 raters, the table has {}; select two", ratings.raters());
            return Err(undefined(message));
        }
        let (categories, patterns) = ratings.indexed();
        let both = |row: &[Option<usize>]| Some([row[0]?, row[1]?]);
        let rated = patterns.iter().filter_map(|(row, count)| Some((both(row)?, *count)));
        let (rows, counts) = rated.collect::<BTreeMap<_, _>>().into_iter().unzip();
        Ok(Self { weights: WeightTable::new(weights, &categories)?, rows, counts })
    }

    fn parts(&self, counts: &[f64]) -> Parts {
        let units: f64 = counts.iter().sum();
        let mut shares = [0, 1].map(|_| vec![0.0; self.weights.categories()]);
        let mut observed = 0.0;
        for (&[first, second], count) in self.rows.iter().zip(counts) {
            shares[0][first] += count;
            shares[1][second] += count;
            observed += count * self.weights.weight(first, second);
        }
        shares.iter_mut().flatten().for_each(|share| *share /= units);
        let with_second = self.weights.smoothed(&shares[1]);
        let chance = shares[0].iter().zip(&with_second).map(|(share, weight)| share * weight).sum();
        Parts { units, observed: observed / units, chance, with_second, with_first: self.weights.smoothed(&shares[0]) }
    }
}

struct Parts {
    units: f64,
    observed: f64,
    chance: f64,
    /// The chance agreement of a rating by the first rater with one by the second, by category.
    with_second: Vec<f64>,
    with_first: Vec<f64>,
}

impl Statistic for Cohen {
    fn counts(&self) -> &[u64] {
        &self.counts
    }

    fn value(&self, counts: &[f64]) -> Result<f64> {
        let Parts { units, observed, chance, .. } = self.parts(counts);
        if units == 0.0 {
            return Err(undefined("no unit has two ratings"));
        }
        if chance >= 1.0 {
            return Err(unanimous());
        }
        Ok((observed - chance) / (1.0 - chance))
    }

    fn influences(&self, counts: &[f64], value: f64) -> Vec<f64> {
        let Parts { observed, chance, with_second, with_first, .. } = self.parts(counts);
        let mean = observed - 2.0 * (1.0 - value) * chance;
        let of_row = |&[first, second]: &[usize; 2]| {
            let by_chance = with_second[first] + with_first[second];
            (self.weights.weight(first, second) - (1.0 - value) * by_chance - mean) / (1.0 - chance)
        };
        self.rows.iter().map(of_row).collect()
    }
}
