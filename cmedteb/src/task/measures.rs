//! The measures that are reported for a kind of task; the first is its main score.

use std::num::NonZeroUsize;

use care_core::{Error, Result};
use care_eval::Measure;

/// A cut-off, which is never 0.
const fn at(k: usize) -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(k - 1)
}

/// Of a retrieval task.
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

/// Of a reranking task. `map@1000`, the whole list, is the main score of mteb's own reranking tasks.
pub(crate) const RERANKING_MEASURES: [Measure; 4] =
    [Measure::Map(Some(at(10))), Measure::Map(Some(at(1000))), Measure::Mrr(Some(at(10))), Measure::Ndcg(Some(at(10)))];

/// The measure of a name such as `ndcg@10`, if it is one of those that are reported.
///
/// # Errors
/// If it is not; the message lists them.
pub(super) fn one_of(measures: &[Measure], name: &str) -> Result<Measure> {
    let found = measures.iter().find(|measure| measure.to_string() == name);
    found.copied().ok_or_else(|| {
        let allowed: Vec<String> = measures.iter().map(Measure::to_string).collect();
        Error::setting("main_score", format!("{name:?}"), &allowed.join(", "))
    })
}
