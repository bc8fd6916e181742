//! CARE's growing index: a vector that is too near to what is kept is dropped.

use std::sync::Arc;

use care_core::ndarray::{Array2, ArrayView1, ArrayView2, Axis, linalg::general_mat_mul};
use care_core::{Embeddings, Error, ErrorKind, Result};
use rayon::prelude::*;

use super::subspace::{Subspace, rows_of};

/// Candidates that are compared at once.
const BLOCK: usize = 4096;
/// Candidates and kept vectors of one matmul; their bounds stay in the cache.
const ROWS: usize = 256;
const CHUNK: usize = 512;

/// Vectors of which some are kept: each is compared with all that are kept when its turn comes.
///
/// Similarity is the cosine, in f64; a vector of zeros is similar to none. The search is exact: a subspace only excludes
/// what cannot be similar enough. So the result depends on neither threads nor blocks. Memory is the vectors and, of those
/// that are kept, their projections.
///
/// # Reference
/// The diversity-aware de-duplication of CARE (arXiv 2604.10937): an index begun with 5,000 seeds, and candidates that
/// are too similar to what is kept are dropped.
#[derive(Debug)]
pub struct GrowingIndex {
    vectors: Arc<Embeddings>,
    /// 1 / length; 0 for a vector of zeros.
    scales: Vec<f64>,
    threshold: f64,
    subspace: Subspace,
    /// Kept rows, in the order in which they were kept, and their projections.
    kept: Vec<u32>,
    chunks: Vec<Array2<f32>>,
}

/// The kept vector that is most similar to another one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VectorMatch {
    /// Its row.
    pub row: usize,
    /// Cosine.
    pub similarity: f64,
}

impl GrowingIndex {
    /// An empty index, into which rows of a matrix can be put. From `threshold` on, above 0 and at most 1, a vector is
    /// similar to another one.
    ///
    /// # Errors
    /// If the threshold is out of range, or a vector is not finite.
    pub fn new(vectors: Arc<Embeddings>, threshold: f64) -> Result<Self> {
        if !(threshold > 0.0 && threshold <= 1.0) {
            return Err(Error::setting("threshold", threshold, "above 0, at most 1"));
        }
        let vectors = match vectors.as_array().is_standard_layout() {
            true => vectors,
            false => Arc::new(vectors.as_array().as_standard_layout().into_owned().into()),
        };
        let lengths: Vec<f64> = rows(&vectors).map(|row| dot(row, row).sqrt()).collect();
        if let Some(row) = lengths.iter().position(|length| !length.is_finite()) {
            return Err(Error::new(ErrorKind::NonFinite, format!("vector {row} is not finite")));
        }
        let scales: Vec<f64> =
            lengths.into_iter().map(|length| if length > 0.0 { 1.0 / length } else { 0.0 }).collect();
        let sample: Vec<u32> = Subspace::sample(vectors.len()).map(|row| row as u32).collect();
        let subspace = Subspace::fit(units(&vectors, &scales, &sample).view(), threshold);
        Ok(Self { vectors, scales, threshold, subspace, kept: Vec::new(), chunks: Vec::new() })
    }

    /// Takes rows in an order, each once. `keep` sees each with the kept one that it is most similar to, of several the
    /// one that was kept first, if that is similar enough; it says whether the row is kept, too.
    pub fn grow(&mut self, order: &[u32], keep: &mut dyn FnMut(usize, Option<VectorMatch>) -> bool) {
        self.grow_by(BLOCK, order, keep);
    }

    fn grow_by(&mut self, block: usize, order: &[u32], keep: &mut dyn FnMut(usize, Option<VectorMatch>) -> bool) {
        for block in order.chunks(block) {
            let projected = self.projected(block);
            let mut best = self.best(block, projected.view());
            // Only these may be kept, unless `keep` is of another mind.
            let among = self.among(block, projected.view());
            let mut is_kept = vec![false; block.len()];
            for (at, &row) in block.iter().enumerate() {
                for &(earlier, similarity) in &among[at] {
                    if is_kept[earlier] && best[at].is_none_or(|best| similarity > best.similarity) {
                        best[at] = Some(VectorMatch { row: block[earlier] as usize, similarity });
                    }
                }
                is_kept[at] = keep(row as usize, best[at]);
                if is_kept[at] {
                    self.insert(row, projected.row(at));
                }
            }
        }
    }

    fn projected(&self, rows: &[u32]) -> Array2<f32> {
        let mut projected = Array2::zeros((rows.len(), self.subspace.width()));
        let parts: Vec<_> = projected.axis_chunks_iter_mut(Axis(0), ROWS).zip(rows.chunks(ROWS)).collect();
        parts.into_par_iter().for_each(|(projected, rows)| {
            self.subspace.project(units(&self.vectors, &self.scales, rows).view(), projected);
        });
        projected
    }

