//! Why a request is refused, and how each API says so.

use std::fmt::Display;
use std::time::Duration;

use axum::http::StatusCode;
use care_core::{Error, ErrorKind};
use serde_json::{Value, json};

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing to embed.
    Empty,
    /// A field is missing, unknown or out of range.
    Invalid,
    /// No pair of this name is served.
    UnknownModel,
    /// No such route, or no such document.
    NotFound,
    /// A route that takes other methods.
    Method,
    /// Body, batch or text is longer than allowed.
    TooLarge,
    /// The request was not received in time.
    Slow,
    /// A text cannot be tokenized.
    Tokenizer,
    /// No valid key.
    Unauthorized,
    /// No room in a queue.
    Overloaded,
    /// Weights are being loaded, the answer is late, or the server stops.
    Unavailable,
    /// The model or the index failed.
    Backend,
}

/// A request that is refused.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    /// The field of the body that is at fault.
    pub(crate) field: Option<String>,
    /// After how many seconds another try makes sense.
    pub(crate) retry_after: Option<u64>,
}

/// Whose errors a route returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    OpenAi,
    Tei,
    Cohere,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Display) -> Self {
        Self { kind, message: message.to_string(), field: None, retry_after: None }
    }

    /// A field of the body that is missing, unknown or out of range.
    pub(crate) fn field(name: &str, message: impl Display) -> Self {
        Self { field: Some(name.to_owned()), ..Self::new(Kind::Invalid, message) }
    }

    pub(crate) fn of_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    pub(crate) fn retry_after(self, time: Duration) -> Self {
        Self { retry_after: Some(time.as_secs_f64().ceil().clamp(1.0, 60.0) as u64), ..self }
    }
}

impl From<Error> for Failure {
    /// Errors of configuration and tokenization are the client's, others the server's.
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Config | ErrorKind::Dimension => Kind::Invalid,
            ErrorKind::Tokenizer => Kind::Tokenizer,
            ErrorKind::Busy => Kind::Overloaded,
            _ => Kind::Backend,
        };
        Self { field: error.field().map(str::to_owned), ..Self::new(kind, error) }
    }
}

impl Kind {
    /// The name in metrics and in TEI's `error_type`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Invalid | Self::UnknownModel | Self::NotFound | Self::Method | Self::TooLarge | Self::Slow => {
                "Validation"
            }
            Self::Tokenizer => "Tokenizer",
            Self::Unauthorized => "Unauthorized",
            Self::Overloaded => "Overloaded",
            Self::Unavailable => "Unhealthy",
            Self::Backend => "Backend",
        }
    }
}

impl Shape {
    /// The shape of a route's errors.
    pub(crate) fn of(path: &str) -> Self {
        let path = ["/query", "/document"].iter().find_map(|role| path.strip_prefix(role)).unwrap_or(path);
        match path {
            "/embeddings" => Self::OpenAi,
            _ if path.starts_with("/v1/") => Self::OpenAi,
            _ if path.starts_with("/v2/") => Self::Cohere,
            _ => Self::Tei,
        }
    }

    /// The status: that of the API of this shape, where they differ.
    pub(crate) fn status(self, kind: Kind) -> StatusCode {
        match kind {
            Kind::Empty => StatusCode::BAD_REQUEST,
            Kind::Invalid | Kind::Tokenizer if self == Self::Tei => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::Invalid | Kind::Tokenizer => StatusCode::BAD_REQUEST,
            Kind::UnknownModel | Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Method => StatusCode::METHOD_NOT_ALLOWED,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::Slow => StatusCode::REQUEST_TIMEOUT,
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Backend if self == Self::Tei => StatusCode::FAILED_DEPENDENCY,
            Kind::Backend => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The body of an error.
    ///
    /// # Reference
    /// OpenAI's error object, `{error, error_type}` of text-embeddings-inference, `{message}` of Cohere.
    pub(crate) fn body(self, failure: &Failure) -> Value {
        let Failure { kind, message, field, .. } = failure;
        match self {
            Self::Tei => json!({ "error": message, "error_type": kind.name() }),
            Self::Cohere => json!({ "message": message }),
            Self::OpenAi => {
                let (class, code) = match kind {
                    Kind::Unauthorized => ("authentication_error", Some("invalid_api_key")),
                    Kind::Overloaded => ("rate_limit_error", Some("rate_limit_exceeded")),
                    Kind::Unavailable | Kind::Backend => ("server_error", None),
                    Kind::UnknownModel => ("invalid_request_error", Some("model_not_found")),
                    _ => ("invalid_request_error", None),
                };
                json!({ "error": { "message": message, "type": class, "param": field, "code": code } })
            }
        }
    }
}
