//! The evaluation of a model on a task of any kind.

use std::time::Instant;

use care_core::index::Hit;
use care_core::{Embedder, Result};
use care_eval::Run;

use super::encode::{Encoding, Progress};
use super::outcome::Outcome;
use super::retrieval::{run_of_hits, score_run};
use super::settings::Protocol;
use super::{reranking, retrieval, sts};
use crate::task::{RetrievalTask, Task};

/// Evaluates a model on a task.
///
/// The corpus of a retrieval task is encoded in groups and searched in blocks; only its ids and the best documents of
/// each query stay in memory. `progress` is called at
/// the start and after each group of texts.
///
/// # Errors
/// If the model returns an error. [`ErrorKind::Config`](care_core::ErrorKind::Config) if [`Protocol::depth`] is too small. [`ErrorKind::Dimension`](care_core::ErrorKind::Dimension) if it returns a wrong number
/// of vectors or of dimensions. [`ErrorKind::NonFinite`](care_core::ErrorKind::NonFinite) if a vector or a score is not
/// finite, or if all cosines of an STS task are equal, so that their correlation is undefined.
pub fn evaluate(
    task: &Task,
    embedder: &dyn Embedder,
    protocol: &Protocol,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome> {
    let start = Instant::now();
    let outcome = match task {
        Task::Retrieval(task) => score_run(task, rank(task, embedder, protocol, progress)?, protocol)?,
        Task::Reranking(task) => {
            let encoding = Encoding::new(embedder, progress, task.queries().len() + task.documents().len());
            reranking::evaluate(task, protocol.ties, encoding)?
        }
        Task::Sts(task) => {
            sts::evaluate(task, protocol.sts, Encoding::new(embedder, progress, 4 * task.pairs().len()))?
        }
    };
    Ok(Outcome {
        embedding_dim: Some(embedder.embedding_dim()),
        seconds: Some(start.elapsed().as_secs_f64()),
        ..outcome
    })
}

/// The best documents of each query of a retrieval task by dot product, [`Protocol::depth`] at most, without a score: the
/// task may be [`unjudged`](RetrievalTask::unjudged). `progress` is called as by [`evaluate`].
///
/// # Errors
/// As [`evaluate`].
pub fn rank(
    task: &RetrievalTask,
    embedder: &dyn Embedder,
    protocol: &Protocol,
    progress: &mut dyn FnMut(Progress),
) -> Result<Run> {
    run_of_hits(task, search(task, embedder, protocol, progress)?)
}

/// [`rank`], with documents by their places in the corpus.
pub(crate) fn search(
    task: &RetrievalTask,
    embedder: &dyn Embedder,
    protocol: &Protocol,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Vec<Hit>>> {
    retrieval::search(task, protocol, Encoding::new(embedder, progress, task.queries().len() + task.corpus().len()))
}
