//! MPNet's buckets of distances, each with a bias of attention scores.

/// Number of buckets, fixed in transformers' `MPNetModel`: half of them for the keys after a query.
pub(crate) const BUCKETS: usize = 32;

/// Distances below this have a bucket each; above, two buckets share an octave.
const EXACT: usize = 8;

/// The bucket of a query at position `q` and a key at `k`, by `q - k`.
///
/// # Reference
/// Raffel et al. 2020, arXiv 1910.10683, in the form of transformers' `MPNetModel`, up to a distance of 128. There the
/// bucket of a larger distance `n` is `8 + 8 * ln(n / 8) / ln(16)`, rounded down; that is `8 + log2(n² / 64)`.
pub(crate) fn bucket(distance: isize) -> usize {
    let (side, n) = (if distance < 0 { BUCKETS / 2 } else { 0 }, distance.unsigned_abs());
    let shared = |n: usize| (EXACT + (n * n).ilog2() as usize - (EXACT * EXACT).ilog2() as usize).min(BUCKETS / 2 - 1);
    side + if n < EXACT { n } else { shared(n) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_transformers() {
        // Where a new bucket begins: computed with `MPNetEncoder.relative_position_bucket`.
        let firsts = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
        for (number, first) in firsts.into_iter().enumerate() {
            assert_eq!(bucket(first), number);
            assert_eq!(bucket(-first), if first == 0 { 0 } else { 16 + number });
            if first > 0 {
                assert_eq!(bucket(first - 1), number - 1);
            }
        }
        assert_eq!((bucket(128), bucket(100_000), bucket(-100_000)), (15, 15, 31));
    }
}
