//! Tasks from a folder of files.

mod beir;
mod jsonl;

use std::path::Path;

use care_core::{Error, ErrorKind, Result};

pub(crate) use beir::{CorpusRow, QueryRow};

use crate::task::Task;

/// The tasks of a folder, by the files in it.
///
/// | files | task | name |
/// |---|---|---|
/// | `corpus.jsonl`, `queries.jsonl` and the first of `qrels/test.tsv`, `qrels/dev.tsv`, `qrels.tsv` | retrieval | the folder's |
/// | `reranking.jsonl` | reranking | the folder's and `-reranking` |
/// | `sts.jsonl` | STS | the folder's and `-sts` |
///
/// # Errors
/// When the folder holds none of these tasks or only part of a retrieval task (the message says what
/// was looked for), when a line cannot be read (the message names path and line), or when a task's
/// data contradict themselves.
///
/// # Reference
/// BEIR's folder; mteb's older files for reranking and STS.
pub fn load(folder: impl AsRef<Path>) -> Result<Vec<Task>> {
    let folder = folder.as_ref();
    // The real path has a name even if `folder` is "." or ends in "..".
    let real = folder.canonicalize().map_err(|e| Error::io("open the folder", folder, e))?;
    let name = real.file_name().unwrap_or_default().to_string_lossy();

    let mut tasks = Vec::new();
    if folder.join("corpus.jsonl").is_file() {
        tasks.push(Task::Retrieval(beir::load(folder, &name)?));
    }
    if folder.join("reranking.jsonl").is_file() {
        tasks.push(Task::Reranking(jsonl::load_reranking(&folder.join("reranking.jsonl"), &name)?));
    }
    if folder.join("sts.jsonl").is_file() {
        tasks.push(Task::Sts(jsonl::load_sts(&folder.join("sts.jsonl"), &name)?));
    }
    if tasks.is_empty() {
        return Err(Error::new(
            ErrorKind::Format,
            format!(
                "no task in {}: looked for corpus.jsonl (with queries.jsonl and qrels), reranking.jsonl and sts.jsonl",
                folder.display()
            ),
        ));
    }
    Ok(tasks)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder named `set` with these files; `load` of it, with `F` for the folder in messages.
    fn load_files(files: &[(&str, &str)]) -> std::result::Result<Vec<Task>, String> {
        let outer = tempfile::tempdir().expect("a folder");
        let folder = outer.path().join("set");
        fs::create_dir_all(folder.join("qrels")).expect("created");
        for (path, content) in files {
            fs::write(folder.join(path), content).expect("written");
        }
        load(&folder).map_err(|e| e.to_string().replace(&folder.display().to_string(), "F"))
    }

    const CORPUS: (&str, &str) =
        ("corpus.jsonl", "{\"_id\":\"d1\",\"title\":\"感冒\",\"text\":\"多喝水\"}\n{\"_id\":2,\"text\":\"b\"}\n");
    const QUERIES: (&str, &str) =
        ("queries.jsonl", "{\"_id\":\"q1\",\"text\":\"a\",\"more\":[]}\n{\"_id\":7,\"text\":\"b\"}\n");

    #[test]
    fn ids_may_be_numbers_titles_may_lack_and_test_comes_before_dev() {
        let test = ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n7\t2\t1\n");
        let dev = ("qrels/dev.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n");
        let tasks = load_files(&[CORPUS, QUERIES, test, dev]).expect("a task");
        let task = tasks[0].as_retrieval().expect("retrieval");
        assert_eq!((task.name(), task.split()), ("set", "test"));
        assert_eq!(task.doc_ids(), ["d1", "2"]);
        assert_eq!(task.documents()[0], care_core::Document::with_title("感冒", "多喝水"));
        assert_eq!(task.query_ids(), ["7"]);
        let tasks = load_files(&[CORPUS, QUERIES, dev]).expect("a task");
        assert_eq!((tasks.len(), tasks[0].split()), (1, "dev"));
    }

    #[test]
    fn qrels_may_lie_beside_the_corpus_with_other_tasks() {
        let tasks = load_files(&[
            CORPUS,
            QUERIES,
            ("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n"),
            ("reranking.jsonl", "{\"query\":\"a\",\"positive\":[\"b\"],\"negative\":[\"c\"]}"),
            ("sts.jsonl", "{\"sentence1\":\"a\",\"sentence2\":\"b\",\"score\":1}\n{\"sentence1\":\"a\",\"sentence2\":\"c\",\"score\":0.5}"),
        ])
        .expect("three tasks");
        let found: Vec<_> = tasks.iter().map(|task| (task.name(), task.split())).collect();
        assert_eq!(found, [("set", "test"), ("set-reranking", "test"), ("set-sts", "test")]);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(
            load_files(&[]).expect_err("nothing"),
            "no task in F: looked for corpus.jsonl (with queries.jsonl and qrels), reranking.jsonl and sts.jsonl"
        );
        assert_eq!(
            load_files(&[CORPUS, QUERIES]).expect_err("no qrels"),
            "F: corpus.jsonl has no judgements with it: looked for qrels/test.tsv, qrels/dev.tsv, qrels.tsv"
        );
        let qrels = ("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n");
        assert_eq!(load_files(&[CORPUS, qrels]).expect_err("no queries"), "cannot open F/queries.jsonl");
        assert_eq!(
            load("/no/such/folder").expect_err("no folder").to_string(),
            "cannot open the folder /no/such/folder"
        );
    }

    #[test]
    fn bad_lines_are_named() {
        let qrels = ("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n");
        let cases: [(&[(&str, &str)], &str); 9] = [
            (
                &[
                    ("corpus.jsonl", "{\"_id\":\"d1\",\"text\":\"a\"}\n\n{\"_id\":\"d1\",\"text\":\"b\"}"),
                    QUERIES,
                    qrels,
                ],
                "F/corpus.jsonl:3: the `_id` \"d1\" is already on line 1",
            ),
            (
                &[CORPUS, ("queries.jsonl", "{\"_id\":\"7\",\"text\":\"a\"}\n{\"_id\":7,\"text\":\"b\"}"), qrels],
                "F/queries.jsonl:2: the `_id` \"7\" is already on line 1",
            ),
            (
                &[("corpus.jsonl", "{\"_id\":null,\"text\":\"a\"}"), QUERIES, qrels],
                "F/corpus.jsonl:1: invalid type: null, expected a string or a whole number (column 11)",
            ),
            (
                &[("corpus.jsonl", "{\"_id\":\"d1\"}"), QUERIES, qrels],
                "F/corpus.jsonl:1: missing field `text` (column 12)",
            ),
            (&[("corpus.jsonl", "\n"), QUERIES, qrels], "F: task set: there are no documents"),
            (
                &[CORPUS, QUERIES, ("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\tyes\n")],
                "F/qrels.tsv:2: score \"yes\" is not a whole number",
            ),
            (
                &[CORPUS, QUERIES, ("qrels.tsv", "query-id\tcorpus-id\tscore\nq9\td1\t1\n")],
                "F: task set: query \"q9\" is judged but is not among the queries",
            ),
            (
                &[("reranking.jsonl", "{\"query\":\"a\",\"positive\":\"b\",\"negative\":[\"c\"]}")],
                "F/reranking.jsonl:1: invalid type: string \"b\", expected a sequence (column 27)",
            ),
            (
                &[("sts.jsonl", "{\"sentence1\":\"a\",\"sentence2\":\"b\",\"score\":1}")],
                "F/sts.jsonl: task set-sts: a correlation needs at least 2 pairs, there are 1",
            ),
        ];
        for (files, message) in cases {
            assert_eq!(load_files(files).expect_err(message), message);
        }
    }
}
