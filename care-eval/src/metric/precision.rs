use std::num::NonZeroUsize;

use super::hits;

/// Precision: the share of relevant documents among the first `cutoff`.
///
/// `precision@k = hits@k / k`, even if fewer than k documents were retrieved. `ranked` are the grades of the retrieved
/// documents, best first.
///
/// # Reference
/// trec_eval's `P`.
pub fn precision(ranked: &[i32], cutoff: NonZeroUsize) -> f64 {
    hits(ranked, cutoff) as f64 / cutoff.get() as f64
}
