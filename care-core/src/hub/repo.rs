//! Which repository of the hub: its kind, its name and the revision.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// What hub and cache take when no revision is named.
const DEFAULT_REVISION: &str = "main";
/// The hub's limit for each part of a name.
const MAX_PART: usize = 96;

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RepoKind {
    /// A model: configuration, tokenizer and weights.
    Model,
    /// A data set.
    Dataset,
}

/// A repository's name and the revision of it: `org/name` or `org/name@revision`.
///
/// Old repositories have names without an organisation, such as `bert-base-chinese`. Such a text may
/// name a local folder too: whoever accepts both looks for the folder first.
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
    /// A repository by its name, at a branch, a tag or a commit hash. Without a revision it is the
    /// branch `main`.
    ///
    /// # Errors
    /// When the name or the revision cannot be one of the hub; a path such as `./name` or `a/b/c` is
    /// none.
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

    /// The name, `org/name` or for old repositories `name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The revision that was named.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The revision that is asked for.
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

/// Whether a revision is a commit's full hash, which never comes to mean another state.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The hub's rule. It also keeps `.`, `..` and the empty part out, and `--`, which stands for the slash
/// in the cache's folder names.
fn is_name_part(part: &str) -> bool {
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    part.len() <= MAX_PART
        && ends(part.bytes().next())
        && ends(part.bytes().last())
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !part.contains("--")
        && !part.contains("..")
}

/// A revision becomes a path below `refs/` and a part of an address.
fn is_revision_part(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('.')
        && !part.contains("..")
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
}
