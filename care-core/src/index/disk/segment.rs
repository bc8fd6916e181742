//! Reading a segment: immutable files of rows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

#[cfg(feature = "f16")]
use half::f16;

use super::checked_file::CheckedFile;
use super::codes::Codes;
use super::columns::{self, Column};
use super::filter::Filter;
#[cfg(feature = "approximate")]
use super::graph::Graph;
use super::manifest::{GraphEntry, IndexManifest, RemovedEntry, SegmentEntry};
use super::record::Record;
use super::row_set::RowSet;
use crate::error::{Error, Result};
use crate::files::{KEY, Key};
use crate::index::flat::VectorFormat;

/// The keys of the ids.
pub(super) const KEYS: &str = "keys";
/// One JSON object per row, one after the other.
pub(super) const RECORDS: &str = "records";
/// Where each record ends: u64.
pub(super) const ENDS: &str = "ends";
/// The vectors, `[rows, dim]`.
pub(super) const VECTORS: &str = "vectors";
/// The values of the columns.
pub(super) const COLUMNS: &str = "columns";
/// The list of the columns, as JSON.
pub(super) const FIELDS: &str = "fields";

/// Keys in memory at once.
const KEYS_AT_ONCE: usize = 1 << 16;

/// A part of a segment with rows of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matrix {
    Vectors,
    Codes(Codes),
}

/// A segment and its removed rows.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) entry: SegmentEntry,
    files: Arc<Files>,
    /// The rows that were not removed; `None` if that is all.
    live: Option<Arc<RowSet>>,
    graph: Option<Arc<GraphFile>>,
}

/// The file of a graph, which is loaded when it is first searched.
#[derive(Debug)]
struct GraphFile {
    file: CheckedFile,
    #[cfg(feature = "approximate")]
    graph: OnceLock<Graph>,
}

/// The immutable files of a segment.
#[derive(Debug)]
struct Files {
    dim: usize,
    format: VectorFormat,
    by_name: BTreeMap<String, CheckedFile>,
    columns: OnceLock<Vec<Column>>,
}

impl Segment {
    /// Opens the files of a segment and reads which rows were removed.
    ///
    /// # Errors
    /// If a file cannot be opened or has another size than the manifest states.
    pub(super) fn open(folder: &Path, manifest: &IndexManifest, entry: &SegmentEntry) -> Result<Self> {
        let inner = folder.join(SegmentEntry::folder(entry.number));
        let mut by_name = BTreeMap::new();
        for (name, seal) in &entry.files {
            by_name.insert(name.clone(), CheckedFile::open(inner.join(name), *seal)?);
        }
        let files = Files { dim: manifest.dim, format: manifest.vectors, by_name, columns: OnceLock::new() };
        let sizes = [(KEYS, KEY), (ENDS, 8), (VECTORS, files.row_bytes(Matrix::Vectors))].into_iter();
        let codes = manifest.codes.iter().map(|codes| (codes.as_str(), codes.row_bytes(manifest.dim)));
        for (name, size) in sizes.chain(codes) {
            let file = files.file(name)?;
            if file.len() != (size * entry.rows) as u64 {
                let problem = format!("{} bytes are not {} rows of {size} bytes", file.len(), entry.rows);
                return Err(Error::format(file.path(), problem));
            }
        }
        Self { entry: entry.clone(), files: Arc::new(files), live: None, graph: None }.with_changes(folder, entry)
    }

    /// This segment with the removed rows of another manifest, if it is the same segment in both.
    pub(super) fn reopen(&self, folder: &Path, entry: &SegmentEntry) -> Option<Result<Self>> {
        let is_same = entry.number == self.entry.number && entry.files == self.entry.files;
        is_same.then(|| if entry == &self.entry { Ok(self.clone()) } else { self.clone().with_changes(folder, entry) })
    }

