use std::num::NonZeroUsize;

use super::hits;

/// R-precision: the precision at the number of relevant documents; 0 if nothing is relevant.
///
/// `ranked` are the grades of the retrieved documents, best first; `relevant` is the number of relevant documents of the
/// query, retrieved or not.
///
/// # Reference
/// trec_eval's `Rprec`.
pub fn r_precision(ranked: &[i32], relevant: usize) -> f64 {
    NonZeroUsize::new(relevant).map_or(0.0, |cutoff| hits(ranked, cutoff) as f64 / relevant as f64)
}
