//! Changing an index: add, replace, remove and compact.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::checked_file::CheckedWriter;
use super::codes::Codes;
use super::manifest::{DocumentTower, IndexManifest, MANIFEST, RemovedEntry, SegmentEntry};
use super::record::Record;
use super::row_set::RowSet;
use super::segment::Segment;
use super::segment_writer::SegmentWriter;
use super::snapshot::DiskIndex;
use crate::embeddings::Embeddings;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{FolderLock, Key, key, lock_folder, remove_folder, sweep_folder, write_atomic};
use crate::index::flat::VectorFormat;

/// Segments that an addition leaves as they are; of more, the last are merged.
const SEGMENTS: usize = 16;
/// Largest number of dimensions.
const DIMENSIONS: usize = 1 << 16;
/// Rows in memory while segments are merged.
const MERGED_AT_ONCE: usize = 512;

/// What an index stores of each vector.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DiskIndexOptions {
    /// The dtype of the vectors; by default f32.
    pub vectors: VectorFormat,
    /// Codes beside the vectors, for faster searches; by default none.
    pub codes: Vec<Codes>,
}

impl DiskIndexOptions {
    /// Stores vectors in this dtype.
    #[must_use]
    pub fn with_vectors(mut self, vectors: VectorFormat) -> Self {
        self.vectors = vectors;
        self
    }

    /// Stores these codes beside the vectors.
    #[must_use]
    pub fn with_codes(mut self, codes: impl IntoIterator<Item = Codes>) -> Self {
        self.codes = codes.into_iter().collect();
        self
    }
}

/// What an addition did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changes {
    /// Rows that were added, those that replace one included.
    pub added: usize,
    /// Rows whose id the index had.
    pub replaced: usize,
}

/// The one writer of an index, which holds the lock of its folder.
///
/// A method that returns without an error has synced its change to disk. If the process or the machine stops before, the
/// index is what it was.
#[derive(Debug)]
pub struct IndexWriter {
    pub(super) index: DiskIndex,
    _lock: FolderLock,
}