    /// Opens what may change of a segment: which rows were removed, and the graph.
    fn with_changes(mut self, folder: &Path, entry: &SegmentEntry) -> Result<Self> {
        let folder = folder.join(SegmentEntry::folder(entry.number));
        self.graph = match &entry.graph {
            Some(graph) if self.graph.is_some() && self.entry.graph.as_ref() == Some(graph) => self.graph,
            Some(graph) => Some(Arc::new(GraphFile {
                file: CheckedFile::open(folder.join(GraphEntry::file(graph.version)), graph.seal)?,
                #[cfg(feature = "approximate")]
                graph: OnceLock::new(),
            })),
            None => None,
        };
        self.entry = entry.clone();
        self.live = None;
        if let Some(removed) = &entry.removed {
            let file = CheckedFile::open(folder.join(RemovedEntry::file(removed.version)), removed.seal)?;
            let bytes = file.bytes(0, file.len() as usize)?;
            let set = RowSet::from_bytes(entry.rows, &bytes).filter(|set| set.len() == removed.rows);
            let set = set.ok_or_else(|| Error::format(file.path(), "not the rows that the manifest states"))?;
            self.live = Some(Arc::new(set.complement()));
        }
        Ok(self)
    }

    /// Number of rows that were not removed.
    pub(super) fn len(&self) -> usize {
        self.entry.rows - self.entry.removed.as_ref().map_or(0, |removed| removed.rows)
    }

    pub(super) fn is_live(&self, row: usize) -> bool {
        self.live.as_ref().is_none_or(|live| live.contains(row))
    }

    /// The live rows that fit a filter; `None` if that is all.
    pub(super) fn select(&self, filter: Option<&Filter>) -> Result<Option<Arc<RowSet>>> {
        let Some(filter) = filter else { return Ok(self.live.clone()) };
        let mut rows = columns::select(filter, self.entry.rows, self.columns()?, self.files.file(COLUMNS)?)?;
        if let Some(live) = &self.live {
            rows.intersect(live);
        }
        Ok(Some(Arc::new(rows)))
    }

    /// The graph, which is read when it is first asked for.
    #[cfg(feature = "approximate")]
    pub(super) fn graph(&self) -> Result<Option<&Graph>> {
        let Some(GraphFile { file, graph }) = self.graph.as_deref() else { return Ok(None) };
        if let Some(graph) = graph.get() {
            return Ok(Some(graph));
        }
        let read = Graph::from_bytes(&file.bytes(0, file.len() as usize)?).map_err(|e| e.in_file(file.path()))?;
        if read.len() != self.entry.rows {
            let problem = format!("a graph of {} rows, the segment has {}", read.len(), self.entry.rows);
            return Err(Error::format(file.path(), problem));
        }
        Ok(Some(graph.get_or_init(|| read)))
    }

    /// The rows whose key is wanted.
    pub(super) fn find(&self, mut is_wanted: impl FnMut(&Key) -> bool) -> Result<Vec<usize>> {
        let found = self.find_each(|key| is_wanted(key).then_some(()))?;
        Ok(found.into_iter().map(|(row, ())| row).collect())
    }

    /// The rows whose key is wanted, each with what it is wanted for.
    pub(super) fn find_each<T>(&self, mut wanted: impl FnMut(&Key) -> Option<T>) -> Result<Vec<(usize, T)>> {
        let (file, mut found) = (self.files.file(KEYS)?, Vec::new());
        for start in (0..self.entry.rows).step_by(KEYS_AT_ONCE) {
            let count = KEYS_AT_ONCE.min(self.entry.rows - start);
            let bytes = file.bytes((KEY * start) as u64, KEY * count)?;
            let keys = (start..).zip(bytes.as_chunks::<KEY>().0);
            found.extend(keys.filter_map(|(row, key)| Some((row, wanted(key)?))));
        }
        found.retain(|(row, _)| self.is_live(*row));
        Ok(found)
    }

    /// The id, text and metadata of a row.
    pub(super) fn record(&self, row: usize) -> Result<Record> {
        let file = self.files.file(RECORDS)?;
        serde_json::from_slice(&self.record_json(row)?)
            .map_err(|e| Error::format(file.path(), format!("row {row}: {e}")).with_source(e))
    }

    fn record_json(&self, row: usize) -> Result<Vec<u8>> {
        let (ends, records) = (self.files.file(ENDS)?, self.files.file(RECORDS)?);
        let first = row.saturating_sub(1);
        let bytes = ends.bytes(8 * first as u64, 8 * (row - first + 1))?;
        let ends: Vec<u64> = bytes.as_chunks().0.iter().map(|end| u64::from_le_bytes(*end)).collect();
        let (start, end) = if row == 0 { (0, ends[0]) } else { (ends[0], ends[1]) };
        match end.checked_sub(start).filter(|_| end <= records.len()) {
            Some(length) => records.bytes(start, length as usize),
            None => Err(Error::format(records.path(), format!("row {row} ends at byte {end}"))),
        }
    }

