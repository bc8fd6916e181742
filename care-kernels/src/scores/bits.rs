//! Hamming distances of vectors of bits.

use super::check;
use crate::instructions::InstructionSet;
use crate::kernel::{Kernel, WithKernel};

/// Rows that are compared at once: a word of each is in one lane.
const ROWS: usize = 16;

/// The number of bits in which each query and each row differ.
///
/// # Shapes
/// `queries [q, words]`, `rows [n, words]`, `counts [q, n]`.
///
/// # Panics
/// Panics if they have other sizes.
pub fn differing_bits(queries: &[u64], rows: &[[u8; 8]], words: usize, counts: &mut [u32]) {
    check(queries.len(), rows.len(), counts.len(), [words, words]);
    let work = DifferingBits { queries, rows, words, counts };
    let set = InstructionSet::current();
    #[cfg(target_arch = "x86_64")]
    if set.name().starts_with("avx512")
        && let Some(simd) = CountsBits::try_new()
    {
        return simd.vectorize(
            #[inline(always)]
            || work.run(),
        );
    }
    set.run(work);
}

#[cfg(target_arch = "x86_64")]
pulp::simd_type! {
    /// AVX-512 with an instruction that counts bits, which [`pulp::x86::V4`] lacks.
    struct CountsBits {
        avx2: "avx2",
        avx512f: "avx512f",
        avx512bw: "avx512bw",
        avx512dq: "avx512dq",
        avx512vl: "avx512vl",
        avx512vpopcntdq: "avx512vpopcntdq",
    }
}

struct DifferingBits<'a> {
    queries: &'a [u64],
    rows: &'a [[u8; 8]],
    words: usize,
    counts: &'a mut [u32],
}

impl WithKernel for DifferingBits<'_> {
    type Output = ();

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, _simd: S) {
        self.run();
    }
}

impl DifferingBits<'_> {
    /// Plain loops over lanes, which compilers turn into vectors.
    #[inline(always)]
    fn run(self) {
        let Self { queries, rows, words, counts } = self;
        let n = rows.len() / words;
        let mut columns = vec![[0u64; ROWS]; words];
        for (block, rows) in rows.chunks(ROWS * words).enumerate() {
            for (lane, row) in rows.chunks_exact(words).enumerate() {
                for (column, word) in columns.iter_mut().zip(row) {
                    column[lane] = u64::from_le_bytes(*word);
                }
            }
            let lanes = rows.len() / words;
            for (query, counts) in queries.chunks_exact(words).zip(counts.chunks_exact_mut(n)) {
                let mut sums = [0u64; ROWS];
                for (column, query) in columns.iter().zip(query) {
                    for lane in 0..ROWS {
                        sums[lane] += u64::from((column[lane] ^ query).count_ones());
                    }
                }
                let sums = sums.map(|sum| sum as u32);
                counts[block * ROWS..][..lanes].copy_from_slice(&sums[..lanes]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_each_bit_on_every_set() {
        for (q, n, words) in [(1, 1, 1), (1, 37, 12), (5, 16, 6), (3, 33, 7), (0, 3, 2), (2, 0, 2)] {
            let word = |at: usize, salt: u64| (at as u64 + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let queries: Vec<u64> = (0..q * words).map(|at| word(at, 1)).collect();
            let rows: Vec<[u8; 8]> = (0..n * words).map(|at| word(at, 1000).to_le_bytes()).collect();
            let check = |counts: &[u32], set: &dyn std::fmt::Debug| {
                for (query, counts) in queries.chunks(words).zip(counts.chunks(n.max(1))) {
                    for (row, count) in rows.chunks(words).zip(counts) {
                        let differ = |(query, row): (&u64, &[u8; 8])| {
                            (0..64).filter(|bit| (query >> bit ^ u64::from_le_bytes(*row) >> bit) & 1 == 1).count()
                        };
                        assert_eq!(*count as usize, query.iter().zip(row).map(differ).sum::<usize>(), "{set:?}");
                    }
                }
            };
            for set in InstructionSet::available() {
                let mut counts = vec![u32::MAX; q * n];
                set.run(DifferingBits { queries: &queries, rows: &rows, words, counts: &mut counts });
                check(&counts, &set);
            }
            let mut counts = vec![u32::MAX; q * n];
            differing_bits(&queries, &rows, words, &mut counts);
            check(&counts, &"the best");
        }
    }
}
