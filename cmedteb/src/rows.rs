//! The rows of a task's files.

use std::path::Path;

use care_core::{Document, Error, Query};
use serde::Deserialize;
use serde::de::{Deserializer, Unexpected};
use serde_json::{Map, Value};

/// The id of a row: a string that is not empty, or an integer, which some writers store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct RowId(#[serde(deserialize_with = "id")] pub String);

/// A row of `corpus`.
#[derive(Debug, Deserialize)]
pub(crate) struct CorpusRow {
    #[serde(rename = "_id", alias = "id", deserialize_with = "id")]
    id: String,
    title: Option<String>,
    text: String,
}

/// A row of `corpus` with all its columns.
#[derive(Debug, Deserialize)]
pub(crate) struct FullRow {
    #[serde(flatten)]
    pub(crate) fields: Map<String, Value>,
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

impl From<FullRow> for (String, Document) {
    fn from(FullRow { id, title, text, .. }: FullRow) -> Self {
        CorpusRow { id, title, text }.into()
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

/// The error for an id that occurs in two rows.
pub(crate) fn duplicate_id(path: &Path, number: usize, id: &str, first: &Path, line: usize) -> Error {
    let place = if first == path { format!("on line {line}") } else { format!("in {}:{line}", first.display()) };
    Error::line(path, number, format!("duplicate `_id` {id:?}, first {place}"))
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
