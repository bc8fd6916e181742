//! How a model is tested: one protocol for each kind of task, one way through the model for all.

mod encode;
mod outcome;
pub(crate) mod reranking;
pub(crate) mod retrieval;
mod sts;

use std::time::Instant;

use care_core::index::VectorFormat;
use care_core::{Embedder, Result};
use care_eval::Ties;

pub use encode::Progress;
pub use outcome::{Evidence, Outcome};
pub(crate) use retrieval::DEPTH;
pub use retrieval::score_run;
pub use sts::StsMode;

use crate::task::Task;
use encode::Encoding;

/// What a protocol leaves open; by default what the field does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protocol {
    /// Which towers read the sentences of an STS task for its main score. The other ways are reported too.
    pub sts: StsMode,
    /// What counts among documents of equal scores. A retrieval task ranks 100 documents a query; which of those that
    /// tie with the hundredth are among them, the order of the corpus decides.
    pub ties: Ties,
    /// The number format of document vectors in the index of a retrieval task.
    pub index: VectorFormat,
}

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
