use std::num::NonZeroUsize;

use super::top;

/// Reciprocal rank: `1 / rank` of the first relevant document; 0 if none is within the cut-off.
///
/// The mean over queries is MRR. `ranked` are the grades of the retrieved documents, best first.
///
/// # Reference
/// trec_eval's `recip_rank`, which has no cut-off; MS MARCO's MRR@10, which has one. Voorhees, *The TREC-8 question
/// answering track report*, 1999.
pub fn reciprocal_rank(ranked: &[i32], cutoff: Option<NonZeroUsize>) -> f64 {
    let first = top(ranked, cutoff).iter().position(|grade| *grade > 0);
    first.map_or(0.0, |index| 1.0 / (index + 1) as f64)
}
