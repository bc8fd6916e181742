use std::num::NonZeroUsize;

use super::top;

/// Average precision: the mean of the precision at the rank of each relevant document.
///
/// `AP@k = (sum over relevant ranks r <= k of hits@r / r) / relevant`, 0 if nothing is relevant. A relevant document that
/// is not retrieved, or ranks beyond the cut-off, adds 0. The mean over queries is MAP.
///
/// `ranked` are the grades of the retrieved documents, best first; `relevant` is the number of relevant documents of the
/// query, retrieved or not. sentence-transformers divides by `min(k, relevant)` instead.
///
/// # Reference
/// trec_eval's `map` and `map_cut`; Buckley and Voorhees, *Evaluating evaluation measure stability*, SIGIR 2000.
pub fn average_precision(ranked: &[i32], relevant: usize, cutoff: Option<NonZeroUsize>) -> f64 {
    let mut hits = 0.0;
    let mut sum = 0.0;
    for (&grade, rank) in top(ranked, cutoff).iter().zip(1_u32..) {
        if grade > 0 {
            hits += 1.0;
            sum += hits / f64::from(rank);
        }
    }
    if relevant == 0 { 0.0 } else { sum / relevant as f64 }
}
