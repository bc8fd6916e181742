//! A coefficient with its standard error and its intervals.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::options::IntervalOptions;
use super::resample::bootstrap;
use crate::error::{Error, ErrorKind, Result};
use crate::stats::Interval;

/// A coefficient of agreement, estimated from ratings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Estimate {
    /// The coefficient, at most 1.
    pub value: f64,
    /// The units that can agree: those with at least two ratings.
    pub units: u64,
    /// The raters of the table.
    pub raters: usize,
    /// The standard error by the general variance, which supposes neither independence nor any value of the coefficient.
    /// `None` for a single such unit.
    pub standard_error: Option<f64>,
    /// Student's interval with `units - 1` degrees of freedom around the value, cut off at 1.
    pub interval: Option<Interval>,
    /// The percentile interval over resampled units. `None` without resamples.
    pub bootstrap: Option<Interval>,
    /// Resamples for which the coefficient is undefined; the bootstrap interval is of the others.
    pub undefined_resamples: usize,
}

/// A coefficient as a function of the counts of a table's rows.
pub(super) trait Statistic: Sync {
    /// The rows' numbers of units.
    fn counts(&self) -> &[u64];

    /// The number of units with at least two ratings.
    fn units(&self) -> u64 {
        self.counts().iter().sum()
    }

    /// # Errors
    /// [`ErrorKind::Agreement`] if the coefficient is undefined.
    fn value(&self, counts: &[f64]) -> Result<f64>;

    /// The change of the value per unit of each row, times the number of units, to first order: the value's variance is
    /// that of the mean of these over all units.
    fn influences(&self, counts: &[f64], value: f64) -> Vec<f64>;
}

pub(super) fn estimate(statistic: &impl Statistic, raters: usize, options: &IntervalOptions) -> Result<Estimate> {
    options.check()?;
    let (counts, units) = (statistic.counts(), statistic.units());
    let numbers: Vec<f64> = counts.iter().map(|count| *count as f64).collect();
    let value = statistic.value(&numbers)?;
    let standard_error = (units > 1).then(|| {
        let influences = statistic.influences(&numbers, value);
        let squares: f64 = numbers.iter().zip(influences).map(|(count, influence)| count * influence.powi(2)).sum();
        (squares * units as f64 / (units - 1) as f64).sqrt() / numbers.iter().sum::<f64>()
    });
    let interval = standard_error.map(|error| {
        let Interval { low, high } = students_interval(value, error, (units - 1) as f64, options.level);
        Interval { low, high: high.min(1.0) }
    });
    let of_resample = |counts: &[Vec<f64>]| statistic.value(&counts[0]).ok();
    let (bootstrap, undefined_resamples) = bootstrap(&[counts], options, of_resample);
    Ok(Estimate { value, units, raters, standard_error, interval, bootstrap, undefined_resamples })
}

/// The interval of a value by Student's distribution.
pub(super) fn students_interval(value: f64, standard_error: f64, freedom: f64, level: f64) -> Interval {
    let reach =
        if standard_error == 0.0 { 0.0 } else { students_quantile((1.0 + level) / 2.0, freedom) * standard_error };
    Interval { low: value - reach, high: value + reach }
}

fn students_quantile(share: f64, freedom: f64) -> f64 {
    // Never refused for a positive number of degrees of freedom.
    StudentsT::new(0.0, 1.0, freedom).map_or(f64::NAN, |t| t.inverse_cdf(share))
}

/// An undefined coefficient.
pub(super) fn undefined(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Agreement, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_quantiles_equal_scipy() {
        // scipy.stats.t.ppf(0.975, freedom) of scipy 1.17
        for (freedom, quantile) in [(1.0, 12.706204736174694), (3.0, 3.1824463052837078), (6.0, 2.4469118511449786)] {
            approx::assert_relative_eq!(students_quantile(0.975, freedom), quantile, max_relative = 1e-12);
        }
    }
}
