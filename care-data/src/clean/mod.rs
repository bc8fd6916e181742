//! False negatives among the hard negatives of training rows: found by scores, or by verdicts that come from elsewhere
//! (LLM judges, see `care_label::clean`), and dropped or made positives.
//!
//! Every negative gets a [`Verdict`] by stated rules. A negative without a score is [`Verdict::Unknown`], never clean in
//! silence: [`Unknown`] says what becomes of it.
//!
//! ```
//! use care_data::clean::{CleanOptions, Limits, Mode, Scorer, clean_rows};
//!
//! # let folder = std::env::temp_dir().join(format!("care-data-clean-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let (rows, clean) = (folder.join("rows.jsonl"), folder.join("clean.jsonl"));
//! std::fs::write(&rows, r#"{"query":"q","pos":["p"],"neg":["a","b"],"pos_scores":[0.8],"neg_scores":[0.9,0.1],"n":1.0}"#)?;
//! let scorer = Scorer::new("scores", Limits::default().with_absolute_margin(0.0));
//! let options = CleanOptions::default().with_scorer(scorer).with_mode(Mode::MakePositive);
//! let report = clean_rows(&rows, &clean, None, &options, &mut |_| Ok(()), &mut Err)?;
//! assert_eq!((report.made_positive, report.unknown), (1, 0));
//! let row = r#"{"query":"q","pos":["p","a"],"neg":["b"],"pos_scores":[0.8,0.9],"neg_scores":[0.1],"n":1.0}"#;
//! assert_eq!(std::fs::read_to_string(&clean)?.trim_end(), row);
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod agreement;
mod edit;
mod fields;
mod limits;
mod options;
mod report;
mod row;
mod rows;
mod score;
mod verdict;
mod write;

pub use crate::against::Against;
pub use agreement::Agreement;
pub use fields::Item;
pub use limits::Limits;
pub use options::{CleanOptions, Mode, Unknown};
pub use report::{Report, RuleCount};
pub use row::{Row, Scores};
pub use rows::{Inspected, for_each_inspected, for_each_written_row};
pub use score::Scorer;
pub use verdict::{Finding, IS_POSITIVE, IS_QUERY, Verdict};
pub use write::{Inspect, clean_rows};
