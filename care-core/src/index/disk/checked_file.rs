//! Immutable files with a CRC-32 per block, read by position.
//!
//! Behind the content is a table of the blocks' checksums. The manifest has the checksum of that table, so it covers the
//! whole file.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::Crc;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::{open_file, read_exact_at};

/// Bytes of content per checksum.
const BLOCK: usize = 16 << 10;
const SUM: usize = 4;

/// What the manifest records of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSeal {
    /// Bytes of content, without the table of checksums.
    pub(super) bytes: u64,
    /// CRC-32 of the table.
    pub(super) crc32: u32,
}

/// The CRC-32 of bytes.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = Crc::new();
    sum.update(bytes);
    sum.sum()
}

/// Writes content, and the table of its checksums at the end.
pub(super) struct CheckedWriter<W> {
    out: W,
    block: Crc,
    /// Bytes of the last block so far.
    filled: usize,
    sums: Vec<u8>,
    bytes: u64,
}

impl<W: Write> CheckedWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, block: Crc::new(), filled: 0, sums: Vec::new(), bytes: 0 }
    }

    /// Bytes of content so far.
    pub(super) fn position(&self) -> u64 {
        self.bytes
    }

    /// Writes the table.
    pub(super) fn finish(mut self) -> io::Result<(FileSeal, W)> {
        if self.filled > 0 {
            self.end_block();
        }
        self.out.write_all(&self.sums)?;
        self.out.flush()?;
        Ok((FileSeal { bytes: self.bytes, crc32: crc32(&self.sums) }, self.out))
    }

    fn end_block(&mut self) {
        let sum = std::mem::take(&mut self.block).sum();
        self.sums.extend_from_slice(&sum.to_le_bytes());
        self.filled = 0;
    }
}

