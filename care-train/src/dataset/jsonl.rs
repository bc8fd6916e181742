//! FlagEmbedding's training format, one JSON object per line.

use std::path::{Path, PathBuf};

use care_core::files::jsonl_files;
use care_core::jsonl::read_jsonl;
use care_core::{Error, ErrorKind, Result};
use serde::Deserialize;

use super::{RowType, Source, TrainingExample};

#[derive(Deserialize)]
struct Row {
    query: String,
    pos: Vec<String>,
    #[serde(default)]
    neg: Vec<String>,
    #[serde(default)]
    pos_scores: Option<Vec<f32>>,
    #[serde(default)]
    neg_scores: Option<Vec<f32>>,
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default, rename = "type")]
    row_type: Option<String>,
}

/// Reads `{"query": str, "pos": [str], "neg"?: [str], "pos_scores"?: [num], "neg_scores"?: [num],
/// "prompt"?: str, "type"?: str}` rows; other fields are ignored.
///
/// # Errors
/// Returns an error if the file cannot be read, a line is not such a row, `pos` or a text is empty, or scores do not
/// match their texts; the message names path and line.
///
/// # Reference
/// FlagEmbedding's fine-tuning data.
pub fn read_source(path: impl AsRef<Path>) -> Result<Source> {
    let path = path.as_ref();
    let example = |row: Row| TrainingExample {
        query: row.query,
        positives: row.pos,
        negatives: row.neg,
        positive_scores: row.pos_scores.unwrap_or_default(),
        negative_scores: row.neg_scores.unwrap_or_default(),
        prompt: row.prompt.filter(|prompt| !prompt.is_empty()),
        row_type: RowType::of(row.row_type.as_deref()),
    };
    let rows = read_jsonl::<Row>(path)?.into_iter().map(|(line, row)| (line, example(row))).collect();
    Source::of_file(path.display().to_string(), rows)
}

/// Reads each file as a source; a folder stands for the `.jsonl` files in it. Sources are sorted by path, so that the
/// order in which they are listed has no effect.
///
/// # Errors
/// As [`read_source`]; also if a folder contains no such file, or a file is listed twice.
pub fn read_sources(paths: &[impl AsRef<Path>]) -> Result<Vec<Source>> {
    let files: Vec<Vec<PathBuf>> = paths.iter().map(jsonl_files).collect::<Result<_>>()?;
    let mut files = files.concat();
    files.sort();
    if let Some(pair) = files.windows(2).find(|pair| pair[0] == pair[1]) {
        let message = format!("{}: the file is listed twice as training data", pair[0].display());
        return Err(Error::new(ErrorKind::Config, message));
    }
    files.iter().map(read_source).collect()
}

#[cfg(test)]
mod tests {
    use super::super::RowNeeds;
    use super::*;

    const GOOD: &str = "{\"query\":\"a\",\"pos\":[\"b\"],\"neg\":[\"c\"],\"pos_scores\":[1],\"neg_scores\":[0.5],\"type\":\"normal\"}\n";

