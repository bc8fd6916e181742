//! The reported measures of each kind of task; the first is the default main score.

use std::num::NonZeroUsize;

use care_core::{Error, Result};
use care_eval::Measure;

/// A cut-off, >= 1.
const fn at(k: usize) -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(k - 1)
}

/// Measures of a retrieval task.
pub(crate) const RETRIEVAL_MEASURES: [Measure; 13] = [
    Measure::Ndcg(Some(at(10))),
    Measure::Ndcg(Some(at(1))),
    Measure::Ndcg(Some(at(3))),
    Measure::Ndcg(Some(at(5))),
    Measure::Ndcg(Some(at(20))),
    Measure::Ndcg(Some(at(100))),
    Measure::Map(Some(at(10))),
    Measure::Map(Some(at(100))),
    Measure::Mrr(Some(at(10))),
    Measure::Recall(at(10)),
    Measure::Recall(at(100)),
    Measure::Precision(at(10)),
    Measure::Precision(at(1)),
];

/// Measures of a reranking task. `map@1000`, over the whole list, is the main score of mteb's own reranking tasks.
pub(crate) const RERANKING_MEASURES: [Measure; 4] =
    [Measure::Map(Some(at(10))), Measure::Map(Some(at(1000))), Measure::Mrr(Some(at(10))), Measure::Ndcg(Some(at(10)))];

/// The reported measure with this name, e.g. `ndcg@10`.
///
/// # Errors
/// If it is not among `measures`; the message lists them.
pub(super) fn one_of(measures: &[Measure], name: &str) -> Result<Measure> {
    let found = measures.iter().find(|measure| measure.to_string() == name);
    found.copied().ok_or_else(|| {
        let allowed: Vec<String> = measures.iter().map(Measure::to_string).collect();
        Error::setting("main_score", format!("{name:?}"), &allowed.join(", "))
    })
}
