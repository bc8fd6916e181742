//! How much two different ratings agree.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// The agreement of two ratings `x` and `y`, from 1 for equal ratings to 0 for the lowest and the highest category.
///
/// Weights go by the *values* of categories, so 0, 1, 3 and 0, 1, 2 differ under all but [`Identity`](Self::Identity) and
/// [`Ordinal`](Self::Ordinal). `range` is the highest category minus the lowest.
///
/// # Reference
/// Cohen, *Weighted kappa*, 1968; Gwet, *Handbook of inter-rater reliability*, 4th edition 2014, section 3.5, as in irrCAC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Weights {
    /// Equal or not: categories without an order.
    #[default]
    Identity,
    /// `1 - |x - y| / range`.
    Linear,
    /// `1 - (x - y)^2 / range^2`.
    Quadratic,
    /// By the ranks of the categories only: 1 minus the share of pairs of categories that lie between the two.
    Ordinal,
    /// `1 - sqrt(|x - y| / range)`.
    Radical,
    /// `1 - ((x - y) / (x + y))^2`, divided by its maximum. No category may be negative.
    Ratio,
}

impl Weights {
    /// Every kind of weights.
    pub const ALL: &[Self] =
        &[Self::Identity, Self::Linear, Self::Quadratic, Self::Ordinal, Self::Radical, Self::Ratio];

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Linear => "linear",
            Self::Quadratic => "quadratic",
            Self::Ordinal => "ordinal",
            Self::Radical => "radical",
            Self::Ratio => "ratio",
        }
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Weights {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().copied().find(|weights| weights.name() == name);
        found.ok_or_else(|| Error::setting("weights", "weights", name, Self::ALL))
    }
}

/// Weights between categories, which are known by index.
#[derive(Debug, Clone)]
pub(super) struct WeightTable {
    weights: Weights,
    /// Ascending. Values, except for ordinal weights (ranks) and ordinal alpha (mid-ranks of ratings).
    positions: Vec<f64>,
    /// The disagreement of the first and the last category.
    widest: f64,
}

impl WeightTable {
    /// # Errors
    /// [`ErrorKind::Rating`] if a category is negative under ratio weights.
    pub(super) fn new(weights: Weights, categories: &[f64]) -> Result<Self> {
        if let (Weights::Ratio, Some(lowest)) = (weights, categories.first().filter(|lowest| **lowest < 0.0)) {
            return Err(Error::new(
                ErrorKind::Rating,
                format!("category {lowest} is negative, a ratio scale begins at 0"),
            ));
        }
        let positions = match weights {
            Weights::Ordinal => (0..categories.len()).map(|rank| rank as f64).collect(),
            _ => categories.to_vec(),
        };
        Ok(Self::at(weights, positions))
    }

    /// Weights by given ascending positions.
    pub(super) fn at(weights: Weights, mut positions: Vec<f64>) -> Self {
        let (low, high) = (positions.first().copied().unwrap_or(0.0), positions.last().copied().unwrap_or(0.0));
        if weights == Weights::Quadratic {
            // Centred, so that `smoothed` loses no digits.
            let (middle, range) = (low + (high - low) / 2.0, high - low);
            positions.iter_mut().for_each(|x| *x = (*x - middle) / if range > 0.0 { range } else { 1.0 });
        }
        let mut table = Self { weights, positions, widest: 1.0 };
        if table.positions.len() > 1 {
            table.widest = table.disagreement(0, table.positions.len() - 1);
        }
        table
    }

    pub(super) fn categories(&self) -> usize {
        self.positions.len()
    }

    pub(super) fn weight(&self, a: usize, b: usize) -> f64 {
        if a == b { 1.0 } else { 1.0 - self.disagreement(a, b) / self.widest }
    }

