//! Identifies a repository of the hub: kind, name and revision.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// The revision that hub and cache use by default.
const DEFAULT_REVISION: &str = "main";
/// The hub's limit for each part of a name.
const MAX_PART: usize = 96;

/// The kind of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RepoKind {
    /// A model: configuration, tokenizer and weights.
    Model,
    /// A data set.
    Dataset,
}

/// A repository's name and revision: `org/name` or `org/name@revision`.
///
/// Old repositories have names without an organisation, e.g. `bert-base-chinese`. A local folder may have the same
/// name: callers that accept both should look for the folder first.
///
/// ```
/// use care_core::hub::RepoId;
///
/// let id: RepoId = "Qwen/Qwen3-Embedding-0.6B@main".parse()?;
/// assert_eq!((id.name(), id.revision()), ("Qwen/Qwen3-Embedding-0.6B", Some("main")));
/// assert!("../models/query".parse::<RepoId>().is_err());
/// # Ok::<(), care_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepoId {
    name: String,
    revision: Option<String>,
}

impl RepoId {
    /// A repository by its name, at a branch, a tag or a commit hash. The default revision is the branch `main`.
    ///
    /// # Errors
    /// If the name or the revision is not valid on the hub; a path, e.g. `./name` or `a/b/c`, is not.
    pub fn new(name: &str, revision: Option<&str>) -> Result<Self> {
        if name.split('/').count() > 2 || !name.split('/').all(is_name_part) {
            return Err(Error::setting(
                "repository",
                format!("`{name}`"),
                "org/name or org/name@revision, of letters, digits and `._-`, a letter or digit first and last in \
                 each part, and no `--` or `..`",
            ));
        }
        if let Some(revision) = revision
            && !revision.split('/').all(is_revision_part)
        {
            return Err(Error::setting(
                "revision",
                format!("`{revision}`"),
                "a branch, a tag or a commit hash, of letters, digits and `._+-/`, without `..`",
            ));
        }
        Ok(Self { name: name.to_string(), revision: revision.map(str::to_string) })
    }

    /// The name: `org/name`, or `name` for old repositories.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The revision, if one was given.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The requested revision.
    pub(super) fn revision_or_main(&self) -> &str {
        self.revision().unwrap_or(DEFAULT_REVISION)
    }

    /// An error of kind `Hub` about this repository.
    pub(super) fn error(&self, problem: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Hub, format!("{} at revision {}: {problem}", self.name, self.revision_or_main()))
    }
}

impl FromStr for RepoId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('@') {
            Some((name, revision)) => Self::new(name, Some(revision)),
            None => Self::new(text, None),
        }
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

/// Whether a revision is a full commit hash, which always refers to the same content.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The hub's rule. It also excludes `.`, `..` and the empty part, and `--`, which replaces the slash in the cache's
/// folder names.
fn is_name_part(part: &str) -> bool {
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    part.len() <= MAX_PART
        && ends(part.bytes().next())
        && ends(part.bytes().last())
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !part.contains("--")
        && !part.contains("..")
}

/// A revision becomes a path below `refs/` and part of a URL.
fn is_revision_part(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('.')
        && !part.contains("..")
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
}
