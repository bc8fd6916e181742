//! Reads JSON Lines; errors name the file and the line.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::lines::Lines;

/// Reads every line of a JSONL file; blank lines are skipped, lines count from 1. A name that ends in `.gz` is unpacked.
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
    let (mut lines, mut first) = (Lines::open(path)?, true);
    while let Some((number, line)) = lines.next_line()? {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str(line) {
            Ok(row) => each(number, row)?,
            Err(error) => {
                let start = if first { line.trim_start().chars().next() } else { None };
                let mut goes_on = || matches!(lines.next_line(), Ok(Some(_)));
                // The parser's own words would only mislead.
                let foreign = match start {
                    Some('[') => "the file is a JSON array",
                    Some('{') if error.is_eof() && goes_on() => "the first object spans several lines",
                    // Plain text, or a table under another name.
                    Some(start) if start != '{' => {
                        let problem = "the line is no JSON object, of which JSON Lines holds one per line";
                        return Err(Error::line(path, number, problem));
                    }
                    _ => return Err(Error::line(path, number, describe(&error)).with_source(error)),
                };
                return Err(Error::line(path, number, format!("{foreign}; {ONE_PER_LINE}")));
            }
        }
        first = false;
    }
    Ok(())
}

/// What to do with JSON that is not JSON Lines.
const ONE_PER_LINE: &str = "JSON Lines holds one object per line: convert it, e.g. with jq -c";

/// serde_json's message with "at line 1 column n" cut to the column: it sees each line on its own.
pub fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let (problem, column) = match text.rfind(" at line ") {
        Some(end) => (&text[..end], format!(" (column {})", error.column())),
        None => (text.as_str(), String::new()),
    };
    match problem {
        "lone leading surrogate in hex escape" | "unexpected end of hex escape" => {
            format!(
                "half a character: an escape such as \\ud83d without its second half, as in a text cut within an emoji{column}"
            )
        }
        _ => format!("{problem}{column}"),
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
        assert_eq!(
            read("version https://git-lfs.github.com/spec/v1\noid sha256:0a1b\nsize 4706\n").expect_err("a pointer"),
            "F/rows.jsonl: a git-lfs pointer, not the file itself; fetch it with `git lfs pull`"
        );
        assert_eq!(read("{\"neg\":[]}").expect_err("a field"), "F/rows.jsonl:1: missing field `pos` (column 10)");
        assert_eq!(read("{\"pos\":[").expect_err("cut off"), "F/rows.jsonl:1: EOF while parsing a list (column 8)");
        let cut_later = read("{\"pos\":[]}\n{\"pos\":[\n{}").expect_err("cut off");
        assert_eq!(cut_later, "F/rows.jsonl:2: EOF while parsing a list (column 8)");
    }

    #[test]
    fn json_that_is_not_json_lines_is_named() {
        let hint = "JSON Lines holds one object per line: convert it, e.g. with jq -c";
        for content in ["[{\"pos\":[]},{\"pos\":[]}]", "\n [\n  {\"pos\": []}\n]\n", "[]", "["] {
            let line = if content.starts_with('\n') { 2 } else { 1 };
            let problem = format!("F/rows.jsonl:{line}: the file is a JSON array; {hint}");
            assert_eq!(read(content).expect_err("an array"), problem);
        }
        for content in ["{\n  \"pos\": []\n}\n", "{\"pos\": [\n\"a\"]}", "\u{feff}{\"pos\":\n[]\n}\n{\n"] {
            let problem = format!("F/rows.jsonl:1: the first object spans several lines; {hint}");
            assert_eq!(read(content).expect_err("pretty"), problem);
        }
    }

    #[test]
    fn half_a_character_is_named() {
        let problem =
            "half a character: an escape such as \\ud83d without its second half, as in a text cut within an emoji";
        for text in ["\\ud83d", "a\\ud83d\\n", "\\ude00", "\\ud83d\\u0041"] {
            let error = read(&format!("{{\"pos\":[\"{text}\"]}}")).expect_err("half");
            assert!(error.starts_with(&format!("F/rows.jsonl:1: {problem} (column ")), "{error}");
        }
        assert!(read("{\"pos\":[\"\\ud83d\\ude00\"]}").is_ok());
    }
}
