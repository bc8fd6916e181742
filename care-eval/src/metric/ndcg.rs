use std::num::NonZeroUsize;

use super::top;

/// Normalised discounted cumulative gain: how close the ranking is to the ideal one.
///
/// `nDCG@k = DCG@k / ideal DCG@k`, where `DCG@k` is the sum of `gain / log2(rank + 1)` over the ranks `1..=k`; 0 if no
/// document is relevant. A gain is the grade, or 0 for a negative grade. The ideal ranking is all `judged` documents,
/// best first.
///
/// `ranked` are the grades of the retrieved documents, best first, 0 if unjudged; `judged` are all grades of the query,
/// in any order.
///
/// # Reference
/// Järvelin and Kekäläinen, *Cumulated gain-based evaluation of IR techniques*, TOIS 2002, with the discount and the
/// linear gain of trec_eval's `ndcg_cut` and `ndcg`.
pub fn ndcg(ranked: &[i32], judged: &[i32], cutoff: Option<NonZeroUsize>) -> f64 {
    let best = ideal_dcg(judged, cutoff);
    if best == 0.0 { 0.0 } else { dcg(top(ranked, cutoff)) / best }
}

/// The DCG of all judged documents, best first.
pub(super) fn ideal_dcg(judged: &[i32], cutoff: Option<NonZeroUsize>) -> f64 {
    let mut ideal = judged.to_vec();
    ideal.sort_unstable_by(|a, b| b.cmp(a));
    dcg(top(&ideal, cutoff))
}

fn dcg(grades: &[i32]) -> f64 {
    // Not `sum`, which starts from -0.0, so an empty ranking would score -0.0.
    grades
        .iter()
        .zip(2_u32..)
        .fold(0.0, |sum, (&grade, rank_plus_one)| sum + f64::from(grade.max(0)) / f64::from(rank_plus_one).log2())
}
