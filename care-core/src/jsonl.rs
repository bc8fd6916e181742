//! Reads JSON Lines; errors name the file and the line.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Reads every line of a JSONL file; blank lines are skipped, lines count from 1.
///
/// # Errors
/// If the file cannot be read, or a line is not JSON or lacks a field; the message names path and line.
pub fn read_jsonl<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<Vec<(usize, T)>> {
    let mut rows = Vec::new();
    for_each_jsonl(path, &mut |number, row| {
        rows.push((number, row));
        Ok(())
    })?;
    Ok(rows)
}

/// Like [`read_jsonl`], but streaming: calls `each` with the number and the row of every line.
///
/// # Errors
/// As [`read_jsonl`], and if `each` fails.
pub fn for_each_jsonl<T: DeserializeOwned>(
    path: impl AsRef<Path>,
    each: &mut dyn FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let line = line.map_err(|e| match e.kind() {
            ErrorKind::InvalidData => Error::line(path, number, "not valid UTF-8 text"),
            _ => Error::io("read", path, e),
        })?;
        // A byte-order mark is not part of the first row.
        let line = if number == 1 { line.trim_start_matches('\u{feff}') } else { &line };
        if line.trim().is_empty() {
            continue;
        }
        each(number, serde_json::from_str(line).map_err(|e| Error::line(path, number, describe(&e)).with_source(e))?)?;
    }
    Ok(())
}

/// serde_json's message with "at line 1 column n" cut to the column: it sees each line on its own.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => format!("{} (column {})", &text[..end], error.column()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Row {
        pos: Vec<String>,
    }

    fn read(content: &str) -> std::result::Result<Vec<(usize, Row)>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, content).expect("written");
        read_jsonl(&path).map_err(|e| e.to_string().replace(&folder.path().display().to_string(), "F"))
    }

    #[test]
    fn blank_lines_are_skipped_and_bad_ones_named() {
        let rows = read("\u{feff}{\"pos\":[\"a\"]}\n\n{\"pos\":[]}\r\n").expect("good");
        assert_eq!(rows.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(
            read("{\"pos\":[]}\n{\"pos\":\"a\"}\n").expect_err("a string"),
            "F/rows.jsonl:2: invalid type: string \"a\", expected a sequence (column 10)"
        );
        assert_eq!(read("{\"neg\":[]}").expect_err("a field"), "F/rows.jsonl:1: missing field `pos` (column 10)");
        assert_eq!(read("{\"pos\":[").expect_err("cut off"), "F/rows.jsonl:1: EOF while parsing a list (column 8)");
    }
}
