//! Compact codes of vectors, by which a search selects the candidates that it rescores.

use serde::{Deserialize, Serialize};

/// Compact codes that are stored beside the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Codes {
    /// 1 byte per dimension and a scale per row: `round(x / scale)` with `scale = max |x| / 127`.
    Int8,
    /// 1 bit per dimension, its sign; compared by the Hamming distance. It knows nothing of a vector's length, so it suits
    /// vectors of about one length.
    Binary,
}

/// The largest code of int8.
const LARGEST: f32 = 127.0;
/// Bytes of the scale in front of a row of int8 codes.
const SCALE: usize = 4;
/// Rows that are scored together, so that a query's codes are loaded once for all of them.
const TILE: usize = 4;

impl Codes {
    /// The name in files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Binary => "binary",
        }
    }

    /// Bytes of a row of `dim` dimensions.
    pub(super) fn row_bytes(self, dim: usize) -> usize {
        match self {
            Self::Int8 => SCALE + dim,
            Self::Binary => 8 * dim.div_ceil(64),
        }
    }

    /// Appends the codes of a vector.
    pub(super) fn encode(self, vector: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::Int8 => {
                let scale = largest(vector) / LARGEST;
                out.extend(scale.to_le_bytes());
                out.extend(vector.iter().map(|value| (value / scale).round() as i8 as u8));
            }
            Self::Binary => out.extend(signs(vector).flat_map(u64::to_le_bytes)),
        }
    }
}

fn largest(vector: &[f32]) -> f32 {
    // Above the smallest normal number, so that a scale is none of the subnormal ones, which lose precision.
    vector.iter().fold(LARGEST * f32::MIN_POSITIVE, |most, value| most.max(value.abs()))
}

fn signs(vector: &[f32]) -> impl Iterator<Item = u64> {
    let word = |values: &[f32]| values.iter().rev().fold(0, |word, value| word << 1 | u64::from(*value > 0.0));
    vector.chunks(64).map(word)
}

/// Queries in the form that is compared with codes.
pub(super) enum CodedQueries {
    /// Integers of as many bits as a sum in i32 allows, row by row; `[queries, dim]`.
    Int8 { dim: usize, values: Vec<i16> },
    /// Signs; `[queries, words]`.
    Binary { words: usize, values: Vec<u64> },
}

impl CodedQueries {
    pub(super) fn new<'a>(codes: Codes, dim: usize, queries: impl Iterator<Item = &'a [f32]>) -> Self {
        match codes {
            Codes::Int8 => {
                // The sum of `dim` products with 127 must not overflow.
                let most = (i32::MAX / 128 / dim.max(1) as i32).min(i32::from(i16::MAX)) as f32;
                let code = |query: &'a [f32]| {
                    let scale = largest(query) / most;
                    query.iter().map(move |value| (value / scale).round() as i16)
                };
                Self::Int8 { dim, values: queries.flat_map(code).collect() }
            }
            Codes::Binary => Self::Binary { words: dim.div_ceil(64), values: queries.flat_map(signs).collect() },
        }
    }

    /// Scores that rank as the similarities do, approximately: `rows` of codes against every query.
    ///
    /// # Shapes
    /// `rows` `[n, row_bytes]`; the result `[queries, n]`.
    pub(super) fn score(&self, rows: &[u8], scores: &mut Vec<f32>) {
        scores.clear();
        match self {
            Self::Int8 { dim, values } => vectorised(
                #[inline(always)]
                || int8_scores(rows, *dim, values, scores),
            ),
            Self::Binary { words, values } => vectorised(
                #[inline(always)]
                || binary_scores(rows, *words, values, scores),
            ),
        }
    }
}

/// Runs a loop that is compiled for each instruction set, for the widest of this processor.
#[cfg(feature = "simd")]
fn vectorised(run: impl FnOnce()) {
    pulp::Arch::new().dispatch(run);
}

/// Runs a loop that is compiled for the target.
#[cfg(not(feature = "simd"))]
fn vectorised(run: impl FnOnce()) {
    run();
}

