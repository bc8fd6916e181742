//! BEIR qrels: tab-separated columns under the header `query-id corpus-id score`.

use std::iter;
use std::path::Path;

use super::lines::{columns, parse, writable, write_lines};
use crate::error::Result;
use crate::qrels::Qrels;

const HEADER: [&str; 3] = ["query-id", "corpus-id", "score"];

/// Writes judgements as a BEIR TSV file with its header, ordered by id.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be written,
/// [`ErrorKind::Format`](crate::ErrorKind::Format) if an id is empty or contains a tab or a line break. The file is
/// then incomplete.
pub fn write_beir_qrels(path: impl AsRef<Path>, qrels: &Qrels) -> Result<()> {
    let header = Ok(HEADER.join("\t"));
    let line = |(query_id, doc_id, grade)| Ok(format!("{}\t{}\t{grade}", cell(query_id)?, cell(doc_id)?));
    write_lines(path.as_ref(), iter::once(header).chain(qrels.judgements().map(line)))
}

/// Whether a line is the header, which tells a BEIR file from a TREC one.
pub(super) fn is_header(line: &str) -> bool {
    line.split('\t').eq(HEADER)
}

/// Query, document and grade of a line of qrels.
pub(super) fn parse_judgement(line: &str) -> Result<(&str, &str, i32)> {
    let [query_id, doc_id, grade] = columns(line.split('\t'), HEADER)?;
    Ok((query_id, doc_id, parse("score", grade, "an integer")?))
}

fn cell(id: &str) -> Result<&str> {
    writable(id, "a BEIR file", |character| matches!(character, '\t' | '\n' | '\r'))
}
