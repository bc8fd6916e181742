//! The rows of a range of bytes of a JSON Lines file: those whose first byte is in it.

use std::ops::Range;

use care_core::jsonl::describe;
use care_core::lines::text_of;
use care_core::{Error, Result};
use serde::de::DeserializeSeed;

use super::row::{Fields, Row, RowReader, Rows};
use crate::storage::Storage;

/// Bytes that are read at once beyond a part, to the end of its last line; doubled each time.
const BEYOND: u64 = 64 << 10;

/// Reads the rows of a part of a file of `size` bytes.
pub(super) fn read(storage: &Storage, size: u64, fields: &Fields, part: Range<u64>) -> Result<Rows> {
    let Lines { content, range } = lines(storage, size, part)?;
    let (mut rows, mut at) = (Vec::new(), range.start);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        let failed = |problem: &str| Error::format(storage.url(), format!("the row at byte {at}: {problem}"));
        let text = text_of(line, if at == 0 { 1 } else { 2 }).map_err(failed)?;
        if !text.trim().is_empty() {
            rows.push(parse(text, fields).map_err(|e| failed(&describe(&e)).with_source(e))?);
        }
        at += line.len() as u64;
    }
    Ok(Rows { rows, range })
}

fn parse(text: &str, fields: &Fields) -> serde_json::Result<Row> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let row = RowReader(fields).deserialize(&mut parser)?;
    parser.end()?;
    Ok(row)
}

/// Whole lines.
struct Lines {
    content: Vec<u8>,
    /// Their place in the file.
    range: Range<u64>,
}

/// The lines whose first byte is in `part`.
fn lines(storage: &Storage, size: u64, part: Range<u64>) -> Result<Lines> {
    // Whether a line begins with the first byte of the part is told by the byte before.
    let begin = part.start.saturating_sub(1);
    let mut content = storage.range("", begin..part.end)?.to_vec();
    let (mut searched, mut beyond) = ((part.end - 1 - begin) as usize, BEYOND);
    let end = loop {
        if let Some(found) = after_line_break(&content[searched..]) {
            break searched + found;
        }
        let at = begin + content.len() as u64;
        searched = content.len();
        if at == size {
            break searched;
        }
        content.extend_from_slice(&storage.range("", at..size.min(at + beyond))?);
        beyond *= 2;
    };
    content.truncate(end);
    let start = if part.start == 0 { 0 } else { after_line_break(&content).unwrap_or(end) };
    content.drain(..start);
    Ok(Lines { content, range: begin + start as u64..begin + end as u64 })
}

fn after_line_break(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use care_core::Text;
    use object_store::memory::InMemory;

    use super::*;
    use crate::storage::Stores;

    fn storage(content: &str) -> Storage {
        let stores = Stores::new().expect("threads");
        stores.register("mem://test/", Arc::new(InMemory::new())).expect("a URL");
        let storage = stores.open("mem://test/a.jsonl").expect("opened");
        storage.put("", content.as_bytes().to_vec()).expect("written");
        storage
    }

    #[test]
    fn parts_of_any_size_have_every_row_once_and_join() {
        for (length, steps) in [(3, &[1, 2, 7, 40][..]), (100_000, &[20_011, 99_991, 299_999])] {
            let long = "长".repeat(length);
            for end in ["", "\n", "\r\n\n\n"] {
                let content = format!(
                    "\u{feff}{{\"_id\":1,\"text\":\"a\"}}\n\n{{\"text\":\"{long}\",\"id\":\"x\",\"title\":null}}\n\
                     {{\"title\":\"t\",\"text\":\"b\\nc\",\"_id\":\"3\",\"n\":[1]}}{end}"
                );
                check_parts(&content, steps);
            }
        }
    }

    fn check_parts(content: &str, steps: &[usize]) {
        let (storage, size) = (storage(content), content.len() as u64);
        let whole = read(&storage, size, &Fields::default(), 0..size).expect("read");
        assert_eq!(whole.rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["1", "x", "3"]);
        assert_eq!((whole.rows[2].document.content().as_ref(), &whole.range), ("t b\nc", &(0..size)));
        for step in steps {
            let (mut rows, mut at) = (Vec::new(), 0);
            for start in (0..size).step_by(*step) {
                let part = start..size.min(start + *step as u64);
                let read = read(&storage, size, &Fields::default(), part.clone()).expect("read");
                assert_eq!(read.range.start, at, "{part:?}");
                at = read.range.end;
                rows.extend(read.rows);
            }
            assert!(rows == whole.rows && at == size, "{step}");
        }
    }

    #[test]
    fn a_bad_row_is_named_by_its_byte() {
        let good = "{\"_id\":\"a\",\"text\":\"b\"}\n";
        for (row, problem) in [
            ("{\"_id\":\"a\"}", "missing field `text` (column 11)"),
            ("{\"text\":\"a\"}", "missing field `_id` (column 12)"),
            ("{\"_id\":\"\",\"text\":\"a\"}", "the id is empty (column 9)"),
            ("{\"_id\":1.5,\"text\":\"a\"}", "the id is 1.5, expected a string or an integer (column 10)"),
            ("{\"_id\":1,\"id\":2,\"text\":\"a\"}", "duplicate field `id` (column 15)"),
            ("{\"_id\":1,\"text\":null}", "invalid type: null, expected a string (column 20)"),
            ("[]", "invalid type: sequence, expected an object (column 0)"),
            ("{\"_id\":1,\"text\":\"a\"} {", "trailing characters (column 22)"),
        ] {
            let content = format!("{good}{row}\n{good}");
            let error = read(&storage(&content), content.len() as u64, &Fields::default(), 5..content.len() as u64);
            let expected = format!("mem://test/a.jsonl: the row at byte {}: {problem}", good.len());
            assert_eq!(error.expect_err(row).to_string(), expected);
        }
    }
}