#[inline(always)]
fn int8_scores(rows: &[u8], dim: usize, queries: &[i16], scores: &mut Vec<f32>) {
    let stride = SCALE + dim;
    let n = rows.len() / stride;
    scores.resize(queries.len() / dim * n, 0.0);
    let mut wide = vec![0i16; TILE * dim];
    for (rows, start) in rows.chunks(TILE * stride).zip((0..n).step_by(TILE)) {
        let mut scales = [0.0; TILE];
        for ((row, wide), scale) in rows.chunks_exact(stride).zip(wide.chunks_exact_mut(dim)).zip(&mut scales) {
            let (bytes, codes) = row.split_at(SCALE);
            *scale = bytes.first_chunk().map_or(0.0, |bytes| f32::from_le_bytes(*bytes));
            for (wide, code) in wide.iter_mut().zip(codes) {
                *wide = i16::from(*code as i8);
            }
        }
        let end = (start + TILE).min(n);
        for (query, scores) in queries.chunks_exact(dim).zip(scores.chunks_exact_mut(n)) {
            let sums = dots(&wide, query);
            for ((score, sum), scale) in scores[start..end].iter_mut().zip(sums).zip(scales) {
                *score = sum as f32 * scale;
            }
        }
    }
}

/// The dot products of the rows of a tile `[TILE, dim]` with a query `[dim]`. Written such that compilers see `pmaddwd`.
#[inline(always)]
fn dots(tile: &[i16], query: &[i16]) -> [i32; TILE] {
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

#[inline(always)]
fn binary_scores(rows: &[u8], words: usize, queries: &[u64], scores: &mut Vec<f32>) {
    let rows: Vec<u64> = rows.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let n = rows.len() / words;
    scores.resize(queries.len() / words * n, 0.0);
    // Plain loops, which are inlined into what is compiled for each instruction set.
    for (query, scores) in queries.chunks_exact(words).zip(scores.chunks_exact_mut(n.max(1))) {
        for (score, row) in scores.iter_mut().zip(rows.chunks_exact(words)) {
            let mut differing = 0;
            for (row, query) in row.iter().zip(query) {
                differing += (row ^ query).count_ones();
            }
            *score = -(differing as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(dim: usize, salt: usize) -> Vec<f32> {
        (0..dim).map(|at| ((at * 7919 + salt * 104_729) % 997) as f32 / 499.0 - 1.0).collect()
    }

    #[test]
    fn int8_scores_are_near_the_dot_products_and_binary_ones_count_signs() {
        for dim in [1, 3, 64, 65, 130, 768, 5000] {
            let (rows, queries) =
                ([1, 2, 3, 4, 5, 6].map(|salt| vector(dim, salt)), [7, 8, 9].map(|salt| vector(dim, salt)));
            let coded = |codes: Codes| {
                let mut bytes = Vec::new();
                rows.iter().for_each(|row| codes.encode(row, &mut bytes));
                assert_eq!(bytes.len(), rows.len() * codes.row_bytes(dim));
                let mut scores = Vec::new();
                CodedQueries::new(codes, dim, queries.iter().map(Vec::as_slice)).score(&bytes, &mut scores);
                assert_eq!(scores.len(), rows.len() * queries.len());
                scores
            };
            let (int8, binary) = (coded(Codes::Int8), coded(Codes::Binary));
            for (q, query) in queries.iter().enumerate() {
                for (r, row) in rows.iter().enumerate() {
                    let at = q * rows.len() + r;
                    let exact: f32 = row.iter().zip(query).map(|(a, b)| a * b).sum();
                    let most = (i32::MAX / 128 / dim as i32).min(32767) as f32;
                    let approximate = int8[at] * largest(query) / most;
                    assert!((approximate - exact).abs() <= 0.006 * dim as f32, "{dim}: {approximate} {exact}");
                    let differing = row.iter().zip(query).filter(|(a, b)| (**a > 0.0) != (**b > 0.0)).count();
                    assert_eq!(binary[at], -(differing as f32));
                }
            }
        }
    }

    #[test]
    fn the_largest_sum_does_not_overflow() {
        for dim in [1, 768, 100_000] {
            let mut row = Vec::new();
            Codes::Int8.encode(&vec![1.0; dim], &mut row);
            let mut scores = Vec::new();
            CodedQueries::new(Codes::Int8, dim, [vec![1.0; dim].as_slice()].into_iter()).score(&row, &mut scores);
            assert!(scores[0] > 0.0, "{dim}");
        }
    }
}
