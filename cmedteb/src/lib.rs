#![doc = include_str!("../README.md")]

mod audit;
mod baseline;
mod compare;
mod error;
mod fingerprint;
mod hybrid;
mod loader;
pub mod mini;
mod protocol;
mod report;
mod results;
mod rows;
mod summary;
mod task;
mod tasks;
#[cfg(test)]
mod testing;

pub use audit::{AuditOptions, Finding, FindingKind, TrainingTexts, audit};
pub use baseline::bm25;
pub use care_data::hybrid::Fusion;
pub use care_data::table::for_each_row;
pub use compare::{Comparison, compare};
pub use error::is_undefined;
pub use hybrid::{evaluate_hybrid, hybrid};
pub use loader::{for_each_document, for_each_query, load, read_corpus, splits};
pub use protocol::{
    Evidence, Outcome, Progress, Protocol, evaluate, evaluate_reranked, evaluate_reranker, rank, rerank, score_run,
};
pub use report::{Report, Single};
pub use results::{Results, TaskResult};
pub use rows::RowId;
pub use summary::Summary;
pub use task::{Corpus, RerankingList, RerankingRow, RerankingTask, RetrievalTask, StsMode, StsPair, StsTask, Task};
pub use tasks::{Fetch, Sources, built_in_names, find, load_task_file, names, open};
