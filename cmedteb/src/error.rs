//! Conversion of care-eval's errors into care-core's.

use care_core::{Error, ErrorKind};

/// The same message under the closest kind, with the original as the source.
pub(crate) fn from_eval(error: care_eval::Error) -> Error {
    use care_eval::ErrorKind as Eval;
    let kind = match error.kind() {
        Eval::Io => ErrorKind::Io,
        Eval::Measure | Eval::Setting => ErrorKind::Config,
        Eval::Score | Eval::Correlation => ErrorKind::NonFinite,
        _ => ErrorKind::Format,
    };
    let message = error.to_string();
    match (error.path(), error.line_number()) {
        (Some(path), Some(line)) => {
            let problem = message.strip_prefix(&format!("{}:{line}: ", path.display())).unwrap_or(&message);
            Error::line(path, line, problem).with_kind(kind)
        }
        _ => Error::new(kind, message),
    }
    .with_source(error)
}

/// Whether an error of [`evaluate`](crate::evaluate) states that a score is undefined for the model's vectors, e.g. because
/// all cosines of an STS task are equal. Other tasks may still have scores.
pub fn is_undefined(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<care_eval::Error>());
    source.is_some_and(|source| source.kind() == care_eval::ErrorKind::Correlation)
}

/// A task with inconsistent data.
pub(crate) fn invalid(task: &str, problem: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Format, format!("task {task}: {problem}"))
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn kind_message_place_and_source_survive() {
        let cases = [
            (care_eval::io::read_qrels("/no/such/file").err(), ErrorKind::Io, "cannot open /no/such/file"),
            (
                care_eval::stats::pearson(&[1.0], &[1.0]).err(),
                ErrorKind::NonFinite,
                "a correlation needs at least 2 values, found 1",
            ),
            (
                care_eval::Qrels::from_judgements([("q", "d", 1), ("q", "d", 0)]).err(),
                ErrorKind::Format,
                "document \"d\" is judged twice for query \"q\"",
            ),
        ];
        for (original, kind, message) in cases {
            let error = from_eval(original.expect("an error"));
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
            assert!(error.source().is_some_and(|source| source.is::<care_eval::Error>()));
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("qrels.tsv");
        std::fs::write(&path, "q 0 d 1\nq 0 e x\n").expect("written");
        let error = from_eval(care_eval::io::read_qrels(&path).expect_err("no grade"));
        assert_eq!((error.path(), error.line_number()), (Some(path.as_path()), Some(2)));
        assert_eq!(error.to_string(), format!("{}:2: rel \"x\" is not an integer", path.display()));
    }
}
