//! Correlations, for semantic textual similarity.

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
