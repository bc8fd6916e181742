//! Exact vector search: every document is scored.

#[cfg(feature = "f16")]
use half::{f16, slice::HalfFloatSliceExt};
use ndarray::{ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Index;
use super::products::dot_products;
use super::top_k::{Hit, TopK};
use crate::embeddings::Embeddings;
use crate::error::{Error, ErrorKind, Result};

/// Documents that are scored together; few enough that the scores stay in the cache.
const BLOCK: usize = 512;
/// Numbers of half-precision vectors that are widened together, so that they stay in the cache.
#[cfg(feature = "f16")]
const WIDENED: usize = 1 << 15;
/// Queries that are searched together.
const QUERIES: usize = 128;

/// The dtype of an index's vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum VectorFormat {
    /// 4 bytes per dimension.
    #[default]
    F32,
    /// 2 bytes per dimension: 11 bits of precision, which changes a cosine by less than 0.001.
    #[cfg(feature = "f16")]
    F16,
}

/// An exact index over document vectors; similarity is the dot product, summed in f32.
///
/// Equal scores are ordered by row, so results depend neither on the number of threads nor on how queries are batched.
///
/// ```
/// use care_core::Embeddings;
/// use care_core::index::{FlatIndex, VectorFormat};
/// let mut index = FlatIndex::with_capacity(2, 1000, VectorFormat::F32);
/// let mut vectors = Embeddings::zeros(3, 2);
/// vectors.set(1, &[0.6, 0.8]);
/// index.add(&vectors)?;
/// assert_eq!(index.search(&vectors, 1)?[1][0].index, 1);
/// # Ok::<(), care_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FlatIndex {
    dim: usize,
    vectors: Vectors,
}

#[derive(Debug, Clone)]
enum Vectors {
    F32(Vec<f32>),
    #[cfg(feature = "f16")]
    F16(Vec<f16>),
}

impl FlatIndex {
    /// Indexes document vectors as they are, in f32.
    pub fn new(documents: Embeddings) -> Self {
        let dim = documents.dim();
        Self { dim, vectors: Vectors::F32(documents.into_values()) }
    }

    /// An empty index with capacity for `documents` vectors of `dim` dimensions, so that adding them does not
    /// reallocate.
    pub fn with_capacity(dim: usize, documents: usize, format: VectorFormat) -> Self {
        let vectors = match format {
            VectorFormat::F32 => Vectors::F32(Vec::with_capacity(dim * documents)),
            #[cfg(feature = "f16")]
            VectorFormat::F16 => Vectors::F16(Vec::with_capacity(dim * documents)),
        };
        Self { dim, vectors }
    }

    /// Appends document vectors.
    ///
    /// # Errors
    /// [`ErrorKind::Dimension`] if they do not have the index's dimensions.
    pub fn add(&mut self, documents: &Embeddings) -> Result<()> {
        self.check("documents", documents)?;
        let values = documents.as_array().iter().copied();
        match &mut self.vectors {
            Vectors::F32(vectors) => vectors.extend(values),
            #[cfg(feature = "f16")]
            Vectors::F16(vectors) => vectors.extend(values.map(f16::from_f32)),
        }
        Ok(())
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        let values = match &self.vectors {
            Vectors::F32(vectors) => vectors.len(),
            #[cfg(feature = "f16")]
            Vectors::F16(vectors) => vectors.len(),
        };
        values.checked_div(self.dim).unwrap_or(0)
    }

    /// Whether the index has no documents.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `k` best documents of each query, best first; fewer if the index is smaller.
    ///
    /// # Errors
    /// [`ErrorKind::Dimension`] if queries and documents differ in dimensions.
    pub fn search(&self, queries: &Embeddings, k: usize) -> Result<Vec<Vec<Hit>>> {
        self.check("queries", queries)?;
        let groups: Vec<ArrayView2<'_, f32>> = queries.as_array().axis_chunks_iter(Axis(0), QUERIES).collect();
        // Where each thread has groups of its own, a group is one thread's, and nothing is merged.
        let blocks = if groups.len() >= 4 * rayon::current_num_threads() { usize::MAX } else { 1 };
        Ok(groups.into_par_iter().flat_map_iter(|group| self.search_group(group, k, blocks)).collect())
    }

