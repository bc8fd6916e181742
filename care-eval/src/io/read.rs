//! Reading qrels and runs in any format.

use std::io::BufReader;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::judgement::Columns;
use super::lines::{open, read_lines, read_lines_in_parallel};
use super::trec;
use crate::error::{Error, Result};
use crate::qrels::Qrels;
use crate::run::{Retrieved, Run, retrieve};

/// Reads judgements from a BEIR, TREC or JSON file. A name that ends in `.gz` is unpacked while reading.
///
/// A name that ends in `.json` is JSON of the form `{query_id: {doc_id: grade}}`. In any other file the first line
/// decides: three columns are BEIR's `query-id corpus-id score`, four are TREC's `qid 0 docno rel`. A header may name
/// the columns in any order (e.g. `score`, `rel`, `query_id`, `docid`). BEIR's columns are separated by tabs or, in a
/// line without tabs, by spaces. A grade is a whole number, which may be written as `1.0`. Blank lines are skipped and
/// Windows line endings accepted.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be read,
/// [`ErrorKind::Format`](crate::ErrorKind::Format) if a line is malformed,
/// [`ErrorKind::Duplicate`](crate::ErrorKind::Duplicate) if a document is judged twice for a query. The last two name
/// the line; in a JSON file both are `Format`.
pub fn read_qrels(path: impl AsRef<Path>) -> Result<Qrels> {
    let path = path.as_ref();
    if is_json(path) {
        return read_json(path, "judgements of the form {query_id: {doc_id: grade}}");
    }
    let mut qrels = Qrels::new();
    let mut columns = None;
    read_lines(path, |line| {
        let columns = match &columns {
            Some(columns) => columns,
            None => {
                let (found, is_header) = Columns::of(line)?;
                let found = columns.insert(found);
                if is_header {
                    return Ok(());
                }
                found
            }
        };
        let (query_id, doc_id, grade) = columns.parse(line)?;
        qrels.insert(query_id, doc_id, grade)
    })?;
    Ok(qrels)
}

/// Reads a run from a TREC or JSON file.
///
/// A name that ends in `.json` is JSON of the form `{query_id: {doc_id: score}}`; any other is TREC. A name that ends in
/// `.gz` is unpacked while reading. Lines of a TREC
/// file are parsed in parallel, block by block, so the file is never wholly in memory. Blank lines are skipped and
/// Windows line endings accepted. Ranks are ignored, as in trec_eval: only scores count.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be read,
/// [`ErrorKind::Format`](crate::ErrorKind::Format) if a line is malformed,
/// [`ErrorKind::Score`](crate::ErrorKind::Score) if a score is NaN,
/// [`ErrorKind::Duplicate`](crate::ErrorKind::Duplicate) if a document is retrieved twice for a query. All but the first
/// name the line; in a JSON file all but the first are `Format`.
pub fn read_run(path: impl AsRef<Path>) -> Result<Run> {
    let path = path.as_ref();
    if is_json(path) {
        return read_json(path, "a run of the form {query_id: {doc_id: score}}");
    }
    let mut run = Run::new();
    let take = |group: Group| {
        let lines = group.lines;
        run.extend(group.query_id, group.documents).map_err(|(position, error)| error.at(path, lines[position]))
    };
    read_lines_in_parallel(
        path,
        |groups, number, line| gather(groups, number, line).map_err(|e| e.at(path, number)),
        {
            let mut take = take;
            move |groups: Vec<Group>| groups.into_iter().try_for_each(&mut take)
        },
    )?;
    Ok(run)
}

/// Consecutive lines of a TREC run with the same query.
struct Group {
    query_id: String,
    documents: Retrieved,
    /// The line number of each document.
    lines: Vec<usize>,
}

/// Adds a line to the current group, or starts a new one.
fn gather(groups: &mut Vec<Group>, number: usize, line: &str) -> Result<()> {
    let (query_id, doc_id, score) = trec::parse_scored(line)?;
    if groups.last().is_none_or(|group| group.query_id != query_id) {
        let (query_id, documents) = (query_id.to_owned(), Retrieved::default());
        groups.push(Group { query_id, documents, lines: Vec::new() });
    }
    let group = groups.last_mut().expect("a group exists or was just added");
    retrieve(&mut group.documents, query_id, doc_id, score)?;
    group.lines.push(number);
    Ok(())
}

fn is_json(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    name.ends_with(".json") || name.ends_with(".json.gz")
}

fn read_json<T: DeserializeOwned>(path: &Path, expected: &str) -> Result<T> {
    serde_json::from_reader(BufReader::new(open(path)?)).map_err(|e| match e.io_error_kind() {
        Some(_) => Error::io("read", path, e.into()),
        None => Error::format(format!("not {expected}")).at(path, e.line()).caused_by(e),
    })
}
