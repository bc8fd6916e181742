//! Rows of a JSON Lines, CSV, TSV or Parquet file.

mod cell;
#[cfg(not(feature = "parquet"))]
#[path = "no_parquet.rs"]
mod parquet;
#[cfg(feature = "parquet")]
mod parquet;
mod table;

use std::collections::BTreeMap;
use std::path::Path;

use care_core::jsonl::for_each_jsonl;
use care_core::{Document, Error, Query, Result};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, Unexpected};
use serde_json::Value;

/// A row of `corpus`.
#[derive(Debug, Deserialize)]
pub(crate) struct CorpusRow {
    #[serde(rename = "_id", alias = "id", deserialize_with = "id")]
    id: String,
    title: Option<String>,
    text: String,
}

/// A row of `queries`. The tower reads `text + " " + instruction`, as mteb does.
#[derive(Debug, Deserialize)]
pub(crate) struct QueryRow {
    #[serde(rename = "_id", alias = "id", deserialize_with = "id")]
    id: String,
    text: String,
    instruction: Option<String>,
}

/// A row of judgements, with mteb's and BEIR's column names or C-MTEB's.
#[derive(Debug, Deserialize)]
pub(crate) struct QrelsRow {
    #[serde(rename = "query-id", alias = "query_id", alias = "qid", deserialize_with = "id")]
    pub(crate) query_id: String,
    #[serde(rename = "corpus-id", alias = "corpus_id", alias = "pid", deserialize_with = "id")]
    pub(crate) doc_id: String,
    #[serde(deserialize_with = "grade")]
    pub(crate) score: i32,
}

/// A row of `top_ranked`: the candidates of a query.
#[derive(Debug, Deserialize)]
pub(crate) struct CandidatesRow {
    #[serde(rename = "query-id", alias = "query_id", deserialize_with = "id")]
    pub(crate) query_id: String,
    #[serde(rename = "corpus-ids", alias = "corpus_ids", deserialize_with = "ids")]
    pub(crate) doc_ids: Vec<String>,
}

impl From<CorpusRow> for (String, Document) {
    fn from(row: CorpusRow) -> Self {
        (row.id, Document::with_title(row.title.unwrap_or_default(), row.text).trimmed())
    }
}

impl From<QueryRow> for (String, Query) {
    fn from(row: QueryRow) -> Self {
        let text = match row.instruction {
            Some(instruction) => format!("{} {instruction}", row.text),
            None => row.text,
        };
        (row.id, Query::new(text))
    }
}

/// How a file holds rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Jsonl,
    Csv,
    Tsv,
    Parquet,
}

/// The extensions of files of rows.
pub(crate) const EXTENSIONS: &str = ".jsonl, .csv, .tsv (each also .gz) or .parquet";

/// The name of a file of rows without its extensions; `None` if its extension is none of [`EXTENSIONS`].
pub(crate) fn stem(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    match format(path)? {
        Format::Parquet => name.rsplit_once('.'),
        Format::Jsonl | Format::Csv | Format::Tsv => name.strip_suffix(".gz").unwrap_or(name).rsplit_once('.'),
    }
    .map(|(stem, _)| stem)
}

/// Whether a file is a table in text, whose columns say little about it.
pub(crate) fn is_table(path: &Path) -> bool {
    matches!(format(path), Some(Format::Csv | Format::Tsv))
}

/// Whether a file is a table separated by tabs.
pub(crate) fn is_tsv(path: &Path) -> bool {
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
        Some(Format::Csv) => table::for_each(path, ',', each),
        Some(Format::Tsv) => table::for_each(path, '\t', each),
        Some(Format::Parquet) => parquet::for_each(path, each),
        Some(Format::Jsonl) | None => for_each_jsonl(path, each),
    }
}

/// The error for an id that occurs in two rows.
pub(crate) fn duplicate_id(path: &Path, number: usize, id: &str, first: &Path, line: usize) -> Error {
    let place = if first == path { format!("on line {line}") } else { format!("in {}:{line}", first.display()) };
    Error::line(path, number, format!("duplicate `_id` {id:?}, first {place}"))
}

/// The column names of a file, taken from its first row.
pub(crate) fn columns(path: &Path) -> Result<Vec<String>> {
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

/// An id, which some writers store as a number.
fn id<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    id_of(Value::deserialize(deserializer)?)
}

fn ids<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<String>, D::Error> {
    Vec::<Value>::deserialize(deserializer)?.into_iter().map(id_of).collect()
}

fn id_of<E: serde::de::Error>(value: Value) -> std::result::Result<String, E> {
    match value {
        Value::String(id) if id.is_empty() => Err(E::custom("the id is empty")),
        Value::String(id) => Ok(id),
        Value::Number(id) if id.is_i64() || id.is_u64() => Ok(id.to_string()),
        other => Err(unexpected(&other, "a string or an integer")),
    }
}

/// A grade, which some writers store as a float or as text: 1.0 is 1.
fn grade<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<i32, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let integer = number.filter(|number| number.fract() == 0.0 && number.abs() <= f64::from(i32::MAX));
    integer.map(|number| number as i32).ok_or_else(|| unexpected(&value, "an integer"))
}

fn unexpected<E: serde::de::Error>(value: &Value, expected: &str) -> E {
    let unexpected = match value {
        Value::Null => Unexpected::Other("null"),
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(value) => Unexpected::Float(value.as_f64().unwrap_or(f64::NAN)),
        Value::String(value) => Unexpected::Str(value),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    };
    E::invalid_type(unexpected, &expected)
}
