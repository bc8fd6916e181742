//! What a model is tested on: data that have been checked, each kind with its own type.

mod corpus;
mod reranking;
mod retrieval;
mod sts;

mod measures;

pub use corpus::Corpus;
pub use reranking::{RerankingList, RerankingRow, RerankingTask};
pub use retrieval::RetrievalTask;
pub use sts::{StsMode, StsPair, StsTask};

pub(crate) use measures::{RERANKING_MEASURES, RETRIEVAL_MEASURES};

use care_core::{Error, ErrorKind, Result};

/// A data set with the protocol that it is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// Rank a corpus for each query.
    Retrieval(RetrievalTask),
    /// Rank each query's own candidates.
    Reranking(RerankingTask),
    /// Tell how similar two sentences are.
    Sts(StsTask),
}

impl Task {
    /// The name in tables and of the report's file.
    pub fn name(&self) -> &str {
        match self {
            Task::Retrieval(task) => task.name(),
            Task::Reranking(task) => task.name(),
            Task::Sts(task) => task.name(),
        }
    }

    /// The split that the data are, such as `test`.
    pub fn split(&self) -> &str {
        match self {
            Task::Retrieval(task) => task.split(),
            Task::Reranking(task) => task.split(),
            Task::Sts(task) => task.split(),
        }
    }

    /// The same task known by another of the measures that are reported, such as `recall@100`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is none of them; the message lists them. Of an STS task it is the
    /// protocol that says which way of reading counts.
    pub fn with_main_score(self, measure: &str) -> Result<Self> {
        match self {
            Task::Retrieval(task) => task.with_main_score(measure).map(Task::Retrieval),
            Task::Reranking(task) => task.with_main_score(measure).map(Task::Reranking),
            Task::Sts(_) => Err(Error::new(ErrorKind::Config, "`main_score` is for retrieval and reranking")),
        }
    }

    /// The retrieval data, if this is such a task.
    pub fn as_retrieval(&self) -> Option<&RetrievalTask> {
        match self {
            Task::Retrieval(task) => Some(task),
            Task::Reranking(_) | Task::Sts(_) => None,
        }
    }

    /// A short name for the content (ids, texts and judgements, not the task's name): equal data have
    /// equal fingerprints on every platform.
    pub fn fingerprint(&self) -> String {
        match self {
            Task::Retrieval(task) => task.fingerprint(),
            Task::Reranking(task) => task.fingerprint(),
            Task::Sts(task) => task.fingerprint(),
        }
        .finish()
    }
}

/// The splits that are evaluated, in order of preference.
pub(crate) const SPLITS: [&str; 3] = [DEFAULT_SPLIT, "dev", "validation"];
/// The split of a file that names none.
pub(crate) const DEFAULT_SPLIT: &str = "test";