    fn insert(&mut self, row: u32, projected: ArrayView1<'_, f32>) {
        let at = self.kept.len() % CHUNK;
        if at == 0 {
            self.chunks.push(Array2::zeros((CHUNK, self.subspace.width())));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.row_mut(at).assign(&projected);
        }
        self.kept.push(row);
    }

    /// For each row, the most similar kept one.
    fn best(&self, block: &[u32], projected: ArrayView2<'_, f32>) -> Vec<Option<VectorMatch>> {
        let of_rows = |(rows, projected): (&[u32], ArrayView2<'_, f32>)| {
            let mut best: Vec<Option<VectorMatch>> = vec![None; rows.len()];
            for (kept, chunk) in self.kept.chunks(CHUNK).zip(&self.chunks) {
                self.bounded(projected, rows_of(chunk.view(), 0..kept.len()), &mut |at, other| {
                    let (row, other) = (rows[at] as usize, kept[other] as usize);
                    let similarity = self.cosine(row, other);
                    if similarity >= self.threshold && best[at].is_none_or(|best| similarity > best.similarity) {
                        best[at] = Some(VectorMatch { row: other, similarity });
                    }
                });
            }
            best
        };
        let parts: Vec<_> = block.chunks(ROWS).zip(projected.axis_chunks_iter(Axis(0), ROWS)).collect();
        parts.into_par_iter().flat_map_iter(of_rows).collect()
    }

    /// For each row of a block, the similar ones before it, in order.
    fn among(&self, block: &[u32], projected: ArrayView2<'_, f32>) -> Vec<Vec<(usize, f64)>> {
        let of_rows = |first: usize| {
            let end = (first + ROWS).min(block.len());
            let mut found: Vec<Vec<(usize, f64)>> = vec![Vec::new(); end - first];
            for start in (0..end).step_by(CHUNK) {
                let others = rows_of(projected, start..(start + CHUNK).min(end));
                self.bounded(rows_of(projected, first..end), others, &mut |at, other| {
                    let (own, other) = (first + at, start + other);
                    if other < own {
                        let similarity = self.cosine(block[own] as usize, block[other] as usize);
                        if similarity >= self.threshold {
                            found[at].push((other, similarity));
                        }
                    }
                });
            }
            found
        };
        let starts: Vec<usize> = (0..block.len()).step_by(ROWS).collect();
        starts.into_par_iter().flat_map_iter(of_rows).collect()
    }

    /// Calls `each` with the rows of two matrices of projections whose bound reaches the threshold, in order.
    fn bounded(&self, left: ArrayView2<'_, f32>, right: ArrayView2<'_, f32>, each: &mut dyn FnMut(usize, usize)) {
        let mut bounds = Array2::zeros((left.nrows(), right.nrows()));
        general_mat_mul(1.0, &left, &right.t(), 0.0, &mut bounds);
        let limit = self.subspace.limit(self.threshold);
        for (at, row) in bounds.rows().into_iter().enumerate() {
            let row = row.to_slice().unwrap_or_default();
            for (start, part) in (0..).step_by(32).zip(row.chunks(32)) {
                // Without an early end, so that the compiler vectorises it.
                if part.iter().fold(false, |any, bound| any | (*bound >= limit)) {
                    let hits = part.iter().enumerate().filter(|(_, bound)| **bound >= limit);
                    hits.for_each(|(other, _)| each(at, start + other));
                }
            }
        }
    }

    fn cosine(&self, left: usize, right: usize) -> f64 {
        let rows = [left, right].map(|row| slice(&self.vectors, row));
        dot(rows[0], rows[1]) * self.scales[left] * self.scales[right]
    }
}

/// Rows in length 1.
fn units(vectors: &Embeddings, scales: &[f64], rows: &[u32]) -> Array2<f32> {
    let mut units = Array2::zeros((rows.len(), vectors.dim()));
    for (mut unit, &row) in units.rows_mut().into_iter().zip(rows) {
        let scale = scales[row as usize];
        unit.zip_mut_with(&vectors.row(row as usize), |unit, value| *unit = (f64::from(*value) * scale) as f32);
    }
    units
}

fn rows(vectors: &Embeddings) -> impl Iterator<Item = &[f32]> {
    (0..vectors.len()).map(|row| slice(vectors, row))
}

fn slice(vectors: &Embeddings, row: usize) -> &[f32] {
    let values = vectors.as_array().as_slice().unwrap_or_default();
    &values[row * vectors.dim()..(row + 1) * vectors.dim()]
}

