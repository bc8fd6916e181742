//! Building the graphs of an index, measuring their loss, and searching by them.

use std::io::Write;

use rayon::prelude::*;

use super::approximate::{Approximation, GraphOptions, Loss, LossSample};
use super::checked_file::CheckedWriter;
use super::graph::Graph;
use super::manifest::{GraphEntry, SegmentEntry};
use super::search::SearchOptions;
use super::segment::{Matrix, Segment};
use super::snapshot::DiskIndex;
use super::writer::IndexWriter;
use crate::embeddings::Embeddings;
use crate::error::{Error, ErrorKind, Result};
use crate::files::AtomicFile;
use crate::index::top_k::Hit;

/// Rows that are read, coded and linked together.
const ROWS: usize = 4096;
/// A filter that fewer than one in so many rows of a segment fit is answered by scoring those rows.
const NARROW: usize = 10;
/// The documents of exact search by which a loss is measured.
const LOSS_K: usize = 10;
/// Bootstrap samples of the queries.
const SAMPLES: usize = 1000;
/// Largest number of candidates.
const EXPANSION: usize = 1 << 16;

impl IndexWriter {
    /// Builds the graph of every segment, by which [`SearchOptions::with_approximate`] searches, and measures what is lost
    /// on `queries`, vectors of the query tower. Older graphs are replaced.
    ///
    /// A graph is of the rows that its segment had then. Rows that are added later are scored one by one, and rows that are
    /// removed are not found; when segments are merged, by [`IndexWriter::compact`] or after many additions, their graphs are
    /// gone. A graph that is built on several threads is another one each time.
    ///
    /// # Errors
    /// If a setting is out of range, the queries have other dimensions or are not finite, or a file cannot be read or
    /// written, or is damaged. The index is then as before.
    pub fn build_graphs(
        &mut self,
        options: &GraphOptions,
        sample: LossSample,
        queries: &Embeddings,
    ) -> Result<Approximation> {
        check(options)?;
        self.index.check_dim("queries", queries)?;
        let mut manifest = self.index.manifest.clone();
        for (entry, segment) in manifest.segments.iter_mut().zip(&self.index.segments) {
            let version = entry.graph.as_ref().map_or(0, |graph| graph.version + 1);
            entry.graph = Some(write_graph(&self.index, segment, options, version)?);
        }
        let rows = manifest.segments.iter().map(|entry| entry.rows).sum();
        let approximation = Approximation { options: options.clone(), rows, loss: None };
        manifest.approximate = Some(approximation.clone());
        let built = DiskIndex::of(&self.index.folder, manifest.clone(), &self.index.segments)?;
        let loss = built.loss(sample, queries, options.expansion)?;
        let approximation = Approximation { loss, ..approximation };
        manifest.approximate = Some(approximation.clone());
        self.publish(manifest)?;
        Ok(approximation)
    }
}

fn check(options: &GraphOptions) -> Result<()> {
    if !(2..=256).contains(&options.links) {
        return Err(Error::setting("links", options.links, "2 to 256"));
    }
    for (name, value) in [("build_expansion", options.build_expansion), ("expansion", options.expansion)] {
        if !(1..=EXPANSION).contains(&value) {
            return Err(Error::setting(name, value, "1 to 65536"));
        }
    }
    Ok(())
}

