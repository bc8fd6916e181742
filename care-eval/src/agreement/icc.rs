//! Intraclass correlations.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, FisherSnedecor};

use super::estimate::undefined;
use super::options::IntervalOptions;
use super::ratings::Ratings;
use super::resample::bootstrap;
use crate::error::{Error, Result};
use crate::stats::Interval;

/// A form of the intraclass correlation, in the notation of McGraw and Wong.
///
/// # Reference
/// Shrout and Fleiss, *Intraclass correlations*, 1979 (their names are in brackets); McGraw and Wong, *Forming inferences
/// about some intraclass correlation coefficients*, 1996.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Icc {
    /// One-way: each unit has other raters; the reliability of one rating [ICC(1,1)].
    #[serde(rename = "icc1")]
    OneWay,
    /// Two-way, absolute agreement: raters are a sample, and their different means count; of one rating [ICC(2,1)].
    #[serde(rename = "icc_a1")]
    Agreement,
    /// Two-way, consistency: different means of raters do not count; of one rating [ICC(3,1)].
    #[serde(rename = "icc_c1")]
    Consistency,
    /// [`OneWay`](Self::OneWay) of the mean of all raters [ICC(1,k)].
    #[serde(rename = "icc1k")]
    OneWayMean,
    /// [`Agreement`](Self::Agreement) of the mean of all raters [ICC(2,k)].
    #[serde(rename = "icc_ak")]
    AgreementMean,
    /// [`Consistency`](Self::Consistency) of the mean of all raters [ICC(3,k)].
    #[serde(rename = "icc_ck")]
    ConsistencyMean,
}

impl Icc {
    /// Every form.
    pub const ALL: &[Self] = &[
        Self::OneWay,
        Self::Agreement,
        Self::Consistency,
        Self::OneWayMean,
        Self::AgreementMean,
        Self::ConsistencyMean,
    ];

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneWay => "icc1",
            Self::Agreement => "icc_a1",
            Self::Consistency => "icc_c1",
            Self::OneWayMean => "icc1k",
            Self::AgreementMean => "icc_ak",
            Self::ConsistencyMean => "icc_ck",
        }
    }

    /// The correlation of a table of ratings. Units with a missing rating are left out.
    ///
    /// # Errors
    /// [`ErrorKind::Agreement`](crate::ErrorKind::Agreement) if the correlation is undefined: fewer than two units or two
    /// raters, or no variance between units and within them.
    /// [`ErrorKind::Setting`](crate::ErrorKind::Setting) if the level of `options` is not in `(0, 1)`.
    ///
    /// # Reference
    /// Values and intervals as `pingouin.intraclass_corr`.
    pub fn estimate(self, ratings: &Ratings, options: &IntervalOptions) -> Result<IccEstimate> {
        options.check()?;
        let lowest = ratings.categories().first().copied().unwrap_or(0.0);
        // From the lowest category, so that no digits are lost to a common distance from 0.
        let shifted =
            |row: Vec<Option<f64>>| row.into_iter().map(|rating| Some(rating? - lowest)).collect::<Option<Vec<_>>>();
        let complete = |(row, count)| Some((shifted(row)?, count));
        let (rows, counts): (Vec<Vec<f64>>, Vec<u64>) = ratings.patterns().filter_map(complete).unzip();
        let (units, raters): (u64, _) = (counts.iter().sum(), ratings.raters());
        if units < 2 || raters < 2 {
            let message = "an intraclass correlation needs 2 raters and 2 units that all have rated";
            return Err(undefined(format!("{message}, found {raters} and {units}")));
        }
        let numbers: Vec<f64> = counts.iter().map(|count| *count as f64).collect();
        let range = rows.iter().flatten().copied().fold(0.0, f64::max);
        let mean_squares = |counts: &[f64]| MeanSquares::of(&rows, counts, raters, range);
        let squares = mean_squares(&numbers);
        let value = self.value(&squares).ok_or_else(|| undefined("the ratings have no variance"))?;
        let (f, df1, df2) = self.test(&squares);
        let p_value = fisher(df1, df2).map_or(f64::NAN, |fisher| if f.is_finite() { fisher.sf(f) } else { 0.0 });
        let interval = self.interval(&squares, value, options.level);
        let interval = Some(interval).filter(|interval| interval.low.is_finite() && interval.high.is_finite());
        let of_resample = |counts: &[Vec<f64>]| self.value(&mean_squares(&counts[0]));
        let (bootstrap, undefined_resamples) = bootstrap(&[&counts], options, of_resample);
        Ok(IccEstimate { value, units, raters, f, df1, df2, p_value, interval, bootstrap, undefined_resamples })
    }

    fn value(self, squares: &MeanSquares) -> Option<f64> {
        let MeanSquares { n, k, between, within, raters, residual } = *squares;
        let (above, below) = match self {
            Self::OneWay => (between - within, between + (k - 1.0) * within),
            Self::Agreement => (between - residual, between + (k - 1.0) * residual + k * (raters - residual) / n),
            Self::Consistency => (between - residual, between + (k - 1.0) * residual),
            Self::OneWayMean => (between - within, between),
            Self::AgreementMean => (between - residual, between + (raters - residual) / n),
            Self::ConsistencyMean => (between - residual, between),
        };
        Some(above / below).filter(|value| value.is_finite())
    }

    /// The F statistic against a correlation of 0, and its degrees of freedom.
    fn test(self, squares: &MeanSquares) -> (f64, f64, f64) {
        let MeanSquares { n, k, between, within, residual, .. } = *squares;
        match self {
            Self::OneWay | Self::OneWayMean => (between / within, n - 1.0, n * (k - 1.0)),
            _ => (between / residual, n - 1.0, (n - 1.0) * (k - 1.0)),
        }
    }

    fn interval(self, squares: &MeanSquares, value: f64, level: f64) -> Interval {
        let MeanSquares { n, k, between, raters, residual, .. } = *squares;
        let quantile = |df1, df2| fisher(df1, df2).map_or(f64::NAN, |f| f.inverse_cdf((1.0 + level) / 2.0));
        let of_mean = |single: f64| single * k / (1.0 + single * (k - 1.0));
        match self {
            Self::OneWay | Self::Consistency | Self::OneWayMean | Self::ConsistencyMean => {
                let (f, df1, df2) = self.test(squares);
                let (low, high) = (f / quantile(df1, df2), f * quantile(df2, df1));
                let of = |f: f64| match self {
                    Self::OneWay | Self::Consistency => (f - 1.0) / (f + k - 1.0),
                    _ => 1.0 - 1.0 / f,
                };
                Interval { low: of(low), high: of(high) }
            }
            Self::Agreement => {
                let f = raters / residual;
                let rest = n * (1.0 + (k - 1.0) * value) - k * value;
                let freedom = (n - 1.0) * (k - 1.0) * (k * value * f + rest).powi(2)
                    / ((n - 1.0) * (k * value * f).powi(2) + rest * rest);
                let (low, high) = (quantile(n - 1.0, freedom), quantile(freedom, n - 1.0));
                let other = k * raters + (k * n - k - n) * residual;
                Interval {
                    low: n * (between - low * residual) / (low * other + n * between),
                    high: n * (high * between - residual) / (other + n * high * between),
                }
            }
            Self::AgreementMean => {
                let single = Self::Agreement.value(squares).unwrap_or(f64::NAN);
                let Interval { low, high } = Self::Agreement.interval(squares, single, level);
                Interval { low: of_mean(low), high: of_mean(high) }
            }
        }
    }
}

