//! How far raters agree, and what labels of a machine are worth if experts have checked a sample.
//!
//! - [`Ratings`] is a table of units and raters with missing ratings.
//! - [`Coefficient`] estimates per cent agreement, Cohen's and Fleiss' kappa, Krippendorff's alpha, Gwet's AC1 and AC2, and
//!   Brennan and Prediger's coefficient; [`Icc`] the six intraclass correlations. Each comes with a standard error by the
//!   general variance (an F-based interval for correlations) and a bootstrap interval, as [`IntervalOptions`] set.
//! - [`Confusion`] lists two raters side by side.
//! - [`ExpertSample`] corrects precision, recall, positive rate and mean of machine labels by a stratified sample that
//!   experts have checked.
//!
//! # Conventions
//!
//! - **A category is a value.** Weights go by the distance of values, never by the position in a list of categories.
//! - **A missing rating is no category** and agrees with nothing.
//! - **An undefined coefficient is an error** of kind [`ErrorKind::Agreement`](crate::ErrorKind::Agreement), neither 1 nor
//!   NaN: where all ratings are equal, agreement by chance is 1 and nothing is left to measure.
//! - **Standard errors are those of the general variance** (Gwet 2014). The variance under the hypothesis of independence,
//!   which some programs print, is for tests of that hypothesis and too small for intervals.
//!
//! Where other libraries differ among themselves is listed in `docs/agreement.md`.

mod alpha;
mod chance;
mod coefficient;
mod cohen;
mod confusion;
mod estimate;
mod expert;
mod icc;
mod options;
mod ratings;
mod resample;
mod tally;
mod weights;

pub use alpha::Level;
pub use coefficient::Coefficient;
pub use confusion::{CategoryAgreement, Confusion};
pub use estimate::Estimate;
pub use expert::{Corrected, ExpertSample};
pub use icc::{Icc, IccEstimate};
pub use options::IntervalOptions;
pub use ratings::Ratings;
pub use weights::Weights;
