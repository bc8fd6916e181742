//! Reading qrels and runs in whichever format they are.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::lines::{malformed, read_lines, read_lines_in_parallel};
use crate::qrels::Qrels;
use crate::run::{Retrieved, Run, retrieve};
use crate::{beir, trec};

/// Reads query, document and grade from a line.
type ParseJudgement = fn(&str) -> Result<(&str, &str, i32)>;

/// Reads judgements from a BEIR file, if it begins with the header `query-id corpus-id score`, from
/// a JSON file `{query_id: {doc_id: grade}}`, if its name ends in `.json`, or else a TREC file.
///
/// A file of lines is read line by line; blank lines are skipped and Windows line endings accepted.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be read,
/// [`ErrorKind::Format`](crate::ErrorKind::Format) if a line is malformed,
/// [`ErrorKind::Duplicate`](crate::ErrorKind::Duplicate) if a document is judged twice for one
/// query. The last two name the line; in a JSON file both are `Format`.
pub fn read_qrels(path: impl AsRef<Path>) -> Result<Qrels> {
    let path = path.as_ref();
    if is_json(path) {
        return read_json(path, "judgements of the form {query_id: {doc_id: grade}}");
    }
    let mut qrels = Qrels::new();
    let mut format: Option<ParseJudgement> = None;
    read_lines(path, |line| {
        if format.is_none() && beir::is_header(line) {
            format = Some(beir::parse_judgement);
            return Ok(());
        }
        let (query_id, doc_id, grade) = format.get_or_insert(trec::parse_judgement)(line)?;
        qrels.insert(query_id, doc_id, grade)
    })?;
    Ok(qrels)
}

/// Reads a run from a TREC file or, if the name ends in `.json`, from a JSON one.
///
/// The JSON form is `{query_id: {doc_id: score}}`.
///
/// A TREC file is read in blocks whose lines are parsed in parallel, so that memory is that of the
/// run; blank lines are skipped and Windows line endings accepted. Its ranks are ignored: the scores
/// decide, as in trec_eval.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be read,
/// [`ErrorKind::Format`](crate::ErrorKind::Format) if a line is malformed,
/// [`ErrorKind::Score`](crate::ErrorKind::Score) if a score is NaN,
/// [`ErrorKind::Duplicate`](crate::ErrorKind::Duplicate) if a document is retrieved twice for one
/// query. All but the first name the line; in a JSON file all but the first are `Format`.
pub fn read_run(path: impl AsRef<Path>) -> Result<Run> {
    let path = path.as_ref();
    if is_json(path) {
        return read_json(path, "a run of the form {query_id: {doc_id: score}}");
    }
    let mut run = Run::new();
    let take = |group: Group| {
        let lines = group.lines;
        run.extend(group.query_id, group.documents).map_err(|(place, error)| error.at(path, lines[place]))
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

/// Neighbouring lines of a TREC run that are of one query.
struct Group {
    query_id: String,
    documents: Retrieved,
    /// The line of each document.
    lines: Vec<usize>,
}

/// Adds a line to the group that it continues, or begins one with it.
fn gather(groups: &mut Vec<Group>, number: usize, line: &str) -> Result<()> {
    let (query_id, doc_id, score) = trec::parse_scored(line)?;
    if groups.last().is_none_or(|group| group.query_id != query_id) {
        let (query_id, documents) = (query_id.to_owned(), Retrieved::default());
        groups.push(Group { query_id, documents, lines: Vec::new() });
    }
    let group = groups.last_mut().expect("a group was there or was just added");
    retrieve(&mut group.documents, query_id, doc_id, score)?;
    group.lines.push(number);
    Ok(())
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

fn read_json<T: DeserializeOwned>(path: &Path, expected: &str) -> Result<T> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    serde_json::from_reader(BufReader::new(file)).map_err(|e| match e.io_error_kind() {
        Some(_) => Error::io("read", path, e.into()),
        None => malformed(format!("not {expected}")).at(path, e.line()).caused_by(e),
    })
}
