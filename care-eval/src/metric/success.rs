use std::num::NonZeroUsize;

use super::hits;

/// Success: 1 if a relevant document is among the first `cutoff`, else 0. Also called hit rate.
///
/// `ranked` are the grades of the retrieved documents, best first.
///
/// # Reference
/// trec_eval's `success`.
pub fn success(ranked: &[i32], cutoff: NonZeroUsize) -> f64 {
    if hits(ranked, cutoff) > 0 { 1.0 } else { 0.0 }
}
