//! Dot products of vectors of signed bytes.

use super::check;
use crate::f32_matrix::with_rows;
use crate::instructions::InstructionSet;
use crate::kernel::{Bytes, Kernel, Narrow, WithBytes};

/// Rows per tile.
const TILE: usize = 4;
/// Largest number of dimensions: a sum of so many products of 255 and 127 fits into 32 bits.
const MOST_DIM: usize = 1 << 16;
/// The dot product of each query with each row, exact. On processors with AVX-512 VNNI, bytes are multiplied as they are;
/// elsewhere in 16 bits.
///
/// # Shapes
/// `queries [q, dim]`, `rows [n, row_bytes]`, of which the last `dim` bytes are signed numbers; `products [q, n]`.
///
/// # Panics
/// Panics if they have other sizes or more than 65,536 dimensions, or a query has the value -128.
pub fn byte_products(queries: &[i8], dim: usize, rows: &[u8], row_bytes: usize, products: &mut [i32]) {
    check(queries.len(), rows.len(), products.len(), [dim, row_bytes]);
    assert!(dim <= row_bytes && dim <= MOST_DIM, "{dim} dimensions in rows of {row_bytes} bytes");
    assert!(!queries.contains(&i8::MIN), "the numbers of queries are from -127 to 127");
    InstructionSet::current().run_bytes(ByteProducts { queries, dim, rows, row_bytes, products }, true);
}

struct ByteProducts<'a> {
    queries: &'a [i8],
    dim: usize,
    rows: &'a [u8],
    row_bytes: usize,
    products: &'a mut [i32],
}

impl WithBytes for ByteProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn with_bytes<S: Kernel, B: Bytes<S>>(self, simd: S, bytes: B) {
        // Elsewhere, unsigned bytes of eight bits are none that can be multiplied.
        if B::STEPS >= 255.0 { self.in_lanes(simd, Quads(bytes)) } else { self.in_lanes(simd, Pairs) }
    }
}

/// How numbers lie in lanes of 32 bits, and how their products are added.
trait Lanes<S: Kernel>: Copy {
    /// Numbers per lane.
    const NUMBERS: usize;
    /// Queries per tile: as many as let the sums, a part of each query and one of a row fit into registers.
    const QUERIES: usize;
    /// What is added to a row's numbers.
    const OFFSET: i32;

    fn put_row(numbers: &[u8], lanes: &mut [u32]);

    fn put_query(numbers: &[i8], lanes: &mut [i32]);

    /// Adds to each lane of `sums` the products of its numbers.
    fn add_products(self, simd: S, sums: S::i32s, row: [S::u32s; 2], query: [S::i32s; 2]) -> S::i32s;

    /// The sum of the lanes of each of four vectors.
    fn totals(self, sums: [S::i32s; TILE]) -> [i32; TILE];
}

/// Four bytes per lane, those of rows unsigned.
#[derive(Clone, Copy)]
struct Quads<B>(B);

impl<S: Kernel, B: Bytes<S>> Lanes<S> for Quads<B> {
    const NUMBERS: usize = 4;
    const QUERIES: usize = 4;
    const OFFSET: i32 = 128;

    #[inline(always)]
    fn put_row(numbers: &[u8], lanes: &mut [u32]) {
        for (to, from) in pulp::bytemuck::cast_slice_mut::<u32, u8>(lanes).iter_mut().zip(numbers) {
            *to = from ^ 0x80;
        }
    }

    #[inline(always)]
    fn put_query(numbers: &[i8], lanes: &mut [i32]) {
        pulp::bytemuck::cast_slice_mut::<i32, i8>(lanes)[..numbers.len()].copy_from_slice(numbers);
    }

    #[inline(always)]
    fn add_products(self, simd: S, sums: S::i32s, row: [S::u32s; 2], query: [S::i32s; 2]) -> S::i32s {
        self.0.add_products(simd, sums, row, query)
    }

    #[inline(always)]
    fn totals(self, sums: [S::i32s; TILE]) -> [i32; TILE] {
        self.0.totals(sums)
    }
}

/// Two words of 16 bits per lane.
#[derive(Clone, Copy)]
struct Pairs;

impl<S: Kernel> Lanes<S> for Pairs {
    const NUMBERS: usize = 2;
    const QUERIES: usize = if S::REGISTER_COUNT >= 32 { 4 } else { 2 };
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn put_row(numbers: &[u8], lanes: &mut [u32]) {
        for (to, from) in pulp::bytemuck::cast_slice_mut::<u32, i16>(lanes).iter_mut().zip(numbers) {
            *to = i16::from(*from as i8);
        }
    }

    #[inline(always)]
    fn put_query(numbers: &[i8], lanes: &mut [i32]) {
        for (to, from) in pulp::bytemuck::cast_slice_mut::<i32, i16>(lanes).iter_mut().zip(numbers) {
            *to = i16::from(*from);
        }
    }

    #[inline(always)]
    fn add_products(self, simd: S, sums: S::i32s, row: [S::u32s; 2], query: [S::i32s; 2]) -> S::i32s {
        simd.add_word_products(simd.add_word_products(sums, row[0], query[0]), row[1], query[1])
    }

    #[inline(always)]
    fn totals(self, sums: [S::i32s; TILE]) -> [i32; TILE] {
        <Narrow as Bytes<S>>::totals(Narrow, sums)
    }
}

