//! Exact search by blocks of rows, on all cores.

use std::sync::Arc;

use ndarray::Axis;
use rayon::prelude::*;

use super::codes::{CodedQueries, Codes, Products};
use super::filter::Filter;
use super::row_set::RowSet;
use super::segment::{Matrix, Segment};
use super::snapshot::DiskIndex;
use crate::embeddings::Embeddings;
use crate::error::{Error, ErrorKind, Result};
use crate::index::products::dot_products;
use crate::index::top_k::{Hit, TopK};

/// Bytes that a thread reads at once.
const BLOCK_BYTES: usize = 1 << 19;
/// Rows that a thread scores at once, at most.
const BLOCK_ROWS: usize = 1024;
/// Queries that are scored while a block is in memory.
const QUERIES: usize = 128;

/// How a [`DiskIndex`] is searched.
///
/// By default every vector is scored as it is stored. With codes, all are compared by their codes, and the `oversampling *
/// k` best of each query are scored by their stored vectors: the scores are exact, and a document may be missed.
///
/// An approximate search does not look at every row: graphs lead to `expansion` candidates, which are scored by their stored
/// vectors. So scores are exact, and those found are in the total order of exact search, but documents may be missed, also one of
/// several with equal scores. A filter applies before the top k: where at least a tenth of a segment's rows fit, the graph returns
/// only such rows; where fewer do, each of them is scored, so that nothing is missed. Rows that were added after the graphs were
/// built are all scored.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SearchOptions {
    /// Number of documents per query.
    pub k: usize,
    /// Which rows are considered; by default all.
    pub filter: Option<Filter>,
    /// Codes that select candidates; by default none.
    pub codes: Option<Codes>,
    /// Candidates per document that is returned, >= 1; by default 4 with int8 and 20 with binary codes. No setting of a
    /// search without codes.
    pub oversampling: Option<usize>,
    /// Whether graphs select candidates, which takes the feature `approximate` and
    /// `IndexWriter::build_graphs`; by default not.
    pub approximate: bool,
    /// Candidates that a search by graphs keeps and rescores, 1 to 65,536, at least `k`; by default what the index states. No
    /// setting of any other search.
    pub expansion: Option<usize>,
}

impl SearchOptions {
    /// The `k` best documents by their stored vectors.
    pub fn new(k: usize) -> Self {
        Self { k, filter: None, codes: None, oversampling: None, approximate: false, expansion: None }
    }

    /// Considers only the rows that fit.
    #[must_use]
    pub fn with_filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Selects candidates by these codes.
    #[must_use]
    pub fn with_codes(mut self, codes: Codes) -> Self {
        self.codes = Some(codes);
        self
    }

    /// Selects candidates by graphs.
    #[must_use]
    pub fn with_approximate(mut self) -> Self {
        self.approximate = true;
        self
    }

    /// Keeps so many candidates in a search by graphs.
    #[must_use]
    pub fn with_expansion(mut self, expansion: usize) -> Self {
        self.expansion = Some(expansion);
        self
    }

    /// Rescores so many candidates per document that is returned.
    #[must_use]
    pub fn with_oversampling(mut self, oversampling: usize) -> Self {
        self.oversampling = Some(oversampling);
        self
    }
}

/// The candidates per document that is returned.
fn oversampling(codes: Codes) -> usize {
    match codes {
        Codes::Int8 => 4,
        Codes::Binary => 20,
    }
}

/// Rows of a segment that are scored together.
pub(super) struct Block<'a> {
    segment: &'a Segment,
    /// The number of the segment's first row in the index.
    offset: usize,
    range: (usize, usize),
    selected: Option<Arc<RowSet>>,
}

/// What a thread knows of the best rows, and its buffers.
struct Scan {
    best: Vec<TopK>,
    bytes: Vec<u8>,
    rows: Vec<usize>,
    values: Vec<f32>,
    products: Products,
    scores: Vec<f32>,
}