/// Links the rows of a segment and writes the graph.
fn write_graph(index: &DiskIndex, segment: &Segment, options: &GraphOptions, version: u64) -> Result<GraphEntry> {
    let graph = Graph::with_capacity(segment.entry.rows, index.dim(), options)?;
    let (mut bytes, mut rows, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for start in (0..segment.entry.rows).step_by(ROWS) {
        let end = (start + ROWS).min(segment.entry.rows);
        segment.read(Matrix::Vectors, (start, end), None, &mut bytes, &mut rows)?;
        index.manifest.vectors.decode(&bytes, &mut values);
        graph.add(&Embeddings::from_rows(index.dim(), values.chunks_exact(index.dim()))?, start)?;
    }
    graph.mend(options.build_expansion)?;
    let path = index.folder.join(SegmentEntry::folder(segment.entry.number)).join(GraphEntry::file(version));
    let bytes = graph.to_bytes()?;
    drop(graph);
    let mut writer = CheckedWriter::new(AtomicFile::create(&path)?);
    let written = writer.write_all(&bytes).and_then(|()| writer.finish());
    let (seal, file) = written.map_err(|e| Error::io("write", &path, e))?;
    file.commit()?;
    Ok(GraphEntry { version, seal })
}

impl DiskIndex {
    /// The `k` best documents of each query as far as graphs find them; segments without a graph are searched exactly.
    pub(super) fn search_approximately(&self, queries: &[f32], options: &SearchOptions) -> Result<Vec<Vec<Hit>>> {
        let Some(approximation) = self.approximation() else {
            let (folder, build) = (self.folder.display(), "`care index approximate` or `IndexWriter::build_graphs`");
            let message =
                format!("the index {folder} has no graphs for an approximate search: build them with {build}");
            return Err(Error::new(ErrorKind::Config, message));
        };
        let expansion = options.expansion.unwrap_or(approximation.options.expansion).max(options.k);
        if !(1..=EXPANSION).contains(&expansion) {
            return Err(Error::setting("expansion", expansion, "1 to 65536"));
        }
        let (mut graphs, mut scanned) = (Vec::new(), Vec::new());
        for ((segment, start), selected) in
            self.segments.iter().zip(&self.starts).zip(self.selections(options.filter.as_ref())?)
        {
            let fitting = selected.as_ref().map_or(segment.entry.rows, |selected| selected.len());
            match segment.graph()? {
                Some(graph) if fitting * NARROW >= segment.entry.rows => graphs.push((graph, *start, selected)),
                _ => scanned.push((segment, *start, selected)),
            }
        }
        let blocks = self.blocks_of(scanned, Matrix::Vectors);
        let exact = self.scan(&blocks, Matrix::Vectors, queries, options.k)?;
        let found = exact.into_par_iter().zip(queries.par_chunks_exact(self.dim())).map(|(exact, query)| {
            let mut candidates = exact.into_hits();
            for (graph, start, selected) in &graphs {
                let rows = graph.near(query, expansion, selected.as_deref())?;
                candidates.extend(rows.into_iter().map(|row| Hit { index: start + row, score: 0.0 }));
            }
            self.rescore(query, candidates, options.k)
        });
        found.collect()
    }

    /// What graphs lose on queries; `None` without queries or rows.
    fn loss(&self, sample: LossSample, queries: &Embeddings, expansion: usize) -> Result<Option<Loss>> {
        if queries.is_empty() || self.is_empty() {
            return Ok(None);
        }
        let exact = self.search(queries, &SearchOptions::new(LOSS_K))?;
        let found = self.search(queries, &SearchOptions::new(LOSS_K).with_approximate())?;
        let lost: Vec<f64> = exact.iter().zip(&found).map(|(exact, found)| lost(exact, found)).collect();
        let mean = lost.iter().sum::<f64>() / lost.len() as f64;
        let interval = interval(&lost);
        Ok(Some(Loss { sample, queries: lost.len(), k: LOSS_K, expansion, mean, interval }))
    }
}

/// The share of the exact hits that were not found. Documents of one score are not told apart.
fn lost(exact: &[Hit], found: &[Hit]) -> f64 {
    let least = exact.last().map_or(f32::INFINITY, |hit| hit.score);
    let kept = found.iter().filter(|hit| hit.score >= least).count().min(exact.len());
    1.0 - kept as f64 / exact.len().max(1) as f64
}

/// The 2.5 % and 97.5 % percentiles of the means of bootstrap samples, which are always the same.
fn interval(values: &[f64]) -> [f64; 2] {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % values.len()
    };
    let mean = |_| (0..values.len()).map(|_| values[next()]).sum::<f64>() / values.len() as f64;
    let mut means: Vec<f64> = (0..SAMPLES).map(mean).collect();
    means.sort_unstable_by(f64::total_cmp);
    [means[SAMPLES / 40], means[SAMPLES - 1 - SAMPLES / 40]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(scores: &[f32]) -> Vec<Hit> {
        scores.iter().enumerate().map(|(index, score)| Hit { index, score: *score }).collect()
    }

    #[test]
    fn a_document_is_found_if_one_with_its_score_is() {
        let exact = hits(&[0.9, 0.8, 0.7, 0.7]);
        assert_eq!(lost(&exact, &exact), 0.0);
        assert_eq!(lost(&exact, &hits(&[0.9, 0.7, 0.7, 0.7])), 0.0);
        assert_eq!(lost(&exact, &hits(&[0.9, 0.8, 0.7, 0.6])), 0.25);
        assert_eq!(lost(&exact, &[]), 1.0);
    }

    #[test]
    fn the_interval_is_that_of_the_mean() {
        assert_eq!(interval(&[0.1; 50]).map(|bound| (bound * 1e6).round()), [1e5, 1e5]);
        // 100 of 400: the standard error of the mean is 0.0217.
        let values: Vec<f64> = (0..400).map(|at| f64::from(u8::from(at % 4 == 0))).collect();
        let [low, high] = interval(&values);
        assert!((0.20..0.22).contains(&low) && (0.28..0.30).contains(&high), "{low} {high}");
    }
}
