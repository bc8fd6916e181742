//! What de-duplication writes: the kept rows, clusters, counts.

use std::io::Write;

use care_core::{Error, Result};
use serde::Serialize;

use super::options::Method;
use super::run::Deduplication;

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DedupCounts {
    /// Rows that were read.
    pub rows: usize,
    /// Of these, rows that are kept.
    pub kept: usize,
    /// Rows dropped as exact duplicates.
    pub exact: usize,
    /// Rows dropped as near-duplicates.
    pub near: usize,
    /// Rows dropped by their vectors.
    pub vectors: usize,
    /// Dropped rows whose text is in the other files.
    pub leaks: usize,
    /// Rows without text, which are duplicates of nothing.
    pub empty: usize,
    /// Rows that could not be read.
    pub bad: usize,
}

/// A kept row and those that were dropped for it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Cluster {
    /// The row that is kept. If its file is one of the other files, the others are leaks.
    pub kept: RowPlace,
    /// The rows that were dropped, in the order of the files.
    pub dropped: Vec<DroppedRow>,
}

/// Where a row is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RowPlace {
    /// The file, as it was given.
    pub file: String,
    /// The line in it, from 1.
    pub line: u32,
}

/// A row that was dropped.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DroppedRow {
    /// Where it is.
    #[serde(flatten)]
    pub place: RowPlace,
    /// How it was found.
    pub method: Method,
    /// 1 for exact duplicates, the Jaccard similarity of n-grams, or the cosine of vectors.
    pub similarity: f32,
    /// The row that it was compared with, if that was later dropped by its vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<RowPlace>,
}

impl Deduplication {
    /// How many rows were kept and dropped.
    pub fn counts(&self) -> DedupCounts {
        let found = &self.found;
        let rows = found.against..found.rows.len();
        let empty = found.rows.keys[rows.clone()].iter().filter(|key| **key == 0).count();
        let mut counts = DedupCounts { rows: rows.len(), empty, bad: found.bad.len(), ..DedupCounts::default() };
        for row in rows {
            let Some(duplicate) = found.duplicates[row] else {
                counts.kept += 1;
                continue;
            };
            match duplicate.method {
                Method::Exact => counts.exact += 1,
                Method::Near => counts.near += 1,
                Method::Vectors => counts.vectors += 1,
            }
            counts.leaks += usize::from(found.root(row) < found.against);
        }
        counts
    }

    /// Writes the kept rows of the files, each line as it was.
    ///
    /// # Errors
    /// If a file cannot be read or has changed, or `out` fails.
    pub fn write_rows(&self, out: &mut dyn Write) -> Result<()> {
        let found = &self.found;
        found.rows.for_each_again(&mut |rows| {
            let kept = rows.iter().filter(|(row, _)| *row >= found.against && found.duplicates[*row].is_none());
            let mut write = |line: &str| out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n"));
            kept.map(|(_, line)| line)
                .try_for_each(|line| write(line))
                .map_err(|e| Error::io("write", "the kept rows", e))
        })
    }

    /// Calls `each` with the clusters, in the order of their kept rows; with the leaks alone, if so wanted.
    ///
    /// # Errors
    /// If `each` fails.
    pub fn for_each_cluster(&self, leaks: bool, each: &mut dyn FnMut(Cluster) -> Result<()>) -> Result<()> {
        let found = &self.found;
        let dropped = (found.against..found.rows.len()).filter(|row| found.duplicates[*row].is_some());
        let mut members: Vec<(u32, u32)> = dropped.map(|row| (found.root(row) as u32, row as u32)).collect();
        members.retain(|(root, _)| !leaks || (*root as usize) < found.against);
        members.sort_unstable();
        for members in members.chunk_by(|left, right| left.0 == right.0) {
            let root = members[0].0;
            let dropped = members.iter().filter_map(|(_, row)| self.dropped(root, *row as usize)).collect();
            each(Cluster { kept: self.place(root as usize), dropped })?;
        }
        Ok(())
    }

    fn dropped(&self, root: u32, row: usize) -> Option<DroppedRow> {
        let duplicate = self.found.duplicates[row]?;
        let of = (duplicate.of != root).then(|| self.place(duplicate.of as usize));
        Some(DroppedRow { place: self.place(row), method: duplicate.method, similarity: duplicate.similarity, of })
    }

    fn place(&self, row: usize) -> RowPlace {
        let (path, line) = self.found.rows.place(row);
        RowPlace { file: path.display().to_string(), line }
    }
}