impl DiskIndex {
    /// The best documents of each query, best first; fewer if fewer fit the filter. [`Hit::index`] is the row, of which
    /// [`DiskIndex::record`] has the id.
    ///
    /// The score is the dot product, summed in f32. Equal scores are ordered by row, the order in which the documents were
    /// added, so results depend neither on threads nor on how rows are divided into segments.
    ///
    /// # Errors
    /// [`ErrorKind::Dimension`] if the queries have other dimensions, [`ErrorKind::NonFinite`] if one is not finite,
    /// [`ErrorKind::Config`] if the index lacks the codes, and if a file cannot be read or is damaged.
    pub fn search(&self, queries: &Embeddings, options: &SearchOptions) -> Result<Vec<Vec<Hit>>> {
        self.check_dim("queries", queries)?;
        if let Some(row) = queries.first_not_finite() {
            return Err(Error::new(ErrorKind::NonFinite, format!("the vector of query {row} is not finite")));
        }
        let factor = self.check_options(options)?;
        if options.approximate {
            let queries = queries.as_array().as_standard_layout();
            return self.search_approximately(queries.as_slice().unwrap_or_default(), options);
        }
        let candidates = options.k.saturating_mul(factor).min(self.len());
        let matrix = options.codes.map_or(Matrix::Vectors, Matrix::Codes);
        let selections = self.selections(options.filter.as_ref())?;
        let parts = self.segments.iter().zip(&self.starts).zip(selections);
        let blocks = self.blocks_of(parts.map(|((segment, start), selected)| (segment, *start, selected)), matrix);
        let mut found = Vec::with_capacity(queries.len());
        for group in queries.as_array().axis_chunks_iter(Axis(0), QUERIES) {
            let group = group.as_standard_layout();
            let group = group.as_slice().unwrap_or_default();
            let best = self.scan(&blocks, matrix, group, candidates)?;
            match options.codes {
                None => found.extend(best.into_iter().map(TopK::into_hits)),
                Some(_) => {
                    let rescored = best
                        .into_par_iter()
                        .zip(group.par_chunks_exact(self.dim()))
                        .map(|(best, query)| self.rescore(query, best.into_hits(), options.k));
                    found.extend(rescored.collect::<Result<Vec<_>>>()?);
                }
            }
        }
        Ok(found)
    }

    /// The factor by which more rows are selected than returned.
    fn check_options(&self, options: &SearchOptions) -> Result<usize> {
        if options.approximate && options.codes.is_some() {
            let message = "candidates are selected by codes or by graphs, not by both";
            return Err(Error::new(ErrorKind::Config, message));
        }
        if let (false, Some(expansion)) = (options.approximate, options.expansion) {
            return Err(Error::setting("expansion", expansion, "none for a search without graphs"));
        }
        let Some(codes) = options.codes else {
            return match options.oversampling {
                None => Ok(1),
                Some(factor) => Err(Error::setting("oversampling", factor, "none for a search without codes")),
            };
        };
        if !self.codes().contains(&codes) {
            let stored: Vec<&str> = self.codes().iter().map(|codes| codes.as_str()).collect();
            let stored = if stored.is_empty() { "none".to_owned() } else { stored.join(", ") };
            let (folder, codes) = (self.folder.display(), codes.as_str());
            let message = format!("the index {folder} has no {codes} codes (it has: {stored}); build it with them");
            return Err(Error::new(ErrorKind::Config, message));
        }
        match options.oversampling.unwrap_or(oversampling(codes)) {
            0 => Err(Error::setting("oversampling", 0, "at least 1")),
            factor => Ok(factor),
        }
    }

    #[cfg(not(feature = "approximate"))]
    fn search_approximately(&self, _queries: &[f32], _options: &SearchOptions) -> Result<Vec<Vec<Hit>>> {
        let message = "approximate search is not part of this program: build care-core with the feature `approximate`";
        Err(Error::new(ErrorKind::Config, message))
    }

