//! One way through the model for all kinds of tasks.

use std::time::Instant;

use care_core::{Embedder, Result};

use super::encode::{Encoding, Progress};
use super::outcome::Outcome;
use super::retrieval::score_run;
use super::settings::Protocol;
use super::{reranking, retrieval, sts};
use crate::task::Task;

/// Tests a model on a task.
///
/// The corpus of a retrieval task goes through in groups: what stays in memory are its ids and its vectors.
///
/// `progress` is called before the first and after every further group of texts.
///
/// # Errors
/// What the model returns; [`ErrorKind::Dimension`](care_core::ErrorKind::Dimension) when it returns
/// another number or width of vectors than it promised, and
/// [`ErrorKind::NonFinite`](care_core::ErrorKind::NonFinite) when a score is NaN or all cosines of an
/// STS task are equal, so that their correlation is not defined.
pub fn evaluate(
    task: &Task,
    embedder: &dyn Embedder,
    protocol: &Protocol,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome> {
    let start = Instant::now();
    let outcome = match task {
        Task::Retrieval(task) => {
            let encoding = Encoding::new(embedder, progress, task.queries().len() + task.corpus().len());
            score_run(task, retrieval::rank(task, protocol.index, encoding)?, protocol)?
        }
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
