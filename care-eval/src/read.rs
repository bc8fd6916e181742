//! Reading qrels and runs in whichever format they are.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use crate::error::{Error, Result};
use crate::lines::{malformed, read_lines};
use crate::qrels::Qrels;
use crate::run::Run;
use crate::{beir, trec};

/// Reads query, document and grade from a line.
type ParseJudgement = fn(&str) -> Result<(&str, &str, i32)>;

/// Reads judgements from a BEIR file, if it begins with the header `query-id corpus-id score`, or
/// else a TREC file.
///
/// The file is read line by line; blank lines are skipped and Windows line endings accepted.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be read,
/// [`ErrorKind::Format`](crate::ErrorKind::Format) if a line is malformed,
/// [`ErrorKind::Duplicate`](crate::ErrorKind::Duplicate) if a document is judged twice for one
/// query. The last two name the line.
pub fn read_qrels(path: impl AsRef<Path>) -> Result<Qrels> {
    let mut qrels = Qrels::new();
    let mut format: Option<ParseJudgement> = None;
    read_lines(path.as_ref(), |line| {
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
/// A TREC file is read line by line; blank lines are skipped and Windows line endings accepted. Its
/// ranks are ignored: the scores decide, as in trec_eval.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be read,
/// [`ErrorKind::Format`](crate::ErrorKind::Format) if a line is malformed,
/// [`ErrorKind::Score`](crate::ErrorKind::Score) if a score is NaN,
/// [`ErrorKind::Duplicate`](crate::ErrorKind::Duplicate) if a document is retrieved twice for one
/// query. All but the first name the line; in a JSON file all but the first are `Format`.
pub fn read_run(path: impl AsRef<Path>) -> Result<Run> {
    let path = path.as_ref();
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        return read_json_run(path);
    }
    let mut run = Run::new();
    read_lines(path, |line| {
        let (query_id, doc_id, score) = trec::parse_scored(line)?;
        run.insert(query_id, doc_id, score)
    })?;
    Ok(run)
}

fn read_json_run(path: &Path) -> Result<Run> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    serde_json::from_reader(BufReader::new(file)).map_err(|e| match e.io_error_kind() {
        Some(_) => Error::io("read", path, e.into()),
        None => {
            malformed("not a run of the form {query_id: {doc_id: score}}".to_owned()).at(path, e.line()).caused_by(e)
        }
    })
}
