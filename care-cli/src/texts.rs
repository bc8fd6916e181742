//! Reading texts and writing vectors, group by group.

use std::borrow::Cow;
use std::fs;
use std::io::{BufWriter, Seek, SeekFrom, Stdout, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use care_core::files::AtomicFile;
use care_core::lines::Lines;
use care_core::{Document, Embeddings, Error, Query, Text};
use care_data::rows::VectorTable;
use cmedteb::{RowId, for_each_row};
use ndarray_npy::WritableElement;
use ndarray_npy::npy::header::{Header, Layout};
use serde::{Deserialize, Serialize};

/// A row of texts to embed: `text` or `query`, with a document's `title` or a query's `instruction`, and its id.
#[derive(Default, Deserialize)]
pub(crate) struct Row {
    _id: Option<RowId>,
    id: Option<RowId>,
    text: Option<String>,
    query: Option<String>,
    title: Option<String>,
    instruction: Option<String>,
}

/// Texts of a role, determined by their type.
pub(crate) trait FromRow: Text {
    /// The text of a row, of which `text` is that of `text` or `query`.
    fn from_row(text: String, row: Row) -> Self;
}

impl FromRow for Query {
    fn from_row(text: String, row: Row) -> Self {
        // As in evaluation.
        match row.instruction {
            Some(instruction) => Query::new(format!("{text} {instruction}")),
            None => Query::new(text),
        }
    }
}

impl FromRow for Document {
    fn from_row(text: String, row: Row) -> Self {
        Document::with_title(row.title.unwrap_or_default(), text)
    }
}

/// Where a group of texts ends, which bounds the memory of texts and vectors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupSize {
    /// Bytes of text.
    pub(crate) bytes: usize,
    /// Number of texts.
    pub(crate) texts: usize,
}

impl Default for GroupSize {
    /// Enough texts to sort them by length.
    fn default() -> Self {
        Self { bytes: 4 << 20, texts: 4096 }
    }
}

/// Reads a file to its end and returns its number of texts, so that an error in the last row comes before the work.
/// `None` for a pipe, which can be read only once.
pub(crate) fn count<T: FromRow>(path: &Path) -> Result<Option<usize>> {
    format(path)?;
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
        return Ok(None);
    }
    let mut count = 0;
    for_each(path, &mut |_, _: T| {
        count += 1;
        Ok(())
    })?;
    Ok(Some(count))
}

/// The ids of a group of texts, where their rows have any.
pub(crate) type Ids = [Option<String>];

/// Calls `each` with the texts of a file and their ids in groups, in order.
pub(crate) fn for_each_group<T: FromRow>(
    path: &Path,
    size: GroupSize,
    each: &mut dyn FnMut(&Ids, &[T]) -> care_core::Result<()>,
) -> Result<()> {
    let (mut ids, mut group, mut bytes) = (Vec::new(), Vec::new(), 0);
    for_each(path, &mut |id, text: T| {
        bytes += text.content().len();
        ids.push(id);
        group.push(text);
        if bytes >= size.bytes || group.len() >= size.texts {
            each(&ids, &group)?;
            ids.clear();
            group.clear();
            bytes = 0;
        }
        Ok(())
    })?;
    if !group.is_empty() {
        each(&ids, &group)?;
    }
    Ok(())
}

enum Format {
    /// One text per line.
    Lines,
    Rows,
}

/// The format of a file, by its name. All but Parquet may end in `.gz`.
fn format(path: &Path) -> Result<Format> {
    let name = path.to_string_lossy();
    let packed = name.ends_with(".gz");
    match name.trim_end_matches(".gz").rsplit_once('.').map(|(_, extension)| extension) {
        Some("txt") => Ok(Format::Lines),
        Some("jsonl" | "csv" | "tsv") => Ok(Format::Rows),
        Some("parquet") if !packed => Ok(Format::Rows),
        _ => {
            bail!("{}: texts are read from .txt, .jsonl, .csv, .tsv (each also .gz) or .parquet files", path.display())
        }
    }
}

fn for_each<T: FromRow>(path: &Path, each: &mut dyn FnMut(Option<String>, T) -> care_core::Result<()>) -> Result<()> {
    match format(path)? {
        Format::Lines => {
            let mut lines = Lines::open(path)?;
            while let Some((_, line)) = lines.next_line()? {
                each(None, T::from_row(line.to_owned(), Row::default()))?;
            }
        }
        Format::Rows => for_each_row(path, &mut |number, mut row: Row| {
            let text = row.text.take().or_else(|| row.query.take());
            let missing = || Error::line(path, number, "missing field `text` (or `query`)");
            let id = row._id.take().or_else(|| row.id.take()).map(|id| id.0);
            each(id, T::from_row(text.ok_or_else(missing)?, row))
        })?,
    }
    Ok(())
}

