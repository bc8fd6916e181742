//! The coefficients of agreement by name.

use std::fmt;

use super::alpha::{Alpha, Level};
use super::chance::{Chance, ChanceCorrected};
use super::cohen::Cohen;
use super::estimate::{Estimate, estimate};
use super::options::IntervalOptions;
use super::ratings::Ratings;
use super::weights::Weights;
use crate::error::Result;

/// A coefficient of agreement.
///
/// All but per cent agreement are `(observed - chance) / (1 - chance)`: 1 is full agreement, 0 that of chance, and the
/// coefficients differ in what chance means. Units with a single rating count in the shares of categories of Fleiss and
/// Gwet, and nowhere else; units without a rating count nowhere.
///
/// DIFFERENCE: irrCAC's standard errors of Fleiss, Gwet, and Brennan and Prediger grow with the number of units with a
/// single rating, although the coefficient does not become less certain (`docs/agreement.md`). Here they do not; without
/// such units they are equal.
///
/// ```
/// use care_eval::agreement::{Coefficient, IntervalOptions, Level, Ratings, Weights};
///
/// let rows = [[2, 2], [0, 1], [1, 1], [0, 0], [2, 1], [0, 0]].map(|row| row.map(|grade| Some(f64::from(grade))));
/// let ratings = Ratings::from_rows(rows)?;
/// let options = IntervalOptions::default().with_resamples(200);
///
/// let kappa = Coefficient::Cohen(Weights::Quadratic).estimate(&ratings, &options)?;
/// let alpha = Coefficient::Krippendorff(Level::Ordinal).estimate(&ratings, &options)?;
/// assert!((kappa.value - 17.0 / 23.0).abs() < 1e-12);
/// assert!((alpha.value - (1.0 - 8580.0 / 36288.0)).abs() < 1e-12);
/// # Ok::<(), care_eval::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Coefficient {
    /// The mean over units of the share of pairs of ratings that agree. For two raters, the share of units on which they
    /// agree.
    PercentAgreement(Weights),
    /// Cohen's kappa of two raters ([`Ratings::select`] chooses two of several). Chance: each rater draws from their own
    /// shares of categories. Units that one has not rated are left out.
    ///
    /// # Reference
    /// Cohen 1960; weighted, Cohen 1968. Variance: Gwet 2014, as irrCAC's `CAC.conger`.
    Cohen(Weights),
    /// Fleiss' kappa of any number of ratings per unit. Chance: all raters draw from the same shares of categories.
    ///
    /// # Reference
    /// Fleiss 1971; with unequal numbers of ratings and weights, Gwet 2014, as irrCAC's `CAC.fleiss`.
    Fleiss(Weights),
    /// Krippendorff's alpha. Chance: two different ratings of all those in units with at least two ratings.
    ///
    /// # Reference
    /// Krippendorff 2011. Variance: Gwet 2014, as R's `krippen.alpha.raw`. DIFFERENCE: ordinal weights depend on the ratings,
    /// and the variance includes that.
    Krippendorff(Level),
    /// Gwet's AC1, with weights AC2. Chance: raters guess on units that are hard to rate. Unlike kappa, it stays high if
    /// nearly all units are in one category and raters agree. It depends on the number of possible categories
    /// ([`Ratings::with_categories`]).
    ///
    /// # Reference
    /// Gwet 2008, 2014, as irrCAC's `CAC.gwet`.
    Gwet(Weights),
    /// Brennan and Prediger's coefficient (Randolph's free-marginal kappa). Chance: all categories are equally likely. It
    /// depends on the number of possible categories ([`Ratings::with_categories`]).
    ///
    /// # Reference
    /// Brennan and Prediger 1981; Gwet 2014, as irrCAC's `CAC.bp`.
    BrennanPrediger(Weights),
}

impl Coefficient {
    /// The coefficient of a table of ratings, with its standard error and intervals.
    ///
    /// # Errors
    /// [`ErrorKind::Agreement`](crate::ErrorKind::Agreement) if the coefficient is undefined: no unit has two ratings, or
    /// chance agreement is 1 because all ratings are equal (per cent agreement is then 1; those of Gwet and of Brennan
    /// and Prediger are 1 if more than one category is declared). Also for Cohen's kappa unless there are 2 raters.
    /// [`ErrorKind::Rating`](crate::ErrorKind::Rating) if a category is negative on a ratio scale.
    /// [`ErrorKind::Setting`](crate::ErrorKind::Setting) if the level of `options` is not in `(0, 1)`.
    pub fn estimate(self, ratings: &Ratings, options: &IntervalOptions) -> Result<Estimate> {
        let raters = ratings.raters();
        let (weights, chance) = match self {
            Self::PercentAgreement(weights) => (weights, Chance::Ignored),
            Self::Fleiss(weights) => (weights, Chance::Shares),
            Self::Gwet(weights) => (weights, Chance::Hard),
            Self::BrennanPrediger(weights) => (weights, Chance::Uniform),
            Self::Cohen(weights) => {
                return estimate(&Cohen::new(ratings, weights)?, raters, options);
            }
            Self::Krippendorff(level) => {
                return estimate(&Alpha::new(ratings, level)?, raters, options);
            }
        };
        estimate(&ChanceCorrected::new(ratings, weights, chance)?, raters, options)
    }
}

impl fmt::Display for Coefficient {
    /// E.g. `cohen_kappa(quadratic)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PercentAgreement(weights) => write!(f, "percent_agreement({weights})"),
            Self::Cohen(weights) => write!(f, "cohen_kappa({weights})"),
            Self::Fleiss(weights) => write!(f, "fleiss_kappa({weights})"),
            Self::Krippendorff(level) => write!(f, "krippendorff_alpha({level})"),
            Self::Gwet(Weights::Identity) => f.write_str("gwet_ac1"),
            Self::Gwet(weights) => write!(f, "gwet_ac2({weights})"),
            Self::BrennanPrediger(weights) => write!(f, "brennan_prediger({weights})"),
        }
    }
}