impl fmt::Display for Icc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Icc {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().copied().find(|icc| icc.name() == name);
        found.ok_or_else(|| Error::setting("icc", "intraclass correlation", name, Self::ALL))
    }
}

/// An intraclass correlation, estimated from ratings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct IccEstimate {
    /// The correlation, at most 1.
    pub value: f64,
    /// The units used: those that all have rated.
    pub units: u64,
    /// The raters of the table.
    pub raters: usize,
    /// The F statistic against a correlation of 0; infinite if raters agree fully.
    pub f: f64,
    /// Degrees of freedom of the numerator of `f`.
    pub df1: f64,
    /// Degrees of freedom of the denominator of `f`.
    pub df2: f64,
    /// The probability of an `f` at least as large if the correlation is 0.
    pub p_value: f64,
    /// The interval by the F distribution, for normally distributed ratings. `None` if raters agree fully.
    pub interval: Option<Interval>,
    /// The percentile interval over resampled units. `None` without resamples.
    pub bootstrap: Option<Interval>,
    /// Resamples for which the correlation is undefined; the bootstrap interval is of the others.
    pub undefined_resamples: usize,
}

/// The analysis of variance of units and raters.
struct MeanSquares {
    /// Units.
    n: f64,
    /// Raters.
    k: f64,
    between: f64,
    within: f64,
    raters: f64,
    residual: f64,
}

impl MeanSquares {
    /// `range` is that of all ratings.
    fn of(rows: &[Vec<f64>], counts: &[f64], raters: usize, range: f64) -> Self {
        let (n, k) = (counts.iter().sum::<f64>(), raters as f64);
        let mut columns = vec![0.0; raters];
        for (row, count) in rows.iter().zip(counts) {
            columns.iter_mut().zip(row).for_each(|(sum, rating)| *sum += count * rating / n);
        }
        let mean = columns.iter().sum::<f64>() / k;
        let (mut between, mut within, mut residual) = (0.0, 0.0, 0.0);
        for (row, count) in rows.iter().zip(counts) {
            let unit = row.iter().sum::<f64>() / k;
            between += count * (unit - mean).powi(2);
            within += count * row.iter().map(|rating| (rating - unit).powi(2)).sum::<f64>();
            let residuals = row.iter().zip(&columns).map(|(rating, column)| (rating - unit - column + mean).powi(2));
            residual += count * residuals.sum::<f64>();
        }
        let of_raters = n * columns.iter().map(|column| (column - mean).powi(2)).sum::<f64>();
        // What rounding leaves of a mean square of 0.
        let square = |sum: f64, freedom: f64| if sum <= 1e-24 * n * range * range { 0.0 } else { sum / freedom };
        Self {
            n,
            k,
            between: square(k * between, n - 1.0),
            within: square(within, n * (k - 1.0)),
            raters: square(of_raters, k - 1.0),
            residual: square(residual, (n - 1.0) * (k - 1.0)),
        }
    }
}

fn fisher(df1: f64, df2: f64) -> Option<FisherSnedecor> {
    FisherSnedecor::new(df1, df2).ok()
}
