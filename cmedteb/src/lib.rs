#![doc = include_str!("../README.md")]

mod baseline;
mod error;
mod fingerprint;
mod loader;
pub mod mini;
mod protocol;
mod report;
mod task;
mod tasks;
#[cfg(test)]
mod testing;

pub use baseline::bm25;
pub use loader::load;
pub use protocol::{Evidence, Outcome, Progress, StsMode, evaluate, score_run};
pub use report::Report;
pub use task::{RerankingList, RerankingRow, RerankingTask, RetrievalTask, StsPair, StsTask, Task};
pub use tasks::{find, names};
