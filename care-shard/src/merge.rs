//! The vectors of all shards in one file, in the order of the documents.

use std::io::{BufWriter, Write};
use std::path::Path;

use care_core::files::AtomicFile;
use care_core::{Error, ErrorKind, Result};

use crate::commit::{Commit, Joint};
use crate::job::Job;
use crate::table::{Concatenation, Origin, Table};

/// Bytes of the header of a `.npy` matrix, whatever its shape.
const NPY_HEADER: usize = 128;

/// The form of a merged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MergeFormat {
    /// A table as the shards are, one row group per shard.
    Parquet,
    /// A matrix of float32, as `care embed` writes.
    Npy,
}

/// What was merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Merged {
    /// Shards.
    pub shards: usize,
    /// Rows.
    pub rows: u64,
}

impl MergeFormat {
    fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("parquet") => Ok(Self::Parquet),
            Some("npy") => Ok(Self::Npy),
            _ => Err(Error::format(path, "vectors are merged into .parquet or .npy files")),
        }
    }
}

impl Job {
    /// Writes the vectors of all shards into one local file, `.parquet` or `.npy`, in the order of the documents. One shard
    /// at a time is in memory, and each is checked as by [`Job::verify`]. `observe` is called with the number of shards done.
    ///
    /// # Errors
    /// If a shard is missing or damaged, or the file cannot be written; then there is no file.
    pub fn merge(&self, path: impl AsRef<Path>, observe: &mut dyn FnMut(usize)) -> Result<Merged> {
        let path = path.as_ref();
        let format = MergeFormat::of(path)?;
        let (shards, committed) = (self.plan.shards.len(), self.committed()?);
        if let Some(missing) = (0..shards).find(|shard| !committed.contains(shard)) {
            let problem = format!("shard {missing} is missing, {} of {shards} are committed", committed.len());
            return Err(Error::new(ErrorKind::Config, format!("{}: {problem}", self.storage.url())));
        }
        let out = BufWriter::new(AtomicFile::create(path)?);
        let (out, rows) = match format {
            MergeFormat::Parquet => self.merge_parquet(path, out, observe)?,
            MergeFormat::Npy => self.merge_npy(path, out, observe)?,
        };
        out.into_inner().map_err(|e| Error::io("write", path, e.into_error()))?.commit()?;
        Ok(Merged { shards, rows })
    }

    fn merge_parquet<W: Write + Send>(&self, path: &Path, out: W, observe: &mut dyn FnMut(usize)) -> Result<(W, u64)> {
        let (tower, place) = (self.plan.tower.clone(), path.display().to_string());
        let origin = Origin { plan: self.id.clone(), tower, shard: None, texts: None };
        let mut file = Concatenation::new(&place, out, self.plan.dtype, self.plan.dim, &origin)?;
        let rows = self.tables(&mut |table| file.append(table), observe)?;
        Ok((file.finish()?, rows))
    }

    fn merge_npy<W: Write>(&self, path: &Path, mut out: W, observe: &mut dyn FnMut(usize)) -> Result<(W, u64)> {
        let failed = |e| Error::io("write", path, e);
        let commits = (0..self.plan.shards.len()).map(|shard| self.committed_shard(shard));
        let rows = commits.map(|commit| Ok(commit?.rows)).sum::<Result<u64>>()?;
        out.write_all(&npy_header(rows, self.plan.dim)).map_err(failed)?;
        let mut write = |rows: &[f32]| {
            let bytes: Vec<u8> = rows.iter().flat_map(|value| value.to_le_bytes()).collect();
            out.write_all(&bytes).map_err(failed)
        };
        self.tables(&mut |table| table.vectors(self.plan.dim, &mut write), observe)?;
        Ok((out, rows))
    }

    fn committed_shard(&self, shard: usize) -> Result<Commit> {
        let missing = || Error::format(self.storage.url_of(&self.commit(shard)), "the marker is missing");
        Commit::read(self, shard)?.ok_or_else(missing)
    }

    /// Calls `each` with the tables of all shards, in order; returns the number of rows.
    fn tables(&self, each: &mut dyn FnMut(&Table) -> Result<()>, observe: &mut dyn FnMut(usize)) -> Result<u64> {
        let (mut rows, mut joint) = (0, Joint::default());
        for shard in 0..self.plan.shards.len() {
            let commit = self.committed_shard(shard)?;
            joint.check(self, &commit)?;
            each(&commit.table(self)?)?;
            rows += commit.rows;
            observe(shard + 1);
        }
        Ok(rows)
    }
}

/// The header of a matrix of float32, in version 1.0 of the format.
fn npy_header(rows: u64, dim: usize) -> Vec<u8> {
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(((NPY_HEADER - 10) as u16).to_le_bytes());
    header.extend(format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim})}}").bytes());
    header.resize(NPY_HEADER - 1, b' ');
    header.push(b'\n');
    header
}
