//! Whether two systems differ significantly on the same queries.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::error::{Error, ErrorKind, Result};

/// The result of a paired test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PairedTest {
    /// The mean difference, second minus first.
    pub difference: f64,
    /// The probability of a difference at least this large, in either direction, if the systems do not differ.
    pub p_value: f64,
}

/// Student's paired t-test, two-sided. Equal lists have a p-value of 1.
///
/// # Errors
/// [`ErrorKind::Pairs`] if the lists differ in length or have fewer than two values, or if a value is not finite.
///
/// # Reference
/// `scipy.stats.ttest_rel`. DIFFERENCE: equal lists have p-value 1, where scipy returns NaN. Constant differences other
/// than 0 have p-value 0, as in scipy.
pub fn paired_t_test(first: &[f64], second: &[f64]) -> Result<PairedTest> {
    let differences = differences(first, second)?;
    let n = differences.len() as f64;
    let difference = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|value| (value - difference).powi(2)).sum::<f64>() / (n - 1.0);
    let p_value = if differences.iter().all(|value| *value == 0.0) {
        1.0
    } else if variance == 0.0 {
        0.0
    } else {
        let t = difference / (variance / n).sqrt();
        let undefined = |e| Error::new(ErrorKind::Pairs, "the t-test is undefined").caused_by(e);
        let distribution = StudentsT::new(0.0, 1.0, n - 1.0).map_err(undefined)?;
        2.0 * distribution.sf(t.abs())
    };
    Ok(PairedTest { difference, p_value })
}

/// Fisher's paired randomisation test, two-sided.
///
/// The p-value is the share of `samples` random exchanges of the two systems' values whose mean difference is at least
/// as large as the observed one. The observed assignment counts as one more sample, so no p-value is 0.
///
/// # Errors
/// As [`paired_t_test`].
///
/// # Reference
/// Smucker, Allan and Carterette, *A comparison of statistical significance tests for information retrieval
/// evaluation*, CIKM 2007; Phipson and Smyth 2010 for counting the observed assignment.
pub fn paired_randomisation_test(first: &[f64], second: &[f64], samples: usize, seed: u64) -> Result<PairedTest> {
    let differences = differences(first, second)?;
    let observed = differences.iter().sum::<f64>();
    // Summed in another order, the same numbers may differ in the last bits.
    let at_least = observed.abs() - 1e-12 * differences.iter().map(|value| value.abs()).sum::<f64>();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut as_large = 1;
    for _ in 0..samples {
        let mut signs = 0_u64;
        let sum = differences.iter().enumerate().fold(0.0, |sum, (index, value)| {
            if index % 64 == 0 {
                signs = rng.random();
            }
            let sign = signs & 1;
            signs >>= 1;
            if sign == 1 { sum + value } else { sum - value }
        });
        as_large += usize::from(sum.abs() >= at_least);
    }
    let p_value = as_large as f64 / (samples + 1) as f64;
    Ok(PairedTest { difference: observed / differences.len() as f64, p_value })
}

fn differences(first: &[f64], second: &[f64]) -> Result<Vec<f64>> {
    let refuse = |message: String| Err(Error::new(ErrorKind::Pairs, message));
    if first.len() != second.len() {
        return refuse(format!("{} values cannot be paired with {}", first.len(), second.len()));
    }
    if first.len() < 2 {
        return refuse(format!("a paired test needs at least 2 pairs, found {}", first.len()));
    }
    for (name, values) in [("first", first), ("second", second)] {
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return refuse(format!("value {index} of the {name} system is {}, not a finite number", values[index]));
        }
    }
    Ok(first.iter().zip(second).map(|(first, second)| second - first).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use approx::assert_abs_diff_eq;

    use super::*;

    const FIRST: [f64; 8] = [0.1, 0.5, 0.3, 0.9, 0.0, 0.4, 0.7, 0.2];
    const SECOND: [f64; 8] = [0.3, 0.4, 0.5, 1.0, 0.2, 0.4, 0.9, 0.1];

    /// The p-value over all exchanges of signs.
    fn exact(first: &[f64], second: &[f64]) -> f64 {
        let differences = differences(first, second).unwrap();
        let sum = |signs: u32| -> f64 {
            let signed = differences.iter().enumerate();
            signed.map(|(index, value)| if signs >> index & 1 == 1 { *value } else { -value }).sum()
        };
        let all = 1 << differences.len();
        let as_large = (0..all).filter(|&signs| sum(signs).abs() >= sum(all - 1).abs() - 1e-12).count();
        as_large as f64 / f64::from(all)
    }

    #[test]
    fn random_exchanges_approach_the_count_of_all_exchanges() {
        let test = paired_randomisation_test(&FIRST, &SECOND, 100_000, 7).unwrap();
        assert_abs_diff_eq!(test.difference, 0.0875, epsilon = 1e-12);
        assert_abs_diff_eq!(test.p_value, exact(&FIRST, &SECOND), epsilon = 0.005);
        assert_eq!(test, paired_randomisation_test(&FIRST, &SECOND, 100_000, 7).unwrap());
        assert_ne!(test, paired_randomisation_test(&FIRST, &SECOND, 100_000, 8).unwrap());
        let reverse = paired_randomisation_test(&SECOND, &FIRST, 100_000, 7).unwrap();
        assert_abs_diff_eq!(reverse.difference, -test.difference, epsilon = 1e-12);
    }

    #[test]
    fn equal_systems_and_constant_differences() {
        let same = paired_t_test(&FIRST, &FIRST).unwrap();
        assert_eq!((same.difference, same.p_value), (0.0, 1.0));
        assert_eq!(paired_randomisation_test(&FIRST, &FIRST, 100, 1).unwrap().p_value, 1.0);
        assert_eq!(paired_t_test(&[0.0, 0.0], &[1.0, 1.0]).unwrap().p_value, 0.0);
    }

    #[test]
    fn what_cannot_be_paired_is_refused() {
        let cases: [(&[f64], &[f64], &str); 3] = [
            (&[0.1, 0.2], &[0.1], "2 values cannot be paired with 1"),
            (&[0.1], &[0.1], "a paired test needs at least 2 pairs, found 1"),
            (&[0.1, 0.2], &[0.1, f64::NAN], "value 1 of the second system is NaN, not a finite number"),
        ];
        for (first, second, message) in cases {
            for error in [
                paired_t_test(first, second).unwrap_err(),
                paired_randomisation_test(first, second, 10, 1).unwrap_err(),
            ] {
                assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Pairs, message));
            }
        }
    }
}