    /// The score of one document: the dot product of its vector and a query's.
    ///
    /// The order of summation is another one than that of [`FlatIndex::search`], so the last bits may differ.
    ///
    /// # Errors
    /// [`ErrorKind::Dimension`] if the query has other dimensions.
    ///
    /// # Panics
    /// Panics if there is no such document.
    pub fn score(&self, query: ArrayView1<'_, f32>, document: usize) -> Result<f32> {
        if query.len() != self.dim {
            let message = format!("the query has {} dimensions, the index has {}", query.len(), self.dim);
            return Err(Error::new(ErrorKind::Dimension, message));
        }
        let range = document * self.dim..(document + 1) * self.dim;
        let score = match &self.vectors {
            Vectors::F32(vectors) => query.dot(&ArrayView1::from(&vectors[range])),
            #[cfg(feature = "f16")]
            Vectors::F16(vectors) => {
                let mut values = vec![0.0; self.dim];
                vectors[range].convert_to_f32_slice(&mut values);
                query.dot(&ArrayView1::from(&values))
            }
        };
        Ok(score + 0.0)
    }

    fn check(&self, what: &str, vectors: &Embeddings) -> Result<()> {
        if vectors.dim() == self.dim {
            return Ok(());
        }
        let message = format!("{what} have {} dimensions, the index has {}", vectors.dim(), self.dim);
        Err(Error::new(ErrorKind::Dimension, message))
    }

    /// A thread scores at least `blocks` blocks, if there are as many.
    fn search_group(&self, queries: ArrayView2<'_, f32>, k: usize, blocks: usize) -> Vec<Vec<Hit>> {
        let starts: Vec<usize> = (0..self.len()).step_by(BLOCK).collect();
        let (count, queries) = (queries.nrows(), queries.as_standard_layout());
        let queries = queries.as_slice().unwrap_or_default();
        let new = || (vec![TopK::new(k); count], Vec::new());
        // A thread that scores several blocks, in ascending order, keeps what it knows of the best.
        let scored = starts.into_par_iter().with_min_len(blocks).fold(new, |(mut best, mut scores), start| {
            self.search_block(queries, start, &mut best, &mut scores);
            (best, scores)
        });
        let merged = scored.map(|(best, _)| best).reduce(
            || vec![TopK::new(k); count],
            |mut left, right| {
                left.iter_mut().zip(right).for_each(|(left, right)| left.merge(right));
                left
            },
        );
        merged.into_iter().map(TopK::into_hits).collect()
    }

    /// Scores a block of documents and adds it to the best of each query.
    fn search_block(&self, queries: &[f32], start: usize, best: &mut [TopK], scores: &mut Vec<f32>) {
        let range = start * self.dim..(start + BLOCK).min(self.len()) * self.dim;
        match &self.vectors {
            Vectors::F32(vectors) => self.add_scores(queries, &vectors[range], start, best, scores),
            #[cfg(feature = "f16")]
            Vectors::F16(vectors) => {
                let rows = (WIDENED / self.dim).max(1);
                let mut values = vec![0.0; rows * self.dim];
                for (part, vectors) in vectors[range].chunks(rows * self.dim).enumerate() {
                    let values = &mut values[..vectors.len()];
                    vectors.convert_to_f32_slice(values);
                    self.add_scores(queries, values, start + part * rows, best, scores);
                }
            }
        }
    }

    /// Scores the vectors of the documents from `start` on.
    fn add_scores(&self, queries: &[f32], vectors: &[f32], start: usize, best: &mut [TopK], scores: &mut Vec<f32>) {
        let rows = vectors.len() / self.dim;
        scores.resize(best.len() * rows, 0.0);
        dot_products(queries, vectors, self.dim, scores);
        for (scores, best) in scores.chunks_exact(rows).zip(best) {
            best.add(scores, start);
        }
    }
}

impl Index for FlatIndex {
    fn len(&self) -> usize {
        self.len()
    }

    fn add(&mut self, documents: &Embeddings) -> Result<()> {
        self.add(documents)
    }