    /// The weight of each category with a rating drawn by `shares`: the table as a matrix times `shares`.
    pub(super) fn smoothed(&self, shares: &[f64]) -> Vec<f64> {
        match self.weights {
            Weights::Identity => shares.to_vec(),
            Weights::Quadratic => {
                let moment = |power| shares.iter().zip(&self.positions).map(|(p, x)| p * x.powi(power)).sum::<f64>();
                let (zeroth, first, second) = (moment(0), moment(1), moment(2));
                let distance = |x: &f64| zeroth * x * x - 2.0 * x * first + second;
                self.positions.iter().map(|x| zeroth - distance(x) / self.widest).collect()
            }
            _ => {
                let categories = 0..self.categories();
                let of = |a| shares.iter().enumerate().map(|(b, share)| share * self.weight(a, b)).sum();
                categories.map(of).collect()
            }
        }
    }

    /// Not yet scaled to `0..=1`.
    fn disagreement(&self, a: usize, b: usize) -> f64 {
        let (x, y) = (self.positions[a], self.positions[b]);
        let distance = (x - y).abs();
        match self.weights {
            Weights::Identity => f64::from(u8::from(a != b)),
            Weights::Linear => distance,
            Weights::Quadratic => distance * distance,
            Weights::Ordinal => distance * (distance + 1.0) / 2.0,
            Weights::Radical => distance.sqrt(),
            // Different categories that are not negative have a sum above 0.
            Weights::Ratio => {
                if a == b {
                    0.0
                } else {
                    (distance / (x + y)).powi(2)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use approx::assert_abs_diff_eq;

    use super::*;

    #[test]
    fn weights_go_by_value_and_ordinal_ones_by_rank() {
        let weight = |weights, a, b| WeightTable::new(weights, &[1.0, 2.0, 5.0]).unwrap().weight(a, b);
        let cases = [
            (Weights::Identity, 0.0, 0.0),
            (Weights::Linear, 0.75, 0.25),
            (Weights::Quadratic, 1.0 - 1.0 / 16.0, 1.0 - 9.0 / 16.0),
            (Weights::Ordinal, 1.0 - 1.0 / 3.0, 1.0 - 1.0 / 3.0),
            (Weights::Radical, 0.5, 1.0 - 0.75_f64.sqrt()),
            (Weights::Ratio, 1.0 - (1.0 / 9.0) / (4.0 / 9.0), 1.0 - (9.0 / 49.0) / (4.0 / 9.0)),
        ];
        assert_eq!(cases.len(), Weights::ALL.len());
        for (weights, first, second) in cases {
            assert_abs_diff_eq!(weight(weights, 0, 1), first, epsilon = 1e-15);
            assert_abs_diff_eq!(weight(weights, 2, 1), second, epsilon = 1e-15);
            assert_eq!((weight(weights, 0, 2), weight(weights, 1, 1)), (0.0, 1.0));
        }
    }

    #[test]
    fn smoothed_shares_are_the_matrix_times_the_shares() {
        let (categories, shares) = ([0.0, 1.0, 3.0, 100.0], [0.2, 0.4, 0.1, 0.3]);
        for &weights in Weights::ALL {
            let table = WeightTable::new(weights, &categories).unwrap();
            for (a, smoothed) in table.smoothed(&shares).into_iter().enumerate() {
                let direct: f64 = (0..4).map(|b| shares[b] * table.weight(a, b)).sum();
                assert_abs_diff_eq!(smoothed, direct, epsilon = 1e-14);
            }
        }
    }

    #[test]
    fn names_are_read_back_and_unknown_or_unsuited_ones_are_refused() {
        for &weights in Weights::ALL {
            assert_eq!(weights.to_string().parse::<Weights>().unwrap(), weights);
        }
        let error = "cubic".parse::<Weights>().unwrap_err();
        let message = "unknown weights \"cubic\"; accepted: identity, linear, quadratic, ordinal, radical, ratio";
        assert_eq!((error.to_string().as_str(), error.field()), (message, Some("weights")));
        let error = WeightTable::new(Weights::Ratio, &[-1.0, 2.0]).unwrap_err();
        assert_eq!(error.to_string(), "category -1 is negative, a ratio scale begins at 0");
    }
}
