//! The error type of the crate.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Anything that can go wrong in this crate.
///
/// The message names the problem and its place (`path:line` in files). Programs read [`kind`](Error::kind),
/// [`path`](Error::path), [`line_number`](Error::line_number) and [`field`](Error::field) instead. An underlying error is the
/// [`source`](StdError::source) and is not repeated in the message.
///
/// ```
/// let error = care_eval::io::read_run("no/such/run.trec").unwrap_err();
/// assert_eq!(error.to_string(), "cannot open no/such/run.trec");
/// assert_eq!((error.kind(), error.line_number()), (care_eval::ErrorKind::Io, None));
/// assert_eq!(error.path(), Some("no/such/run.trec".as_ref()));
/// ```
#[derive(Debug)]
pub struct Error(Box<Details>);

/// Boxed, so that a `Result` stays small.
#[derive(Debug)]
struct Details {
    kind: ErrorKind,
    message: String,
    path: Option<PathBuf>,
    line: Option<usize>,
    field: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kind of an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file could not be opened, read or written.
    Io,
    /// A file violates its format, or a value cannot be represented in the format being written.
    Format,
    /// A document is duplicated within a query.
    Duplicate,
    /// A score is NaN.
    Score,
    /// The name or the cut-off of a measure is not accepted.
    Measure,
    /// The value of a setting, e.g. the name of a tie rule, is not accepted.
    Setting,
    /// There is no query to average over.
    NoQueries,
    /// A correlation is undefined for its input.
    Correlation,
    /// The values of two systems cannot be paired.
    Pairs,
    /// A coefficient of agreement is undefined for its ratings.
    Agreement,
    /// A rating or label is not finite, or does not belong to its table.
    Rating,
    /// A sample that experts have checked does not represent its population.
    Sample,
}

impl Error {
    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file the error is about.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The line of [`path`](Error::path), from 1.
    pub fn line_number(&self) -> Option<usize> {
        self.0.line
    }

    /// The column of a file or the setting that the error is about, e.g. `rel` or `ties`.
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Details { kind, message: message.into(), path: None, line: None, field: None, source: None }))
    }

    pub(crate) fn io(verb: &str, path: &Path, source: io::Error) -> Self {
        let mut error = Self::new(ErrorKind::Io, format!("cannot {verb} {}", path.display())).caused_by(source);
        error.0.path = Some(path.to_owned());
        error
    }

    /// A file that violates its format, or a value that has no place in one.
    pub(crate) fn format(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Format, message)
    }

    /// A setting with an unknown name; `what` describes it in the message, e.g. "tie rule".
    pub(crate) fn setting<T: fmt::Display>(field: &str, what: &str, name: &str, accepted: &[T]) -> Self {
        let accepted: Vec<_> = accepted.iter().map(T::to_string).collect();
        Self::new(ErrorKind::Setting, format!("unknown {what} {name:?}; accepted: {}", accepted.join(", "))).of(field)
    }

    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds the column or the setting.
    pub(crate) fn of(mut self, field: &str) -> Self {
        self.0.field = Some(field.to_owned());
        self
    }

    /// Adds the place, to the message too.
    pub(crate) fn at(mut self, path: &Path, line: usize) -> Self {
        self.0.message = format!("{}:{line}: {}", path.display(), self.0.message);
        self.0.path = Some(path.to_owned());
        self.0.line = Some(line);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