    fn search(&self, queries: &Embeddings, k: usize) -> Result<Vec<Vec<Hit>>> {
        self.search(queries, k)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use proptest::prelude::*;

    use super::*;

    fn matrix(rows: usize, dim: usize, values: &[i8]) -> Embeddings {
        Array2::from_shape_fn((rows, dim), |(row, column)| f32::from(values[(row * dim + column) % values.len()]))
            .into()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn equals_sorting_every_score(
            documents in 0usize..5000, queries in 1usize..70, k in 0usize..20,
            values in proptest::collection::vec(-2i8..=2, 7..40),
        ) {
            let documents = matrix(documents, 4, &values);
            let queries = matrix(queries, 4, &values[3..]);
            let found = FlatIndex::new(documents.clone()).search(&queries, k).expect("same dimensions");
            for (query, hits) in found.iter().enumerate() {
                let mut all: Vec<Hit> = (0..documents.len())
                    .map(|index| Hit { index, score: queries.dot(query, &documents, index) })
                    .collect();
                all.sort_by(Hit::compare);
                all.truncate(k);
                prop_assert_eq!(hits, &all);
            }
        }
    }

    #[test]
    fn results_do_not_depend_on_how_queries_are_grouped() {
        let matrix = |rows: usize, salt: usize| -> Embeddings {
            Array2::from_shape_fn((rows, 96), |(row, column)| {
                ((row * 7919 + column * 104_729 + salt) % 9973) as f32 / 997.0 - 5.0
            })
            .into()
        };
        let (index, queries) = (FlatIndex::new(matrix(5000, 1)), matrix(70, 2));
        let together = index.search(&queries, 20).expect("same dimensions");
        for (row, hits) in together.iter().enumerate() {
            let one = Embeddings::from(queries.as_array().slice_axis(Axis(0), (row..row + 1).into()).to_owned());
            assert_eq!(&index.search(&one, 20).expect("same dimensions")[0], hits);
        }
    }

    #[test]
    fn many_queries_find_what_each_finds_alone() {
        let values: Vec<i8> = (-40..40).collect();
        let (index, queries) = (FlatIndex::new(matrix(1300, 6, &values)), matrix(8 * QUERIES + 3, 6, &values[7..]));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("two threads");
        let together = pool.install(|| index.search(&queries, 9)).expect("same dimensions");
        for (row, hits) in together.iter().enumerate() {
            let one = Embeddings::from(queries.as_array().slice_axis(Axis(0), (row..row + 1).into()).to_owned());
            assert_eq!(&index.search(&one, 9).expect("same dimensions")[0], hits);
        }
    }

    #[cfg(feature = "f16")]
    #[test]
    fn half_precision_finds_what_it_finds_over_rounded_vectors() {
        let values: Vec<i8> = (-60..60).collect();
        let documents = Embeddings::from(matrix(5000, 24, &values).as_array() / 97.0);
        let queries = Embeddings::from(matrix(9, 24, &values[5..]).as_array() / 89.0);
        let rounded = Embeddings::from(documents.as_array().mapv(|value| f16::from_f32(value).to_f32()));
        let mut half = FlatIndex::with_capacity(24, 5000, VectorFormat::F16);
        for rows in documents.as_array().axis_chunks_iter(Axis(0), 700) {
            half.add(&Embeddings::from(rows.to_owned())).expect("same dimensions");
        }
        assert_eq!(half.len(), 5000);
        let expected = FlatIndex::new(rounded).search(&queries, 20).expect("same dimensions");
        assert_eq!(half.search(&queries, 20).expect("same dimensions"), expected);
    }

    #[test]
    fn a_single_score_is_that_of_the_search() {
        let values: Vec<i8> = (-9..10).collect();
        let (documents, queries) = (matrix(50, 4, &values), matrix(3, 4, &values[5..]));
        let index = FlatIndex::new(documents);
        for (query, hits) in index.search(&queries, 50).expect("same dimensions").into_iter().enumerate() {
            for hit in hits {
                assert_eq!(index.score(queries.row(query), hit.index).expect("same dimensions"), hit.score);
            }
        }
        let error = index.score(Embeddings::zeros(1, 5).row(0), 0).expect_err("sizes");
        assert_eq!(error.to_string(), "the query has 5 dimensions, the index has 4");
    }

    #[test]
    fn other_widths_are_refused() {
        let error = FlatIndex::new(Embeddings::zeros(3, 4)).search(&Embeddings::zeros(1, 5), 1).expect_err("sizes");
        assert_eq!(error.to_string(), "queries have 5 dimensions, the index has 4");
    }
}