    /// Reads rows of a matrix into `bytes`: those of `start..end` that are selected, and appends their numbers to `rows`.
    ///
    /// Few rows are read one by one, many with those between them.
    pub(super) fn read(
        &self,
        matrix: Matrix,
        (start, end): (usize, usize),
        selected: Option<&RowSet>,
        bytes: &mut Vec<u8>,
        rows: &mut Vec<usize>,
    ) -> Result<()> {
        rows.clear();
        match selected {
            Some(selected) => selected.rows_in(start, end, rows),
            None => rows.extend(start..end),
        }
        let size = self.files.row_bytes(matrix);
        let file = self.files.file(matrix.name())?;
        if rows.len() * SPARSE < end - start {
            bytes.resize(rows.len() * size, 0);
            for (row, bytes) in rows.iter().zip(bytes.chunks_exact_mut(size)) {
                file.read_at(bytes, (row * size) as u64)?;
            }
            return Ok(());
        }
        bytes.resize((end - start) * size, 0);
        file.read_at(bytes, (start * size) as u64)?;
        if rows.len() < end - start {
            for (to, row) in rows.iter().enumerate() {
                let from = (row - start) * size;
                bytes.copy_within(from..from + size, to * size);
            }
            bytes.truncate(rows.len() * size);
        }
        Ok(())
    }

    /// Bytes of a row of a matrix.
    pub(super) fn row_bytes(&self, matrix: Matrix) -> usize {
        self.files.row_bytes(matrix)
    }

    /// The columns of the segment, by field.
    pub(super) fn columns(&self) -> Result<&Vec<Column>> {
        if let Some(columns) = self.files.columns.get() {
            return Ok(columns);
        }
        let file = self.files.file(FIELDS)?;
        let columns = serde_json::from_slice(&file.bytes(0, file.len() as usize)?)
            .map_err(|e| Error::format(file.path(), e.to_string()).with_source(e))?;
        Ok(self.files.columns.get_or_init(|| columns))
    }

    /// Reads every file and compares it with its checksums.
    pub(super) fn verify(&self) -> Result<()> {
        let graph = self.graph.iter().map(|graph| &graph.file);
        self.files.by_name.values().chain(graph).try_for_each(CheckedFile::verify)
    }

    /// Bytes on disk, without checksums.
    pub(super) fn bytes(&self) -> u64 {
        let graph = self.graph.iter().map(|graph| &graph.file);
        self.files.by_name.values().chain(graph).map(CheckedFile::len).sum()
    }
}

/// Rows are read one by one if fewer than one in so many is wanted.
const SPARSE: usize = 8;

impl Files {
    fn file(&self, name: &str) -> Result<&CheckedFile> {
        self.by_name.get(name).ok_or_else(|| {
            let folder = self.by_name.values().next().and_then(|file| file.path().parent()).unwrap_or(Path::new(""));
            Error::format(folder, format!("the index's manifest names no file `{name}` of this segment"))
        })
    }

    fn row_bytes(&self, matrix: Matrix) -> usize {
        match matrix {
            Matrix::Vectors => self.format.value_bytes() * self.dim,
            Matrix::Codes(codes) => codes.row_bytes(self.dim),
        }
    }
}

impl Matrix {
    fn name(self) -> &'static str {
        match self {
            Self::Vectors => VECTORS,
            Self::Codes(codes) => codes.as_str(),
        }
    }
}

impl VectorFormat {
    /// The name in files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            #[cfg(feature = "f16")]
            Self::F16 => "f16",
        }
    }

    pub(super) fn value_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            #[cfg(feature = "f16")]
            Self::F16 => 2,
        }
    }

    /// Appends values in this format.
    pub(super) fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            #[cfg(feature = "f16")]
            Self::F16 => out.extend(values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes())),
        }
    }

    /// Replaces `out` by the values of [`VectorFormat::encode`].
    pub(super) fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        out.clear();
        match self {
            Self::F32 => out.extend(bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value))),
            #[cfg(feature = "f16")]
            Self::F16 => {
                use half::slice::HalfFloatSliceExt;
                let values: Vec<f16> = bytes.as_chunks().0.iter().map(|value| f16::from_le_bytes(*value)).collect();
                out.resize(values.len(), 0.0);
                values.convert_to_f32_slice(out);
            }
        }
    }
}
