//! Dot products of vectors of signed bytes.

use super::check;
use crate::f32_matrix::with_rows;
use crate::instructions::InstructionSet;
use crate::kernel::{Bytes, Kernel, WithBytes};

/// Rows per tile, and queries per tile where bytes are multiplied.
const TILE: usize = 4;
/// Rows that stay in L1 while all queries pass: whole tiles.
const BLOCK: usize = 4 * TILE;
/// Largest number of dimensions: a sum of so many products of 255 and 127 fits into 32 bits.
const MOST_DIM: usize = 1 << 16;
/// What the instruction set of bytes wants unsigned is the row's number plus this.
const OFFSET: i32 = 128;

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
        if B::STEPS >= 255.0 { self.in_bytes(simd, bytes) } else { self.in_words() }
    }
}

impl ByteProducts<'_> {
    #[inline(always)]
    fn in_bytes<S: Kernel, B: Bytes<S>>(self, simd: S, bytes: B) {
        let Self { queries, dim, rows, row_bytes, products } = self;
        let n = rows.len() / row_bytes;
        // 32-bit lanes of a row, whole pairs of vectors.
        let lanes = dim.div_ceil(4).next_multiple_of(2 * S::F32_LANES);
        let padded = |numbers: &[i8], to: &mut [i32]| {
            pulp::bytemuck::cast_slice_mut::<i32, i8>(to)[..dim].copy_from_slice(numbers);
        };
        let count = queries.len() / dim;
        let mut weights = vec![0i32; count.next_multiple_of(TILE) * lanes];
        queries.chunks_exact(dim).zip(weights.chunks_exact_mut(lanes)).for_each(|(query, to)| padded(query, to));
        let offsets: Vec<i32> =
            queries.chunks_exact(dim).map(|query| OFFSET * query.iter().map(|x| i32::from(*x)).sum::<i32>()).collect();
        let mut values = vec![0u32; BLOCK * lanes];
        for (block, rows) in rows.chunks(BLOCK * row_bytes).enumerate() {
            for (row, to) in rows.chunks_exact(row_bytes).zip(values.chunks_exact_mut(lanes)) {
                let to = &mut pulp::bytemuck::cast_slice_mut::<u32, u8>(to)[..dim];
                for (to, from) in to.iter_mut().zip(&row[row_bytes - dim..]) {
                    *to = from ^ 0x80;
                }
            }
            let tiles = (rows.len() / row_bytes).div_ceil(TILE);
            for (first, weights) in (0..count).step_by(TILE).zip(weights.chunks_exact(TILE * lanes)) {
                for (tile, values) in values.chunks_exact(TILE * lanes).take(tiles).enumerate() {
                    let start = block * BLOCK + tile * TILE;
                    with_rows!(TILE.min(count - first), TILE, Q => {
                        let sums = tile_of_bytes::<S, B, Q>(simd, bytes, weights, values, lanes);
                        for ((q, sums), offset) in (first..).zip(sums).zip(&offsets[first..]) {
                            let to = &mut products[q * n + start..(q + 1) * n];
                            to.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum - offset);
                        }
                    });
                }
            }
        }
    }

    /// The same by 16-bit numbers, as compilers multiply and add them in pairs.
    #[inline(always)]
    fn in_words(self) {
        let Self { queries, dim, rows, row_bytes, products } = self;
        let n = rows.len() / row_bytes;
        let queries: Vec<i16> = queries.iter().map(|x| i16::from(*x)).collect();
        let mut words = vec![0i16; TILE * dim];
        for (tile, rows) in rows.chunks(TILE * row_bytes).enumerate() {
            for (row, to) in rows.chunks_exact(row_bytes).zip(words.chunks_exact_mut(dim)) {
                for (to, from) in to.iter_mut().zip(&row[row_bytes - dim..]) {
                    *to = i16::from(*from as i8);
                }
            }
            for (query, products) in queries.chunks_exact(dim).zip(products.chunks_exact_mut(n)) {
                let sums = tile_of_words(&words, query);
                for (to, sum) in products.iter_mut().skip(tile * TILE).zip(sums) {
                    *to = sum;
                }
            }
        }
    }
}

#[inline(always)]
fn tile_of_bytes<S: Kernel, B: Bytes<S>, const Q: usize>(
    simd: S,
    bytes: B,
    weights: &[i32],
    values: &[u32],
    lanes: usize,
) -> [[i32; TILE]; Q] {
    let steps = lanes / S::F32_LANES;
    let (mut weight_parts, mut value_parts) = ([&[] as &[S::i32s]; Q], [&[] as &[S::u32s]; TILE]);
    for q in 0..Q {
        weight_parts[q] = &S::as_simd_i32s(&weights[q * lanes..][..lanes]).0[..steps];
    }
    for r in 0..TILE {
        value_parts[r] = &S::as_simd_u32s(&values[r * lanes..][..lanes]).0[..steps];
    }
    let mut sums = [[simd.splat_i32s(0); TILE]; Q];
    for at in (0..steps / 2).map(|pair| 2 * pair) {
        let mut values = [[simd.splat_u32s(0); 2]; TILE];
        for r in 0..TILE {
            values[r] = [value_parts[r][at], value_parts[r][at + 1]];
        }
        for q in 0..Q {
            let weights = [weight_parts[q][at], weight_parts[q][at + 1]];
            for r in 0..TILE {
                sums[q][r] = bytes.add_products(simd, sums[q][r], values[r], weights);
            }
        }
    }
    let mut totals = [[0; TILE]; Q];
    for q in 0..Q {
        totals[q] = bytes.totals(sums[q]);
    }
    totals
}

/// The dot products of the rows of a tile `[TILE, dim]` with a query `[dim]`. Written such that compilers see `pmaddwd`.
#[inline(always)]
fn tile_of_words(tile: &[i16], query: &[i16]) -> [i32; TILE] {
    let dim = query.len();
    let (a, tile) = tile.split_at(dim);
    let (b, tile) = tile.split_at(dim);
    let (c, d) = tile.split_at(dim);
    let d = &d[..dim];
    let mut sums = [0; TILE];
    for at in 0..dim {
        let value = i32::from(query[at]);
        sums[0] += i32::from(a[at]) * value;
        sums[1] += i32::from(b[at]) * value;
        sums[2] += i32::from(c[at]) * value;
        sums[3] += i32::from(d[at]) * value;
    }
    sums
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
