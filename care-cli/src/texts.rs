//! Reading texts and writing vectors.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use care_core::files::AtomicFile;
use care_core::lines::Lines;
use care_core::{Document, Embeddings, Error, Query, Role, Text};
use cmedteb::for_each_row;
use ndarray_npy::WriteNpyExt;
use serde::{Deserialize, Serialize};

use crate::stderr::note;

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

/// Reads a `.txt` file with one text per line, or rows. All but Parquet may end in `.gz`.
pub(crate) fn read<T: FromRow>(path: &Path) -> Result<Vec<T>> {
    let name = path.to_string_lossy();
    let packed = name.ends_with(".gz");
    let mut texts = Vec::new();
    match name.trim_end_matches(".gz").rsplit_once('.').map(|(_, extension)| extension) {
        Some("txt") => {
            let mut lines = Lines::open(path)?;
            while let Some((_, line)) = lines.next_line()? {
                texts.push(T::from_row(line.to_owned(), Row::default()));
            }
        }
        Some(extension @ ("jsonl" | "csv" | "tsv" | "parquet")) if extension != "parquet" || !packed => {
            for_each_row(path, &mut |number, mut row: Row| {
                let text = row.text.take().or_else(|| row.query.take());
                let missing = || Error::line(path, number, "missing field `text` (or `query`)");
                texts.push(T::from_row(text.ok_or_else(missing)?, row));
                Ok(())
            })?;
        }
        _ => {
            bail!("{}: texts are read from .txt, .jsonl, .csv, .tsv (each also .gz) or .parquet files", path.display())
        }
    }
    Ok(texts)
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
