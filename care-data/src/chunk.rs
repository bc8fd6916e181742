//! The lines of several files, some thousand at a time, so that threads can share the work on them.

use std::path::PathBuf;

use care_core::lines::Lines;
use care_core::{Error, ErrorKind, Result};

/// Lines in a chunk, and the bytes from which a chunk is full.
const LINES: usize = 4096;
const BYTES: usize = 8 << 20;

/// A line that is not blank.
#[derive(Debug)]
pub(crate) struct Line {
    /// Number of its file, from 0, and its own in it, from 1.
    pub(crate) place: Place,
    /// Its text, or why there is none.
    pub(crate) text: Result<String>,
}

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: u32,
    pub(crate) line: u32,
}

/// Calls `each` with the lines of files in order. A line that is not text is one of them, too.
///
/// # Errors
/// If a file cannot be read, or `each` fails.
pub(crate) fn for_each_chunk(files: &[PathBuf], each: &mut dyn FnMut(Vec<Line>) -> Result<()>) -> Result<()> {
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    for (file, path) in (0..).zip(files) {
        let mut lines = Lines::open(path)?;
        let mut last = 0;
        loop {
            let (number, text) = match lines.next_line() {
                Ok(None) => break,
                Ok(Some((_, line))) if line.trim().is_empty() => continue,
                Ok(Some((number, line))) => (number, Ok(line.to_owned())),
                Err(error) if error.kind() == ErrorKind::Format => {
                    (error.line_number().unwrap_or(last + 1), Err(error))
                }
                Err(error) => return Err(error),
            };
            last = number;
            let line = u32::try_from(number).map_err(|_| Error::format(path, "more than 4,294,967,295 lines"))?;
            bytes += text.as_ref().map_or(0, String::len);
            chunk.push(Line { place: Place { file, line }, text });
            if chunk.len() >= LINES || bytes >= BYTES {
                bytes = 0;
                each(std::mem::take(&mut chunk))?;
            }
        }
    }
    if chunk.is_empty() { Ok(()) } else { each(chunk) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_order_with_those_that_are_no_text() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["a.jsonl", "b.jsonl"].map(|name| folder.path().join(name));
        let many = "x\n\n".repeat(5000);
        std::fs::write(&paths[0], &many).expect("written");
        std::fs::write(&paths[1], b"y\r\n\xff\nz").expect("written");
        let (mut seen, mut sizes) = (Vec::new(), Vec::new());
        for_each_chunk(&paths, &mut |chunk| {
            sizes.push(chunk.len());
            seen.extend(chunk.into_iter().map(|line| (line.place.file, line.place.line, line.text.ok())));
            Ok(())
        })
        .expect("read");
        assert_eq!(sizes, [4096, 907]);
        assert_eq!(seen[1], (0, 3, Some("x".into())));
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(seen[5000..], [(1, 1, text("y")), (1, 2, None), (1, 3, text("z"))]);
        assert!(for_each_chunk(&[folder.path().join("none")], &mut |_| Ok(())).is_err());
    }
}
