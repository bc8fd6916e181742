//! How a model is tested: one protocol for each kind of task, one way through the model for all.

mod encode;
mod outcome;
mod reranking;
mod retrieval;
mod sts;

use std::time::Instant;

use care_core::{Embedder, Result};

pub use encode::Progress;
pub use outcome::{Evidence, Outcome};
pub(crate) use retrieval::DEPTH;
pub use retrieval::score_run;
pub use sts::StsMode;

use crate::task::Task;
use encode::Encoding;

/// Tests a model on a task.
///
/// `sts` says which towers read the sentences of an STS task; other tasks have no such choice.
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
    sts: StsMode,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome> {
    let start = Instant::now();
    let outcome = match task {
        Task::Retrieval(task) => {
            let encoding = Encoding::new(embedder, progress, task.queries().len() + task.documents().len());
            score_run(task, retrieval::rank(task, encoding)?)?
        }
        Task::Reranking(task) => {
            let encoding = Encoding::new(embedder, progress, task.queries().len() + task.documents().len());
            reranking::evaluate(task, encoding)?
        }
        Task::Sts(task) => sts::evaluate(task, sts, Encoding::new(embedder, progress, 2 * task.pairs().len()))?,
    };
    Ok(Outcome {
        embedding_dim: Some(embedder.embedding_dim()),
        seconds: Some(start.elapsed().as_secs_f64()),
        ..outcome
    })
}
