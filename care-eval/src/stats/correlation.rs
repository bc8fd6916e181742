//! Correlations, for semantic textual similarity and for rankings of systems.

use crate::error::{Error, ErrorKind, Result};

/// Pearson's correlation coefficient: how linear the relation of two lists is, in `-1..=1`.
///
/// `sum (x - mean x)(y - mean y) / sqrt(sum (x - mean x)^2 * sum (y - mean y)^2)`
///
/// # Errors
/// [`ErrorKind::Correlation`] if the lists differ in length or have fewer than two values, if a value is not finite, or
/// if a list is constant, for which scipy returns NaN.
///
/// # Reference
/// `scipy.stats.pearsonr`
pub fn pearson(x: &[f64], y: &[f64]) -> Result<f64> {
    check(x, y)?;
    let (x, y) = (standardise("x", x)?, standardise("y", y)?);
    Ok(dot(&x, &y).clamp(-1.0, 1.0))
}

/// Spearman's rank correlation: [`pearson`] of the ranks, where equal values share their average rank.
///
/// # Errors
/// As [`pearson`].
///
/// # Reference
/// `scipy.stats.spearmanr`
pub fn spearman(x: &[f64], y: &[f64]) -> Result<f64> {
    check(x, y)?;
    pearson(&average_ranks(x), &average_ranks(y))
}

/// Kendall's rank correlation tau-b: how many pairs two lists order alike, in `-1..=1`, corrected for ties.
///
/// `(concordant - discordant) / sqrt((pairs - tied in x) * (pairs - tied in y))`
///
/// # Errors
/// As [`pearson`].
///
/// # Reference
/// `scipy.stats.kendalltau`; Knight, *A computer method for calculating Kendall's tau with ungrouped data*, 1966.
pub fn kendall(x: &[f64], y: &[f64]) -> Result<f64> {
    check(x, y)?;
    // Adding 0 turns -0 into 0, which `total_cmp` would order.
    let mut points: Vec<_> = x.iter().zip(y).map(|(x, y)| (x + 0.0, y + 0.0)).collect();
    points.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let tied_in_both = tied_pairs(&points, |a, b| a == b);
    let tied_in_x = tied_pairs(&points, |a, b| a.0 == b.0);
    let mut ranked: Vec<_> = points.iter().map(|point| point.1).collect();
    let discordant = sort_and_count(&mut ranked);
    let tied_in_y = tied_pairs(&ranked, |a, b| a == b);
    let pairs = pairs_of(x.len());
    let score = (pairs + tied_in_both - tied_in_x - tied_in_y) as f64 - 2.0 * discordant as f64;
    Ok((score / ((pairs - tied_in_x) as f64).sqrt() / ((pairs - tied_in_y) as f64).sqrt()).clamp(-1.0, 1.0))
}

fn pairs_of(number: usize) -> u64 {
    let number = number as u64;
    number * number.saturating_sub(1) / 2
}

/// The pairs of equal neighbours in a sorted list.
fn tied_pairs<T>(sorted: &[T], equal: impl Fn(&T, &T) -> bool) -> u64 {
    sorted.chunk_by(equal).map(|tied| pairs_of(tied.len())).sum()
}

/// Sorts by merging, and counts the pairs that were in descending order.
fn sort_and_count(values: &mut [f64]) -> u64 {
    if values.len() < 2 {
        return 0;
    }
    let (left, right) = values.split_at_mut(values.len() / 2);
    let mut descending = sort_and_count(left) + sort_and_count(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let mut taken = 0;
    for &value in &*right {
        let smaller = left[taken..].iter().take_while(|other| **other <= value).count();
        merged.extend_from_slice(&left[taken..taken + smaller]);
        taken += smaller;
        descending += (left.len() - taken) as u64;
        merged.push(value);
    }
    merged.extend_from_slice(&left[taken..]);
    values.copy_from_slice(&merged);
    descending
}

fn check(x: &[f64], y: &[f64]) -> Result<()> {
    if x.len() != y.len() {
        return Err(undefined(format!("x has {} values, y has {}", x.len(), y.len())));
    }
    if x.len() < 2 {
        return Err(undefined(format!("a correlation needs at least 2 values, found {}", x.len())));
    }
    for (name, values) in [("x", x), ("y", y)] {
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(undefined(format!("{name}[{index}] is {}, not a finite number", values[index])));
        }
        if values.iter().all(|value| *value == values[0]) {
            return Err(undefined(format!("{name} is constant: all {} values are {}", values.len(), values[0])));
        }
    }
    Ok(())
}