/// The dot product in f64, summed in one order on every machine.
fn dot(left: &[f32], right: &[f32]) -> f64 {
    const LANES: usize = 8;
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks::<LANES>(), right.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (left, right) in left.iter().zip(right) {
        for lane in 0..LANES {
            sums[lane] += f64::from(left[lane]) * f64::from(right[lane]);
        }
    }
    let rest: f64 = left_rest.iter().zip(right_rest).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Vectors around a few centres, some equal, one of zeros.
    fn clustered(n: usize, dim: usize, spread: f32, seed: u64) -> Embeddings {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut number = || rng.random::<f32>() - 0.5;
        let centres = Array2::from_shape_simple_fn((n / 5 + 1, dim), &mut number);
        let mut vectors = Array2::from_shape_fn((n, dim), |(row, at)| centres[[row * 7 % centres.nrows(), at]]);
        for (at, mut row) in vectors.rows_mut().into_iter().enumerate() {
            match at % 11 {
                3 => {}
                5 => row *= 3.0,
                _ => row.mapv_inplace(|value| value + spread * number()),
            }
        }
        vectors.row_mut(n / 2).fill(0.0);
        vectors.into()
    }

    fn all_pairs(vectors: &Embeddings, order: &[u32], threshold: f64) -> Vec<(usize, Option<VectorMatch>)> {
        let length = |row: usize| dot(slice(vectors, row), slice(vectors, row)).sqrt();
        let scale = |row: usize| if length(row) > 0.0 { 1.0 / length(row) } else { 0.0 };
        let (mut kept, mut seen): (Vec<usize>, _) = (Vec::new(), Vec::new());
        for row in order.iter().map(|row| *row as usize) {
            let cosine = |other: usize| dot(slice(vectors, row), slice(vectors, other)) * scale(row) * scale(other);
            let similar = kept.iter().map(|other| VectorMatch { row: *other, similarity: cosine(*other) });
            let best = similar
                .filter(|found| found.similarity >= threshold)
                .reduce(|best, next| if next.similarity > best.similarity { next } else { best });
            if best.is_none() {
                kept.push(row);
            }
            seen.push((row, best));
        }
        seen
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn growing_is_comparing_with_all_that_is_kept_whatever_the_blocks_and_threads(
            n in 2_usize..700, dim in prop::sample::select(vec![3, 40, 100]), spread in 0.05_f32..1.5,
            threshold in prop::sample::select(vec![0.3, 0.8, 0.9, 0.99, 1.0]),
            block in prop::sample::select(vec![1, 7, 300, 5000]), threads in 1_usize..4, seed in any::<u64>(),
        ) {
            let vectors = clustered(n, dim, spread, seed);
            let mut order: Vec<u32> = (0..n as u32).collect();
            order.sort_by_key(|row| row.wrapping_mul(0x9e37_79b9) ^ seed as u32);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            let grown = pool.install(|| {
                let mut index = GrowingIndex::new(Arc::new(vectors.clone()), threshold).expect("finite");
                let mut seen = Vec::new();
                index.grow_by(block, &order, &mut |row, found| {
                    seen.push((row, found));
                    found.is_none()
                });
                seen
            });
            prop_assert_eq!(grown, all_pairs(&vectors, &order, threshold));
        }
    }

    #[test]
    fn more_kept_vectors_than_a_chunk_and_another_layout_change_nothing() {
        let vectors = clustered(3000, 48, 0.3, 1);
        let order: Vec<u32> = (0..3000).collect();
        let transposed = Embeddings::from(vectors.as_array().t().as_standard_layout().into_owned().reversed_axes());
        let mut index = GrowingIndex::new(Arc::new(transposed), 0.95).expect("finite");
        assert!(index.subspace.width() < 48);
        let mut seen = Vec::new();
        index.grow_by(1000, &order, &mut |row, found| {
            seen.push((row, found));
            found.is_none()
        });
        assert!(index.kept.len() > 2 * CHUNK && index.kept.len() < 2900, "{}", index.kept.len());
        assert_eq!(seen, all_pairs(&vectors, &order, 0.95));
    }

    #[test]
    fn vectors_that_are_not_finite_and_thresholds_out_of_range_are_refused() {
        for value in [f32::NAN, f32::INFINITY] {
            let vectors = Embeddings::from_rows(2, [[1.0, 0.0], [value, 0.0]]).expect("two rows");
            let error = GrowingIndex::new(Arc::new(vectors), 0.9).expect_err("refused");
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::NonFinite, "vector 1 is not finite"));
        }
        let vectors = Arc::new(Embeddings::zeros(0, 2));
        for threshold in [0.0, 1.1, f64::NAN] {
            assert!(GrowingIndex::new(vectors.clone(), threshold).is_err());
        }
        GrowingIndex::new(vectors, 0.9).expect("no vectors").grow(&[], &mut |_, _| true);
    }
}
