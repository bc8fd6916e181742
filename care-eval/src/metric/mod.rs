//! Each metric as a plain function of a ranked list of grades, for one query.
//!
//! ```
//! use std::num::NonZeroUsize;
//! use care_eval::metric::{average_precision, ndcg};
//!
//! let ranked = [0, 2, 1]; // grades of the retrieved documents, best first
//! let judged = [2, 1, 0]; // all grades of the query
//! assert_eq!(average_precision(&ranked, 2, None), (1.0 / 2.0 + 2.0 / 3.0) / 2.0);
//! assert!(ndcg(&ranked, &judged, NonZeroUsize::new(10)) < 1.0);
//! ```

// A new metric is a file here, a variant of `Measure`, and its mean over ties in `expected.rs`.
mod average_precision;
mod expected;
mod ndcg;
mod precision;
mod r_precision;
mod recall;
mod reciprocal_rank;
mod success;

use std::num::NonZeroUsize;

pub use average_precision::average_precision;
pub(crate) use expected::Expected;
pub use ndcg::ndcg;
pub use precision::precision;
pub use r_precision::r_precision;
pub use recall::recall;
pub use reciprocal_rank::reciprocal_rank;
pub use success::success;

/// The first `cutoff` grades; all without one.
fn top(grades: &[i32], cutoff: Option<NonZeroUsize>) -> &[i32] {
    let len = cutoff.map_or(grades.len(), |cutoff| grades.len().min(cutoff.get()));
    &grades[..len]
}

/// Number of relevant documents among the first `cutoff`.
fn hits(ranked: &[i32], cutoff: NonZeroUsize) -> usize {
    top(ranked, Some(cutoff)).iter().filter(|grade| **grade > 0).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const K: NonZeroUsize = NonZeroUsize::new(2).unwrap();

    #[test]
    fn a_ranking_worked_by_hand() {
        let ranked = [0, 2, -1, 1];
        let judged = [-1, 1, 2, 3];
        let log = f64::log2;
        let ideal = 3.0 + 2.0 / log(3.0) + 1.0 / log(4.0);
        assert_eq!(ndcg(&ranked, &judged, None), (2.0 / log(3.0) + 1.0 / log(5.0)) / ideal);
        assert_eq!(ndcg(&ranked, &judged, Some(K)), 2.0 / log(3.0) / (3.0 + 2.0 / log(3.0)));
        assert_eq!(average_precision(&ranked, 3, None), (1.0 / 2.0 + 2.0 / 4.0) / 3.0);
        assert_eq!(average_precision(&ranked, 3, Some(K)), (1.0 / 2.0) / 3.0);
        assert_eq!(reciprocal_rank(&ranked, None), 1.0 / 2.0);
        assert_eq!(reciprocal_rank(&ranked, NonZeroUsize::new(1)), 0.0);
        assert_eq!(recall(&ranked, 3, K), 1.0 / 3.0);
        assert_eq!(precision(&ranked, K), 1.0 / 2.0);
        assert_eq!(precision(&[1], K), 1.0 / 2.0, "a short list is not excused");
        assert_eq!(success(&ranked, K), 1.0);
        assert_eq!(r_precision(&ranked, 3), 1.0 / 3.0);
        assert_eq!(r_precision(&[1], 2), 1.0 / 2.0);
    }

    #[test]
    fn nothing_retrieved_or_nothing_relevant_is_a_positive_zero() {
        for (ranked, judged) in [(&[][..], &[1][..]), (&[0, 0], &[0, -1]), (&[], &[])] {
            for name in ["ndcg", "map", "mrr", "recall@2", "precision@2", "success@2", "rprec"] {
                let score = name.parse::<crate::Measure>().unwrap().score(ranked, judged);
                assert_eq!(score.to_bits(), 0.0_f64.to_bits(), "{name} of {ranked:?}");
                let measure: crate::Measure = name.parse().unwrap();
                let expected = measure.expected_score(ranked, &vec![1; ranked.len()], judged);
                assert_eq!(expected.to_bits(), 0.0_f64.to_bits(), "expected {name} of {ranked:?}");
            }
        }
    }
}
