//! A repository's folder in the shared Hugging Face cache.
//!
//! ```text
//! models--org--name/
//!   refs/main                    the commit of the branch
//!   blobs/<etag>                 file contents, by hash
//!   snapshots/<commit>/<file>    links to the blobs
//!   care/<commit>.json           the commit's list of files; only this library writes and reads it
//! ```

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::repo::{RepoId, RepoKind, is_commit};
use super::snapshot::Snapshot;
use crate::error::{Error, Result};
use crate::files::write_atomic;

/// The files of one commit, as the hub listed them.
#[derive(Serialize, Deserialize)]
struct Listing {
    files: Vec<String>,
}

/// What the cache has for a revision.
pub(super) enum Cached {
    /// Every requested file.
    Usable(Snapshot),
    /// Not every requested file; the reason.
    Unusable(String),
}

/// The cache folder of one repository.
pub(super) struct RepoCache {
    cache: PathBuf,
    id: RepoId,
    folder: PathBuf,
}

impl RepoCache {
    pub(super) fn new(cache: &Path, kind: RepoKind, id: &RepoId) -> Self {
        let kind = match kind {
            RepoKind::Model => "models",
            RepoKind::Dataset => "datasets",
        };
        let folder = cache.join(format!("{kind}--{}", id.name().replace('/', "--")));
        Self { cache: cache.to_owned(), id: id.clone(), folder }
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Looks for the requested files of the revision. If the commit's list of files is cached, it decides whether any
    /// are missing; otherwise another program filled the folder, and `lacking` decides.
    pub(super) fn look_up(
        &self,
        wanted: &dyn Fn(&str, &[String]) -> bool,
        lacking: &dyn Fn(&Path) -> Option<String>,
    ) -> Result<Cached> {
        let cache = self.cache.display();
        let Some(commit) = self.commit()?.filter(|commit| self.snapshot(commit).is_dir()) else {
            return Ok(Cached::Unusable(format!("it is not in the cache {cache}")));
        };
        let folder = self.snapshot(&commit);
        let lacks = match self.listing(&commit)? {
            Some(files) => {
                files.iter().filter(|file| wanted(file, &files)).find(|file| !folder.join(file).is_file()).cloned()
            }
            None => lacking(&folder),
        };
        Ok(match lacks {
            Some(file) => Cached::Unusable(format!("the cache {cache} has commit {commit} without {file}")),
            None => Cached::Usable(Snapshot { folder, commit }),
        })
    }

    /// Records the commit of the revision and the commit's list of files.
    pub(super) fn record(&self, commit: &str, files: &[String]) -> Result<()> {
        let listing = Listing { files: files.to_vec() };
        let text = serde_json::to_string(&listing)
            .map_err(|e| Error::format(self.listing_path(commit), "cannot be written").with_source(e))?;
        write(&self.listing_path(commit), &text)?;
        let revision = self.id.revision_or_main();
        if is_commit(revision) { Ok(()) } else { write(&self.ref_path(revision), commit) }
    }

    /// Links the commit's file to a blob in the cache.
    pub(super) fn link(&self, etag: &str, commit: &str, file: &str) -> Result<PathBuf> {
        let pointer = self.snapshot(commit).join(file);
        create_parent(&pointer)?;
        link_or_copy(&self.blob(etag), etag, file, &pointer).map_err(|e| Error::io("write", &pointer, e))?;
        Ok(pointer)
    }

    /// Removes a link to a missing blob, which would block a new link.
    pub(super) fn unlink_dangling(&self, commit: &str, file: &str) -> Result<()> {
        let pointer = self.snapshot(commit).join(file);
        if pointer.exists() { Ok(()) } else { remove(&pointer) }
    }

    /// Removes a blob and the commit's link to it.
    pub(super) fn discard(&self, etag: &str, commit: &str, file: &str) -> Result<()> {
        remove(&self.snapshot(commit).join(file))?;
        remove(&self.blob(etag))
    }

    /// The commit of the revision according to the cache.
    fn commit(&self) -> Result<Option<String>> {
        let revision = self.id.revision_or_main();
        if is_commit(revision) {
            return Ok(Some(revision.to_string()));
        }
        let commit = read(&self.ref_path(revision))?;
        Ok(commit.map(|commit| commit.trim().to_string()).filter(|commit| is_commit(commit)))
    }

    fn listing(&self, commit: &str) -> Result<Option<Vec<String>>> {
        let path = self.listing_path(commit);
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        let listing: Listing = serde_json::from_str(&text)
            .map_err(|e| Error::format(&path, "not a list of a commit's files; delete this file").with_source(e))?;
        Ok(Some(listing.files))
    }

    fn ref_path(&self, revision: &str) -> PathBuf {
        self.folder.join("refs").join(revision)
    }

    fn listing_path(&self, commit: &str) -> PathBuf {
        self.folder.join("care").join(format!("{commit}.json"))
    }
}

/// The content of a file, `None` if it does not exist.
fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(_) if !path.is_file() => Ok(None),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    create_parent(path)?;
    write_atomic(path, text)
}

fn create_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(parent).map_err(|e| Error::io("create folder", parent, e))
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Creates a relative link, as the Python library does, so that the cache can be moved.
#[cfg(unix)]
fn link_or_copy(_blob: &Path, etag: &str, file: &str, pointer: &Path) -> std::io::Result<()> {
    let up = "../".repeat(file.split('/').count() + 1);
    std::os::unix::fs::symlink(format!("{up}blobs/{etag}"), pointer)
}

#[cfg(not(unix))]
fn link_or_copy(blob: &Path, _etag: &str, _file: &str, pointer: &Path) -> std::io::Result<()> {
    std::fs::copy(blob, pointer).map(|_| ())
}
