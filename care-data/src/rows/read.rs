//! Reads training rows.

use std::path::Path;

use care_core::lines::Lines;
use care_core::{Error, ErrorKind, Result};
use rayon::prelude::*;

use super::example::TrainingExample;
use super::parse::Row;
use crate::table::{for_each_row, is_jsonl, is_table};

/// Lines that are parsed together on all threads, and about how many bytes, at most.
const LINES: usize = 512;
const BYTES: usize = 1 << 20;

impl TrainingExample {
    /// The row of a line of JSON Lines, as [`for_each_example`] reads it.
    ///
    /// # Errors
    /// Returns what is wrong with the row, as text that names the field.
    pub fn from_json(line: &str) -> std::result::Result<Self, String> {
        let row: Row = serde_json::from_str(line).map_err(|e| care_core::jsonl::describe(&e))?;
        row.parse()
    }
}

/// Calls `each` with the number and the content of every row of a file, in order, one row in memory at a time.
///
/// A row has the form of FlagEmbedding (`query`, `pos`, `neg`, optionally `pos_scores`, `neg_scores`, `pos_id`, `neg_id`,
/// `prompt`, `type`), of sentence-transformers (`anchor`, `positive`, `negative` or `negative_1` and so on, optionally
/// `scores`), of Tevatron (`query_id`, `query`, `positive_passages`, `negative_passages`), or a `text` alone, which is its
/// own positive. Other fields are ignored. Files are those of [`for_each_row`].
///
/// Rows are not checked beyond their form: see [`TrainingExample::check`].
///
/// # Errors
/// If the file cannot be read, a row has none of these forms, or `each` fails; the message names file and line.
///
/// # Reference
/// The training data of FlagEmbedding, sentence-transformers and Tevatron.
pub fn for_each_example(
    path: impl AsRef<Path>,
    each: &mut dyn FnMut(usize, TrainingExample) -> Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    for_each_parsed(path, &mut |number, row| each(number, row.map_err(|problem| Error::line(path, number, problem))?))
}

/// The rows of a table or of JSON Lines, or what is wrong with them.
fn for_each_parsed(
    path: &Path,
    each: &mut dyn FnMut(usize, std::result::Result<TrainingExample, String>) -> Result<()>,
) -> Result<()> {
    let blanks = is_table(path);
    for_each_row(path, &mut |number, row: Row| each(number, if blanks { row.without_blanks() } else { row }.parse()))
}

/// Like [`for_each_example`], but gives rows that cannot be read or fail [`TrainingExample::check`] to `bad`, as an error
/// that names file and line. `bad` returns an error to stop.
///
/// In JSON Lines every line is read by itself; some hundred are in memory at a time and are parsed on all threads. In a table,
/// a row that breaks the table (a quotation mark that is never closed, a damaged Parquet page) ends the reading with an error.
///
/// # Errors
/// If the file cannot be read, or `each` or `bad` fails.
pub fn for_each_usable_example(
    path: impl AsRef<Path>,
    each: &mut dyn FnMut(usize, TrainingExample) -> Result<()>,
    bad: &mut dyn FnMut(Error) -> Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let mut take = |number: usize, row: std::result::Result<TrainingExample, Error>| {
        let checked = row.and_then(|example| match example.check() {
            Ok(()) => Ok(example),
            Err(problem) => Err(Error::line(path, number, problem)),
        });
        match checked {
            Ok(example) => each(number, example),
            Err(error) => bad(error),
        }
    };
    let named = |number: usize| move |problem: String| Error::line(path, number, problem);
    if !is_jsonl(path) {
        return for_each_parsed(path, &mut |number, row| take(number, row.map_err(named(number))));
    }
    let mut lines = Lines::open(path)?;
    let mut end = None;
    while end.is_none() {
        let (mut group, mut bytes) = (Vec::new(), 0);
        while end.is_none() && group.len() < LINES && bytes < BYTES {
            match lines.next_line() {
                Ok(None) => end = Some(Ok(())),
                Ok(Some((_, line))) if line.trim().is_empty() => {}
                Ok(Some((number, line))) => {
                    bytes += line.len();
                    group.push((number, Ok(line.to_owned())));
                }
                Err(error) if error.kind() == ErrorKind::Format => group.push((0, Err(error))),
                Err(error) => end = Some(Err(error)),
            }
        }
        let parse = |(number, line): (usize, Result<String>)| {
            (number, line.and_then(|line| TrainingExample::from_json(&line).map_err(named(number))))
        };
        let rows: Vec<_> = group.into_par_iter().map(parse).collect();
        rows.into_iter().try_for_each(|(number, row)| take(number, row))?;
    }
    end.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_cell_of_a_table_is_no_text() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("train.csv");
        std::fs::write(&path, "anchor,positive,negative_1,negative_2\na,b,c,\nd,e,,\n").expect("written");
        let mut read = Vec::new();
        for_each_example(&path, &mut |_, row| {
            read.push(row);
            Ok(())
        })
        .expect("read");
        assert_eq!(read[0], TrainingExample::new("a", vec!["b".into()], vec!["c".into()]));
        assert_eq!(read[1], TrainingExample::new("d", vec!["e".into()], vec![]));
        std::fs::write(&path, "anchor,positive\na,\n").expect("written");
        let error = for_each_example(&path, &mut |_, _| Ok(())).expect_err("no positive").to_string();
        assert!(
            error.ends_with("train.csv:2: no `pos`, `positive` or `positive_passages`; the row has `anchor`"),
            "{error}"
        );
    }

    #[test]
    fn bad_rows_are_listed_and_the_others_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("train.jsonl");
        let lines: [&[u8]; 7] = [
            br#"{"query":"a","pos":["b"]}"#,
            br#"{"query":"a","pos":[]}"#,
            br#"{"query":"a""#,
            b"{\"query\":\"\xff\xfe\"}",
            b"",
            br#"{"query":"a","pos":["b"],"pos_scores":[1,2]}"#,
            br#"{"anchor":"c","positive":"d"}"#,
        ];
        std::fs::write(&path, lines.join(&b'\n')).expect("written");
        let (mut read, mut bad) = (Vec::new(), Vec::new());
        let mut keep = |number, row: TrainingExample| {
            read.push((number, row.query));
            Ok(())
        };
        for_each_usable_example(&path, &mut keep, &mut |error| {
            let name = folder.path().display().to_string();
            bad.push(error.to_string().replace(&name, "F"));
            Ok(())
        })
        .expect("read");
        assert_eq!(read, [(1, "a".to_owned()), (7, "c".to_owned())]);
        assert_eq!(bad[0], "F/train.jsonl:2: `pos` is empty");
        assert_eq!(bad[1], "F/train.jsonl:3: EOF while parsing an object (column 12)");
        assert!(bad[2].starts_with("F/train.jsonl:4: "), "{}", bad[2]);
        assert_eq!(bad[3], "F/train.jsonl:6: `pos_scores` has 2 values, but `pos` has 1");
        let first = for_each_usable_example(&path, &mut |_, _| Ok(()), &mut Err).expect_err("stops");
        assert_eq!(first.line_number(), Some(2));
    }
}
