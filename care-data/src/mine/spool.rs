//! Texts in a temporary file, read again by number.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use care_core::files::read_exact_at;
use care_core::{Error, Result};

/// Records of strings in a nameless file, of which only the offsets are in memory: 8 bytes per record. The file is gone
/// with the process, in whatever way that ends.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    file: Mutex<BufWriter<File>>,
    /// End of each record.
    ends: Vec<u64>,
}

impl Spool {
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(|e| Error::io("write a temporary file in", folder, e))?;
        Ok(Self { folder: folder.to_owned(), file: Mutex::new(BufWriter::new(file)), ends: Vec::new() })
    }

    /// Appends a record.
    pub(super) fn push<const N: usize>(&mut self, fields: [&str; N]) -> Result<()> {
        let file = self.file.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut end = self.ends.last().copied().unwrap_or(0);
        for field in fields {
            let length = (field.len() as u64).to_le_bytes();
            let written = file.write_all(&length).and_then(|()| file.write_all(field.as_bytes()));
            written.map_err(|e| Error::io("write a temporary file in", &self.folder, e))?;
            end += (length.len() + field.len()) as u64;
        }
        self.ends.push(end);
        Ok(())
    }

    /// The fields of a record, as many as it was written with.
    pub(super) fn get<const N: usize>(&self, number: usize) -> Result<[String; N]> {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        let mut bytes = vec![0; (self.ends[number] - start) as usize];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = file.flush().and_then(|()| read_exact_at(file.get_ref(), &mut bytes, start));
        if cfg!(windows) {
            // Appending goes on where it was.
            read = read.and_then(|()| file.seek(SeekFrom::End(0)).map(drop));
        }
        drop(file);
        read.map_err(|e| Error::io("read a temporary file in", &self.folder, e))?;
        let mut rest = bytes.as_slice();
        Ok([(); N].map(|()| {
            let (length, text) = rest.split_first_chunk().unwrap_or((&[0; 8], &[]));
            let (text, after) = text.split_at((u64::from_le_bytes(*length) as usize).min(text.len()));
            rest = after;
            String::from_utf8(text.to_vec()).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_in_any_order_between_writes() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spool = Spool::new(folder.path()).expect("opened");
        let long = "头".repeat(100_000);
        spool.push(["a", ""]).expect("written");
        spool.push(["", &long]).expect("written");
        assert_eq!(spool.get::<2>(0).expect("read"), ["a", ""]);
        spool.push(["b\n", "c\0"]).expect("written");
        assert_eq!(spool.get::<2>(2).expect("read"), ["b\n", "c\0"]);
        assert_eq!(spool.get::<2>(1).expect("read"), ["", long.as_str()]);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "the file has no name");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let error = Spool::new(Path::new("no/such/folder")).expect_err("none");
        assert_eq!(error.to_string(), "cannot write a temporary file in no/such/folder");
    }
}
