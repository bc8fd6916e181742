//! How many pairs each stratum contributes to a sample.

use std::str::FromStr;

use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How a sample is divided among strata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allocation {
    /// In proportion to the strata's sizes. The default.
    #[default]
    Proportional,
    /// The same for each stratum, as far as it has pairs.
    Equal,
    /// In proportion to size times expected standard deviation, which follows from the judges' disagreement.
    ///
    /// # Reference
    /// Neyman (1934), with a guess in place of the deviation: the labels of a stratum whose scores differ by `d` on
    /// average are taken to be wrong at the rate `p = min((d + 0.5) / (points), 0.5)`, and the deviation is
    /// `sqrt(p (1 - p))`. A poor guess costs precision, never correctness.
    Neyman,
}

impl FromStr for Allocation {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        serde_json::from_value(name.into())
            .map_err(|_| Error::setting("allocation", format!("`{name}`"), "proportional, equal, neyman"))
    }
}

/// The numbers of pairs per stratum: in proportion to `weights`, at least `minimum` (or the whole stratum), at most the
/// stratum, `size` in all. What rounding leaves goes to the largest remainders, ties to the first stratum.
pub(super) fn allocate(populations: &[usize], weights: &[f64], size: usize, minimum: usize) -> Result<Vec<usize>> {
    let least: Vec<usize> = populations.iter().map(|population| minimum.min(*population)).collect();
    let (fewest, most): (usize, usize) = (least.iter().sum(), populations.iter().sum());
    if size < fewest || size > most {
        let why = format!("{fewest} to {most} ({} strata of at least {minimum} pairs, or all they have)", least.len());
        return Err(Error::setting("size", size, &why));
    }
    // The shares are `scale` times the weights within each stratum's bounds; their sum grows with `scale`.
    let shares = |scale: f64| -> Vec<f64> {
        let bounded = |at: usize| (scale * weights[at]).clamp(least[at] as f64, populations[at] as f64);
        (0..weights.len()).map(bounded).collect()
    };
    let lightest = weights.iter().copied().filter(|weight| *weight > 0.0).fold(f64::INFINITY, f64::min);
    let (mut low, mut high) = (0.0, most as f64 / lightest);
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        match shares(middle).iter().sum::<f64>() < size as f64 {
            true => low = middle,
            false => high = middle,
        }
    }
    let shares = shares(high);
    // A share a rounding error below a whole number is that number.
    let mut counts: Vec<usize> = shares.iter().map(|share| (share + 1e-6).floor() as usize).collect();
    let mut by_remainder: Vec<usize> = (0..counts.len()).collect();
    by_remainder.sort_by(|a, b| (shares[*b] - counts[*b] as f64).total_cmp(&(shares[*a] - counts[*a] as f64)));
    let mut left = size.saturating_sub(counts.iter().sum());
    while left > 0 {
        for &at in &by_remainder {
            if left > 0 && counts[at] < populations[at] {
                counts[at] += 1;
                left -= 1;
            }
        }
    }
    Ok(counts)
}

/// The weights by which [`allocate`] divides; `disagreement` is the mean range of scores of each stratum, `points` the
/// number of points of the scale.
pub(super) fn weights(
    allocation: Allocation,
    populations: &[usize],
    disagreement: &[Option<f64>],
    points: usize,
) -> Result<Vec<f64>> {
    let absent = || {
        let what = "neyman for pairs without the range of their scores";
        Error::setting("allocation", what, "proportional or equal, or neyman for pairs that judges scored")
    };
    match allocation {
        Allocation::Proportional => Ok(populations.iter().map(|population| *population as f64).collect()),
        Allocation::Equal => Ok(vec![1.0; populations.len()]),
        Allocation::Neyman => {
            let of = |(population, disagreement): (&usize, &Option<f64>)| {
                let wrong = ((disagreement.ok_or_else(absent)? + 0.5) / points as f64).min(0.5);
                Ok(*population as f64 * (wrong * (1.0 - wrong)).sqrt())
            };
            populations.iter().zip(disagreement).map(of).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn samples_are_divided_by_size_equally_or_by_disagreement() {
        let populations = [800, 150, 50];
        let divide = |allocation, disagreement: [Option<f64>; 3], size, minimum| {
            let weights = weights(allocation, &populations, &disagreement, 5).expect("weights");
            allocate(&populations, &weights, size, minimum).expect("divided")
        };
        let none = [None; 3];
        assert_eq!(divide(Allocation::Proportional, none, 100, 1), [80, 15, 5]);
        assert_eq!(divide(Allocation::Proportional, none, 100, 10), [76, 14, 10]);
        assert_eq!(divide(Allocation::Equal, none, 100, 1), [34, 33, 33]);
        assert_eq!(divide(Allocation::Equal, none, 300, 1), [125, 125, 50]);
        // Deviations 0.3, 0.5 and 0.5: 240 to 75 to 25.
        assert_eq!(divide(Allocation::Neyman, [Some(0.0), Some(2.0), Some(4.0)], 68, 1), [48, 15, 5]);
        assert_eq!(divide(Allocation::Proportional, none, 1000, 1), populations);
        let refused = allocate(&populations, &[1.0; 3], 29, 10).expect_err("too small").to_string();
        assert_eq!(refused, "`size` is 29, allowed: 30 to 1000 (3 strata of at least 10 pairs, or all they have)");
        assert!(allocate(&populations, &[1.0; 3], 1001, 10).is_err());
        assert!(weights(Allocation::Neyman, &populations, &none, 5).is_err());
    }

    proptest! {
        #[test]
        fn every_stratum_keeps_its_bounds_and_the_sum_is_the_size(
            strata in prop::collection::vec((1usize..500, 0.01f64..10.0), 1..12),
            minimum in 1usize..5,
            part in 0.0f64..1.0,
        ) {
            let (populations, weights): (Vec<usize>, Vec<f64>) = strata.into_iter().unzip();
            let fewest: usize = populations.iter().map(|n| minimum.min(*n)).sum();
            let most: usize = populations.iter().sum();
            let size = fewest + ((most - fewest) as f64 * part) as usize;
            let counts = allocate(&populations, &weights, size, minimum).expect("divided");
            prop_assert_eq!(counts.iter().sum::<usize>(), size);
            for (count, population) in counts.iter().zip(&populations) {
                prop_assert!(*count >= minimum.min(*population) && count <= population);
            }
        }
    }
}