/// Bytes of the header of a `.npy` matrix, whatever its shape.
const NPY_HEADER: usize = 128;

/// Vectors on their way to a file that is written completely or not at all, or to stdout.
pub(crate) struct VectorFile {
    /// For messages.
    path: PathBuf,
    sink: Sink,
    rows: usize,
}

enum Sink {
    Npy(BufWriter<AtomicFile>),
    Jsonl(BufWriter<AtomicFile>),
    Parquet(Box<VectorTable>),
    Stdout(BufWriter<Stdout>),
}

#[derive(Serialize)]
struct VectorRow<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    _id: Option<&'a str>,
    text: Cow<'a, str>,
    embedding: Vec<f32>,
}

impl VectorFile {
    /// Opens the file before any work is done, so that a wrong path fails early.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if !matches!(extension, Some("npy" | "jsonl" | "parquet")) {
            bail!("{}: vectors are written to .npy, .jsonl or .parquet files", path.display());
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            bail!("cannot write {}: there is no folder {}", path.display(), folder.display());
        }
        if path.is_dir() {
            bail!("cannot write {}: it is a folder", path.display());
        }
        let file = || Ok::<_, Error>(BufWriter::new(AtomicFile::create(path)?));
        let sink = match extension {
            Some("parquet") => Sink::Parquet(Box::new(VectorTable::create(path)?)),
            Some("jsonl") => Sink::Jsonl(file()?),
            _ => {
                let mut out = file()?;
                // Until the number of rows is known.
                out.write_all(&[0; NPY_HEADER]).map_err(|e| Error::io("write", path, e))?;
                Sink::Npy(out)
            }
        };
        Ok(Self { path: path.to_owned(), sink, rows: 0 })
    }

    /// Rows of JSON on stdout.
    pub(crate) fn stdout() -> Self {
        Self { path: "stdout".into(), sink: Sink::Stdout(BufWriter::new(std::io::stdout())), rows: 0 }
    }

    /// Appends the vectors of texts, one row each.
    pub(crate) fn write<T: Text>(&mut self, ids: &Ids, texts: &[T], embeddings: &Embeddings) -> care_core::Result<()> {
        self.rows += texts.len();
        let failed = |e| Error::io("write", &self.path, e);
        let mut rows = ids.iter().zip(texts).enumerate().map(|(index, (id, text))| VectorRow {
            _id: id.as_deref(),
            text: text.content(),
            embedding: embeddings.row(index).to_vec(),
        });
        match &mut self.sink {
            Sink::Npy(out) => {
                let mut values = embeddings.as_array().iter();
                values.try_for_each(|value| out.write_all(&value.to_ne_bytes())).map_err(failed)
            }
            Sink::Jsonl(out) => rows.try_for_each(|row| write_line(out, &row)).map_err(failed),
            Sink::Stdout(out) => rows.try_for_each(|row| write_line(out, &row)).map_err(failed),
            Sink::Parquet(table) => rows.try_for_each(|row| table.push(row._id, &row.text, row.embedding)),
        }
    }

    /// Moves the complete file into place. Returns its number of vectors, which have `dim` dimensions.
    pub(crate) fn finish(self, dim: usize) -> Result<usize> {
        let failed = || format!("cannot write {}", self.path.display());
        let out = match self.sink {
            Sink::Parquet(table) => {
                table.finish()?;
                return Ok(self.rows);
            }
            Sink::Stdout(mut out) => {
                out.flush()?;
                return Ok(self.rows);
            }
            Sink::Jsonl(out) => out,
            Sink::Npy(mut out) => {
                let (type_descriptor, layout) = (f32::type_descriptor(), Layout::Standard);
                let header =
                    Header { type_descriptor, layout, shape: vec![self.rows, dim] }.to_bytes().with_context(failed)?;
                if header.len() != NPY_HEADER {
                    bail!("{}: its header has {} bytes, not {NPY_HEADER}", failed(), header.len());
                }
                out.seek(SeekFrom::Start(0)).and_then(|_| out.write_all(&header)).with_context(failed)?;
                out
            }
        };
        out.into_inner().map_err(|e| e.into_error()).with_context(failed)?.commit()?;
        Ok(self.rows)
    }
}

fn write_line(out: &mut impl Write, row: &VectorRow<'_>) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, row)?;
    out.write_all(b"\n")
}
