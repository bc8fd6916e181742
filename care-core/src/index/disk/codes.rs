//! Compact codes of vectors, by which a search selects the candidates that it rescores.

use serde::{Deserialize, Serialize};

use crate::index::products::{byte_products, differing_bits};

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
    /// Integers from -127 to 127; `[queries, dim]`.
    Int8 { dim: usize, values: Vec<i8> },
    /// Signs; `[queries, words]`.
    Binary { words: usize, values: Vec<u64> },
}

/// What a thread needs to score codes, kept from block to block.
#[derive(Default)]
pub(super) struct Products {
    sums: Vec<i32>,
    counts: Vec<u32>,
}

impl CodedQueries {
    pub(super) fn new<'a>(codes: Codes, dim: usize, queries: impl Iterator<Item = &'a [f32]>) -> Self {
        match codes {
            Codes::Int8 => {
                let code = |query: &'a [f32]| {
                    let scale = largest(query) / LARGEST;
                    query.iter().map(move |value| (value / scale).round() as i8)
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
    pub(super) fn score(&self, rows: &[u8], products: &mut Products, scores: &mut Vec<f32>) {
        scores.clear();
        match self {
            Self::Int8 { dim, values } => {
                let stride = SCALE + dim;
                let n = rows.len() / stride;
                products.sums.resize(values.len() / dim * n, 0);
                byte_products(values, *dim, rows, stride, &mut products.sums);
                let scale = |row: &[u8]| row.first_chunk().map_or(0.0, |bytes| f32::from_le_bytes(*bytes));
                let scales: Vec<f32> = rows.chunks_exact(stride).map(scale).collect();
                for sums in products.sums.chunks_exact(n.max(1)) {
                    scores.extend(sums.iter().zip(&scales).map(|(sum, scale)| *sum as f32 * scale));
                }
            }
            Self::Binary { words, values } => {
                let rows = rows.as_chunks().0;
                products.counts.resize(values.len() / words * (rows.len() / words), 0);
                differing_bits(values, rows, *words, &mut products.counts);
                scores.extend(products.counts.iter().map(|count| -(*count as f32)));
            }
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
                let coded = CodedQueries::new(codes, dim, queries.iter().map(Vec::as_slice));
                coded.score(&bytes, &mut Products::default(), &mut scores);
                assert_eq!(scores.len(), rows.len() * queries.len());
                scores
            };
            let (int8, binary) = (coded(Codes::Int8), coded(Codes::Binary));
            for (q, query) in queries.iter().enumerate() {
                for (r, row) in rows.iter().enumerate() {
                    let at = q * rows.len() + r;
                    let exact: f32 = row.iter().zip(query).map(|(a, b)| a * b).sum();
                    let approximate = int8[at] * largest(query) / LARGEST;
                    assert!((approximate - exact).abs() <= 0.008 * dim as f32, "{dim}: {approximate} {exact}");
                    let differing = row.iter().zip(query).filter(|(a, b)| (**a > 0.0) != (**b > 0.0)).count();
                    assert_eq!(binary[at], -(differing as f32));
                }
            }
        }
    }
}
