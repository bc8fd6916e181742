//! Retrieval metrics that agree with trec_eval.
//!
//! A retrieval system answers queries with scored documents: a [`Run`]. Assessors have judged some documents for each
//! query: the [`Qrels`]. An [`Evaluator`] compares the two and returns an [`Evaluation`]: the mean of each [`Measure`],
//! its value for each query, and the conventions behind them.
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
//! # Conventions
//!
//! Two correct programs can report different numbers for the same run, because four questions have no single answer.
//! The defaults are those of trec_eval. The first two are settings, and an evaluation records them.
//!
//! - **Which of two equal scores ranks first?** [`Ties`]. It matters more than it seems: on lists with many ties the
//!   choice moves MAP@10 from 0.52 to 0.63. [`Ties::Expected`] chooses none and averages over every order. Scores are
//!   `f32`, as in trec_eval 9, so scores that are equal as `f32` are tied.
//! - **How does a judged query count that the run does not answer?** [`Missing`]: it is left out of the mean, or scores
//!   0.
//! - **What is a gain?** The grade itself, not `2^grade - 1`; negative grades count as 0.
//! - **What does MAP@k divide by?** By the number of relevant documents, not by `min(k, relevant)`.
//!
//! A judged query without a relevant document scores 0. Queries of the run without judgements are ignored.
//!
//! # Modules
//!
//! - [`io`] reads and writes TREC, BEIR and JSON files.
//! - [`metric`] has each metric as a plain function of a ranked list of grades.
//! - [`stats`] has bootstrap confidence intervals, paired significance tests, and the correlations that measure semantic
//!   textual similarity.
//! - [`agreement`] has coefficients of agreement between raters, and corrects labels of a machine by a sample that experts
//!   have checked.
//! - [`reciprocal_rank_fusion`] combines several runs.
//!
//! A reranking list (positives and negatives with scores) is a query of a [`Run`] and its [`Qrels`].
//!
//! Deliberately absent: tensors, models, data sets, and printing.

pub mod agreement;
mod error;
mod evaluate;
mod evaluation;
mod fusion;
pub mod io;
mod measure;
pub mod metric;
mod missing;
mod qrels;
mod run;
pub mod stats;
mod ties;

pub use error::{Error, ErrorKind, Result};
pub use evaluate::Evaluator;
pub use evaluation::{Evaluation, Scores};
pub use fusion::reciprocal_rank_fusion;
pub use measure::Measure;
pub use missing::Missing;
pub use qrels::Qrels;
pub use run::Run;
pub use ties::Ties;

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