    fn refusal(content: &str, needs: RowNeeds) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("train.jsonl");
        std::fs::write(&path, content).expect("written");
        let error = read_source(&path).and_then(|source| source.require(needs)).expect_err("bad");
        error.to_string().replace(&folder.path().display().to_string(), "F")
    }

    #[test]
    fn bad_rows_name_file_and_line() {
        let pairs = RowNeeds { group_size: 2, teacher_scores: false };
        let singles = RowNeeds { group_size: 1, teacher_scores: false };
        let scored = RowNeeds { group_size: 2, teacher_scores: true };
        for (line, needs, problem) in [
            (r#"{"query":"a","pos":[]}"#, pairs, "`pos` is empty"),
            (
                r#"{"query":"a","pos":["b"],"neg":[]}"#,
                pairs,
                "`neg` is empty, but a group of 2 needs hard negatives; set `group_size = 1` to use in-batch negatives only",
            ),
            (r#"{"query":"a","pos":"b"}"#, pairs, "invalid type: string \"b\", expected a sequence (column 22)"),
            (r#"{"pos":["b"]}"#, pairs, "missing field `query` (column 13)"),
            (r#"{"query":"a","#, pairs, "EOF while parsing a value (column 13)"),
            (r#"{"query":" ","pos":["b"]}"#, pairs, "`query` is empty"),
            (r#"{"query":"a","pos":["b",""]}"#, pairs, "`pos[1]` is an empty text"),
            (r#"{"query":"a","pos":["b"],"neg":["\n"]}"#, pairs, "`neg[0]` is an empty text"),
            (r#"{"query":"a","pos":["b"],"pos_scores":[1,2]}"#, pairs, "`pos_scores` has 2 values, but `pos` has 1"),
            (r#"{"query":"a","pos":["b"],"neg":["c"],"neg_scores":[1e39]}"#, pairs, "number out of range (column 55)"),
            (
                r#"{"query":"a","pos":["b"],"neg":["c"],"pos_scores":["x"]}"#,
                pairs,
                "invalid type: string \"x\", expected f32 (column 54)",
            ),
            (
                r#"{"query":"a","pos":["b"],"neg":["c"],"neg_scores":[1]}"#,
                scored,
                "`pos_scores` is missing, but the distillation loss needs it",
            ),
            (
                r#"{"query":"a","pos":["b"],"neg":["c"],"pos_scores":[1]}"#,
                scored,
                "`neg_scores` is missing, but the distillation loss needs it",
            ),
            (
                r#"{"query":"a","pos":["b"],"neg":["c"],"type":"symmetric_class"}"#,
                singles,
                "rows of this `type` have no in-batch negatives; set `group_size` to at least 2",
            ),
        ] {
            assert_eq!(refusal(&format!("{GOOD}\n{line}\n"), needs), format!("F/train.jsonl:3: {problem}"));
        }
        assert_eq!(refusal("\n", pairs), "F/train.jsonl: no training rows");
    }

    #[test]
    fn every_field_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("train.jsonl");
        let line = r#"{"query":"q","pos":["p"],"neg":["n","m"],"pos_scores":[3],"neg_scores":[1,2],"prompt":"find","type":"symmetric_sts","pos_id":7}"#;
        std::fs::write(&path, line).expect("written");
        let expected = TrainingExample {
            positive_scores: vec![3.0],
            negative_scores: vec![1.0, 2.0],
            prompt: Some("find".into()),
            row_type: RowType::SymmetricSts,
            ..TrainingExample::new("q", vec!["p".into()], vec!["n".into(), "m".into()])
        };
        assert_eq!(read_source(&path).expect("good").examples(), [expected]);
        for (name, row_type) in [
            (None, RowType::Normal),
            (Some("retrieval"), RowType::Normal),
            (Some("only_1neg"), RowType::OnlyOneNegative),
            (Some("symmetric_clustering"), RowType::SymmetricClustering),
            (Some("symmetric_class"), RowType::SymmetricClass),
        ] {
            assert_eq!(RowType::of(name), row_type);
        }
    }

    #[test]
    fn folders_and_files_become_sorted_sources() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("more")).expect("made");
        for name in ["z.jsonl", "more/b.jsonl", "more/a.jsonl"] {
            std::fs::write(path(name), GOOD).expect("written");
        }
        std::fs::write(path("more/notes.txt"), "not data").expect("written");
        let names = |paths: &[PathBuf]| {
            let sources = read_sources(paths).expect("good");
            sources.iter().map(|source| source.name().to_owned()).collect::<Vec<_>>()
        };
        let expected = ["more/a.jsonl", "more/b.jsonl", "z.jsonl"].map(|name| path(name).display().to_string());
        assert_eq!(names(&[path("z.jsonl"), path("more")]), expected);
        assert_eq!(names(&[path("more"), path("z.jsonl")]), expected);
        let refusal = |paths: &[PathBuf]| {
            let message = read_sources(paths).expect_err("bad").to_string();
            message.replace(&folder.path().display().to_string(), "F")
        };
        assert_eq!(
            refusal(&[path("more"), path("more/a.jsonl")]),
            "F/more/a.jsonl: the file is listed twice as training data"
        );
        std::fs::create_dir(path("empty")).expect("made");
        assert_eq!(refusal(&[path("empty")]), "F/empty: the folder contains no .jsonl files");
    }
}
