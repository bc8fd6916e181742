//! The error type shared by this crate and those built on it.

use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

/// The kind of an error, for callers that decide what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file or folder could not be read or written.
    Io,
    /// A file was read but violates its format.
    Format,
    /// A setting is outside its allowed range, or two settings contradict each other.
    Config,
    /// A text could not be tokenized, or the tokenizer does not fit the network.
    Tokenizer,
    /// A checkpoint lacks a tensor, has an unexpected one, or has one of the wrong shape.
    Checkpoint,
    /// The requested device is not compiled in or does not exist.
    Device,
    /// Two dimensions that must agree do not.
    Dimension,
    /// A vector contains NaN or an infinity.
    NonFinite,
    /// The Hugging Face hub or its cache did not provide what was requested: no network, no permission, no such
    /// repository, or a file that fails its checksum.
    Hub,
    /// A queue has no room, or its answer did not come in time; the same call may succeed later.
    Busy,
    /// Another process of the same work ended, failed, fell silent or does something else.
    Peer,
}

/// An error: kind, message and, if there is one, its cause.
///
/// `care-core`, `care-encoders`, `care-train` and `cmedteb` share this type, so callers handle one error from text to
/// trained model. Messages name the file and line, the field and its allowed range, or the tensor and both shapes;
/// path, line and field are also available as data.
///
/// ```
/// use care_core::jsonl::read_jsonl;
///
/// let error = read_jsonl::<serde_json::Value>("no/such/file.jsonl").unwrap_err();
/// assert_eq!(error.to_string(), "cannot open no/such/file.jsonl");
/// assert_eq!(error.kind(), care_core::ErrorKind::Io);
/// assert_eq!(error.path(), Some("no/such/file.jsonl".as_ref()));
/// ```
#[derive(Debug)]
pub struct Error(Box<Details>);

/// Longest message in bytes.
const LONGEST_MESSAGE: usize = 4000;

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

/// A `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` with a message in lower case and without a final full stop.
    ///
    /// Of a message that repeats a very long name or line of a file, the middle is left out.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = clip(message.into(), LONGEST_MESSAGE);
        Self(Box::new(Details { kind, message, path: None, line: None, field: None, source: None }))
    }

    /// A file that could not be read or written: `cannot <what> <path>`.
    pub fn io(what: &str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        let path = path.as_ref();
        Self::new(ErrorKind::Io, format!("cannot {what} {}", path.display())).at(path).with_source(source)
    }

    /// A file that violates its format.
    pub fn format(path: impl AsRef<Path>, problem: impl Display) -> Self {
        let path = path.as_ref();
        Self::new(ErrorKind::Format, format!("{}: {problem}", path.display())).at(path)
    }

    /// A line of a file that violates its format; lines count from 1.
    pub fn line(path: impl AsRef<Path>, line: usize, problem: impl Display) -> Self {
        let path = path.as_ref();
        let mut error = Self::new(ErrorKind::Format, format!("{}:{line}: {problem}", path.display())).at(path);
        error.0.line = Some(line);
        error
    }

    /// A setting outside its range: `<field> is <value>, allowed: <range>`.
    pub fn setting(field: &str, value: impl Display, allowed: &str) -> Self {
        let mut error = Self::new(ErrorKind::Config, format!("`{field}` is {value}, allowed: {allowed}"));
        error.0.field = Some(field.to_owned());
        error
    }

    /// Wraps this error into a format error of a file: the path precedes its message, it becomes the source, and its
    /// field is kept.
    #[must_use]
    pub fn in_file(self, path: impl AsRef<Path>) -> Self {
        let mut error = Self::format(path, &self);
        error.0.field.clone_from(&self.0.field);
        error.0.line = self.0.line;
        error.with_source(self)
    }

    /// The same error under another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Attaches the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    fn at(mut self, path: &Path) -> Self {
        self.0.path = Some(path.to_owned());
        self
    }

    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file or folder the error is about.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The line of [`Error::path`], from 1.
    pub fn line_number(&self) -> Option<usize> {
        self.0.line
    }

    /// The setting or field the error is about.
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }
}

/// A text of at most about `most` bytes: of a longer one, the middle is left out.
pub fn clip(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let (start, end) = (text.floor_char_boundary(most * 3 / 4), text.ceil_char_boundary(text.len() - most / 4));
    format!("{} .. {}", &text[..start], &text[end..])
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_path_line_field_and_source() {
        let inner = Error::setting("layers", 0, "at least 1");
        let outer = inner.in_file("m/config.json");
        assert_eq!(outer.to_string(), "m/config.json: `layers` is 0, allowed: at least 1");
        assert_eq!(
            (outer.kind(), outer.path(), outer.field()),
            (ErrorKind::Format, Some("m/config.json".as_ref()), Some("layers"))
        );
        assert_eq!(outer.source().expect("kept").to_string(), "`layers` is 0, allowed: at least 1");
        let long = Error::format("a.bin", format!("the name `{}` is long", "\u{6c34}".repeat(100_000))).to_string();
        assert!(
            long.len() < 4100 && long.starts_with("a.bin: the name `\u{6c34}") && long.ends_with("` is long"),
            "{long}"
        );
        assert_eq!(clip("abcdefgh".into(), 8), "abcdefgh");
        assert_eq!(clip("abcdefghi".into(), 8), "abcdef .. hi");
        let error = Error::line("a.jsonl", 7, "no JSON");
        assert_eq!((error.to_string().as_str(), error.line_number()), ("a.jsonl:7: no JSON", Some(7)));
    }
}
