//! care-eval's errors as the error type of the tower crates.

use care_core::{Error, ErrorKind};

/// The same message under the nearest kind, with the original kept as the source.
pub(crate) fn from_eval(error: care_eval::Error) -> Error {
    use care_eval::ErrorKind as Eval;
    let kind = match error.kind() {
        Eval::Io => ErrorKind::Io,
        Eval::Measure | Eval::Setting => ErrorKind::Config,
        Eval::Score | Eval::Correlation => ErrorKind::NonFinite,
        _ => ErrorKind::Format,
    };
    Error::new(kind, error.to_string()).with_source(error)
}

/// A task whose data contradict themselves.
pub(crate) fn invalid(task: &str, problem: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Format, format!("task {task}: {problem}"))
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn kind_message_and_source_survive() {
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
    }
}
