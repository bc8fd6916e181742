//! Reads corpora and queries for mining.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use care_core::jsonl::describe;
use care_core::lines::Lines;
use care_core::{Document, Error, ErrorKind, Query, Result, Text};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::documents::{Documents, key};
use super::miner::Mined;
use super::queries::Queries;
use crate::rows::{RowType, TrainingExample, for_each_usable_example};
use crate::table::{for_each_row, is_jsonl};

/// Documents added at a time.
const GROUP: usize = 1024;

/// Takes the error of a row that cannot be used, which names file and line; returns an error to stop.
pub type Bad<'a> = dyn FnMut(Error) -> Result<()> + 'a;

/// The numbers of a corpus' documents by their ids.
#[derive(Debug, Default)]
pub struct Ids {
    /// By the first 64 bits of the id's SHA-256.
    numbers: HashMap<u64, usize>,
}

/// What happens to a row with a positive that the corpus lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lacking {
    /// It is an error.
    #[default]
    Refuse,
    /// The positive is scored all the same, and is no candidate for other queries.
    Score,
}

#[derive(Deserialize)]
struct CorpusRow {
    #[serde(alias = "_id", default)]
    id: Value,
    title: Option<String>,
    text: String,
}

#[derive(Deserialize)]
struct QueryRow {
    #[serde(alias = "_id")]
    id: Value,
    text: String,
    instruction: Option<String>,
}

/// What is kept of a row beside its query and the numbers of its positives.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    prompt: Option<String>,
    row_type: RowType,
}

impl Ids {
    /// The number of the document with an id.
    pub fn get(&self, id: &str) -> Option<usize> {
        self.numbers.get(&hash(id)).copied()
    }
}

/// Adds the rows of a file to a corpus: `text`, and optionally `title` and `_id` or `id`. White space around a document is
/// removed. Rows that cannot be used are given to `bad`.
///
/// # Errors
/// If the file cannot be read or the temporary file not be written, or `bad` fails.
pub fn read_corpus(path: impl AsRef<Path>, documents: &mut Documents, ids: &mut Ids, bad: &mut Bad<'_>) -> Result<()> {
    let path = path.as_ref();
    let mut group = Vec::new();
    let mut lines: HashMap<u64, usize> = HashMap::new();
    let mut each = |number: usize, row: CorpusRow| -> Result<Option<Error>> {
        let refuse = |problem: String| Ok(Some(Error::line(path, number, problem)));
        let id = match id_of(&row.id) {
            Ok(id) => id,
            Err(problem) => return refuse(problem),
        };
        let document = Document::with_title(row.title.unwrap_or_default(), row.text).trimmed();
        if document.content().is_empty() {
            return refuse("`text` is empty".into());
        }
        if !id.is_empty() {
            match ids.numbers.entry(hash(&id)) {
                Entry::Occupied(_) => {
                    let first = lines.get(&hash(&id)).map_or(String::new(), |line| format!(", first on line {line}"));
                    return refuse(format!("duplicate `_id` {id:?}{first}"));
                }
                Entry::Vacant(free) => free.insert(documents.len() + group.len()),
            };
            lines.insert(hash(&id), number);
        }
        group.push((id, document));
        if group.len() == GROUP {
            documents.add(&group)?;
            group.clear();
        }
        Ok(None)
    };
    for_each_usable(path, &mut each, bad)?;
    documents.add(&group)
}

/// Adds the distinct positives of a file of training rows to a corpus. Rows that cannot be used are passed over.
///
/// # Errors
/// If the file cannot be read or the temporary file not be written.
pub fn read_positives(path: impl AsRef<Path>, documents: &mut Documents) -> Result<()> {
    let (mut group, mut texts) = (Vec::new(), HashSet::new());
    let mut each = |_, row: TrainingExample| {
        for (at, positive) in row.positives.iter().enumerate() {
            let document = Document::new(positive).trimmed();
            if !documents.has(&document) && texts.insert(key(&document.content())) {
                group.push((row.positive_ids.get(at).cloned().unwrap_or_default(), document));
            }
        }
        if group.len() >= GROUP {
            documents.add(&group)?;
            group.clear();
            texts.clear();
        }
        Ok(())
    };
    for_each_usable_example(path, &mut each, &mut |_| Ok(()))?;
    documents.add(&group)
}

