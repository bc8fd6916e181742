//! The graph of a segment: an HNSW over the int8 codes of its vectors, by usearch.

use rayon::prelude::*;
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use super::approximate::GraphOptions;
use super::codes::Codes;
use super::row_set::RowSet;
use crate::embeddings::Embeddings;
use crate::error::{Error, ErrorKind, Result};

/// Threads that may use a graph at a time; one more would be refused. Rayon's pools have fewer, and nothing else uses it.
const THREADS: usize = 1024;
/// Candidates among which nearly every row is found by its own vector.
const FEW: usize = 16;

/// Vectors whose neighbours are known. It compares directions, so it suits vectors of about one length.
pub(super) struct Graph {
    index: Index,
}

impl Graph {
    /// A graph without rows, with room for `rows`.
    pub(super) fn with_capacity(rows: usize, dim: usize, options: &GraphOptions) -> Result<Self> {
        let options = IndexOptions {
            dimensions: dim,
            metric: MetricKind::Cos,
            quantization: ScalarKind::I8,
            connectivity: options.links,
            expansion_add: options.build_expansion,
            expansion_search: 1,
            multi: false,
        };
        let index = Index::new(&options).map_err(failed)?;
        index.reserve_capacity_and_threads(rows, THREADS).map_err(failed)?;
        Ok(Self { index })
    }

    /// Adds the vectors of the rows from `start` on, on all cores; which neighbours they get depends on their order.
    pub(super) fn add(&self, vectors: &Embeddings, start: usize) -> Result<()> {
        (0..vectors.len()).into_par_iter().try_for_each(|at| {
            let code = code(vectors.row(at).to_slice().unwrap_or_default());
            self.index.add((start + at) as u64, &code).map_err(failed)
        })
    }

    /// Adds the rows again, one after the other, that no search for their own vector finds.
    ///
    /// Threads that add neighbours at the same time can leave rows that no link leads to, which no search would ever return,
    /// however many candidates it keeps (usearch 2.26, unum-cloud/USearch#735; `findings/usearch_lost_rows.sh`). Returns how many
    /// rows were added again.
    pub(super) fn mend(&self, build_expansion: usize) -> Result<usize> {
        // Nearly all rows are found at once; those with many near neighbours only among more candidates.
        let lost = |expansion: usize, rows: Vec<u64>| -> Result<Vec<u64>> {
            let found = rows.into_par_iter().map_init(Vec::new, |code, row| {
                self.read(row, code)?;
                let found = self.index.search(code, expansion).map_err(failed)?;
                // Of more equal rows than candidates, any may be found.
                let are_equal = found.distances.len() == expansion && found.distances.last() == found.distances.first();
                Ok((!are_equal && !found.keys.contains(&row)).then_some(row))
            });
            found.filter_map(Result::transpose).collect()
        };
        let few = FEW.min(build_expansion);
        let rows = lost(build_expansion, lost(few, (0..self.len() as u64).collect())?)?;
        let mut code = Vec::new();
        for &row in &rows {
            self.read(row, &mut code)?;
            self.index.remove(row).map_err(failed)?;
            self.index.add(row, &code).map_err(failed)?;
        }
        Ok(rows.len())
    }

    /// The code of a row.
    fn read(&self, row: u64, code: &mut Vec<i8>) -> Result<()> {
        code.resize(self.index.dimensions(), 0);
        self.index.get(row, code).map(drop).map_err(failed)
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.index.size()
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.index.serialized_length()];
        self.index.save_to_buffer(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// The graph of [`Graph::to_bytes`]. The bytes must be unchanged: they are not checked in full.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let index = Index::restore_from_buffer(bytes).map_err(failed)?;
        index.reserve_capacity_and_threads(index.size(), THREADS).map_err(failed)?;
        // No part of the bytes.
        index.change_expansion_search(1);
        Ok(Self { index })
    }

    /// The rows near a query that are selected: `expansion` at most, which is also how many candidates are kept on the way.
    pub(super) fn near(&self, query: &[f32], expansion: usize, selected: Option<&RowSet>) -> Result<Vec<usize>> {
        // The library keeps as many candidates as results are asked for, if its setting, which all threads share, is less.
        let found = match selected {
            Some(selected) => {
                self.index.filtered_search(&code(query), expansion, |row| selected.contains(row as usize))
            }
            None => self.index.search(&code(query), expansion),
        };
        Ok(found.map_err(failed)?.keys.into_iter().map(|row| row as usize).collect())
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Graph of {} rows", self.len())
    }
}

/// The int8 codes of a vector without their scale, which the direction does not depend on.
fn code(vector: &[f32]) -> Vec<i8> {
    let mut bytes = Vec::with_capacity(Codes::Int8.row_bytes(vector.len()));
    Codes::Int8.encode(vector, &mut bytes);
    bytes[bytes.len() - vector.len()..].iter().map(|byte| *byte as i8).collect()
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Config, format!("the approximate index: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIM: usize = 16;
    const ROWS: usize = 400;

    /// Pseudo-random vectors.
    fn vectors(mut seed: u64) -> Embeddings {
        let mut value = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        Embeddings::from_rows(DIM, (0..ROWS).map(|_| (0..DIM).map(|_| value()).collect::<Vec<_>>())).expect("rows")
    }

    #[test]
    fn equal_rows_are_not_taken_for_lost_ones() {
        let options = GraphOptions::default().with_build_expansion(32);
        let graph = Graph::with_capacity(ROWS, DIM, &options).expect("empty");
        let equal = Embeddings::from_rows(DIM, vec![vectors(1).row(0).to_vec(); ROWS]).expect("rows");
        graph.add(&equal, 0).expect("added");
        assert_eq!((graph.mend(32).expect("searched"), graph.len()), (0, ROWS));
    }

    #[test]
    fn no_row_is_lost_that_threads_add_at_the_same_time() {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(4).build().expect("threads");
        let options = GraphOptions::default();
        // About one of five such graphs loses rows if nothing is mended.
        for seed in 0..40 {
            let vectors = vectors(seed);
            let graph = Graph::with_capacity(ROWS, DIM, &options).expect("empty");
            threads
                .install(|| graph.add(&vectors, 0).and_then(|()| graph.mend(options.build_expansion)))
                .expect("built");
            assert_eq!(graph.len(), ROWS);
            for row in 0..ROWS {
                let query = vectors.row(row).to_slice().expect("a row").to_vec();
                let found = graph.near(&query, options.build_expansion, None).expect("found");
                assert!(found.contains(&row), "graph {seed}, row {row}");
            }
        }
    }
}
