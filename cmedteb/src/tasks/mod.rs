//! The built-in tasks, by name. To add one: a file with its function, and a row.

mod mini;

use care_core::{Error, Result};

use crate::task::Task;

/// Makes a task that bears the given name.
type Build = fn(&str) -> Result<Task>;

const TASKS: [(&str, Build); 4] = [
    ("mini-retrieval", mini::retrieval),
    ("mini-retrieval-dev", mini::retrieval_dev),
    ("mini-reranking", mini::reranking),
    ("mini-sts", mini::sts),
];

/// A built-in task by its name.
///
/// # Errors
/// [`ErrorKind::Config`](care_core::ErrorKind::Config) when there is none of this name; the message
/// lists the names.
pub fn find(name: &str) -> Result<Task> {
    let Some((name, build)) = TASKS.into_iter().find(|(known, _)| *known == name) else {
        return Err(Error::setting("task", format!("{name:?}"), &names().collect::<Vec<_>>().join(", ")));
    };
    build(name)
}

/// The names of the built-in tasks.
pub fn names() -> impl Iterator<Item = &'static str> {
    TASKS.into_iter().map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_of_a_task_that_bears_it() {
        for name in names() {
            assert_eq!(find(name).expect("built in").name(), name);
        }
        let error = find("mini").expect_err("unknown");
        assert_eq!(error.kind(), care_core::ErrorKind::Config);
        assert_eq!(
            error.to_string(),
            "`task` is \"mini\", allowed: mini-retrieval, mini-retrieval-dev, mini-reranking, mini-sts"
        );
    }
}
