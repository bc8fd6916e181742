//! Writes BEIR qrels: tab-separated columns under the header `query-id corpus-id score`.

use std::iter;
use std::path::Path;

use super::judgement::BEIR;
use super::lines::{writable, write_lines};
use crate::error::Result;
use crate::qrels::Qrels;

/// Writes judgements as a BEIR TSV file with its header, ordered by id.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be written,
/// [`ErrorKind::Format`](crate::ErrorKind::Format) if an id is empty or contains a tab or a line break. The file is
/// then incomplete.
pub fn write_beir_qrels(path: impl AsRef<Path>, qrels: &Qrels) -> Result<()> {
    let header = Ok(BEIR.join("\t"));
    let line = |(query_id, doc_id, grade)| Ok(format!("{}\t{}\t{grade}", cell(query_id)?, cell(doc_id)?));
    write_lines(path.as_ref(), iter::once(header).chain(qrels.judgements().map(line)))
}

fn cell(id: &str) -> Result<&str> {
    writable(id, "a BEIR file", |character| matches!(character, '\t' | '\n' | '\r'))
}
