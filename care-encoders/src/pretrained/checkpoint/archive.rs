//! Finds the entries of a zip archive that are stored without compression, as PyTorch writes them.
//!
//! # Reference
//! PKWARE's APPNOTE 6.3.10, zip64 included.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Largest central directory in bytes.
const MAX_DIRECTORY: u64 = 256 << 20;
/// Largest entry that is read as a whole.
const MAX_CONTENT: u64 = 64 << 20;
/// The end of central directory record without its comment.
const END: usize = 22;
/// Longest comment at the end of an archive.
const MAX_COMMENT: usize = 0xffff;
/// In place of a value that is in the zip64 fields.
const ELSEWHERE: u64 = 0xffff_ffff;

/// The entries of an archive by name.
#[derive(Debug)]
pub(super) struct Archive {
    entries: HashMap<String, Entry>,
    length: u64,
}

/// An entry, as the central directory describes it.
#[derive(Debug)]
struct Entry {
    plain: bool,
    crc: u32,
    bytes: u64,
    header: u64,
}

/// The bytes of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) crc: u32,
}

type Result<T> = std::result::Result<T, String>;

impl Archive {
    /// Reads the central directory of a file of `length` bytes.
    ///
    /// # Errors
    /// If it is damaged; the message says how.
    pub(super) fn open(file: &mut File, length: u64) -> Result<Self> {
        let tail = length.min((END + MAX_COMMENT) as u64);
        let bytes = read(file, length - tail, tail)?;
        let end = (0..=bytes.len().saturating_sub(END)).rev().find(|at| bytes[*at..].starts_with(b"PK\x05\x06"));
        let end = end.ok_or("the directory at the end of the archive is missing: the file is cut off")?;
        let (mut count, mut size, mut start) =
            (le(&bytes, end + 10, 2)?, le(&bytes, end + 12, 4)?, le(&bytes, end + 16, 4)?);
        if count == 0xffff || size == ELSEWHERE || start == ELSEWHERE {
            let locator = end.checked_sub(20).filter(|at| bytes[*at..].starts_with(b"PK\x06\x07"));
            let locator = locator.ok_or("the zip64 directory is missing")?;
            let record = read(file, le(&bytes, locator + 8, 8)?, 56)?;
            if !record.starts_with(b"PK\x06\x06") {
                return Err("the zip64 directory is damaged".into());
            }
            (count, size, start) = (le(&record, 32, 8)?, le(&record, 40, 8)?, le(&record, 48, 8)?);
        }
        if size > MAX_DIRECTORY || start.checked_add(size).is_none_or(|end| end > length) {
            return Err(format!("a directory of {size} bytes at {start} in a file of {length}"));
        }
        let directory = read(file, start, size)?;
        let (mut entries, mut at) = (HashMap::new(), 0);
        for _ in 0..count {
            let (name, entry, next) = entry(&directory, at)?;
            if entries.insert(name.clone(), entry).is_some() {
                return Err(format!("the entry {name:?} is duplicated"));
            }
            at = next;
        }
        Ok(Self { entries, length })
    }

    /// The names of the entries, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Where the bytes of an entry are.
    ///
    /// # Errors
    /// If there is no such entry, it is compressed, or it reaches beyond the file.
    pub(super) fn stored(&self, file: &mut File, name: &str) -> Result<Stored> {
        let entry = self.entries.get(name).ok_or_else(|| format!("the entry {name:?} is missing"))?;
        if !entry.plain {
            return Err(format!("the entry {name:?} is compressed, which PyTorch does not do"));
        }
        let header = read(file, entry.header, 30)?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err(format!("the entry {name:?} is not where the directory says"));
        }
        let offset = entry.header + 30 + le(&header, 26, 2)? + le(&header, 28, 2)?;
        if offset.checked_add(entry.bytes).is_none_or(|end| end > self.length) {
            return Err(format!("the entry {name:?} reaches beyond the end of the file"));
        }
        Ok(Stored { offset, bytes: entry.bytes, crc: entry.crc })
    }

    /// Reads an entry whole and compares its checksum.
    ///
    /// # Errors
    /// As [`Archive::stored`], and if it is large or damaged.
    pub(super) fn content(&self, file: &mut File, name: &str) -> Result<Vec<u8>> {
        let Stored { offset, bytes, crc } = self.stored(file, name)?;
        if bytes > MAX_CONTENT {
            return Err(format!("the entry {name:?} has {bytes} bytes, allowed: at most {MAX_CONTENT}"));
        }
        let content = read(file, offset, bytes)?;
        if crc32fast::hash(&content) == crc { Ok(content) } else { Err(format!("the entry {name:?} is damaged")) }
    }
}

/// The entry of a central directory at a position, and the position behind it.
fn entry(directory: &[u8], at: usize) -> Result<(String, Entry, usize)> {
    if !directory.get(at..).is_some_and(|rest| rest.starts_with(b"PK\x01\x02")) {
        return Err("the directory is damaged".into());
    }
    let field = |offset: usize, size: usize| le(directory, at + offset, size);
    let (encrypted, method) = (field(8, 2)? & 1 == 1, field(10, 2)?);
    let (packed, mut bytes, mut header) = (field(20, 4)?, field(24, 4)?, field(42, 4)?);
    let [name, extra, comment] = [field(28, 2)? as usize, field(30, 2)? as usize, field(32, 2)? as usize];
    let part = |from: usize, length: usize| directory.get(from..from + length).ok_or("the directory is cut off");
    let text = String::from_utf8_lossy(part(at + 46, name)?).into_owned();
    let mut fields = part(at + 46 + name, extra)?;
    // The zip64 field has those of the values that do not fit, in this order.
    while fields.len() >= 4 {
        let (kind, size) = (le(fields, 0, 2)?, le(fields, 2, 2)? as usize);
        let content = fields.get(4..4 + size).ok_or("the directory is damaged")?;
        if kind == 1 {
            let mut next = 0;
            let mut wide = |value: u64| match value {
                ELSEWHERE => {
                    next += 8;
                    le(content, next - 8, 8)
                }
                value => Ok(value),
            };
            bytes = wide(bytes)?;
            wide(packed)?;
            header = wide(header)?;
        }
        fields = &fields[4 + size..];
    }
    let entry = Entry { plain: method == 0 && !encrypted, crc: field(16, 4)? as u32, bytes, header };
    Ok((text, entry, at + 46 + name + extra + comment))
}

/// A little-endian number of `size` bytes.
fn le(bytes: &[u8], at: usize, size: usize) -> Result<u64> {
    let field = bytes.get(at..at + size).ok_or("the directory is cut off")?;
    Ok(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Reads `count` bytes, which callers have bounded.
fn read(file: &mut File, offset: u64, count: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; count as usize];
    let done = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes));
    done.map_err(|e| format!("{count} bytes at {offset} cannot be read: {e}"))?;
    Ok(bytes)
}
