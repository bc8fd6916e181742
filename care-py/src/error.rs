//! Errors of the crates as Python exceptions, with the message that the program `care` prints.

use std::error::Error as StdError;
use std::path::Path;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;

pyo3::create_exception!(
    care_retrieval,
    CareError,
    PyException,
    "A model, a file, a setting or data that cannot be used. `kind` names the kind of error; `path`, `line` and `field` \
     say what it is about, or are None."
);

/// What raises the exception of a crate's error.
macro_rules! raises {
    ($name:ident, $error:ty) => {
        pub(crate) fn $name(error: $error) -> PyErr {
            let kind = format!("{:?}", error.kind());
            raised(&error, &kind, error.path(), error.line_number(), error.field())
        }
    };
}

raises!(raise, care_core::Error);
raises!(raise_metric, care_eval::Error);

fn raised(error: &dyn StdError, kind: &str, path: Option<&Path>, line: Option<usize>, field: Option<&str>) -> PyErr {
    let exception = CareError::new_err(describe(error));
    let attributes = |py: Python<'_>| {
        let value = exception.value(py);
        value.setattr("kind", snake_case(kind))?;
        value.setattr("path", path)?;
        value.setattr("line", line)?;
        value.setattr("field", field)
    };
    match Python::attach(attributes) {
        Ok(()) => exception,
        Err(failed) => failed,
    }
}

/// The name of a kind as Python spells names: `NonFinite` is `non_finite`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_uppercase() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// The error and its causes, without those that only repeat the message: the line that the program `care` prints.
fn describe(error: &dyn StdError) -> String {
    let (mut message, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        let text = cause.to_string();
        // serde_json adds a line and a column: of a JSON Lines file it knows one line only.
        let problem = text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem);
        if !message.contains(problem) {
            message += &format!(": {text}");
        }
        next = cause.source();
    }
    message
}

/// Keeps panics that a library's guard turns into an error off stderr.
pub(crate) fn leave_guarded_panics_to_their_errors() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !care_core::guard::is_guarded() {
            report(panic);
        }
    }));
}
