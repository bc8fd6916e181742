//! Units as counts of ratings per category, for coefficients that do not ask who rated.

use std::collections::BTreeMap;

use super::ratings::Ratings;

/// Units with the same number of ratings in each category, once, with the number of such units.
pub(super) struct Tallies {
    pub(super) categories: Vec<f64>,
    pub(super) rows: Vec<Tally>,
    pub(super) counts: Vec<u64>,
}

/// The ratings of a unit.
pub(super) struct Tally {
    /// Category and number of ratings, for categories that have some.
    pub(super) ratings: Vec<(usize, f64)>,
    /// The number of all ratings.
    pub(super) total: f64,
}

impl Tallies {
    /// The units with at least `least` ratings.
    pub(super) fn new(ratings: &Ratings, least: usize) -> Self {
        let (categories, rows) = ratings.indexed();
        let mut tallies = BTreeMap::<Vec<(usize, u32)>, u64>::new();
        for (row, count) in rows {
            let mut tally = BTreeMap::new();
            row.iter().flatten().for_each(|category| *tally.entry(*category).or_insert(0) += 1);
            if tally.values().sum::<u32>() as usize >= least {
                *tallies.entry(tally.into_iter().collect()).or_insert(0) += count;
            }
        }
        let counts = tallies.values().copied().collect();
        let rows = tallies.into_keys().map(|tally| {
            let ratings: Vec<_> = tally.into_iter().map(|(category, number)| (category, f64::from(number))).collect();
            Tally { total: ratings.iter().map(|(_, number)| number).sum(), ratings }
        });
        Self { categories, rows: rows.collect(), counts }
    }
}

impl Tally {
    /// The sum of a value of each rating.
    pub(super) fn sum(&self, value: &[f64]) -> f64 {
        self.ratings.iter().map(|(category, number)| number * value[*category]).sum()
    }

    /// The sum of a weight over ordered pairs of two of its ratings.
    pub(super) fn pairs(&self, weight: impl Fn(usize, usize) -> f64) -> f64 {
        let with = |a: usize| self.ratings.iter().map(|(b, number)| number * weight(a, *b)).sum::<f64>();
        self.ratings.iter().map(|(a, number)| number * (with(*a) - 1.0)).sum()
    }
}
