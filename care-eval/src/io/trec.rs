//! TREC files: columns separated by white space.
//!
//! Qrels are `qid 0 docno rel`, runs are `qid Q0 docno rank score tag`. The constants and the rank are ignored.

use std::path::Path;

use super::lines::{columns, parse, writable, write_lines};
use crate::error::Result;
use crate::qrels::Qrels;
use crate::run::Run;
use crate::ties::Ties;

/// Writes judgements as `qid 0 docno rel`, ordered by id.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be written,
/// [`ErrorKind::Format`](crate::ErrorKind::Format) if an id is empty or contains white space. The file is then
/// incomplete.
pub fn write_trec_qrels(path: impl AsRef<Path>, qrels: &Qrels) -> Result<()> {
    let line = |(query_id, doc_id, grade)| Ok(format!("{} 0 {} {grade}", word(query_id)?, word(doc_id)?));
    write_lines(path.as_ref(), qrels.judgements().map(line))
}

/// Writes a run as `qid Q0 docno rank score tag`, best first.
///
/// Equal scores keep the order in which they were added, so file and run score the same under every tie rule. Scores are
/// written with enough digits to read them back unchanged.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be written,
/// [`ErrorKind::Format`](crate::ErrorKind::Format) if an id or the tag is empty or contains white space. The file is
/// then incomplete.
pub fn write_trec_run(path: impl AsRef<Path>, run: &Run, tag: &str) -> Result<()> {
    let lines = run.query_ids().flat_map(|query_id| {
        run.ranked(query_id, Ties::InputOrder).into_iter().zip(1..).map(move |((doc_id, score), rank)| {
            let (query_id, doc_id, tag) = (word(query_id)?, word(doc_id)?, word(tag)?);
            Ok(format!("{query_id} Q0 {doc_id} {rank} {score} {tag}"))
        })
    });
    write_lines(path.as_ref(), lines)
}

/// Query, document and score of a line of a run.
pub(super) fn parse_scored(line: &str) -> Result<(&str, &str, f32)> {
    let names = ["qid", "Q0", "docno", "rank", "score", "tag"];
    let [query_id, _, doc_id, _, score, _] = columns(line.split_ascii_whitespace(), names)?;
    Ok((query_id, doc_id, parse("score", score, "a number")?))
}

fn word(id: &str) -> Result<&str> {
    writable(id, "a TREC file", |character| character.is_ascii_whitespace())
}
