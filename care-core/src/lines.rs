//! Reads text files line by line: gzip by name, byte-order marks, and a word on encodings other than UTF-8.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};
use crate::files::open_input;

/// The lines of a UTF-8 text file. A name that ends in `.gz` is unpacked while reading.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    line: Vec<u8>,
    number: usize,
}

impl Lines {
    /// Opens a file.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let file = BufReader::new(open_input(&path)?);
        let reader: Box<dyn BufRead> = match path.extension().is_some_and(|extension| extension == "gz") {
            true => Box::new(BufReader::new(MultiGzDecoder::new(file))),
            false => Box::new(file),
        };
        Ok(Self { path, reader, line: Vec::new(), number: 0 })
    }

    /// The next line and its number, from 1, without its line ending; `None` at the end of the file.
    ///
    /// # Errors
    /// If the file cannot be read, or the line is not UTF-8; the message names path and line, and the encoding that the
    /// bytes look like.
    pub fn next_line(&mut self) -> Result<Option<(usize, &str)>> {
        self.line.clear();
        let failed = |e| Error::io("read", &self.path, e);
        if self.reader.read_until(b'\n', &mut self.line).map_err(failed)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let text = text_of(&self.line, self.number).map_err(|problem| Error::line(&self.path, self.number, problem))?;
        Ok(Some((self.number, text)))
    }
}

/// The text of a line with this number, from 1, without its line ending; the first line also loses a byte-order mark.
///
/// # Errors
/// The problem, if the bytes are not UTF-8.
pub fn text_of(line: &[u8], number: usize) -> std::result::Result<&str, &'static str> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if number == 1 && looks_like_utf16(line) {
        return Err("the text is UTF-16; convert it to UTF-8");
    }
    let text = std::str::from_utf8(line).map_err(|_| match looks_like_gb18030(line) {
        true => "not valid UTF-8 text; it looks like GB18030 (GBK): convert it, e.g. with iconv -f GB18030 -t UTF-8",
        false => "not valid UTF-8 text",
    })?;
    Ok(if number == 1 { text.trim_start_matches('\u{feff}') } else { text })
}

/// Whether text begins with the byte-order mark of UTF-16, or with an ASCII character in it.
fn looks_like_utf16(start: &[u8]) -> bool {
    matches!(start, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..])
}

/// Whether every byte above ASCII belongs to a character of two or four bytes of GB18030.
fn looks_like_gb18030(mut line: &[u8]) -> bool {
    while !line.is_empty() {
        line = match line {
            [0..=0x7f, rest @ ..]
            | [0x81..=0xfe, 0x40..=0x7e | 0x80..=0xfe, rest @ ..]
            | [0x81..=0xfe, b'0'..=b'9', 0x81..=0xfe, b'0'..=b'9', rest @ ..] => rest,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(name: &str, content: &[u8]) -> std::result::Result<Vec<String>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        let (mut lines, mut read) = (Lines::open(&path).expect("opened"), Vec::new());
        let named = |e: Error| e.to_string().replace(&folder.path().display().to_string(), "F");
        while let Some((number, line)) = lines.next_line().map_err(named)? {
            read.push(line.to_owned());
            assert_eq!(number, read.len());
        }
        Ok(read)
    }

    fn packed(content: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(content).expect("in memory");
        packed.finish().expect("in memory")
    }

    #[test]
    fn a_byte_order_mark_and_line_endings_are_not_text() {
        let lines = ["头痛", "", "\u{feff}发烧", "咳嗽"];
        let content = "\u{feff}头痛\r\n\n\u{feff}发烧\n咳嗽".as_bytes();
        assert_eq!(read("a.txt", content), Ok(lines.map(str::to_owned).to_vec()));
        // Two members, as `cat a.gz b.gz` writes.
        let two = [packed(&content[..20]), packed(&content[20..])].concat();
        assert_eq!(read("a.txt.gz", &two), Ok(lines.map(str::to_owned).to_vec()));
        assert_eq!(read("a.txt", b""), Ok(Vec::new()));
    }

    #[test]
    fn other_encodings_are_named() {
        let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<_>>();
        for content in [
            utf16("\u{feff}头痛\n", u16::to_le_bytes),
            utf16("\u{feff}{}\n", u16::to_be_bytes),
            utf16("{\"text\"", u16::to_le_bytes),
            utf16("a\n", u16::to_be_bytes),
        ] {
            assert_eq!(read("a.txt", &content), Err("F/a.txt:1: the text is UTF-16; convert it to UTF-8".to_owned()));
        }
        let gb = "F/a.txt:2: not valid UTF-8 text; it looks like GB18030 (GBK): convert it, e.g. with iconv -f GB18030 -t UTF-8";
        for line in [&b"\xb7\xa2\xc9\xd5"[..], b"a\x81\x30\x81\x30b", b"{\"text\": \"\xb7\xa2\xc9\xd5\"}"] {
            assert_eq!(read("a.txt", &[b"ok\n", line].concat()), Err(gb.to_owned()));
        }
        for line in [&b"caf\xe9"[..], b"\xff", b"caf\xe9 au lait"] {
            let problem = "F/a.txt:2: not valid UTF-8 text".to_owned();
            assert_eq!(read("a.txt", &[b"ok\n", line].concat()), Err(problem));
        }
        assert_eq!(read("a.gz", b"plain").expect_err("no gzip"), "cannot read F/a.gz");
    }
}
