//! A repository at one commit, on this machine.

use std::path::PathBuf;

/// A repository's files at one commit, in a local folder.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The folder. Its files are links into the cache and must not be modified.
    pub folder: PathBuf,
    /// The commit's hash.
    pub commit: String,
}
