//! Retrieval metrics that agree with trec_eval.
//!
//! A retrieval system answers queries with scored documents: a [`Run`]. People have judged some
//! documents for each query: the [`Qrels`]. An [`Evaluator`] puts the two together and returns an
//! [`Evaluation`]: one mean per [`Measure`], the values of each query, and the conventions they
//! were computed under.
//!
//! ```
//! use care_eval::{Evaluator, Measure, Qrels, Run};
//!
//! let qrels = Qrels::from_judgements([("cough", "d1", 2), ("cough", "d7", 1), ("fever", "d3", 1)])?;
//! let run = Run::from_scores([("cough", "d7", 0.9), ("cough", "d2", 0.8), ("fever", "d3", 0.7)])?;
//!
//! let ndcg: Measure = "ndcg@10".parse()?;
//! let evaluation = Evaluator::new([ndcg, "recall@100".parse()?]).evaluate(&qrels, &run)?;
//!
//! assert_eq!(evaluation.queries, 2);
//! assert_eq!(evaluation.per_query["fever"].get(ndcg), Some(1.0));
//! # Ok::<(), care_eval::Error>(())
//! ```
//!
//! # The conventions
//!
//! Two correct programs can print different numbers for one run, because four questions have no
//! single answer. The defaults here are trec_eval's; the two that people vary are settings, and an
//! evaluation records them.
//!
//! - **Which of two equal scores comes first?** [`Ties`], or none: the mean over every order. It matters more than it seems: on lists
//!   with many ties it moves MAP@10 from 0.52 to 0.63. Scores are `f32`, as in trec_eval 9, so
//!   equal in `f32` is a tie.
//! - **What of a judged query that the run does not answer?** [`Missing`]: left out of the mean, or
//!   counted as 0.
//! - **What is a gain?** The grade itself, not `2^grade - 1`; negative grades count as 0.
//! - **What does MAP@k divide by?** By all relevant documents, not by `min(k, relevant)`.
//!
//! A query that is judged but has no relevant document counts as 0, and queries of the run that
//! nobody judged are ignored.
//!
//! # The rest
//!
//! - Each metric is also a plain function over a ranked list of grades: [`ndcg`],
//!   [`average_precision`], [`reciprocal_rank`], [`recall`], [`precision`], [`r_precision`],
//!   [`success`].
//! - A reranking list (positives and negatives with scores) is a query of a [`Run`] and its
//!   [`Qrels`]; the evaluator serves it as it is.
//! - [`bootstrap_interval`] says how far a mean over queries is to be trusted;
//!   [`paired_randomisation_test`] and [`paired_t_test`] whether two systems differ by more than
//!   chance.
//! - [`reciprocal_rank_fusion`] makes one run of several.
//! - Semantic textual similarity is measured by [`pearson`] and [`spearman`].
//! - [`read_qrels`] and [`read_run`] read TREC, BEIR and JSON files; [`write_trec_qrels`],
//!   [`write_trec_run`], [`write_json_run`] and [`write_beir_qrels`] write them.
//!
//! Deliberately absent: tensors, models, data sets, and anything that prints.

mod beir;
mod bootstrap;
mod correlation;
mod error;
mod evaluate;
mod evaluation;
mod fusion;
mod json;
mod lines;
mod measure;
mod metric;
mod missing;
mod qrels;
mod read;
mod run;
mod significance;
mod ties;
mod trec;

pub use beir::write_beir_qrels;
pub use bootstrap::{Interval, bootstrap_interval, percentile_interval};
pub use correlation::{pearson, spearman};
pub use error::{Error, ErrorKind, Result};
pub use evaluate::Evaluator;
pub use evaluation::{Evaluation, Scores};
pub use fusion::reciprocal_rank_fusion;
pub use json::write_json_run;
pub use measure::Measure;
pub use metric::{average_precision, ndcg, precision, r_precision, recall, reciprocal_rank, success};
pub use missing::Missing;
pub use qrels::Qrels;
pub use read::{read_qrels, read_run};
pub use run::Run;
pub use significance::{PairedTest, paired_randomisation_test, paired_t_test};
pub use ties::Ties;
pub use trec::{write_trec_qrels, write_trec_run};

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
