//! Scores of rows against queries: the kernels of care-kernels with the feature `simd`, else plain loops.

#[cfg(feature = "simd")]
pub(super) use care_kernels::{byte_products, differing_bits, dot_products};
#[cfg(not(feature = "simd"))]
pub(super) use plain::{byte_products, differing_bits, dot_products};

#[cfg(not(feature = "simd"))]
mod plain {
    use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};

    /// Dot products: queries `[q, dim]`, rows `[n, dim]`, scores `[q, n]`.
    pub(in crate::index) fn dot_products(queries: &[f32], rows: &[f32], dim: usize, scores: &mut [f32]) {
        let (q, n) = (queries.len() / dim, rows.len() / dim);
        let queries = ArrayView2::from_shape((q, dim), queries).expect("whole queries");
        let rows = ArrayView2::from_shape((n, dim), rows).expect("whole rows");
        let mut scores = ArrayViewMut2::from_shape((q, n), scores).expect("a score for each query and row");
        general_mat_mul(1.0, &queries, &rows.t(), 0.0, &mut scores);
    }

    /// Exact dot products of the last `dim` bytes of each row, which are signed: `[q, n]`.
    pub(in crate::index) fn byte_products(
        queries: &[i8],
        dim: usize,
        rows: &[u8],
        row_bytes: usize,
        products: &mut [i32],
    ) {
        let n = rows.len() / row_bytes;
        // Compilers multiply and add numbers of 16 bits in pairs.
        let queries: Vec<i16> = queries.iter().map(|number| i16::from(*number)).collect();
        for (at, row) in rows.chunks_exact(row_bytes).enumerate() {
            let row: Vec<i16> = row[row_bytes - dim..].iter().map(|byte| i16::from(*byte as i8)).collect();
            for (query, products) in queries.chunks_exact(dim).zip(products.chunks_exact_mut(n)) {
                products[at] = query.iter().zip(&row).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
            }
        }
    }

    /// The number of bits in which each query and each row differ: `[q, n]`.
    pub(in crate::index) fn differing_bits(queries: &[u64], rows: &[[u8; 8]], words: usize, counts: &mut [u32]) {
        let rows: Vec<u64> = rows.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let n = rows.len() / words;
        for (query, counts) in queries.chunks_exact(words).zip(counts.chunks_exact_mut(n.max(1))) {
            for (count, row) in counts.iter_mut().zip(rows.chunks_exact(words)) {
                *count = query.iter().zip(row).map(|(a, b)| (a ^ b).count_ones()).sum();
            }
        }
    }
}
