//! Rows of a table in text: CSV and TSV with a header.

use std::path::Path;

use care_core::lines::Lines;
use care_core::{Error, Result};
use serde::de::DeserializeOwned;

use super::cell::{Cell, row_of};

/// Longest field in quotation marks, in bytes: beyond it, one is missing.
const LONGEST_FIELD: usize = 16 << 20;

/// Calls `each` with the line on which every row begins, and its content.
pub(super) fn for_each<R: DeserializeOwned>(
    path: &Path,
    separator: char,
    each: &mut dyn FnMut(usize, R) -> Result<()>,
) -> Result<()> {
    let mut lines = Lines::open(path)?;
    let Some((number, header)) = next_row(&mut lines, path, separator)? else { return Ok(()) };
    if let Some(column) = header.iter().position(|name| name.is_empty()) {
        let problem = format!("column {} has no name; the first row is a header without an index column", column + 1);
        return Err(Error::line(path, number, problem));
    }
    while let Some((number, fields)) = next_row(&mut lines, path, separator)? {
        if fields.len() != header.len() {
            let problem = format!("{} columns, but the header has {}", fields.len(), header.len());
            return Err(Error::line(path, number, problem));
        }
        let cells = fields.into_iter().map(|field| if field.is_empty() { Cell::Blank } else { Cell::Text(field) });
        let row = row_of(header.iter().cloned().zip(cells).collect());
        each(number, row.map_err(|e| Error::line(path, number, &e).with_source(e))?)?;
    }
    Ok(())
}

/// The fields of the next row that is not a blank line, and the line on which it begins.
fn next_row(lines: &mut Lines, path: &Path, separator: char) -> Result<Option<(usize, Vec<String>)>> {
    loop {
        let Some((number, line)) = lines.next_line()? else { return Ok(None) };
        if line.trim().is_empty() {
            continue;
        }
        let mut row = Row::default();
        let mut is_whole = row.add(line, separator);
        loop {
            match is_whole {
                Ok(true) => return Ok(Some((number, row.fields))),
                Ok(false) => {}
                Err(column) => {
                    let problem =
                        format!("column {column} has a quotation mark that neither encloses it nor is doubled");
                    return Err(Error::line(path, number, problem));
                }
            }
            let Some((_, line)) = lines.next_line()? else {
                return Err(Error::line(path, number, "a quotation mark is never closed"));
            };
            is_whole = row.add(line, separator);
            if row.open.as_ref().is_some_and(|field| field.len() > LONGEST_FIELD) {
                let problem = format!("a quotation mark is not closed within {LONGEST_FIELD} bytes");
                return Err(Error::line(path, number, problem));
            }
        }
    }
}

/// A row by RFC 4180, line by line. Quotation marks within a field that does not begin with one are text.
#[derive(Default)]
struct Row {
    fields: Vec<String>,
    /// A field in quotation marks that is not closed yet.
    open: Option<String>,
}

impl Row {
    /// Adds a line; returns whether the row is whole.
    ///
    /// # Errors
    /// The column, from 1, with a quotation mark that is neither at an end of a quoted field nor doubled.
    fn add(&mut self, line: &str, separator: char) -> std::result::Result<bool, usize> {
        let mut rest = line;
        if let Some(field) = &mut self.open {
            field.push('\n');
        }
        loop {
            if let Some(field) = &mut self.open {
                loop {
                    let Some((text, after)) = rest.split_once('"') else {
                        field.push_str(rest);
                        return Ok(false);
                    };
                    field.push_str(text);
                    rest = after;
                    let Some(after) = rest.strip_prefix('"') else { break };
                    field.push('"');
                    rest = after;
                }
                self.fields.extend(self.open.take());
                match rest.strip_prefix(separator) {
                    Some(after) => rest = after,
                    None if rest.is_empty() => return Ok(true),
                    None => return Err(self.fields.len()),
                }
            }
            if let Some(quoted) = rest.strip_prefix('"') {
                (self.open, rest) = (Some(String::new()), quoted);
                continue;
            }
            let Some((field, after)) = rest.split_once(separator) else {
                self.fields.push(rest.to_owned());
                return Ok(true);
            };
            self.fields.push(field.to_owned());
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The number of a line, and its cells by the names of their columns.
    type Line = (usize, BTreeMap<String, Option<String>>);

    fn read(content: &str, separator: char) -> std::result::Result<Vec<Line>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.csv");
        std::fs::write(&path, content).expect("written");
        let mut rows = Vec::new();
        for_each(&path, separator, &mut |number, row| {
            rows.push((number, row));
            Ok(())
        })
        .map_err(|e| e.to_string().replace(&folder.path().display().to_string(), "F"))?;
        Ok(rows)
    }

    #[test]
    fn quoted_fields_hold_separators_line_breaks_and_quotation_marks() {
        for separator in [',', '\t'] {
            let content = "\u{feff}id,text\r\n1,\"a,\"\"b\"\"\n\nc\"\r\n\n2,say \"x\"\n\"3\",\n"
                .replace(',', &separator.to_string());
            let row = |id: &str, text: Option<String>| {
                BTreeMap::from([("id".to_owned(), Some(id.to_owned())), ("text".to_owned(), text)])
            };
            let expected = [
                (2, row("1", Some(format!("a{separator}\"b\"\n\nc")))),
                (6, row("2", Some("say \"x\"".to_owned()))),
                (7, row("3", None)),
            ];
            assert_eq!(read(&content, separator), Ok(expected.to_vec()));
        }
        assert_eq!(read("", ','), Ok(Vec::new()));
    }

    #[test]
    fn a_quotation_mark_that_is_never_closed_ends_the_reading_early() {
        // Each of these lines was once read again for each of those after it.
        let content = format!("id,text\n1,\"a\n{}", "2,b\n".repeat(5_000_000));
        let problem = format!("F/rows.csv:2: a quotation mark is not closed within {LONGEST_FIELD} bytes");
        assert_eq!(read(&content, ','), Err(problem));
    }

    #[test]
    fn malformed_rows_are_named() {
        for (content, problem) in [
            ("id,text\n1,a,b\n", "2: 3 columns, but the header has 2"),
            ("id\ttext\n1\n", "2: 1 columns, but the header has 2"),
            ("id,text\n1,\"a\"b\n", "2: column 2 has a quotation mark that neither encloses it nor is doubled"),
            ("id,text\n\n1,\"a\n2,b\n", "3: a quotation mark is never closed"),
            (",id,text\n0,1,a\n", "1: column 1 has no name; the first row is a header without an index column"),
        ] {
            let separator = if content.contains('\t') { '\t' } else { ',' };
            assert_eq!(read(content, separator), Err(format!("F/rows.csv:{problem}")));
        }
    }
}
