//! FlagEmbedding's training format, one JSON object a line.

use std::path::Path;

use care_core::{Result, read_jsonl};
use serde::Deserialize;

use super::{Source, TrainingExample};

#[derive(Deserialize)]
struct Row {
    query: String,
    pos: Vec<String>,
    #[serde(default)]
    neg: Vec<String>,
}

/// Reads `{"query": str, "pos": [str], "neg"?: [str]}` rows; other fields are not used.
///
/// # Errors
/// When the file cannot be read, a line is no such row, or `pos` is empty; the message names path
/// and line.
pub fn read_source(path: &Path) -> Result<Source> {
    let rows = read_jsonl::<Row>(path)?
        .into_iter()
        .map(|(line, row)| (line, TrainingExample { query: row.query, positives: row.pos, negatives: row.neg }))
        .collect();
    Source::of_file(path.display().to_string(), rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(content: &str) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("train.jsonl");
        std::fs::write(&path, content).expect("written");
        let error = read_source(&path).and_then(|source| source.require_negatives(2)).expect_err("bad");
        error.to_string().replace(&folder.path().display().to_string(), "F")
    }

    #[test]
    fn bad_rows_name_file_and_line() {
        let good = "{\"query\":\"a\",\"pos\":[\"b\"],\"neg\":[\"c\"],\"type\":\"normal\"}\n";
        for (line, problem) in [
            ("{\"query\":\"a\",\"pos\":[]}", "`pos` is empty"),
            (
                "{\"query\":\"a\",\"pos\":[\"b\"],\"neg\":[]}",
                "`neg` is empty, but a group of 2 needs hard negatives; set `group_size = 1` to use in-batch negatives only",
            ),
            ("{\"query\":\"a\",\"pos\":\"b\"}", "invalid type: string \"b\", expected a sequence (column 22)"),
            ("{\"pos\":[\"b\"]}", "missing field `query` (column 13)"),
            ("{\"query\":\"a\",", "EOF while parsing a value (column 13)"),
        ] {
            assert_eq!(refusal(&format!("{good}\n{line}\n")), format!("F/train.jsonl:3: {problem}"));
        }
        assert_eq!(refusal("\n"), "F/train.jsonl: no training row");
    }
}
