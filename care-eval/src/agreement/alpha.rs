//! Krippendorff's alpha.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::chance::unanimous;
use super::estimate::{Statistic, undefined};
use super::ratings::Ratings;
use super::tally::{Tallies, Tally};
use super::weights::{WeightTable, Weights};
use crate::error::{Error, Result};

/// The level of measurement of ratings, which decides how much two different ones disagree.
///
/// # Reference
/// Krippendorff, *Computing Krippendorff's alpha-reliability*, 2011.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Level {
    /// Categories without an order: equal or not.
    #[default]
    Nominal,
    /// Ordered categories: by the number of ratings between two categories, squared. It depends on the ratings
    /// themselves, unlike [`Weights::Ordinal`].
    Ordinal,
    /// Numbers: by the difference, squared.
    Interval,
    /// Numbers with a meaningful 0, none negative: by the difference divided by the sum, squared.
    Ratio,
}

impl Level {
    /// Every level.
    pub const ALL: &[Self] = &[Self::Nominal, Self::Ordinal, Self::Interval, Self::Ratio];

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nominal => "nominal",
            Self::Ordinal => "ordinal",
            Self::Interval => "interval",
            Self::Ratio => "ratio",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().copied().find(|level| level.name() == name);
        found.ok_or_else(|| Error::setting("level", "level of measurement", name, Self::ALL))
    }
}

pub(super) struct Alpha {
    /// Units with at least two ratings.
    tallies: Tallies,
    /// `None` for ordinal ratings, whose weights depend on the ratings.
    fixed: Option<WeightTable>,
}

impl Alpha {
    pub(super) fn new(ratings: &Ratings, level: Level) -> Result<Self> {
        let tallies = Tallies::new(ratings, 2);
        let table = |weights| WeightTable::new(weights, &tallies.categories).map(Some);
        let fixed = match level {
            Level::Nominal => table(Weights::Identity),
            Level::Ordinal => Ok(None),
            Level::Interval => table(Weights::Quadratic),
            Level::Ratio => table(Weights::Ratio),
        }?;
        Ok(Self { tallies, fixed })
    }

    fn parts(&self, counts: &[f64]) -> Parts {
        let rows = || self.tallies.rows.iter().zip(counts);
        let units: f64 = counts.iter().sum();
        let ratings: f64 = rows().map(|(row, count)| count * row.total).sum();
        let mut shares = vec![0.0; self.tallies.categories.len()];
        for (row, count) in rows() {
            row.ratings.iter().for_each(|(category, number)| shares[*category] += count * number / ratings);
        }
        let weights = self.fixed.clone().unwrap_or_else(|| WeightTable::at(Weights::Quadratic, mid_ranks(&shares)));
        let agreement = |(row, count): (&Tally, &f64)| count * pairwise(row, &weights);
        let observed = rows().map(agreement).sum::<f64>() / ratings;
        let of_categories = weights.smoothed(&shares);
        let chance = shares.iter().zip(&of_categories).map(|(share, chance)| share * chance).sum();
        Parts { ratings, ratings_per_unit: ratings / units, shares, weights, observed, of_categories, chance }
    }

    /// How the coefficient changes with the share of each category through ordinal weights alone.
    fn through_weights(&self, counts: &[f64], parts: &Parts) -> Vec<f64> {
        let Parts { ratings, shares, .. } = parts;
        let ranks = mid_ranks(shares);
        // Pairs of different ratings in a unit, each once with the share of both its orders.
        let within = |(row, count): (&'_ Tally, &f64)| {
            let scale = 2.0 * count / (row.total - 1.0) / ratings;
            let with = |(place, &(a, number)): (usize, &(usize, f64))| {
                let later = row.ratings[place + 1..].iter();
                later.map(|&(b, other)| (a, b, scale * number * other)).collect::<Vec<_>>()
            };
            row.ratings.iter().enumerate().flat_map(with).collect::<Vec<_>>()
        };
        let observed: Vec<_> = self.tallies.rows.iter().zip(counts).flat_map(within).collect();
        let by_chance = |a: usize| (a + 1..shares.len()).map(move |b| (a, b, 2.0 * shares[a] * shares[b]));
        let by_chance = || (0..shares.len()).flat_map(by_chance);
        let distance = |a: usize, b: usize| ranks[b] - ranks[a];
        let disagreement = |(a, b, share): (usize, usize, f64)| share * distance(a, b).powi(2);
        let observed_sum: f64 = observed.iter().copied().map(disagreement).sum();
        let chance_sum: f64 = by_chance().map(disagreement).sum();

        // The distance of two categories grows by the ratings between them and by half of their own: added as steps.
        let mut steps = vec![0.0; shares.len() + 1];
        let mut add = |(a, b, share): (usize, usize, f64), of_disagreement: f64| {
            let half = share * of_disagreement * distance(a, b);
            for (at, step) in [(a, half), (a + 1, half), (b, -half), (b + 1, -half)] {
                steps[at] += step;
            }
        };
        observed.into_iter().for_each(|pair| add(pair, -1.0 / chance_sum));
        by_chance().for_each(|pair| add(pair, observed_sum / (chance_sum * chance_sum)));
        let sums = steps.iter().scan(0.0, |sum, step| {
            *sum += step;
            Some(*sum)
        });
        sums.take(shares.len()).collect()
    }
}

struct Parts {
    ratings: f64,
    ratings_per_unit: f64,
    shares: Vec<f64>,
    weights: WeightTable,
    observed: f64,
    of_categories: Vec<f64>,
    chance: f64,
}

/// The mean rank of each category's ratings, as a share of all.
fn mid_ranks(shares: &[f64]) -> Vec<f64> {
    let mut before = 0.0;
    let rank = |share: &f64| {
        before += share;
        before - share / 2.0
    };
    shares.iter().map(rank).collect()
}

/// The agreement of each rating with the unit's others, summed.
fn pairwise(row: &Tally, weights: &WeightTable) -> f64 {
    row.pairs(|a, b| weights.weight(a, b)) / (row.total - 1.0)
}

impl Statistic for Alpha {
    fn counts(&self) -> &[u64] {
        &self.tallies.counts
    }

    fn value(&self, counts: &[f64]) -> Result<f64> {
        if counts.iter().sum::<f64>() == 0.0 {
            return Err(undefined("no unit has two ratings"));
        }
        let Parts { ratings, observed, chance, shares, .. } = self.parts(counts);
        if shares.iter().filter(|share| **share > 0.0).count() < 2 {
            return Err(unanimous());
        }
        // Chance agreement is of two different ratings, so a rating's agreement with itself is taken out.
        let observed = observed + (1.0 - observed) / ratings;
        Ok((observed - chance) / (1.0 - chance))
    }

    fn influences(&self, counts: &[f64], _: f64) -> Vec<f64> {
        let parts = self.parts(counts);
        let Parts { ratings_per_unit, observed, chance, of_categories, .. } = &parts;
        let value = (observed - chance) / (1.0 - chance);
        let through_weights = match self.fixed {
            Some(_) => vec![0.0; of_categories.len()],
            None => self.through_weights(counts, &parts),
        };
        let of_row = |row: &Tally| {
            let observed = (pairwise(row, &parts.weights) - observed * row.total) / ratings_per_unit;
            let by_chance = (row.sum(of_categories) - chance * row.total) / ratings_per_unit;
            let through_weights = row.sum(&through_weights) / ratings_per_unit;
            (observed - 2.0 * (1.0 - value) * by_chance) / (1.0 - chance) + through_weights
        };
        self.tallies.rows.iter().map(of_row).collect()
    }
}