/// Adds the queries and positives of a file of training rows, in the forms of
/// [`for_each_example`](crate::rows::for_each_example). A positive is found in the corpus by its text. Negatives of a row are
/// not kept. Rows that cannot be used are given to `bad`.
///
/// # Errors
/// If the file cannot be read or the temporary file not be written, or `bad` fails.
pub fn read_rows(
    path: impl AsRef<Path>,
    documents: &mut Documents,
    queries: &mut Queries,
    lacking: Lacking,
    bad: &mut Bad<'_>,
) -> Result<()> {
    let (path, bad) = (path.as_ref(), RefCell::new(bad));
    let mut lines = HashMap::new();
    let mut each =
        |line: usize, row: TrainingExample| match add_row(&row, documents, queries, lacking, (line, &mut lines))? {
            Some(problem) => bad.borrow_mut()(Error::line(path, line, problem)),
            None => Ok(()),
        };
    for_each_usable_example(path, &mut each, &mut |error| bad.borrow_mut()(error))
}

/// Adds a row; returns what is wrong with it otherwise.
fn add_row(
    row: &TrainingExample,
    documents: &mut Documents,
    queries: &mut Queries,
    lacking: Lacking,
    (line, lines): (usize, &mut HashMap<u64, usize>),
) -> Result<Option<String>> {
    if row.is_plain {
        return Ok(Some("a text alone; mining needs `query` and `pos`".into()));
    }
    if let Some(at) = row.negatives.iter().position(|negative| row.positives.contains(negative)) {
        return Ok(Some(format!("`neg[{at}]` is one of `pos`")));
    }
    let id = row.query_id.as_deref().unwrap_or_default();
    if !id.is_empty()
        && let Some(first) = lines.insert(hash(id), line)
    {
        return Ok(Some(format!("duplicate `query_id` {id:?}, first on line {first}; put its positives into one row")));
    }
    let positives: Vec<Document> = row.positives.iter().map(|text| Document::new(text).trimmed()).collect();
    if let (Lacking::Refuse, Some(at)) =
        (lacking, positives.iter().position(|positive| !documents.corpus_has(positive)))
    {
        return Ok(Some(format!("`pos[{at}]` is not in the corpus")));
    }
    let mut numbers = Vec::with_capacity(positives.len());
    for (at, positive) in positives.iter().enumerate() {
        let id = row.positive_ids.get(at).map_or("", String::as_str);
        numbers.push(documents.positive(id, positive)?.0);
    }
    let kept = Kept { prompt: row.prompt.clone(), row_type: row.row_type };
    queries.add(id, &Query::new(&row.query), &numbers, &kept.to_json())?;
    Ok(None)
}

/// Adds the queries of a file with `_id` (or `id`), `text` and optionally `instruction`, whose positives are known by id.
/// Returns how many queries have no positives and were not added. Rows that cannot be used are given to `bad`.
///
/// # Errors
/// If the file cannot be read or the temporary file not be written, or `bad` fails.
pub fn read_judged(
    path: impl AsRef<Path>,
    positives: &HashMap<String, Vec<String>>,
    ids: &Ids,
    queries: &mut Queries,
    bad: &mut Bad<'_>,
) -> Result<usize> {
    let path = path.as_ref();
    let (mut lines, mut unjudged) = (HashMap::new(), 0);
    let mut each = |line: usize, row: QueryRow| -> Result<Option<Error>> {
        let refuse = |problem: String| Ok(Some(Error::line(path, line, problem)));
        let id = match id_of(&row.id) {
            Ok(id) => id,
            Err(problem) => return refuse(problem),
        };
        if let Some(first) = lines.insert(hash(&id), line) {
            return refuse(format!("duplicate `_id` {id:?}, first on line {first}"));
        }
        let Some(positives) = positives.get(&id).filter(|positives| !positives.is_empty()) else {
            unjudged += 1;
            return Ok(None);
        };
        if row.text.trim().is_empty() {
            return refuse("`text` is empty".into());
        }
        let mut numbers = Vec::with_capacity(positives.len());
        for positive in positives {
            match ids.get(positive) {
                Some(number) => numbers.push(number),
                None => return refuse(format!("the positive {positive:?} of query {id:?} is not in the corpus")),
            }
        }
        // As in evaluation.
        let text = match row.instruction {
            Some(instruction) => format!("{} {instruction}", row.text),
            None => row.text,
        };
        queries.add(&id, &Query::new(text), &numbers, &Kept::default().to_json())?;
        Ok(None)
    };
    for_each_usable(path, &mut each, bad)?;
    Ok(unjudged)
}

