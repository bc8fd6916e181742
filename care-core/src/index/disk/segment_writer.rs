//! Writing a segment, row by row.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::checked_file::{CheckedWriter, FileSeal};
use super::codes::Codes;
use super::columns::ColumnsBuilder;
use super::manifest::{IndexManifest, SegmentEntry};
use super::record::Record;
use super::segment::{COLUMNS, ENDS, FIELDS, KEYS, RECORDS, VECTORS};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{PartialFolder, key};
use crate::index::flat::VectorFormat;

/// A segment that is being written. Dropping it removes what was written.
pub(super) struct SegmentWriter {
    folder: PartialFolder,
    number: u64,
    rows: usize,
    dim: usize,
    format: VectorFormat,
    codes: Vec<(Codes, Output)>,
    keys: Output,
    records: Output,
    ends: Output,
    vectors: Output,
    columns: ColumnsBuilder,
    /// Whether a row was written in part.
    broken: bool,
    /// Of one row.
    buffer: Vec<u8>,
    values: Vec<f32>,
}

type Output = CheckedWriter<BufWriter<File>>;

impl SegmentWriter {
    pub(super) fn create(index: &Path, number: u64, manifest: &IndexManifest) -> Result<Self> {
        let folder = PartialFolder::create(index.join(SegmentEntry::folder(number)))?;
        let open = |name: &str| -> Result<Output> {
            let path = folder.path().join(name);
            let file = File::create_new(&path).map_err(|e| Error::io("write", &path, e))?;
            Ok(CheckedWriter::new(BufWriter::new(file)))
        };
        let codes = manifest.codes.iter().map(|codes| Ok((*codes, open(codes.as_str())?))).collect::<Result<_>>()?;
        let (keys, records, ends, vectors) = (open(KEYS)?, open(RECORDS)?, open(ENDS)?, open(VECTORS)?);
        let (rows, dim, format) = (0, manifest.dim, manifest.vectors);
        let (columns, broken) = (ColumnsBuilder::default(), false);
        let (buffer, values) = (Vec::new(), Vec::new());
        Ok(Self {
            folder,
            number,
            rows,
            dim,
            format,
            codes,
            keys,
            records,
            ends,
            vectors,
            columns,
            broken,
            buffer,
            values,
        })
    }

    /// Number of rows so far.
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// Adds a row.
    ///
    /// # Errors
    /// If the vector has other dimensions than the index, is zero or not finite, or a file cannot be written.
    pub(super) fn push(&mut self, record: &Record, vector: &[f32]) -> Result<()> {
        record.check()?;
        let id = &record.id;
        if vector.len() != self.dim {
            let message =
                format!("the vector of row {id:?} has {} dimensions, the index has {}", vector.len(), self.dim);
            return Err(Error::new(ErrorKind::Dimension, message));
        }
        self.buffer.clear();
        self.format.encode(vector, &mut self.buffer);
        // What is stored is what codes are made of, so that they are the same when segments are merged.
        self.format.decode(&self.buffer, &mut self.values);
        if self.values.iter().any(|value| !value.is_finite()) {
            let format = self.format.as_str();
            return Err(Error::new(
                ErrorKind::NonFinite,
                format!("the vector of row {id:?} is not finite in {format}"),
            ));
        }
        if self.values.iter().all(|value| *value == 0.0) {
            return Err(Error::new(
                ErrorKind::Config,
                format!("the vector of row {id:?} is zero: nothing is similar to it"),
            ));
        }
        let row = u32::try_from(self.rows).map_err(|_| {
            Error::new(ErrorKind::Config, format!("row {id:?}: a segment has at most {} rows", u32::MAX))
        })?;
        self.write(record).map_err(|e| {
            self.broken = true;
            Error::io("write", self.folder.path(), e)
        })?;
        self.columns.add(row, record);
        self.rows += 1;
        Ok(())
    }

    /// Writes the row whose vector is in `buffer` and `values`.
    fn write(&mut self, record: &Record) -> std::io::Result<()> {
        self.vectors.write_all(&self.buffer)?;
        for (codes, out) in &mut self.codes {
            self.buffer.clear();
            codes.encode(&self.values, &mut self.buffer);
            out.write_all(&self.buffer)?;
        }
        self.keys.write_all(&key(&record.id))?;
        self.records.write_all(&serde_json::to_vec(record)?)?;
        self.ends.write_all(&self.records.position().to_le_bytes())
    }

    /// Writes the rest, syncs everything, and gives the folder its name.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn finish(mut self) -> Result<SegmentEntry> {
        if self.broken {
            let folder = self.folder.path().display();
            return Err(Error::new(ErrorKind::Io, format!("{folder}: a row could not be written before")));
        }
        let mut files = BTreeMap::new();
        let columns = std::mem::take(&mut self.columns);
        let failed = |e| Error::io("write", self.folder.path(), e);
        let mut end = |name: &str, out: Output| -> std::io::Result<()> {
            let (seal, _) = out.finish()?;
            files.insert(name.to_owned(), seal);
            Ok(())
        };
        for (name, out) in [(KEYS, self.keys), (RECORDS, self.records), (ENDS, self.ends), (VECTORS, self.vectors)] {
            end(name, out).map_err(failed)?;
        }
        for (codes, out) in self.codes {
            end(codes.as_str(), out).map_err(failed)?;
        }
        let written = write_columns(self.folder.path(), columns).map_err(failed)?;
        files.extend(written.map(|(name, seal)| (name.to_owned(), seal)));
        if !self.folder.commit_new()? {
            let problem = format!("{} exists already", SegmentEntry::folder(self.number));
            return Err(Error::new(ErrorKind::Io, problem));
        }
        Ok(SegmentEntry { number: self.number, rows: self.rows, files, removed: None, graph: None })
    }
}

fn write_columns(folder: &Path, columns: ColumnsBuilder) -> std::io::Result<[(&'static str, FileSeal); 2]> {
    let create =
        |name| Ok::<_, std::io::Error>(CheckedWriter::new(BufWriter::new(File::create_new(folder.join(name))?)));
    let (mut values, mut list) = (create(COLUMNS)?, create(FIELDS)?);
    let columns = columns.write(&mut values)?;
    list.write_all(&serde_json::to_vec(&columns)?)?;
    Ok([(COLUMNS, values.finish()?.0), (FIELDS, list.finish()?.0)])
}
