//! Files of kept rows and of clusters.

use std::io::{BufWriter, Write};
use std::path::Path;

use care_core::files::AtomicFile;
use care_core::{Error, Result};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::run::Deduplication;

impl Deduplication {
    /// Writes the kept rows to a file, which appears when it is complete: `.jsonl`, or `.jsonl.gz`, packed.
    ///
    /// # Errors
    /// If a file cannot be read or has changed, or the file cannot be written, or has another extension.
    pub fn save_rows(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let name = path.to_string_lossy();
        if !name.ends_with(".jsonl") && !name.ends_with(".jsonl.gz") {
            return Err(Error::format(path, "rows are written as .jsonl or .jsonl.gz"));
        }
        let mut out = create(path)?;
        if name.ends_with(".gz") {
            let mut packed = GzEncoder::new(out, Compression::default());
            self.write_rows(&mut packed)?;
            out = packed.finish().map_err(|e| Error::io("write", path, e))?;
        } else {
            self.write_rows(&mut out)?;
        }
        commit(out, path)
    }

    /// Writes the clusters, or the leaks alone, to a file of JSON Lines, which appears when it is complete.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_clusters(&self, path: impl AsRef<Path>, leaks: bool) -> Result<()> {
        let path = path.as_ref();
        let mut out = create(path)?;
        self.for_each_cluster(leaks, &mut |cluster| {
            let line = serde_json::to_string(&cluster).map_err(|e| Error::io("write", path, e.into()))?;
            writeln!(out, "{line}").map_err(|e| Error::io("write", path, e))
        })?;
        commit(out, path)
    }
}

fn create(path: &Path) -> Result<BufWriter<AtomicFile>> {
    Ok(BufWriter::with_capacity(1 << 20, AtomicFile::create(path)?))
}

fn commit(out: BufWriter<AtomicFile>, path: &Path) -> Result<()> {
    out.into_inner().map_err(|e| Error::io("write", path, e.into_error()))?.commit().map(drop)
}
