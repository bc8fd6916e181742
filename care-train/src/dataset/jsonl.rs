//! Files of training rows, one JSON object per line.

use std::path::{Path, PathBuf};

use care_core::files::jsonl_files;
use care_core::{Error, ErrorKind, Result};

use super::Source;

/// Reads a JSONL file of training rows, in the form of FlagEmbedding (`query`, `pos`, `neg`), of sentence-transformers
/// (`anchor`, `positive`, `negative`, `negative_1`), of Tevatron (`query`, `positive_passages`, `negative_passages`), or
/// with a `text` alone. Other fields are ignored.
///
/// Every line is read and checked, but texts are not kept: they are read again with their batch.
///
/// # Errors
/// Returns an error if the file cannot be read, a line is not such a row, there is no positive, a text is empty, or
/// scores do not match their texts; the message names path and line.
///
/// # Reference
/// The training data of FlagEmbedding, sentence-transformers and Tevatron.
pub fn read_source(path: impl AsRef<Path>) -> Result<Source> {
    let path = path.as_ref();
    if path.extension().is_some_and(|extension| extension == "parquet") {
        return Err(Error::format(
            path,
            "training rows are read from JSON Lines, not from Parquet; convert the file with `care data convert`",
        ));
    }
    Source::open(path)
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
    use care_data::rows::{RowType, TrainingExample};

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
        let pairs = RowNeeds { group_size: 2, teacher_scores: false, labels: true };
        let singles = RowNeeds { group_size: 1, teacher_scores: false, labels: true };
        let scored = RowNeeds { group_size: 2, teacher_scores: true, labels: true };
        for (line, needs, problem) in [
            (r#"{"query":"a","pos":[]}"#, pairs, "`pos` is empty"),
            (
                r#"{"query":"a","pos":["b"],"neg":[]}"#,
                pairs,
                "`neg` is empty, but a group of 2 needs hard negatives; set `group_size = 1` to use in-batch negatives only",
            ),
            (
                r#"{"query":"a","pos":true}"#,
                pairs,
                "`pos` is true; a text, a number or an object with `text` belongs there",
            ),
            (r#"{"pos":["b"]}"#, pairs, "no `query` or `anchor`; the row has `pos`"),
            (
                r#"{"text":"a"}"#,
                pairs,
                "a text alone, which only query-alignment stages train on; give `query` and `pos`",
            ),
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
        let expected = TrainingExample::new("q", vec!["p".into()], vec!["n".into(), "m".into()]).with(|row| {
            row.positive_scores = vec![3.0];
            row.negative_scores = vec![1.0, 2.0];
            row.prompt = Some("find".into());
            row.row_type = RowType::SymmetricSts;
            row.positive_ids = vec!["7".into()];
        });
        assert_eq!(read_source(&path).and_then(|source| source.read(&[0])).expect("good"), [expected]);
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
    fn rows_are_read_from_the_file_when_they_are_wanted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("train.jsonl");
        let text = |row: usize| if row == 3 { "长".repeat(9000) } else { format!("文 {row}") };
        let line = |row: usize| format!("{{\"query\":\"{row}\",\"pos\":[\"{}\"],\"neg\":null}}", text(row));
        // A byte-order mark, blank lines, both kinds of line ends, and no end of the last line.
        let content = format!("\u{feff}{}\n\n{}\r\n  \n{}\n{}\n{}", line(0), line(1), line(2), line(3), line(4));
        std::fs::write(&path, &content).expect("written");
        let source = read_source(&path).expect("good");
        let rows: Vec<usize> = vec![4, 0, 3, 3, 1, 2];
        let expected = rows.iter().map(|&row| TrainingExample::new(row.to_string(), vec![text(row)], vec![]));
        assert_eq!(source.read(&rows).expect("read"), expected.clone().collect::<Vec<_>>());
        let memory = Source::new("memory", source.read(&[0, 1, 2, 3, 4]).expect("read")).expect("good");
        assert_eq!(memory.read(&rows).expect("kept"), expected.collect::<Vec<_>>());
        assert_eq!((source.row_count(), source.digest()), (memory.row_count(), memory.digest()));
        let other = Source::new("memory", source.read(&[0, 1, 2, 4, 3]).expect("read")).expect("good");
        assert_ne!(source.digest(), other.digest());

        for changed in [content.replace("文 1", "文 7"), content.replace("文 1", "文 10"), content[..60].to_owned()]
        {
            std::fs::write(&path, changed).expect("written");
            let error = source.read(&[1]).expect_err("changed").to_string();
            assert!(error.ends_with("train.jsonl: the file has changed since it was opened"), "{error}");
        }
        let error = read_source(folder.path().join("rows.parquet")).expect_err("parquet").to_string();
        assert!(
            error.ends_with("rows.parquet: training rows are read from JSON Lines, not from Parquet; convert the file with `care data convert`")
        );
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
