//! Rows of a JSON Lines or Parquet file.

use std::path::Path;

use care_core::jsonl::for_each_jsonl;
use care_core::{Document, Error, Query, Result};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Unexpected};
use serde_json::Value;

/// A row of `corpus`.
#[derive(Debug, Deserialize)]
pub(crate) struct CorpusRow {
    #[serde(rename = "_id", alias = "id", deserialize_with = "id")]
    id: String,
    title: Option<String>,
    text: String,
}

/// A row of `queries`.
#[derive(Debug, Deserialize)]
pub(crate) struct QueryRow {
    #[serde(rename = "_id", alias = "id", deserialize_with = "id")]
    id: String,
    text: String,
}

/// A row of judgements, with mteb's and BEIR's column names or C-MTEB's.
#[derive(Debug, Deserialize)]
pub(crate) struct QrelsRow {
    #[serde(rename = "query-id", alias = "qid", deserialize_with = "id")]
    pub(crate) query_id: String,
    #[serde(rename = "corpus-id", alias = "pid", deserialize_with = "id")]
    pub(crate) doc_id: String,
    #[serde(deserialize_with = "grade")]
    pub(crate) score: i32,
}

/// A row of `top_ranked`: the candidates of a query.
#[derive(Debug, Deserialize)]
pub(crate) struct CandidatesRow {
    #[serde(rename = "query-id", deserialize_with = "id")]
    pub(crate) query_id: String,
    #[serde(rename = "corpus-ids", deserialize_with = "ids")]
    pub(crate) doc_ids: Vec<String>,
}

impl From<CorpusRow> for (String, Document) {
    fn from(row: CorpusRow) -> Self {
        (row.id, Document::with_title(row.title.unwrap_or_default(), row.text))
    }
}

impl From<QueryRow> for (String, Query) {
    fn from(row: QueryRow) -> Self {
        (row.id, Query::new(row.text))
    }
}

/// Calls `each` with the number of every row, from 1, and its content. Rows of a JSONL file are its lines.
///
/// # Errors
/// If the file cannot be read or a row is not an `R` (the message names file and row), or if `each` returns an error.
pub(crate) fn for_each_row<R: DeserializeOwned>(
    path: &Path,
    each: &mut dyn FnMut(usize, R) -> Result<()>,
) -> Result<()> {
    match path.extension().is_some_and(|extension| extension == "parquet") {
        true => for_each_parquet(path, each),
        false => for_each_jsonl(path, each),
    }
}

#[cfg(feature = "parquet")]
fn for_each_parquet<R: DeserializeOwned>(path: &Path, each: &mut dyn FnMut(usize, R) -> Result<()>) -> Result<()> {
    use parquet::errors::ParquetError;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    let file = std::fs::File::open(path).map_err(|e| Error::io("open", path, e))?;
    let unreadable = |e: ParquetError| Error::format(path, format!("not a readable Parquet file: {e}")).with_source(e);
    let reader = SerializedFileReader::new(file).map_err(unreadable)?;
    for (number, row) in (1..).zip(reader.get_row_iter(None).map_err(unreadable)?) {
        let row = row.map_err(unreadable)?.to_json_value();
        each(number, serde_json::from_value(row).map_err(|e| Error::line(path, number, &e).with_source(e))?)?;
    }
    Ok(())
}

#[cfg(not(feature = "parquet"))]
fn for_each_parquet<R>(path: &Path, _each: &mut dyn FnMut(usize, R) -> Result<()>) -> Result<()> {
    Err(Error::format(path, "Parquet is not compiled in: build with the Cargo feature `parquet` of cmedteb"))
}

/// The error for an id that occurs in two rows.
pub(crate) fn duplicate_id(path: &Path, number: usize, id: &str, first: &Path, line: usize) -> Error {
    let place = if first == path { format!("on line {line}") } else { format!("in {}:{line}", first.display()) };
    Error::line(path, number, format!("duplicate `_id` {id:?}, first {place}"))
}

/// The column names of a file, taken from its first row.
pub(crate) fn columns(path: &Path) -> Result<Vec<String>> {
    let mut names = None;
    let read = for_each_row(path, &mut |_, row: Value| {
        names = Some(row.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect());
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

/// A grade, which some writers store as a float or as text.
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