impl ByteProducts<'_> {
    #[inline(always)]
    fn in_lanes<S: Kernel, L: Lanes<S>>(self, simd: S, lanes_of: L) {
        let Self { queries, dim, rows, row_bytes, products } = self;
        let (n, count) = (rows.len() / row_bytes, queries.len() / dim);
        // 32-bit lanes of a vector, whole pairs of registers.
        let lanes = dim.div_ceil(L::NUMBERS).next_multiple_of(2 * S::F32_LANES);
        let mut query_lanes = vec![0i32; count.next_multiple_of(L::QUERIES) * lanes];
        for (query, to) in queries.chunks_exact(dim).zip(query_lanes.chunks_exact_mut(lanes)) {
            L::put_query(query, to);
        }
        let offset = |query: &[i8]| L::OFFSET * query.iter().map(|x| i32::from(*x)).sum::<i32>();
        let offsets: Vec<i32> = queries.chunks_exact(dim).map(offset).collect();
        // Rows that stay in L1 while all queries pass: whole tiles.
        let block = L::NUMBERS * TILE;
        let mut row_lanes = vec![0u32; block * lanes];
        for (start, rows) in (0..n).step_by(block).zip(rows.chunks(block * row_bytes)) {
            for (row, to) in rows.chunks_exact(row_bytes).zip(row_lanes.chunks_exact_mut(lanes)) {
                L::put_row(&row[row_bytes - dim..], to);
            }
            for (first, queries) in (0..count).step_by(L::QUERIES).zip(query_lanes.chunks_exact(L::QUERIES * lanes)) {
                for (start, rows) in (start..n).step_by(TILE).zip(row_lanes.chunks_exact(TILE * lanes)) {
                    with_rows!(L::QUERIES.min(count - first), L::QUERIES, Q => {
                        let sums = tile::<S, L, Q>(simd, lanes_of, queries, rows, lanes);
                        for ((q, sums), offset) in (first..).zip(sums).zip(&offsets[first..]) {
                            let to = &mut products[q * n + start..(q + 1) * n];
                            to.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum - offset);
                        }
                    });
                }
            }
        }
    }
}

#[inline(always)]
fn tile<S: Kernel, L: Lanes<S>, const Q: usize>(
    simd: S,
    lanes_of: L,
    queries: &[i32],
    rows: &[u32],
    lanes: usize,
) -> [[i32; TILE]; Q] {
    let steps = lanes / S::F32_LANES;
    let (mut query_parts, mut row_parts) = ([&[] as &[S::i32s]; Q], [&[] as &[S::u32s]; TILE]);
    for q in 0..Q {
        query_parts[q] = &S::as_simd_i32s(&queries[q * lanes..][..lanes]).0[..steps];
    }
    for r in 0..TILE {
        row_parts[r] = &S::as_simd_u32s(&rows[r * lanes..][..lanes]).0[..steps];
    }
    let mut sums = [[simd.splat_i32s(0); TILE]; Q];
    for at in (0..steps / 2).map(|pair| 2 * pair) {
        let mut queries = [[simd.splat_i32s(0); 2]; Q];
        for q in 0..Q {
            queries[q] = [query_parts[q][at], query_parts[q][at + 1]];
        }
        for r in 0..TILE {
            let row = [row_parts[r][at], row_parts[r][at + 1]];
            for q in 0..Q {
                sums[q][r] = lanes_of.add_products(simd, sums[q][r], row, queries[q]);
            }
        }
    }
    let mut totals = [[0; TILE]; Q];
    for q in 0..Q {
        totals[q] = lanes_of.totals(sums[q]);
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_exact_on_every_set() {
        for set in InstructionSet::available() {
            for (q, n, dim, before) in [(1, 1, 1, 0), (1, 37, 768, 4), (5, 5, 33, 1), (9, 50, 384, 4), (0, 3, 5, 0)] {
                let byte = |at: usize, salt: usize| ((at * 7919 + salt) % 255) as i32 - 127;
                let queries: Vec<i8> = (0..q * dim).map(|at| byte(at, 3) as i8).collect();
                let row_bytes = before + dim;
                let rows: Vec<u8> = (0..n * row_bytes).map(|at| byte(at, 5) as i8 as u8).collect();
                let mut products = vec![i32::MIN; q * n];
                let work = ByteProducts { queries: &queries, dim, rows: &rows, row_bytes, products: &mut products };
                set.run_bytes(work, true);
                for (query, products) in queries.chunks(dim).zip(products.chunks(n)) {
                    for (row, product) in rows.chunks(row_bytes).zip(products) {
                        let row = &row[before..];
                        let exact: i32 = query.iter().zip(row).map(|(a, b)| i32::from(*a) * i32::from(*b as i8)).sum();
                        assert_eq!(*product, exact, "{set:?} {q} {n} {dim}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_largest_sums_fit() {
        for set in InstructionSet::available() {
            for (query, row) in [(127, -128i8), (-127, -128), (127, 127), (-127, 127)] {
                let mut products = [0];
                let (queries, rows) = (vec![query; MOST_DIM], vec![row as u8; MOST_DIM]);
                let work = ByteProducts {
                    queries: &queries,
                    dim: MOST_DIM,
                    rows: &rows,
                    row_bytes: MOST_DIM,
                    products: &mut products,
                };
                set.run_bytes(work, true);
                assert_eq!(products[0], MOST_DIM as i32 * i32::from(query) * i32::from(row), "{set:?}");
            }
        }
    }
}
