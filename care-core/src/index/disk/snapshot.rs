//! An opened index: the rows that were in it when it was opened.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::approximate::Approximation;
use super::codes::Codes;
use super::columns::ColumnKind;
use super::filter::Filter;
use super::manifest::{DocumentTower, IndexManifest};
use super::record::Record;
use super::segment::{Matrix, Segment};
use crate::embeddings::Embeddings;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{Key, key};
use crate::index::flat::VectorFormat;

/// An exact index in a folder: vectors of a document tower, each with an id, and if wanted text and metadata.
///
/// It is a snapshot: changes by an [`IndexWriter`](super::IndexWriter), in this process or another, are seen after
/// [`DiskIndex::reopen`]. Opening reads the manifest, which rows were removed, and the sizes of the files; all else is read
/// when it is needed, and compared with its checksums when it is first read.
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("care-index-{}", std::process::id()));
/// use care_core::Embeddings;
/// use care_core::index::{DiskIndex, DiskIndexOptions, DocumentTower, IndexWriter, Record, SearchOptions};
///
/// let tower = DocumentTower::new("fingerprint of the document tower");
/// let mut writer = IndexWriter::create(&folder, &tower, 2, &DiskIndexOptions::default())?;
/// let records = [
///     Record::new("a").with_text("偏头痛").with_field("department", "神经内科"),
///     Record::new("b").with_text("高血压").with_field("department", "心内科"),
/// ];
/// writer.add(&tower, &records, &Embeddings::from_rows(2, [[1.0, 0.0], [0.6, 0.8]])?)?;
///
/// let index = DiskIndex::open(&folder)?;
/// let query = Embeddings::from_rows(2, [[1.0, 0.0]])?;
/// let hits = index.search(&query, &SearchOptions::new(1).with_filter("department=心内科".parse()?))?;
/// assert_eq!(index.record(hits[0][0].index)?.id, "b");
/// # drop(writer);
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), care_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DiskIndex {
    pub(super) folder: PathBuf,
    pub(super) manifest: IndexManifest,
    pub(super) segments: Vec<Segment>,
    /// The number of the first row of each segment.
    pub(super) starts: Vec<usize>,
}

/// A field of the metadata and how many values it has. A list of strings has as many as strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldInfo {
    /// The field.
    pub name: String,
    /// Strings and booleans.
    pub terms: u64,
    /// Numbers.
    pub numbers: u64,
}

