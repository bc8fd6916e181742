use std::num::NonZeroUsize;

use super::hits;

/// R-precision: the precision at as many documents as are relevant; 0 if nothing is.
///
/// `ranked` are the grades of the retrieved documents, best first; `relevant` counts the relevant
/// documents of the query, retrieved or not.
///
/// # Reference
/// trec_eval's `Rprec`.
pub fn r_precision(ranked: &[i32], relevant: usize) -> f64 {
    NonZeroUsize::new(relevant).map_or(0.0, |cutoff| hits(ranked, cutoff) as f64 / relevant as f64)
}
