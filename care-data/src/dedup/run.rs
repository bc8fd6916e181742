//! De-duplication of files: exact, near, by vectors, one after the other.

use std::path::PathBuf;

use care_core::{Error, Result};

use super::exact::find_exact;
use super::found::Found;
use super::nearby::find_by_vectors;
use super::options::DedupOptions;
use super::scan::Rows;
use super::similar::find_near;
use super::source::Vectors;

/// The duplicates among the rows of files, and between them and other files.
///
/// Texts are not kept in memory: the files are read once for the keys (about 60 bytes per row, whatever its length), once
/// for the near-duplicates (whose forms stay in memory, see [`NearIndex`](crate::near::NearIndex)), once for the vectors,
/// and once to write what is kept. So they must be files, no pipes; they may end in `.gz`.
///
/// No two rows that are kept are duplicates of each other by any of the methods, and each that is dropped is a duplicate of
/// one that was kept when its turn came.
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("care-dedup-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let input = folder.join("train.jsonl");
/// # std::fs::write(&input, "{\"query\":\"头痛怎么办\"}\n{\"query\":\"头痛，怎么办？\"}\n{\"query\":\"咳\"}\n").unwrap();
/// use care_data::dedup::{DedupOptions, Deduplication};
/// use care_data::near::NearDuplicates;
///
/// let options = DedupOptions::default().with_near(NearDuplicates::default());
/// let found = Deduplication::of(&[input], &[], &options)?;
/// let mut kept = Vec::new();
/// found.write_rows(&mut kept).unwrap();
/// assert_eq!(String::from_utf8(kept).unwrap(), "{\"query\":\"头痛怎么办\"}\n{\"query\":\"咳\"}\n");
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), care_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Deduplication {
    pub(super) found: Found,
}

impl Deduplication {
    /// Finds the duplicates among the rows of `inputs`, of one file after the other, and of rows of `against`, which count
    /// as kept, without vectors.
    ///
    /// # Errors
    /// If a file cannot be read, changes meanwhile or, unless such rows are skipped, has a row that cannot be read; or if
    /// the options want vectors.
    pub fn of(inputs: &[PathBuf], against: &[PathBuf], options: &DedupOptions) -> Result<Self> {
        Self::find(inputs, against, options, None)
    }

    /// [`Deduplication::of`] that also compares vectors, if the options want it.
    ///
    /// # Errors
    /// As there; also if there are no vectors, not one for each row, or if one is not finite.
    pub fn with_vectors(
        inputs: &[PathBuf],
        against: &[PathBuf],
        options: &DedupOptions,
        vectors: Vectors<'_>,
    ) -> Result<Self> {
        Self::find(inputs, against, options, Some(vectors))
    }

    fn find(
        inputs: &[PathBuf],
        against: &[PathBuf],
        options: &DedupOptions,
        vectors: Option<Vectors<'_>>,
    ) -> Result<Self> {
        if options.vectors.is_some() && vectors.is_none() {
            return Err(Error::setting("vectors", "set", "none, as no vectors are given"));
        }
        let files: Vec<PathBuf> = against.iter().chain(inputs).cloned().collect();
        let mut bad = Vec::new();
        let rows = Rows::scan(&files, options, &mut bad)?;
        let (against, duplicates) = (rows.first_of_file(against.len()), vec![None; rows.len()]);
        let mut found = Found { rows, against, duplicates, bad };
        find_exact(&mut found);
        if let Some(near) = options.near {
            find_near(&mut found, &options.field, near)?;
        }
        if let (Some(of), Some(vectors)) = (options.vectors, vectors) {
            find_by_vectors(&mut found, &options.field, of, vectors)?;
        }
        Ok(Self { found })
    }

    /// Whether a row of the files, counted from 0 through all of them, is kept.
    ///
    /// # Panics
    /// Panics if there is no such row.
    pub fn is_kept(&self, row: usize) -> bool {
        self.found.duplicates[self.found.against + row].is_none()
    }

    /// The rows that could not be read, each as an error with file and line.
    pub fn bad(&self) -> &[Error] {
        &self.found.bad
    }

    /// [`Deduplication::bad`], when nothing else is wanted any more.
    pub fn into_bad(self) -> Vec<Error> {
        self.found.bad
    }
}
