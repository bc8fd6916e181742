//! Several rankings as one.

use std::collections::HashMap;

use care_core::index::Hit;

use crate::hybrid;

/// The documents of several rankings by reciprocal rank, as [`Fusion::reciprocal_rank`](hybrid::Fusion::reciprocal_rank)
/// of any number of them. Equal sums are in the order of the documents' numbers.
pub(super) fn reciprocal_rank(rankings: &[&[Hit]], depth: usize) -> Vec<usize> {
    let mut sums: HashMap<usize, f64> = HashMap::new();
    for ranking in rankings {
        for (rank, hit) in ranking.iter().enumerate() {
            *sums.entry(hit.index).or_default() += hybrid::reciprocal_rank(rank + 1);
        }
    }
    let mut fused: Vec<(usize, f64)> = sums.into_iter().collect();
    fused.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    fused.into_iter().take(depth).map(|(document, _)| document).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_rankings_have_is_before_what_one_has() {
        let ranking =
            |documents: &[usize]| documents.iter().map(|&index| Hit { index, score: 0.0 }).collect::<Vec<_>>();
        let (a, b) = (ranking(&[7, 3, 5]), ranking(&[4, 5]));
        // 5: 1/63 + 1/62; 4 and 7: 1/61; 3: 1/62.
        assert_eq!(reciprocal_rank(&[&a, &b], 10), [5, 4, 7, 3]);
        assert_eq!(reciprocal_rank(&[&a, &b], 2), [5, 4]);
        assert_eq!(reciprocal_rank(&[&a], 10), [7, 3, 5]);
    }
}
