//! A BEIR folder: `corpus.jsonl`, `queries.jsonl` and judgements.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use care_core::{Document, Error, Query, Result, read_jsonl};
use care_eval::read_qrels;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};

use crate::error::from_eval;
use crate::task::RetrievalTask;

/// Where judgements may lie, the best first, and the split that they are of.
const QRELS: [(&str, &str); 3] = [("qrels/test.tsv", "test"), ("qrels/dev.tsv", "dev"), ("qrels.tsv", "test")];

/// A line of `corpus.jsonl`.
#[derive(Debug, Deserialize)]
pub(crate) struct CorpusRow {
    #[serde(rename = "_id", deserialize_with = "id")]
    id: String,
    title: Option<String>,
    text: String,
}

/// A line of `queries.jsonl`.
#[derive(Debug, Deserialize)]
pub(crate) struct QueryRow {
    #[serde(rename = "_id", deserialize_with = "id")]
    id: String,
    text: String,
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

pub(super) fn load(folder: &Path, name: &str) -> Result<RetrievalTask> {
    let Some((qrels, split)) = QRELS.into_iter().find(|(path, _)| folder.join(path).is_file()) else {
        let looked_for = QRELS.map(|(path, _)| path).join(", ");
        return Err(Error::format(folder, format!("corpus.jsonl has no judgements with it: looked for {looked_for}")));
    };
    let corpus = read_rows::<CorpusRow, _>(&folder.join("corpus.jsonl"))?;
    let queries = read_rows::<QueryRow, _>(&folder.join("queries.jsonl"))?;
    let qrels = read_qrels(folder.join(qrels)).map_err(from_eval)?;
    RetrievalTask::new(name, split, corpus, queries, qrels).map_err(|e| Error::format(folder, e))
}

/// Ids and texts of a file in which no id comes twice.
fn read_rows<R, T>(path: &Path) -> Result<Vec<(String, T)>>
where
    R: DeserializeOwned + Into<(String, T)>,
{
    let mut first_lines = HashMap::new();
    let rows = read_jsonl::<R>(path)?.into_iter().map(|(line, row)| {
        let (id, text) = row.into();
        match first_lines.insert(id.clone(), line) {
            None => Ok((id, text)),
            Some(first) => Err(Error::line(path, line, format!("the `_id` {id:?} is already on line {first}"))),
        }
    });
    rows.collect()
}

/// An id that some writers leave as a number.
fn id<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    struct Id;

    impl Visitor<'_> for Id {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a whole number")
        }

        fn visit_str<E: serde::de::Error>(self, id: &str) -> std::result::Result<String, E> {
            Ok(id.to_owned())
        }

        fn visit_u64<E: serde::de::Error>(self, id: u64) -> std::result::Result<String, E> {
            Ok(id.to_string())
        }

        fn visit_i64<E: serde::de::Error>(self, id: i64) -> std::result::Result<String, E> {
            Ok(id.to_string())
        }
    }

    let id = deserializer.deserialize_any(Id)?;
    if id.is_empty() { Err(D::Error::custom("the `_id` is empty")) } else { Ok(id) }
}
