//! The error type of the tower crates.

use std::error::Error as StdError;
use std::fmt::Display;
use std::path::Path;

/// What went wrong, coarsely: enough to decide what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file or folder could not be read or written.
    Io,
    /// A file was read but does not say what its format requires.
    Format,
    /// A setting is outside its allowed range, or two settings contradict each other.
    Config,
    /// A text could not be turned into token ids, or the tokenizer does not fit the network.
    Tokenizer,
    /// A checkpoint lacks a tensor, has a surplus one, or one of another shape.
    Checkpoint,
    /// The requested device is not compiled in or does not exist.
    Device,
    /// Two widths that must agree do not.
    Dimension,
    /// A vector holds NaN or an infinity.
    NonFinite,
    /// The Hugging Face hub and its cache do not give what was asked for: no network, no permission, no
    /// such repository, or a file that is not what it should be.
    Hub,
}

/// An error with its kind, its message and, where there is one, its cause.
///
/// The tower crates (`care-core`, `care-encoders`, `care-train`, `cmedteb`) share this type, so a
/// caller handles one error from text to trained model. Messages name the file and line, the field
/// and its allowed range, or the tensor and both shapes.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Shorthand for results of the tower crates.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` with a message in lower case and without a final full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// A file that could not be read or written: `cannot <what> <path>`.
    pub fn io(what: &str, path: &Path, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("cannot {what} {}", path.display())).with_source(source)
    }

    /// A file that does not follow its format.
    pub fn format(path: &Path, problem: impl Display) -> Self {
        Self::new(ErrorKind::Format, format!("{}: {problem}", path.display()))
    }

    /// One line of a file that does not follow its format; lines count from 1.
    pub fn line(path: &Path, line: usize, problem: impl Display) -> Self {
        Self::new(ErrorKind::Format, format!("{}:{line}: {problem}", path.display()))
    }

    /// A setting outside its range: `<field> is <value>, allowed: <range>`.
    pub fn setting(field: &str, value: impl Display, allowed: &str) -> Self {
        Self::new(ErrorKind::Config, format!("`{field}` is {value}, allowed: {allowed}"))
    }

    /// The same error with its cause attached.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What went wrong, coarsely.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}
