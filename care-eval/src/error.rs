//! The crate's one error type.

use std::error::Error as StdError;
use std::{fmt, io, path::Path};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Anything that can go wrong in this crate.
///
/// The message says what and where (`path:line` for files); [`kind`](Error::kind) is for programs;
/// an underlying error is kept as the [`source`](StdError::source) and not repeated in the message.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kind of an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file could not be opened, read or written.
    Io,
    /// The text of a file is not in its format, or a value has no form in the format being written.
    Format,
    /// A document was given twice for the same query.
    Duplicate,
    /// A score is not a number.
    Score,
    /// A measure's name or cut-off is not accepted.
    Measure,
    /// The name of a setting, such as a tie rule, is not accepted.
    Setting,
    /// There is no query to take a mean over.
    NoQueries,
    /// A correlation is not defined for its input.
    Correlation,
    /// Values of two systems cannot be paired.
    Pairs,
}

impl Error {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn io(verb: &str, path: &Path, source: io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("cannot {verb} {}", path.display())).caused_by(source)
    }

    /// A setting was given a name that it does not have.
    pub(crate) fn setting<T: fmt::Display>(setting: &str, name: &str, accepted: &[T]) -> Self {
        let accepted: Vec<_> = accepted.iter().map(T::to_string).collect();
        Self::new(ErrorKind::Setting, format!("unknown {setting} {name:?}; accepted: {}", accepted.join(", ")))
    }

    pub(crate) fn caused_by(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// Says in which line of which file the error lies.
    pub(crate) fn at(self, path: &Path, line: usize) -> Self {
        Self { message: format!("{}:{line}: {}", path.display(), self.message), ..self }
    }
}
