//! Data sets to evaluate a model on, checked, with one type per kind of task.

mod corpus;
mod measures;
mod reranking;
mod retrieval;
mod sts;

pub use corpus::Corpus;
pub use reranking::{RerankingList, RerankingRow, RerankingTask};
pub use retrieval::RetrievalTask;
pub use sts::{StsMode, StsPair, StsTask};

pub(crate) use measures::{RERANKING_MEASURES, RETRIEVAL_MEASURES};

use care_core::{Error, ErrorKind, Result};

/// A data set and its kind, which determines the protocol.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// Rank a corpus for each query.
    Retrieval(RetrievalTask),
    /// Rank each query's own candidates.
    Reranking(RerankingTask),
    /// Predict how similar two sentences are.
    Sts(StsTask),
}

impl Task {
    /// The task's name, in tables and as the name of the report file.
    pub fn name(&self) -> &str {
        match self {
            Task::Retrieval(task) => task.name(),
            Task::Reranking(task) => task.name(),
            Task::Sts(task) => task.name(),
        }
    }

    /// The split of the data, e.g. `test`.
    pub fn split(&self) -> &str {
        match self {
            Task::Retrieval(task) => task.split(),
            Task::Reranking(task) => task.split(),
            Task::Sts(task) => task.split(),
        }
    }

    /// The subset of the data, e.g. a language; `default` for data that have none.
    pub fn subset(&self) -> &str {
        match self {
            Task::Retrieval(task) => &task.subset,
            Task::Reranking(task) => &task.subset,
            Task::Sts(task) => &task.subset,
        }
    }

    /// The same task with another name of its subset, which is for the report only.
    #[must_use]
    pub fn with_subset(mut self, subset: impl Into<String>) -> Self {
        let name = match &mut self {
            Task::Retrieval(task) => &mut task.subset,
            Task::Reranking(task) => &mut task.subset,
            Task::Sts(task) => &mut task.subset,
        };
        *name = subset.into();
        self
    }

    /// The same task with another of the reported measures as its main score, e.g. `recall@100`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the measure is not reported (the message lists those that are), or for an STS task, whose
    /// main score is chosen by [`Protocol::sts`](crate::Protocol::sts).
    pub fn with_main_score(self, measure: &str) -> Result<Self> {
        match self {
            Task::Retrieval(task) => task.with_main_score(measure).map(Task::Retrieval),
            Task::Reranking(task) => task.with_main_score(measure).map(Task::Reranking),
            Task::Sts(_) => Err(Error::new(ErrorKind::Config, "`main_score` applies only to retrieval and reranking")),
        }
    }

    /// The same task with [`RetrievalTask::with_ignore_identical_ids`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if `ignore` is true and the task is none of retrieval.
    pub fn with_ignore_identical_ids(self, ignore: bool) -> Result<Self> {
        match self {
            Task::Retrieval(task) => Ok(Task::Retrieval(task.with_ignore_identical_ids(ignore))),
            other if !ignore => Ok(other),
            other => {
                let message =
                    format!("`ignore_identical_ids` applies only to retrieval, which {} is not", other.name());
                Err(Error::new(ErrorKind::Config, message))
            }
        }
    }

    /// Remarks on data that may be wrong and change the scores, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        self.as_retrieval().map(RetrievalTask::warnings).unwrap_or_default()
    }

    /// The retrieval task, if it is one.
    pub fn as_retrieval(&self) -> Option<&RetrievalTask> {
        match self {
            Task::Retrieval(task) => Some(task),
            Task::Reranking(_) | Task::Sts(_) => None,
        }
    }

    /// A fingerprint of the content: ids, texts and judgements, but not the task's name. Equal data have equal
    /// fingerprints on every platform.
    pub fn fingerprint(&self) -> String {
        match self {
            Task::Retrieval(task) => task.fingerprint(),
            Task::Reranking(task) => task.fingerprint(),
            Task::Sts(task) => task.fingerprint(),
        }
        .finish()
    }
}

/// The splits to evaluate, in order of preference.
pub(crate) const SPLITS: [&str; 3] = [DEFAULT_SPLIT, "dev", "validation"];
/// The split of a file whose name specifies none.
pub(crate) const DEFAULT_SPLIT: &str = "test";
/// The subset of data that have none, as mteb names it.
pub(crate) const DEFAULT_SUBSET: &str = "default";