impl<W: Write> Write for CheckedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(&bytes[..bytes.len().min(BLOCK - self.filled)])?;
        self.block.update(&bytes[..written]);
        self.filled += written;
        self.bytes += written as u64;
        if self.filled == BLOCK {
            self.end_block();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A file that is read by position. A block is checked when it is first read.
#[derive(Debug)]
pub(super) struct CheckedFile {
    path: PathBuf,
    file: File,
    seal: FileSeal,
    blocks: OnceLock<Vec<BlockSum>>,
}

#[derive(Debug)]
struct BlockSum {
    crc32: u32,
    checked: AtomicBool,
}

impl CheckedFile {
    /// Opens a file without reading it.
    ///
    /// # Errors
    /// If it cannot be opened or has another length than the manifest states.
    pub(super) fn open(path: PathBuf, seal: FileSeal) -> Result<Self> {
        let file = open_file(&path)?;
        let length = file.metadata().map_err(|e| Error::io("read", &path, e))?.len();
        let expected = seal.bytes + SUM as u64 * seal.bytes.div_ceil(BLOCK as u64);
        if length != expected {
            return Err(Error::format(&path, format!("{length} bytes, the index's manifest states {expected}")));
        }
        Ok(Self { path, file, seal, blocks: OnceLock::new() })
    }

    /// Bytes of content.
    pub(super) fn len(&self) -> u64 {
        self.seal.bytes
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `bytes` with the content from `offset`.
    ///
    /// # Errors
    /// If the file cannot be read, ends before, or a block is not what was written.
    pub(super) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset + bytes.len() as u64;
        if end > self.seal.bytes {
            return Err(Error::format(&self.path, format!("no content at byte {end} of {}", self.seal.bytes)));
        }
        let blocks = self.blocks()?;
        self.read(bytes, offset)?;
        for number in offset / BLOCK as u64..end.div_ceil(BLOCK as u64) {
            let block = &blocks[number as usize];
            if block.checked.load(Ordering::Relaxed) {
                continue;
            }
            let (start, stop) = self.range(number);
            if start >= offset && stop <= end {
                let content = &bytes[(start - offset) as usize..(stop - offset) as usize];
                self.check(block, content, start)?;
            } else {
                let mut content = vec![0; (stop - start) as usize];
                self.read(&mut content, start)?;
                self.check(block, &content, start)?;
                // What was checked is what is returned.
                let (from, to) = (start.max(offset), stop.min(end));
                bytes[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&content[(from - start) as usize..(to - start) as usize]);
            }
        }
        Ok(())
    }

    /// `length` bytes of content from `offset`.
    ///
    /// # Errors
    /// As [`CheckedFile::read_at`].
    pub(super) fn bytes(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Reads and checks the whole file, whatever was checked before.
    ///
    /// # Errors
    /// If the file cannot be read or is not what was written.
    pub(super) fn verify(&self) -> Result<()> {
        let mut content = vec![0; BLOCK];
        for (number, block) in (0..).zip(self.blocks()?) {
            let (start, stop) = self.range(number);
            let content = &mut content[..(stop - start) as usize];
            self.read(content, start)?;
            self.check(block, content, start)?;
        }
        Ok(())
    }

    fn range(&self, block: u64) -> (u64, u64) {
        let start = block * BLOCK as u64;
        (start, (start + BLOCK as u64).min(self.seal.bytes))
    }

    fn check(&self, block: &BlockSum, content: &[u8], start: u64) -> Result<()> {
        if crc32(content) != block.crc32 {
            let problem = format!("the block of {BLOCK} bytes at {start} is damaged: its checksum differs");
            return Err(Error::format(&self.path, problem));
        }
        block.checked.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The table of checksums, read once.
    fn blocks(&self) -> Result<&Vec<BlockSum>> {
        if let Some(blocks) = self.blocks.get() {
            return Ok(blocks);
        }
        let mut table = vec![0; SUM * self.seal.bytes.div_ceil(BLOCK as u64) as usize];
        self.read(&mut table, self.seal.bytes)?;
        if crc32(&table) != self.seal.crc32 {
            return Err(Error::format(
                &self.path,
                "the table of checksums is damaged, or the file is of another index",
            ));
        }
        let sum = |sum: &[u8; SUM]| BlockSum { crc32: u32::from_le_bytes(*sum), checked: AtomicBool::new(false) };
        Ok(self.blocks.get_or_init(|| table.as_chunks().0.iter().map(sum).collect()))
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        read_exact_at(&self.file, bytes, offset).map_err(|e| Error::io("read", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn any_range_is_read_and_any_flipped_byte_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let content: Vec<u8> = (0..2 * BLOCK + 700).map(|at| (at * 7919 / 13) as u8).collect();
        let mut writer = CheckedWriter::new(File::create(&path).expect("made"));
        for part in content.chunks(1000) {
            writer.write_all(part).expect("written");
        }
        assert_eq!(writer.position(), content.len() as u64);
        let (seal, _) = writer.finish().expect("finished");
        for (start, end) in [(0, 0), (0, 1), (5, BLOCK), (BLOCK - 1, BLOCK + 1), (7, 2 * BLOCK + 9), (0, content.len())]
        {
            let file = CheckedFile::open(path.clone(), seal).expect("opened");
            for _ in 0..2 {
                assert_eq!(file.bytes(start as u64, end - start).expect("read"), content[start..end]);
            }
        }
        let intact = fs::read(&path).expect("read");
        for at in [0, BLOCK, content.len() - 1, content.len(), intact.len() - 1] {
            let mut bytes = intact.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).expect("written");
            let file = CheckedFile::open(path.clone(), seal).expect("the length is right");
            let error = file.verify().expect_err("damaged");
            assert!(error.path() == Some(&path) && error.to_string().contains("damaged"), "{error}");
            if at < content.len() {
                assert!(file.bytes(at as u64, 1).is_err());
            }
        }
        fs::write(&path, &intact[1..]).expect("written");
        let error = CheckedFile::open(path.clone(), seal).expect_err("cut off").to_string();
        assert!(error.ends_with(&format!(
            "file: {} bytes, the index's manifest states {}",
            intact.len() - 1,
            intact.len()
        )));
        let end = content.len() as u64;
        fs::write(&path, &intact).expect("written");
        assert!(CheckedFile::open(path, seal).expect("opened").bytes(end, 1).is_err());
    }
}
