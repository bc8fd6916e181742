//! Dot products of f32 vectors.

use pulp::Simd;

use super::check;
use crate::f32_matrix::with_rows;
use crate::instructions::InstructionSet;
use crate::kernel::{Kernel, WithKernel};

/// Rows per tile.
const ROWS: usize = 4;
/// Queries of the largest tile on any instruction set.
const MOST_QUERIES: usize = 6;
/// Numbers of the rows, at least four, that stay in L1 while all queries pass.
const BLOCK: usize = 1 << 12;

/// The dot product of each query with each row. A row is read from memory once for all queries.
///
/// # Shapes
/// `queries [q, dim]`, `rows [n, dim]`, `scores [q, n]`.
///
/// # Panics
/// Panics if they have other sizes.
pub fn dot_products(queries: &[f32], rows: &[f32], dim: usize, scores: &mut [f32]) {
    check(queries.len(), rows.len(), scores.len(), [dim, dim]);
    InstructionSet::current().run(DotProducts { queries, rows, dim, scores });
}

struct DotProducts<'a> {
    queries: &'a [f32],
    rows: &'a [f32],
    dim: usize,
    scores: &'a mut [f32],
}

/// Queries per tile: as many as let the sums, a part of each query and one of a row fit into registers.
const fn tile_queries<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { MOST_QUERIES } else { 3 }
}

impl WithKernel for DotProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, simd: S) {
        let Self { queries, rows, dim, scores } = self;
        let n = rows.len() / dim;
        let block = (BLOCK / dim).next_multiple_of(ROWS).max(ROWS);
        for start in (0..n).step_by(block) {
            let rows = &rows[start * dim..(start + block).min(n) * dim];
            let tiles = queries.chunks(tile_queries::<S>() * dim).zip(scores.chunks_mut(tile_queries::<S>() * n));
            for (queries, scores) in tiles {
                with_rows!(queries.len() / dim, tile_queries::<S>(), Q => {
                    rows_of_tile::<S, Q>(simd, queries, rows, dim, &mut scores[start..], n);
                });
            }
        }
    }
}

/// Scores all rows of a block against the queries of a tile; `scores` of a query are `stride` apart.
#[inline(always)]
fn rows_of_tile<S: Kernel, const Q: usize>(
    simd: S,
    queries: &[f32],
    rows: &[f32],
    dim: usize,
    scores: &mut [f32],
    stride: usize,
) {
    let whole = rows.len() / (ROWS * dim) * ROWS;
    for (at, rows) in rows.chunks_exact(ROWS * dim).enumerate() {
        put(tile::<S, Q, ROWS>(simd, queries, rows, dim), &mut scores[at * ROWS..], stride);
    }
    for (at, row) in rows[whole * dim..].chunks_exact(dim).enumerate() {
        put(tile::<S, Q, 1>(simd, queries, row, dim), &mut scores[whole + at..], stride);
    }
}

#[inline(always)]
fn put<const Q: usize, const R: usize>(products: [[f32; R]; Q], scores: &mut [f32], stride: usize) {
    for q in 0..Q {
        scores[q * stride..][..R].copy_from_slice(&products[q]);
    }
}

#[inline(always)]
fn tile<S: Kernel, const Q: usize, const R: usize>(
    simd: S,
    queries: &[f32],
    rows: &[f32],
    dim: usize,
) -> [[f32; R]; Q] {
    let steps = dim / S::F32_LANES;
    let (mut query_parts, mut row_parts) =
        ([(&[] as &[S::f32s], &[] as &[f32]); Q], [(&[] as &[S::f32s], &[] as &[f32]); R]);
    for q in 0..Q {
        let (whole, rest) = S::as_simd_f32s(&queries[q * dim..][..dim]);
        query_parts[q] = (&whole[..steps], rest);
    }
    for r in 0..R {
        let (whole, rest) = S::as_simd_f32s(&rows[r * dim..][..dim]);
        row_parts[r] = (&whole[..steps], rest);
    }
    let mut sums = [[simd.splat_f32s(0.0); R]; Q];
    for at in 0..steps {
        // A part of each query stays in a register, of one row at a time.
        let mut queries = [simd.splat_f32s(0.0); Q];
        for q in 0..Q {
            queries[q] = query_parts[q].0[at];
        }
        for r in 0..R {
            let row = row_parts[r].0[at];
            for q in 0..Q {
                sums[q][r] = simd.add_product(queries[q], row, sums[q][r]);
            }
        }
    }
    if !dim.is_multiple_of(S::F32_LANES) {
        for q in 0..Q {
            let query = simd.partial_load_f32s(query_parts[q].1);
            for r in 0..R {
                sums[q][r] = simd.add_product(query, simd.partial_load_f32s(row_parts[r].1), sums[q][r]);
            }
        }
    }
    let mut products = [[0.0; R]; Q];
    for q in 0..Q {
        let (fours, rest) = sums[q].as_chunks::<4>();
        let (whole, single) = products[q].split_at_mut(fours.len() * 4);
        for (four, products) in fours.iter().zip(whole.chunks_exact_mut(4)) {
            products.copy_from_slice(&simd.sums_of_four(*four));
        }
        for (sum, product) in rest.iter().zip(single) {
            *product = simd.reduce_sum_f32s(*sum);
        }
    }
    products
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn products_are_those_of_the_definition_alone_and_among_others_on_every_set() {
        for set in InstructionSet::available() {
            for (q, n, dim) in [(1, 1, 1), (1, 9, 768), (7, 5, 33), (13, 203, 384), (2, 70, 1000), (0, 3, 5), (3, 0, 5)]
            {
                let (queries, rows) = (numbers(q * dim, 1), numbers(n * dim, 2));
                let mut scores = vec![f32::NAN; q * n];
                set.run(DotProducts { queries: &queries, rows: &rows, dim, scores: &mut scores });
                for (query, scores) in queries.chunks(dim).zip(scores.chunks(n.max(1))) {
                    let mut alone = vec![f32::NAN; n];
                    set.run(DotProducts { queries: query, rows: &rows, dim, scores: &mut alone });
                    assert_eq!(alone, scores, "{set:?} {q} {n} {dim}");
                    for (row, score) in rows.chunks(dim).zip(scores) {
                        let mut single = [f32::NAN];
                        set.run(DotProducts { queries: query, rows: row, dim, scores: &mut single });
                        assert_eq!(single, [*score], "{set:?} {q} {n} {dim}");
                        let exact: f64 = query.iter().zip(row).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                        let size: f64 = query.iter().zip(row).map(|(a, b)| f64::from((a * b).abs())).sum();
                        assert!((f64::from(*score) - exact).abs() <= 1e-6 * (1.0 + size), "{set:?}: {score} {exact}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "`scores` must be [1, 2]")]
    fn other_sizes_are_refused() {
        dot_products(&[1.0, 2.0], &[1.0, 2.0, 3.0, 4.0], 2, &mut [0.0]);
    }
}
