//! Reading texts and writing vectors, group by group.

use std::fs;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use care_core::files::AtomicFile;
use care_core::lines::Lines;
use care_core::{Document, Embeddings, Error, Query, Text};
use cmedteb::for_each_row;
use ndarray_npy::WritableElement;
use ndarray_npy::npy::header::{Header, Layout};
use serde::{Deserialize, Serialize};

/// A row of texts to embed: `text` or `query`, with a document's `title` or a query's `instruction`.
#[derive(Default, Deserialize)]
pub(crate) struct Row {
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
    for_each(path, &mut |_: T| {
        count += 1;
        Ok(())
    })?;
    Ok(Some(count))
}

/// Calls `each` with the texts of a file in groups, in order.
pub(crate) fn for_each_group<T: FromRow>(
    path: &Path,
    size: GroupSize,
    each: &mut dyn FnMut(&[T]) -> care_core::Result<()>,
) -> Result<()> {
    let (mut group, mut bytes) = (Vec::new(), 0);
    for_each(path, &mut |text: T| {
        bytes += text.content().len();
        group.push(text);
        if bytes >= size.bytes || group.len() >= size.texts {
            each(&group)?;
            group.clear();
            bytes = 0;
        }
        Ok(())
    })?;
    if !group.is_empty() {
        each(&group)?;
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

fn for_each<T: FromRow>(path: &Path, each: &mut dyn FnMut(T) -> care_core::Result<()>) -> Result<()> {
    match format(path)? {
        Format::Lines => {
            let mut lines = Lines::open(path)?;
            while let Some((_, line)) = lines.next_line()? {
                each(T::from_row(line.to_owned(), Row::default()))?;
            }
        }
        Format::Rows => for_each_row(path, &mut |number, mut row: Row| {
            let text = row.text.take().or_else(|| row.query.take());
            let missing = || Error::line(path, number, "missing field `text` (or `query`)");
            each(T::from_row(text.ok_or_else(missing)?, row))
        })?,
    }
    Ok(())
}

/// Bytes of the header of a `.npy` matrix, whatever its shape.
const NPY_HEADER: usize = 128;

/// A file of vectors that is written completely or not at all.
pub(crate) struct VectorFile {
    path: PathBuf,
    npy: bool,
    out: BufWriter<AtomicFile>,
    rows: usize,
}

#[derive(Serialize)]
struct VectorRow<'a> {
    text: &'a str,
    embedding: Vec<f32>,
}

impl VectorFile {
    /// Opens the file before any work is done, so that a wrong path fails early.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let npy = match path.extension().and_then(|extension| extension.to_str()) {
            Some("npy") => true,
            Some("jsonl") => false,
            _ => bail!("{}: vectors are written to .npy or .jsonl files", path.display()),
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            bail!("cannot write {}: there is no folder {}", path.display(), folder.display());
        }
        if path.is_dir() {
            bail!("cannot write {}: it is a folder", path.display());
        }
        let mut out = BufWriter::new(AtomicFile::create(path)?);
        if npy {
            // Until the number of rows is known.
            out.write_all(&[0; NPY_HEADER]).map_err(|e| Error::io("write", path, e))?;
        }
        Ok(Self { path: path.to_owned(), npy, out, rows: 0 })
    }

    /// Appends the vectors of texts, one row each.
    pub(crate) fn write<T: Text>(&mut self, texts: &[T], embeddings: &Embeddings) -> care_core::Result<()> {
        let written = if self.npy { self.write_npy(embeddings) } else { self.write_jsonl(texts, embeddings) };
        self.rows += texts.len();
        written.map_err(|e| Error::io("write", &self.path, e))
    }

    fn write_npy(&mut self, embeddings: &Embeddings) -> io::Result<()> {
        embeddings.as_array().iter().try_for_each(|value| self.out.write_all(&value.to_ne_bytes()))
    }

    fn write_jsonl<T: Text>(&mut self, texts: &[T], embeddings: &Embeddings) -> io::Result<()> {
        for (index, text) in texts.iter().enumerate() {
            let row = VectorRow { text: &text.content(), embedding: embeddings.row(index).to_vec() };
            serde_json::to_writer(&mut self.out, &row)?;
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Moves the complete file into place. Returns its number of vectors, which have `dim` dimensions.
    pub(crate) fn finish(mut self, dim: usize) -> Result<usize> {
        let failed = || format!("cannot write {}", self.path.display());
        if self.npy {
            let (type_descriptor, layout) = (f32::type_descriptor(), Layout::Standard);
            let header =
                Header { type_descriptor, layout, shape: vec![self.rows, dim] }.to_bytes().with_context(failed)?;
            if header.len() != NPY_HEADER {
                bail!("{}: its header has {} bytes, not {NPY_HEADER}", failed(), header.len());
            }
            self.out.seek(SeekFrom::Start(0)).and_then(|_| self.out.write_all(&header)).with_context(failed)?;
        }
        self.out.into_inner().map_err(|e| e.into_error()).with_context(failed)?.commit()?;
        Ok(self.rows)
    }
}