impl Mined {
    /// The training row: the query of a [`read_rows`] or [`read_judged`] with its positives and the mined negatives. Scores
    /// are kept if all have one, ids if all have one.
    ///
    /// # Errors
    /// If the temporary files cannot be read.
    pub fn example(&self, documents: &Documents, queries: &Queries) -> Result<TrainingExample> {
        let positives = queries.positives(self.number).iter().map(|&number| documents.get(number as usize));
        let negatives = self.negatives.iter().map(|negative| documents.get(negative.document));
        let (positive_ids, positives) = texts(positives)?;
        let (negative_ids, negatives) = texts(negatives)?;
        // What a caller keeps with a query may be anything.
        let kept: Kept = serde_json::from_str(&self.query.payload).unwrap_or_default();
        let negative_scores = self.negatives.iter().map(|negative| negative.score).collect::<Option<_>>();
        let example = TrainingExample::new(self.query.query.content(), positives, negatives).with(|row| {
            (row.positive_ids, row.negative_ids) = (positive_ids, negative_ids);
            row.positive_scores = self.positive_scores.iter().copied().collect::<Option<_>>().unwrap_or_default();
            row.negative_scores = negative_scores.unwrap_or_default();
            row.query_id = Some(self.query.id.clone()).filter(|id| !id.is_empty());
            (row.prompt, row.row_type) = (kept.prompt, kept.row_type);
        });
        Ok(example)
    }
}

/// Ids, if all have one, and texts of documents.
fn texts(documents: impl Iterator<Item = Result<(String, Document)>>) -> Result<(Vec<String>, Vec<String>)> {
    let documents = documents.collect::<Result<Vec<_>>>()?;
    let (mut ids, texts): (Vec<String>, Vec<String>) =
        documents.into_iter().map(|(id, document)| (id, document.content().into_owned())).unzip();
    if ids.iter().any(String::is_empty) {
        ids.clear();
    }
    Ok((ids, texts))
}

impl Kept {
    fn to_json(&self) -> String {
        // Text and a name are always JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Calls `each` with every row of a file; what it returns, and rows that are none, are given to `bad`. In JSON Lines every
/// line is read by itself.
fn for_each_usable<R: DeserializeOwned>(
    path: &Path,
    each: &mut dyn FnMut(usize, R) -> Result<Option<Error>>,
    bad: &mut Bad<'_>,
) -> Result<()> {
    if !is_jsonl(path) {
        return for_each_row(path, &mut |number, row| each(number, row)?.map_or(Ok(()), &mut *bad));
    }
    let mut lines = Lines::open(path)?;
    loop {
        let problem = match lines.next_line() {
            Ok(None) => return Ok(()),
            Ok(Some((_, line))) if line.trim().is_empty() => None,
            Ok(Some((number, line))) => match serde_json::from_str(line) {
                Ok(row) => each(number, row)?,
                Err(e) => Some(Error::line(path, number, describe(&e))),
            },
            Err(error) if error.kind() == ErrorKind::Format => Some(error),
            Err(error) => return Err(error),
        };
        problem.map_or(Ok(()), &mut *bad)?;
    }
}

/// An id, which some writers store as a number; empty if there is none.
fn id_of(id: &Value) -> std::result::Result<String, String> {
    match id {
        Value::Null => Ok(String::new()),
        Value::String(id) => Ok(id.clone()),
        Value::Number(id) if id.is_i64() || id.is_u64() => Ok(id.to_string()),
        other => Err(format!("`_id` is {other}, allowed: a string or an integer")),
    }
}

fn hash(id: &str) -> u64 {
    (key(id) >> 64) as u64
}
