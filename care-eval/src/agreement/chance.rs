//! Agreement over pairs of ratings, corrected for chance: per cent agreement, Fleiss, Gwet, Brennan and Prediger.

use super::estimate::{Statistic, undefined};
use super::ratings::Ratings;
use super::tally::Tallies;
use super::weights::{WeightTable, Weights};
use crate::error::Result;

/// What chance agreement means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Chance {
    /// There is none.
    Ignored,
    /// Two ratings drawn from the shares of the categories.
    Shares,
    /// Raters guess on the units that are hard to rate.
    Hard,
    /// Two ratings drawn from all categories alike.
    Uniform,
}

impl Chance {
    /// The chance agreement of a rating of each category, given the categories' shares.
    fn of_categories(self, shares: &[f64], weights: &WeightTable) -> Vec<f64> {
        let categories = shares.len() as f64;
        let all = || weights.smoothed(&vec![1.0; shares.len()]).iter().sum::<f64>();
        match self {
            Self::Ignored => vec![0.0; shares.len()],
            Self::Shares => weights.smoothed(shares),
            _ if shares.len() < 2 => vec![1.0; shares.len()],
            Self::Hard => {
                let scale = all() / (categories * (categories - 1.0));
                shares.iter().map(|share| scale * (1.0 - share)).collect()
            }
            Self::Uniform => vec![all() / (categories * categories); shares.len()],
        }
    }
}

/// The mean agreement of units, corrected for chance. Units with a single rating count in the shares of categories only.
pub(super) struct ChanceCorrected {
    tallies: Tallies,
    weights: WeightTable,
    chance: Chance,
    /// The agreement of two ratings of each row's unit, 0 if it has fewer.
    agreement: Vec<f64>,
}

impl ChanceCorrected {
    pub(super) fn new(ratings: &Ratings, weights: Weights, chance: Chance) -> Result<Self> {
        let tallies = Tallies::new(ratings, 1);
        let weights = WeightTable::new(weights, &tallies.categories)?;
        let agreement = tallies.rows.iter().map(|row| match row.total {
            total if total < 2.0 => 0.0,
            total => row.pairs(|a, b| weights.weight(a, b)) / (total * (total - 1.0)),
        });
        Ok(Self { agreement: agreement.collect(), tallies, weights, chance })
    }

    /// Units with a rating, units with two, observed agreement, and chance agreement of a rating of each category and of
    /// all.
    fn parts(&self, counts: &[f64]) -> Parts {
        let (mut units, mut rated_twice, mut observed) = (0.0, 0.0, 0.0);
        let mut shares = vec![0.0; self.tallies.categories.len()];
        for ((row, agreement), count) in self.tallies.rows.iter().zip(&self.agreement).zip(counts) {
            units += count;
            if row.total >= 2.0 {
                rated_twice += count;
                observed += count * agreement;
            }
            row.ratings.iter().for_each(|(category, number)| shares[*category] += count * (number / row.total));
        }
        shares.iter_mut().for_each(|share| *share /= units);
        let of_categories = self.chance.of_categories(&shares, &self.weights);
        let chance = shares.iter().zip(&of_categories).map(|(share, chance)| share * chance).sum();
        Parts { units, rated_twice, observed: observed / rated_twice, of_categories, chance }
    }
}

struct Parts {
    units: f64,
    rated_twice: f64,
    observed: f64,
    of_categories: Vec<f64>,
    chance: f64,
}

impl Statistic for ChanceCorrected {
    fn counts(&self) -> &[u64] {
        &self.tallies.counts
    }

    fn units(&self) -> u64 {
        let rows = self.tallies.rows.iter().zip(&self.tallies.counts);
        rows.filter(|(row, _)| row.total >= 2.0).map(|(_, count)| count).sum()
    }

    fn value(&self, counts: &[f64]) -> Result<f64> {
        let Parts { rated_twice, observed, chance, .. } = self.parts(counts);
        if rated_twice == 0.0 {
            return Err(undefined("no unit has two ratings"));
        }
        // Exact: if all ratings are equal, their share is n / n.
        if chance >= 1.0 {
            return Err(unanimous());
        }
        Ok((observed - chance) / (1.0 - chance))
    }

    fn influences(&self, counts: &[f64], value: f64) -> Vec<f64> {
        let Parts { units, rated_twice, observed: mean, of_categories, chance } = self.parts(counts);
        let rows = self.tallies.rows.iter().zip(&self.agreement);
        let of_row = |(row, agreement): (&super::tally::Tally, &f64)| {
            // DIFFERENCE: irrCAC subtracts the value from units with a single rating too, which have no part in it.
            let observed = if row.total >= 2.0 { (agreement - mean) * units / rated_twice } else { 0.0 };
            let by_chance = row.sum(&of_categories) / row.total - chance;
            (observed - 2.0 * (1.0 - value) * by_chance) / (1.0 - chance)
        };
        rows.map(of_row).collect()
    }
}

/// The coefficient of ratings that are all equal.
pub(super) fn unanimous() -> crate::error::Error {
    undefined("all ratings are equal, so chance agreement is 1")
}
