//! P-values of several tests at once.

use crate::error::{Error, ErrorKind, Result};

/// Holm's correction of p-values for their number, in the given order.
///
/// Rejecting what is below 0.05 after the correction leaves a probability of at most 0.05 of rejecting anything wrongly,
/// however the tests depend on each other.
///
/// # Errors
/// [`ErrorKind::Pairs`] if a value is not in `0..=1`.
///
/// # Reference
/// Holm, *A simple sequentially rejective multiple test procedure*, 1979; `multipletests(method="holm")` of statsmodels.
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>> {
    if let Some(bad) = p_values.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        return Err(Error::new(ErrorKind::Pairs, format!("p-value {bad} is not in 0..=1")));
    }
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let (mut corrected, mut largest) = (vec![0.0; p_values.len()], 0.0_f64);
    for (rank, place) in order.into_iter().enumerate() {
        largest = largest.max(p_values[place] * (p_values.len() - rank) as f64).min(1.0);
        corrected[place] = largest;
    }
    Ok(corrected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_p_value_is_refused() {
        for (values, bad) in [([0.5, 1.5], "1.5"), ([-0.1, 0.5], "-0.1"), ([0.1, f64::NAN], "NaN")] {
            let error = holm(&values).expect_err("no p-value");
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::Pairs, format!("p-value {bad} is not in 0..=1")));
        }
    }
}