impl DiskIndex {
    /// Opens an index.
    ///
    /// # Errors
    /// If the folder is no index or one of another format, the manifest is damaged, or a file lacks or has another size
    /// than the manifest states.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(folder.as_ref(), &[])
    }

    /// The index as it is now. Files that did not change stay open and are not checked again.
    ///
    /// # Errors
    /// As [`DiskIndex::open`].
    pub fn reopen(&self) -> Result<Self> {
        Self::open_with(&self.folder, &self.segments)
    }

    fn open_with(folder: &Path, open: &[Segment]) -> Result<Self> {
        let mut manifest = IndexManifest::read(folder)?;
        loop {
            match Self::of(folder, manifest.clone(), open) {
                // A writer may have replaced the manifest and removed a file that the old one names.
                Err(e) if is_missing(&e) => match IndexManifest::read(folder)? {
                    newer if newer != manifest => manifest = newer,
                    _ => return Err(e),
                },
                opened => return opened,
            }
        }
    }

    /// The index of a manifest. Segments that are open already stay so.
    pub(super) fn of(folder: &Path, manifest: IndexManifest, open: &[Segment]) -> Result<Self> {
        let (mut segments, mut starts, mut next) = (Vec::new(), Vec::new(), 0);
        for entry in &manifest.segments {
            let reopened = open.iter().find_map(|segment| segment.reopen(folder, entry));
            segments.push(reopened.unwrap_or_else(|| Segment::open(folder, &manifest, entry))?);
            starts.push(next);
            next += entry.rows;
        }
        Ok(Self { folder: folder.to_owned(), manifest, segments, starts })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The tower that the vectors are from.
    pub fn tower(&self) -> &DocumentTower {
        &self.manifest.tower
    }

    /// Refuses a tower other than that of the vectors: call it with the document tower of the pair whose query tower
    /// encodes the queries.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is another tower or has another instruction; the message names both.
    pub fn check_tower(&self, tower: &DocumentTower) -> Result<()> {
        self.manifest.tower.check(format_args!("the index {}", self.folder.display()), tower)
    }

    /// Dimensions of a vector.
    pub fn dim(&self) -> usize {
        self.manifest.dim
    }

    /// The dtype of the vectors.
    pub fn vector_format(&self) -> VectorFormat {
        self.manifest.vectors
    }

    /// The codes beside the vectors.
    pub fn codes(&self) -> &[Codes] {
        &self.manifest.codes
    }

    /// What the index states of its graphs for approximate searches; `None` if it has none.
    pub fn approximation(&self) -> Option<&Approximation> {
        self.manifest.approximate.as_ref()
    }

    /// Number of rows that an approximate search finds by graphs; it scores all others.
    pub fn graph_rows(&self) -> usize {
        self.segments.iter().filter(|segment| segment.entry.graph.is_some()).map(Segment::len).sum()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.segments.iter().map(Segment::len).sum()
    }

    /// Whether the index has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows that were removed and still take space, until their segment is merged with others.
    pub fn removed(&self) -> usize {
        self.segments.iter().map(|segment| segment.entry.rows).sum::<usize>() - self.len()
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Bytes on disk, without checksums and manifest.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(Segment::bytes).sum()
    }

    /// The fields of the metadata, by name. The values of removed rows count until their segment is merged.
    ///
    /// # Errors
    /// If a file cannot be read or is damaged.
    pub fn fields(&self) -> Result<Vec<FieldInfo>> {
        let mut fields: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for segment in &self.segments {
            for column in segment.columns()? {
                let (terms, numbers) = fields.entry(&column.field).or_default();
                match column.kind {
                    ColumnKind::Terms => *terms += column.count,
                    ColumnKind::Numbers => *numbers += column.count,
                }
            }
        }
        let info = |(name, (terms, numbers)): (&str, _)| FieldInfo { name: name.to_owned(), terms, numbers };
        Ok(fields.into_iter().map(info).collect())
    }

    /// The row of an id, as in [`Hit::index`](super::super::Hit::index).
    ///
    /// # Errors
    /// If a file cannot be read or is damaged.
    pub fn find(&self, id: &str) -> Result<Option<usize>> {
        let wanted = key(id);
        for (segment, start) in self.segments.iter().zip(&self.starts) {
            if let Some(row) = segment.find(|key| *key == wanted)?.pop() {
                return Ok(Some(start + row));
            }
        }
        Ok(None)
    }

    /// The rows of ids, in one pass over the index; `None` for an id that it does not have.
    ///
    /// # Errors
    /// If a file cannot be read or is damaged.
    pub fn find_all<S: AsRef<str>>(&self, ids: &[S]) -> Result<Vec<Option<usize>>> {
        let mut wanted: HashMap<Key, Vec<usize>> = HashMap::new();
        for (at, id) in ids.iter().enumerate() {
            wanted.entry(key(id.as_ref())).or_default().push(at);
        }
        let mut rows = vec![None; ids.len()];
        for (segment, start) in self.segments.iter().zip(&self.starts) {
            for (row, places) in segment.find_each(|key| wanted.get(key))? {
                places.iter().for_each(|at| rows[*at] = Some(start + row));
            }
        }
        Ok(rows)
    }

    /// The rows that fit a filter, in ascending order.
    ///
    /// # Errors
    /// If a file cannot be read or is damaged.
    pub fn matching(&self, filter: &Filter) -> Result<Vec<usize>> {
        let selected = self.segments.par_iter().zip(&self.starts).map(|(segment, start)| {
            let mut rows = Vec::new();
            match segment.select(Some(filter))? {
                Some(selected) => selected.rows_in(0, segment.entry.rows, &mut rows),
                None => rows.extend(0..segment.entry.rows),
            }
            rows.iter_mut().for_each(|row| *row += start);
            Ok(rows)
        });
        Ok(selected.collect::<Result<Vec<_>>>()?.concat())
    }

    /// The rows, in the order in which they were added. Their numbers, which [`Hit::index`](super::super::Hit::index) has
    /// too, are those of this snapshot; removed rows have numbers too.
    pub fn rows(&self) -> impl Iterator<Item = usize> {
        self.segments.iter().zip(&self.starts).flat_map(|(segment, start)| {
            (0..segment.entry.rows).filter(|row| segment.is_live(*row)).map(move |row| start + row)
        })
    }

    /// The id, text and metadata of a row.
    ///
    /// # Errors
    /// If a file cannot be read or is damaged.
    ///
    /// # Panics
    /// Panics if this snapshot has no such row.
    pub fn record(&self, row: usize) -> Result<Record> {
        let (segment, row) = self.place(row);
        segment.record(row)
    }

    /// The vectors of rows, `[rows, dim]`, as they are stored.
    ///
    /// # Errors
    /// If a file cannot be read or is damaged.
    ///
    /// # Panics
    /// Panics if this snapshot has no such row.
    pub fn vectors(&self, rows: &[usize]) -> Result<Embeddings> {
        let (mut vectors, mut values) = (Embeddings::zeros(rows.len(), self.dim()), Vec::new());
        let (mut bytes, mut read) = (Vec::new(), Vec::new());
        for (to, row) in rows.iter().enumerate() {
            let (segment, row) = self.place(*row);
            segment.read(Matrix::Vectors, (row, row + 1), None, &mut bytes, &mut read)?;
            self.manifest.vectors.decode(&bytes, &mut values);
            vectors.set(to, &values);
        }
        Ok(vectors)
    }

    /// Reads every file and compares it with its checksums.
    ///
    /// # Errors
    /// If a file cannot be read or is damaged; the message names it.
    pub fn verify(&self) -> Result<()> {
        self.segments.par_iter().try_for_each(Segment::verify)
    }

    pub(super) fn check_dim(&self, what: &str, vectors: &Embeddings) -> Result<()> {
        if vectors.dim() == self.dim() {
            return Ok(());
        }
        let message = format!("{what} have {} dimensions, the index has {}", vectors.dim(), self.dim());
        Err(Error::new(ErrorKind::Dimension, message))
    }

    /// The segment of a row, and its number in it.
    fn place(&self, row: usize) -> (&Segment, usize) {
        let at = self.starts.partition_point(|start| *start <= row) - 1;
        (&self.segments[at], row - self.starts[at])
    }
}

fn is_missing(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound)
}
