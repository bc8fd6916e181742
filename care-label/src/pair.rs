//! Query-document pairs that wait for a label, and their file `pairs.jsonl`.

use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::path::Path;

use care_core::files::AtomicFile;
use care_core::jsonl::for_each_jsonl;
use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// A query and a document, with what is known about them before they are judged.
///
/// For semantic textual similarity, the two sentences are the query and the document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Id of the query.
    pub query_id: String,
    /// Id of the document.
    pub doc_id: String,
    /// Text of the query.
    pub query: String,
    /// Text of the document as judges and experts read it, with its title.
    pub document: String,
    /// A known positive of the query, for prompts with the placeholder `{positive}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive: Option<String>,
    /// Group of the query for stratified samples, e.g. the department.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Grade in the judgements that exist already; positive above 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grade: Option<i32>,
    /// The systems that found the document for the query.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub systems: Vec<Found>,
}

/// A system's ranking of a pair's document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Name of the system.
    pub system: String,
    /// Rank of the document for the query, from 1.
    pub rank: usize,
    /// Its score.
    pub score: f32,
}

impl Pair {
    /// The pair's name in messages and files: both ids.
    pub fn id(&self) -> (&str, &str) {
        (&self.query_id, &self.doc_id)
    }
}

/// Calls `each` with the line and the pair of every line of a `pairs.jsonl`.
///
/// # Errors
/// If the file cannot be read, a line is no pair, an id or a text is empty, or a pair occurs twice.
pub fn for_each_pair(path: impl AsRef<Path>, each: &mut dyn FnMut(usize, Pair) -> Result<()>) -> Result<()> {
    let path = path.as_ref();
    let mut seen = HashSet::new();
    for_each_jsonl(path, &mut |line, pair: Pair| {
        for (field, value) in [
            ("query_id", &pair.query_id),
            ("doc_id", &pair.doc_id),
            ("query", &pair.query),
            ("document", &pair.document),
        ] {
            if value.trim().is_empty() {
                return Err(Error::line(path, line, format!("`{field}` is empty")));
            }
        }
        if !seen.insert((pair.query_id.clone(), pair.doc_id.clone())) {
            let (query, document) = pair.id();
            return Err(Error::line(path, line, format!("the pair `{query}`, `{document}` is duplicated")));
        }
        each(line, pair)
    })
}

/// Reads a `pairs.jsonl`.
///
/// # Errors
/// As [`for_each_pair`].
pub fn read_pairs(path: impl AsRef<Path>) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for_each_pair(path, &mut |_, pair| {
        pairs.push(pair);
        Ok(())
    })?;
    Ok(pairs)
}

/// Writes a `pairs.jsonl`, atomically.
///
/// # Errors
/// If the file cannot be written.
pub fn write_pairs<'a>(path: impl AsRef<Path>, pairs: impl IntoIterator<Item = &'a Pair>) -> Result<()> {
    write_jsonl(path, pairs)
}

/// Writes one JSON object per line, atomically.
pub(crate) fn write_jsonl<T: Serialize>(path: impl AsRef<Path>, rows: impl IntoIterator<Item = T>) -> Result<()> {
    let path = path.as_ref();
    let mut file = AtomicFile::create(path)?;
    let failed = |e: std::io::Error| Error::io("write", path, e);
    let mut out = BufWriter::new(&mut file);
    for row in rows {
        serde_json::to_writer(&mut out, &row).map_err(|e| failed(e.into()))?;
        out.write_all(b"\n").map_err(failed)?;
    }
    out.flush().map_err(failed)?;
    drop(out);
    file.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &str) -> std::result::Result<Vec<Pair>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pairs.jsonl");
        std::fs::write(&path, content).expect("written");
        read_pairs(&path).map_err(|e| e.to_string().replace(&folder.path().display().to_string(), "F"))
    }

    const PAIR: &str = r#"{"query_id":"q","doc_id":"d","query":"咳嗽吃什么药","document":"止咳药","systems":[{"system":"bm25","rank":1,"score":2.5}]}"#;

    #[test]
    fn what_is_written_is_read() {
        let pairs = read(PAIR).expect("a pair");
        assert_eq!((pairs[0].systems[0].rank, pairs[0].group.as_deref()), (1, None));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pairs.jsonl");
        write_pairs(&path, &pairs).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), format!("{PAIR}\n"));
    }

    #[test]
    fn bad_pairs_are_named_with_their_line() {
        assert_eq!(
            read(&format!("{PAIR}\n{PAIR}")).expect_err("twice"),
            "F/pairs.jsonl:2: the pair `q`, `d` is duplicated"
        );
        let empty = PAIR.replace("止咳药", " ");
        assert_eq!(read(&empty).expect_err("empty"), "F/pairs.jsonl:1: `document` is empty");
        assert!(
            read(&PAIR.replace("doc_id", "docid")).expect_err("a field").starts_with("F/pairs.jsonl:1: unknown field")
        );
    }
}
