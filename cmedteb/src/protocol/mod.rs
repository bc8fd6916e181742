//! How a model is evaluated: one protocol for each kind of task.

mod encode;
mod evaluate;
mod outcome;
mod rerank;
mod reranking;
mod retrieval;
mod settings;
mod sts;

pub use encode::Progress;
pub(crate) use evaluate::search;
pub use evaluate::{evaluate, rank};
pub use outcome::{Evidence, Outcome};
pub use rerank::{evaluate_reranked, evaluate_reranker, rerank};
pub use retrieval::score_run;
pub(crate) use retrieval::{depth, ranked, run_of, run_of_hits};
pub use settings::Protocol;
