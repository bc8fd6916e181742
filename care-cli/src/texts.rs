//! Reading texts and writing vectors.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use care_core::files::AtomicFile;
use care_core::jsonl::read_jsonl;
use care_core::{Document, Embeddings, Query, Role, Text};
use ndarray_npy::WriteNpyExt;
use serde::{Deserialize, Serialize};

use crate::stderr::note;

/// One JSONL row of texts to embed: `text` or `query`, and a document's `title`.
#[derive(Deserialize)]
struct Row {
    text: Option<String>,
    query: Option<String>,
    title: Option<String>,
}

/// Texts of a role, determined by their type.
pub(crate) trait FromRow: Text {
    fn from_row(title: String, text: String) -> Self;
}

impl FromRow for Query {
    fn from_row(_title: String, text: String) -> Self {
        Query::new(text)
    }
}

impl FromRow for Document {
    fn from_row(title: String, text: String) -> Self {
        Document::with_title(title, text)
    }
}

/// Whether a file of texts is `.jsonl` instead of `.txt`.
fn is_jsonl(path: &Path) -> Result<bool> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("jsonl") => Ok(true),
        Some("txt") => Ok(false),
        _ => bail!("{}: texts are read from .txt or .jsonl files", path.display()),
    }
}

/// Reads `.txt`, one text per line, or `.jsonl`.
pub(crate) fn read<T: FromRow>(path: &Path) -> Result<Vec<T>> {
    if !is_jsonl(path)? {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        return Ok(text.lines().map(|line| T::from_row(String::new(), line.to_owned())).collect());
    }
    read_jsonl::<Row>(path)?
        .into_iter()
        .map(|(line, row)| match row.text.or(row.query) {
            Some(text) => Ok(T::from_row(row.title.unwrap_or_default(), text)),
            None => bail!("{}:{line}: missing field `text` (or `query`)", path.display()),
        })
        .collect()
}

/// A file of vectors that is written completely or not at all.
pub(crate) struct VectorFile {
    path: PathBuf,
    npy: bool,
    file: AtomicFile,
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
        let file = AtomicFile::create(path)?;
        Ok(Self { path: path.to_owned(), npy, file })
    }

    /// Writes the vectors in order and moves the file into place.
    pub(crate) fn write<T: Text>(mut self, texts: &[T], embeddings: &Embeddings, role: Role) -> Result<()> {
        let failed = || format!("cannot write {}", self.path.display());
        let mut out = BufWriter::new(&mut self.file);
        if self.npy {
            embeddings.as_array().write_npy(&mut out).with_context(failed)?;
        } else {
            for (index, text) in texts.iter().enumerate() {
                let row = VectorRow { text: &text.content(), embedding: embeddings.row(index).to_vec() };
                serde_json::to_writer(&mut out, &row).with_context(failed)?;
                out.write_all(b"\n").with_context(failed)?;
            }
        }
        out.flush().with_context(failed)?;
        drop(out);
        self.file.commit()?;
        note!("{} {} vectors of {} dimensions", embeddings.len(), role.as_str(), embeddings.dim());
        Ok(())
    }
}