    /// The rows of each segment that are live and fit the filter; `None` for all.
    pub(super) fn selections(&self, filter: Option<&Filter>) -> Result<Vec<Option<Arc<RowSet>>>> {
        self.segments.par_iter().map(|segment| segment.select(filter)).collect()
    }

    /// All blocks with selected rows of segments, each with the number of its first row, in order.
    pub(super) fn blocks_of<'a>(
        &self,
        segments: impl IntoIterator<Item = (&'a Segment, usize, Option<Arc<RowSet>>)>,
        matrix: Matrix,
    ) -> Vec<Block<'a>> {
        let mut blocks = Vec::new();
        for (segment, offset, selected) in segments {
            let rows = (BLOCK_BYTES / segment.row_bytes(matrix)).clamp(1, BLOCK_ROWS);
            for start in (0..segment.entry.rows).step_by(rows) {
                let range = (start, (start + rows).min(segment.entry.rows));
                if selected.as_ref().is_none_or(|selected| selected.any_in(range.0, range.1)) {
                    blocks.push(Block { segment, offset, range, selected: selected.clone() });
                }
            }
        }
        blocks
    }

    /// The `k` best rows of each query by one matrix.
    pub(super) fn scan(&self, blocks: &[Block<'_>], matrix: Matrix, queries: &[f32], k: usize) -> Result<Vec<TopK>> {
        let (dim, count) = (self.dim(), queries.len() / self.dim());
        let coded = match matrix {
            Matrix::Vectors => None,
            Matrix::Codes(codes) => Some(CodedQueries::new(codes, dim, queries.chunks_exact(dim))),
        };
        let new = || Scan {
            best: vec![TopK::new(k); count],
            bytes: Vec::new(),
            rows: Vec::new(),
            values: Vec::new(),
            products: Products::default(),
            scores: Vec::new(),
        };
        // A thread that scores several blocks, in ascending order, keeps what it knows of the best.
        let scanned = blocks.par_iter().try_fold(new, |mut scan, block| {
            block.segment.read(matrix, block.range, block.selected.as_deref(), &mut scan.bytes, &mut scan.rows)?;
            match &coded {
                Some(coded) => coded.score(&scan.bytes, &mut scan.products, &mut scan.scores),
                None => {
                    self.manifest.vectors.decode(&scan.bytes, &mut scan.values);
                    scan.scores.resize(count * (scan.values.len() / dim), 0.0);
                    dot_products(queries, &scan.values, dim, &mut scan.scores);
                }
            }
            scan.add(block.offset);
            Ok(scan)
        });
        scanned.map(|scan: Result<Scan>| Ok(scan?.best)).try_reduce(
            || vec![TopK::new(k); count],
            |mut left, right| {
                left.iter_mut().zip(right).for_each(|(left, right)| left.merge(right));
                Ok(left)
            },
        )
    }

    /// The `k` best of a query's candidates, by their vectors.
    pub(super) fn rescore(&self, query: &[f32], mut candidates: Vec<Hit>, k: usize) -> Result<Vec<Hit>> {
        candidates.sort_unstable_by_key(|hit| hit.index);
        let rows: Vec<usize> = candidates.iter().map(|hit| hit.index).collect();
        let vectors = self.vectors(&rows)?.into_values();
        let (mut best, mut scores) = (TopK::new(k), vec![0.0; rows.len()]);
        dot_products(query, &vectors, self.dim(), &mut scores);
        best.add_rows(&scores, |at| rows[at]);
        Ok(best.into_hits())
    }
}

impl Scan {
    /// Adds the scores `[queries, rows]` of a block.
    fn add(&mut self, offset: usize) {
        let rows = &self.rows;
        for (scores, best) in self.scores.chunks_exact(rows.len().max(1)).zip(&mut self.best) {
            best.add_rows(scores, |at| offset + rows[at]);
        }
    }
}
