use std::num::NonZeroUsize;

use super::hits;

/// Recall: the share of all relevant documents that are among the first `cutoff`.
///
/// `recall@k = hits@k / relevant`, 0 if nothing is relevant. `ranked` are the grades of the retrieved documents, best
/// first; `relevant` is the number of relevant documents of the query, retrieved or not.
///
/// # Reference
/// trec_eval's `recall`.
pub fn recall(ranked: &[i32], relevant: usize, cutoff: NonZeroUsize) -> f64 {
    if relevant == 0 { 0.0 } else { hits(ranked, cutoff) as f64 / relevant as f64 }
}
