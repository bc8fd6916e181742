//! Confidence intervals, significance tests and correlations.

mod bootstrap;
mod correlation;
mod holm;
mod significance;

pub use bootstrap::{Interval, MOST_SAMPLES, bootstrap_interval, percentile_interval};
pub use correlation::{kendall, pearson, spearman};
pub use holm::holm;
pub use significance::{PairedTest, paired_randomisation_test, paired_t_test};
