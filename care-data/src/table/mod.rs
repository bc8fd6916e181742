//! Tables: rows of a JSON Lines, CSV, TSV or Parquet file.

mod cell;
#[cfg(not(feature = "parquet"))]
#[path = "no_parquet.rs"]
mod parquet;
#[cfg(feature = "parquet")]
mod parquet;
mod text;

use std::collections::BTreeMap;
use std::path::Path;

use care_core::jsonl::for_each_jsonl;
use care_core::{Error, Result};
use serde::de::{DeserializeOwned, IgnoredAny};

/// How a file holds rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Jsonl,
    Csv,
    Tsv,
    Parquet,
}

/// The extensions of files of rows.
pub const EXTENSIONS: &str = ".jsonl, .csv, .tsv (each also .gz) or .parquet";

/// The name of a file of rows without its extensions; `None` if its extension is none of [`EXTENSIONS`].
pub fn stem(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    match format(path)? {
        Format::Parquet => name.rsplit_once('.'),
        Format::Jsonl | Format::Csv | Format::Tsv => name.strip_suffix(".gz").unwrap_or(name).rsplit_once('.'),
    }
    .map(|(stem, _)| stem)
}

/// Whether a file is a table in text, whose columns say little about it.
pub fn is_table(path: &Path) -> bool {
    matches!(format(path), Some(Format::Csv | Format::Tsv))
}

/// Whether a file is read as JSON Lines: all that are no tables.
pub fn is_jsonl(path: &Path) -> bool {
    matches!(format(path), Some(Format::Jsonl) | None)
}

/// Whether a file is a table separated by tabs.
pub fn is_tsv(path: &Path) -> bool {
    format(path) == Some(Format::Tsv)
}

fn format(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_str()?;
    match name.strip_suffix(".gz").unwrap_or(name).rsplit_once('.')?.1 {
        "jsonl" => Some(Format::Jsonl),
        "csv" => Some(Format::Csv),
        "tsv" => Some(Format::Tsv),
        "parquet" if !name.ends_with(".gz") => Some(Format::Parquet),
        _ => None,
    }
}

/// Calls `each` with the number of every row, from 1, and its content.
///
/// The format depends on the name: `.csv` and `.tsv` are tables with a header and fields quoted as in RFC 4180,
/// `.parquet` is Parquet (with the Cargo feature `parquet`), any other is JSON Lines. All but Parquet may end in `.gz`.
/// The number of a row is the line on which it begins, in Parquet its place in the file. In a table every value is
/// text, and an empty one is none where the field is optional. In Parquet, binary values are read as UTF-8 text, UUIDs
/// in their text form and JSON as JSON; dates and times are refused where the row has a field for them.
///
/// # Errors
/// If the file cannot be read or a row is not an `R` (the message names file and row), or if `each` returns an error.
pub fn for_each_row<R: DeserializeOwned>(
    path: impl AsRef<Path>,
    each: &mut dyn FnMut(usize, R) -> Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    match format(path) {
        Some(Format::Csv) => text::for_each(path, ',', each),
        Some(Format::Tsv) => text::for_each(path, '\t', each),
        Some(Format::Parquet) => parquet::for_each(path, each),
        Some(Format::Jsonl) | None => for_each_jsonl(path, each),
    }
}

/// The column names of a file, taken from its first row.
///
/// # Errors
/// If the file cannot be read.
pub fn columns(path: &Path) -> Result<Vec<String>> {
    if format(path) == Some(Format::Parquet) {
        return parquet::columns(path);
    }
    let mut names = None;
    let read = for_each_row(path, &mut |_, row: BTreeMap<String, IgnoredAny>| {
        names = Some(row.into_keys().collect());
        // Stops the iteration.
        Err(Error::format(path, "the rest is not read"))
    });
    names.map_or_else(|| read.map(|()| Vec::new()), Ok)
}
