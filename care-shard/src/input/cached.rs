//! A file in a store as Parquet reads one: in pieces, of which the last ones are kept.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use crate::storage::Storage;

/// Least bytes that are read at once.
const PIECE: u64 = 1 << 20;
/// Pieces that are kept: a few for each of the three columns.
const PIECES: usize = 8;

/// A file whose last pieces are kept in memory. A copy shares them.
#[derive(Clone)]
pub(super) struct CachedFile {
    storage: Storage,
    size: u64,
    pieces: Arc<Mutex<Vec<(u64, Bytes)>>>,
    /// Whether the store has failed.
    failed: Arc<AtomicBool>,
}

impl CachedFile {
    pub(super) fn new(storage: &Storage, size: u64) -> Self {
        Self { storage: storage.clone(), size, pieces: Arc::default(), failed: Arc::default() }
    }

    pub(super) fn url(&self) -> &str {
        self.storage.url()
    }

    /// Whether the store has failed, rather than the file being damaged.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    fn bytes(&self, start: u64, length: u64) -> Result<Bytes> {
        let end = start + length;
        if end > self.size {
            return Err(ParquetError::EOF(format!("bytes {start} to {end} of a file of {}", self.size)));
        }
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let covers = |(at, piece): &(u64, Bytes)| *at <= start && end <= at + piece.len() as u64;
        if let Some((at, piece)) = pieces.iter().find(|piece| covers(piece)) {
            return Ok(piece.slice((start - at) as usize..(end - at) as usize));
        }
        let read = self.storage.range("", start..self.size.min(start + length.max(PIECE)));
        let piece = read.map_err(|e| {
            self.failed.store(true, Ordering::Relaxed);
            ParquetError::External(Box::new(e))
        })?;
        if pieces.len() == PIECES {
            pieces.remove(0);
        }
        pieces.push((start, piece.clone()));
        Ok(piece.slice(..length as usize))
    }
}

impl Length for CachedFile {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for CachedFile {
    type T = Reading;

    fn get_read(&self, start: u64) -> Result<Reading> {
        Ok(Reading { file: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.bytes(start, length as u64)
    }
}

/// Reads a file from some byte on.
pub(super) struct Reading {
    file: CachedFile,
    at: u64,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = (buffer.len() as u64).min(self.file.size.saturating_sub(self.at));
        let bytes = self.file.bytes(self.at, length).map_err(io::Error::other)?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.at += length;
        Ok(bytes.len())
    }
}
