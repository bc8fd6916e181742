//! False negatives among the hard negatives of training rows: found by scores, or by verdicts that come from elsewhere
//! (LLM judges, see `care_label::clean`), and dropped or made positives.
//!
//! Every negative gets a [`Verdict`] by stated rules. A negative without a score is [`Verdict::Unknown`], never clean in
//! silence: [`Unknown`] says what becomes of it.

mod agreement;
mod limits;
mod options;
mod report;
mod row;
mod rows;
mod score;
mod verdict;
mod write;

pub use agreement::Agreement;
pub use limits::{Against, Limits};
pub use options::{CleanOptions, Mode, Unknown};
pub use report::{Report, RuleCount};
pub use row::{Item, Row};
pub use rows::{Inspected, Reading, for_each_inspected};
pub use score::{Scorer, Scores};
pub use verdict::{Finding, IS_POSITIVE, IS_QUERY, Verdict};
pub use write::{Inspect, clean_rows};