impl IndexWriter {
    /// Makes an index without rows in a folder, which is created if it does not exist.
    ///
    /// # Errors
    /// If the folder has files or cannot be written, or `dim` or the options are out of range.
    pub fn create(
        folder: impl AsRef<Path>,
        tower: &DocumentTower,
        dim: usize,
        options: &DiskIndexOptions,
    ) -> Result<Self> {
        let folder = folder.as_ref();
        if !(1..=DIMENSIONS).contains(&dim) {
            return Err(Error::setting("dim", dim, &format!("1 to {DIMENSIONS}")));
        }
        let mut codes = options.codes.clone();
        codes.sort_unstable();
        codes.dedup();
        fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
        let lock = lock_folder(folder)?;
        sweep_folder(folder);
        let entries = fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))?;
        if folder.join(MANIFEST).exists() {
            return Err(Error::format(folder, "there is an index already"));
        }
        if entries.flatten().any(|entry| entry.file_name() != ".lock") {
            return Err(Error::format(folder, "the folder is not empty"));
        }
        let manifest = IndexManifest::new(tower.clone(), dim, options.vectors, codes);
        manifest.write(folder)?;
        Ok(Self { index: DiskIndex::of(folder, manifest, &[])?, _lock: lock })
    }

    /// Opens an index to change it, and removes what a killed process left of a change.
    ///
    /// # Errors
    /// As [`DiskIndex::open`], and if another writer has the index open; the message names its process.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        // Before the lock, which would make a file in a folder that is no index.
        IndexManifest::read(folder)?;
        let lock = lock_folder(folder)?;
        let writer = Self { index: DiskIndex::open(folder)?, _lock: lock };
        writer.sweep();
        Ok(writer)
    }

    /// The index as the last change left it.
    pub fn index(&self) -> &DiskIndex {
        &self.index
    }

    /// Adds rows with their vectors, `[records, dim]`. A row whose id the index has replaces that row.
    ///
    /// # Errors
    /// If the vectors are of another tower or have other dimensions, one is zero or not finite, an id is empty or occurs
    /// twice, a field of the metadata is of no supported type, or a file cannot be written. Nothing is added then.
    pub fn add(&mut self, tower: &DocumentTower, records: &[Record], vectors: &Embeddings) -> Result<Changes> {
        let mut addition = self.addition(tower)?;
        addition.push(records, vectors)?;
        addition.commit()
    }

    /// Begins to add rows in parts, which take effect together: for collections that do not fit into memory.
    ///
    /// # Errors
    /// If the vectors will be of another tower, or a file cannot be written.
    pub fn addition(&mut self, tower: &DocumentTower) -> Result<Addition<'_>> {
        self.index.check_tower(tower)?;
        self.sweep();
        let manifest = &self.index.manifest;
        let segment = SegmentWriter::create(&self.index.folder, manifest.next_segment, manifest)?;
        Ok(Addition { writer: self, segment, keys: HashSet::new() })
    }

    /// Removes the rows of ids. Returns how many the index had.
    ///
    /// # Errors
    /// If a file cannot be read or written, or is damaged. Nothing is removed then.
    pub fn remove<S: AsRef<str>>(&mut self, ids: &[S]) -> Result<usize> {
        let keys = ids.iter().map(|id| key(id.as_ref())).collect();
        let (manifest, removed) = self.without(&keys)?;
        if removed > 0 {
            self.publish(manifest)?;
        }
        Ok(removed)
    }

    /// Merges all segments into one and frees the space of removed rows. The order of rows stays.
    ///
    /// # Errors
    /// If a file cannot be read or written, or is damaged.
    pub fn compact(&mut self) -> Result<()> {
        if self.index.segments() <= 1 && self.index.removed() == 0 {
            return Ok(());
        }
        self.sweep();
        let mut manifest = self.index.manifest.clone();
        manifest.segments = self.merged(&self.index.segments, &mut manifest.next_segment)?.into_iter().collect();
        self.publish(manifest)
    }

    /// The manifest without the rows of these keys, and their number. Segments that would be empty are left out.
    fn without(&self, keys: &HashSet<Key>) -> Result<(IndexManifest, usize)> {
        let mut manifest = self.index.manifest.clone();
        let found = self.index.segments.par_iter().map(|segment| segment.find(|key| keys.contains(key)));
        let found: Vec<Vec<usize>> = found.collect::<Result<_>>()?;
        for ((segment, entry), rows) in self.index.segments.iter().zip(&mut manifest.segments).zip(&found) {
            if !rows.is_empty() && rows.len() < segment.len() {
                entry.removed = Some(self.write_removed(segment, rows)?);
            }
        }
        let mut left = self.index.segments.iter().zip(&found).map(|(segment, rows)| segment.len() > rows.len());
        manifest.segments.retain(|_| left.next().unwrap_or(true));
        Ok((manifest, found.iter().map(Vec::len).sum()))
    }

    /// Writes which rows of a segment are removed: those that were, and these.
    fn write_removed(&self, segment: &Segment, rows: &[usize]) -> Result<RemovedEntry> {
        let mut set = RowSet::empty(segment.entry.rows);
        (0..segment.entry.rows).filter(|row| !segment.is_live(*row)).for_each(|row| set.insert(row));
        rows.iter().for_each(|row| set.insert(*row));
        let version = segment.entry.removed.as_ref().map_or(0, |removed| removed.version + 1);
        let folder = self.index.folder.join(SegmentEntry::folder(segment.entry.number));
        let path = folder.join(RemovedEntry::file(version));
        let mut writer = CheckedWriter::new(Vec::new());
        let written = std::io::Write::write_all(&mut writer, &set.to_bytes()).and_then(|()| writer.finish());
        let (seal, bytes) = written.map_err(|e| Error::io("write", &path, e))?;
        write_atomic(&path, bytes)?;
        Ok(RemovedEntry { version, rows: set.len(), seal })
    }

    /// One segment of the live rows of several; `None` if there are none.
    fn merged(&self, segments: &[Segment], next: &mut u64) -> Result<Option<SegmentEntry>> {
        let manifest = IndexManifest { segments: Vec::new(), ..self.index.manifest.clone() };
        let mut writer = SegmentWriter::create(&self.index.folder, *next, &manifest)?;
        *next += 1;
        for segment in segments {
            let source = DiskIndex {
                folder: self.index.folder.clone(),
                manifest: manifest.clone(),
                segments: vec![segment.clone()],
                starts: vec![0],
            };
            let rows: Vec<usize> = source.rows().collect();
            for rows in rows.chunks(MERGED_AT_ONCE) {
                let vectors = source.vectors(rows)?;
                for (at, row) in rows.iter().enumerate() {
                    writer.push(&source.record(*row)?, vectors.row(at).as_slice().unwrap_or_default())?;
                }
            }
        }
        if writer.len() == 0 { Ok(None) } else { writer.finish().map(Some) }
    }

    /// Makes a manifest take effect, and removes what it no longer names.
    pub(super) fn publish(&mut self, mut manifest: IndexManifest) -> Result<()> {
        if manifest.segments.iter().all(|segment| segment.graph.is_none()) {
            manifest.approximate = None;
        }
        let index = DiskIndex::of(&self.index.folder, manifest, &self.index.segments)?;
        index.manifest.write(&index.folder)?;
        self.index = index;
        self.sweep();
        Ok(())
    }

    /// Removes files that the manifest does not name. Best effort: what cannot be removed does no harm.
    fn sweep(&self) {
        let (folder, manifest) = (&self.index.folder, &self.index.manifest);
        sweep_folder(folder);
        let number = |path: &Path, prefix: &str| path.file_name()?.to_str()?.strip_prefix(prefix)?.parse::<u64>().ok();
        for path in entries(folder) {
            let Some(segment) = number(&path, "segment-") else { continue };
            let Some(entry) = manifest.segments.iter().find(|entry| entry.number == segment) else {
                remove_folder(&path).ok();
                continue;
            };
            let removed = entry.removed.as_ref().map(|removed| removed.version);
            let graph = entry.graph.as_ref().map(|graph| graph.version);
            let is_old = |file: &Path, prefix, current| number(file, prefix).is_some_and(|n| Some(n) != current);
            for file in entries(&path) {
                if is_old(&file, "removed-", removed) || is_old(&file, "graph-", graph) {
                    fs::remove_file(file).ok();
                }
            }
            sweep_folder(&path);
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Rows that are being added; [`Addition::commit`] makes them part of the index. Dropping it adds nothing.
pub struct Addition<'a> {
    writer: &'a mut IndexWriter,
    segment: SegmentWriter,
    keys: HashSet<Key>,
}

impl Addition<'_> {
    /// Adds rows with their vectors, `[records, dim]`.
    ///
    /// # Errors
    /// As [`IndexWriter::add`]. The rows before the one that is refused are part of the addition; after a failed write,
    /// nothing can be committed.
    pub fn push(&mut self, records: &[Record], vectors: &Embeddings) -> Result<()> {
        self.writer.index.check_dim("vectors", vectors)?;
        if records.len() != vectors.len() {
            let message = format!("{} rows have {} vectors", records.len(), vectors.len());
            return Err(Error::new(ErrorKind::Dimension, message));
        }
        let vectors = vectors.as_array().as_standard_layout();
        for (record, vector) in records.iter().zip(vectors.rows()) {
            let key = key(&record.id);
            if self.keys.contains(&key) {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!("the id {:?} occurs twice in one addition", record.id),
                ));
            }
            self.segment.push(record, vector.to_slice().unwrap_or_default())?;
            self.keys.insert(key);
        }
        Ok(())
    }

    /// Number of rows so far.
    pub fn len(&self) -> usize {
        self.segment.len()
    }

    /// Whether there are no rows yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes the rows part of the index, in place of those that have the same ids.
    ///
    /// # Errors
    /// If a file cannot be written or read, or is damaged. Nothing is added then.
    pub fn commit(self) -> Result<Changes> {
        let Self { writer, segment, keys } = self;
        let added = segment.len();
        if added == 0 {
            return Ok(Changes { added: 0, replaced: 0 });
        }
        let entry = segment.finish()?;
        let (mut manifest, replaced) = writer.without(&keys)?;
        manifest.next_segment = entry.number + 1;
        manifest.segments.push(entry);
        let index = DiskIndex::of(&writer.index.folder, manifest.clone(), &writer.index.segments)?;
        if let Some(first) = first_merged(&index.segments.iter().map(Segment::len).collect::<Vec<_>>()) {
            let merged = writer.merged(&index.segments[first..], &mut manifest.next_segment)?;
            manifest.segments.truncate(first);
            manifest.segments.extend(merged);
        }
        writer.publish(manifest)?;
        Ok(Changes { added, replaced })
    }
}

/// The first of the last segments that are merged, given the rows of all. Each row gets into a segment at least twice as
/// large as its own, so it is rewritten at most as often as the number of rows can be halved.
fn first_merged(rows: &[usize]) -> Option<usize> {
    if rows.len() <= SEGMENTS {
        return None;
    }
    (0..rows.len() - 1).find(|first| rows[*first] <= rows[first + 1..].iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_additions_leave_few_segments_and_rewrite_each_row_seldom() {
        let (mut rows, mut written, additions) = (Vec::new(), 0, 10_000);
        for _ in 0..additions {
            rows.push(1usize);
            if let Some(first) = first_merged(&rows) {
                let merged: usize = rows.drain(first..).sum();
                written += merged;
                rows.push(merged);
            }
            assert!(rows.len() <= SEGMENTS);
        }
        assert_eq!(rows.iter().sum::<usize>(), additions);
        assert!(written <= 10 * additions, "{written}");
    }
}