/// The values minus their mean, scaled to length 1.
fn standardise(name: &str, values: &[f64]) -> Result<Vec<f64>> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let mut deviations: Vec<_> = values.iter().map(|value| value - mean).collect();
    // Scaled by the largest first, as in scipy, so that no square overflows or underflows.
    let largest = deviations.iter().fold(0.0_f64, |largest, deviation| largest.max(deviation.abs()));
    if !largest.is_normal() {
        return Err(undefined(format!("the spread of {name} is too large or too small for f64")));
    }
    deviations.iter_mut().for_each(|deviation| *deviation /= largest);
    let length = dot(&deviations, &deviations).sqrt();
    deviations.iter_mut().for_each(|deviation| *deviation /= length);
    Ok(deviations)
}

/// Ranks from 1, ascending; equal values share their average rank.
fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<_> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let average = before as f64 + (equal.len() + 1) as f64 / 2.0;
        equal.iter().for_each(|&index| ranks[index] = average);
        before += equal.len();
    }
    ranks
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn undefined(message: String) -> Error {
    Error::new(ErrorKind::Correlation, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_correlates_fully_at_any_scale() {
        let x = [1.0, 2.0, 4.0];
        for scale in [1e-300, 1.0, 1e300] {
            let rising = x.map(|value| scale * value);
            let falling = x.map(|value| scale * (3.0 - value));
            approx::assert_abs_diff_eq!(pearson(&x, &rising).unwrap(), 1.0, epsilon = 1e-12);
            approx::assert_abs_diff_eq!(pearson(&x, &falling).unwrap(), -1.0, epsilon = 1e-12);
        }
        approx::assert_abs_diff_eq!(spearman(&x, &[1.0, 10.0, 100.0]).unwrap(), 1.0, epsilon = 1e-12);
    }

    #[test]
    fn equal_values_share_their_average_rank() {
        assert_eq!(average_ranks(&[0.5, 0.1, 0.5, 0.9, 0.5]), [3.0, 1.0, 3.0, 5.0, 3.0]);
        assert_eq!(average_ranks(&[0.0, -0.0, 1.0]), [1.5, 1.5, 3.0]);
    }

    #[test]
    fn undefined_correlations_are_errors() {
        let cases: [(&[f64], &[f64], &str); 7] = [
            (&[1.0, 2.0], &[1.0], "x has 2 values, y has 1"),
            (&[], &[], "a correlation needs at least 2 values, found 0"),
            (&[1.0], &[1.0], "a correlation needs at least 2 values, found 1"),
            (&[1.0, f64::NAN], &[1.0, 2.0], "x[1] is NaN, not a finite number"),
            (&[1.0, 2.0], &[f64::INFINITY, 2.0], "y[0] is inf, not a finite number"),
            (&[0.1; 7], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "x is constant: all 7 values are 0.1"),
            (&[1.0, 2.0, 3.0], &[5.0; 3], "y is constant: all 3 values are 5"),
        ];
        for (x, y, message) in cases {
            for correlation in [pearson, spearman] {
                let error = correlation(x, y).unwrap_err();
                assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Correlation, message));
            }
        }
        let error = pearson(&[f64::MAX, f64::MAX, 0.0], &[1.0, 2.0, 3.0]).unwrap_err();
        assert_eq!(error.to_string(), "the spread of x is too large or too small for f64");
    }
}
