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
