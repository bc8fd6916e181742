//! Folders with several subsets: refused by name, or one is read alone.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use care_core::Result;
use cmedteb::{Sources, Task, load, load_task_file, open};

type Files = Vec<(String, String)>;

fn write(folder: &Path, files: &Files) {
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn files<const N: usize>(of: [(&str, String); N]) -> Files {
    of.map(|(path, text)| (path.to_owned(), text)).to_vec()
}

fn sts(of: &str) -> String {
    (0..3).map(|n| format!("{{\"sentence1\":\"{of}{n}\",\"sentence2\":\"{of}\",\"score\":{n}}}\n")).collect()
}

fn rows(of: &str) -> String {
    format!("{{\"query\":\"{of}?\",\"positive\":[\"{of} yes\"],\"negative\":[\"{of} no\"]}}\n")
}

fn corpus(of: &str) -> String {
    ["d", "e"].map(|id| format!("{{\"_id\":\"{id}\",\"text\":\"{of} {id}\"}}\n")).concat()
}

fn queries(of: &str) -> String {
    format!("{{\"_id\":\"q\",\"text\":\"{of}?\"}}\n")
}

fn qrels(_: &str) -> String {
    "{\"query-id\":\"q\",\"corpus-id\":\"d\",\"score\":1}\n".to_owned()
}

fn candidates(_: &str) -> String {
    "{\"query-id\":\"q\",\"corpus-ids\":[\"e\",\"d\"]}\n".to_owned()
}

/// The files of a subset, by its name.
type Layout = fn(&str) -> Files;

/// Every layout of subsets, and the same data alone.
fn layouts() -> Vec<[Layout; 2]> {
    vec![
        [|of| files([(&format!("{of}/test.jsonl"), sts(of))]), |of| files([("test.jsonl", sts(of))])],
        [
            |of| files([(&format!("{of}/test-00000-of-00001.jsonl"), sts(of))]),
            |of| files([("data/test-00000-of-00001.jsonl", sts(of))]),
        ],
        [
            |of| files([(&format!("{of}/dev.jsonl"), rows(of)), (&format!("{of}/train.jsonl"), rows("more"))]),
            |of| files([("dev.jsonl", rows(of))]),
        ],
        [
            |of| {
                files([
                    (&format!("{of}-corpus/test.jsonl"), corpus(of)),
                    (&format!("{of}-queries/test.jsonl"), queries(of)),
                    (&format!("{of}-qrels/test.jsonl"), qrels(of)),
                ])
            },
            |of| {
                files([
                    ("corpus/test.jsonl", corpus(of)),
                    ("queries/test.jsonl", queries(of)),
                    ("qrels/test.jsonl", qrels(of)),
                ])
            },
        ],
        [
            |of| {
                files([
                    (&format!("{of}-corpus/corpus.jsonl"), corpus(of)),
                    (&format!("{of}-queries/queries.jsonl"), queries(of)),
                    (&format!("{of}-qrels/dev.jsonl"), qrels(of)),
                    (&format!("{of}-top_ranked/dev.jsonl"), candidates(of)),
                ])
            },
            |of| {
                files([
                    ("corpus.jsonl", corpus(of)),
                    ("queries.jsonl", queries(of)),
                    ("default/dev.jsonl", qrels(of)),
                    ("top_ranked/dev.jsonl", candidates(of)),
                ])
            },
        ],
        [
            |of| {
                files([
                    (&format!("{of}/corpus.jsonl"), corpus(of)),
                    (&format!("{of}/queries.jsonl"), queries(of)),
                    (&format!("{of}/qrels/test.tsv"), "query-id\tcorpus-id\tscore\nq\td\t1\n".to_owned()),
                ])
            },
            |of| files([("corpus.jsonl", corpus(of)), ("queries.jsonl", queries(of)), ("qrels/test.jsonl", qrels(of))]),
        ],
        // The corpus is everybody's.
        [
            |of| {
                files([
                    ("corpus/corpus.jsonl", corpus("shared")),
                    (&format!("{of}-queries/test.jsonl"), queries(of)),
                    (&format!("{of}-qrels/test.jsonl"), qrels(of)),
                ])
            },
            |of| {
                files([
                    ("corpus.jsonl", corpus("shared")),
                    ("queries.jsonl", queries(of)),
                    ("qrels/test.jsonl", qrels(of)),
                ])
            },
        ],
    ]
}

fn opened(folder: &Path, subset: &str) -> Result<Vec<Task>> {
    open(folder.to_str().unwrap(), &mut Sources::default().with_subset(subset))
}

fn message(error: Result<Vec<Task>>, folder: &Path) -> String {
    error.unwrap_err().to_string().replace(folder.to_str().unwrap(), "F")
}

#[test]
fn several_subsets_are_refused_and_each_is_read_alone() {
    for (number, [of, alone]) in layouts().into_iter().enumerate() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("multi");
        write(&folder, &of("zh"));
        let one = load(&folder, None).unwrap();
        assert_eq!(one[0].subset(), "zh", "layout {number}");
        write(&folder, &of("en"));
        assert_eq!(
            message(load(&folder, None), &folder),
            "F: several subsets: en, zh; choose one with --subset NAME, or with `subset = \"NAME\"` in a task file",
            "layout {number}"
        );
        for subset in ["en", "zh"] {
            let plain = place.path().join(subset);
            write(&plain, &alone(subset));
            let expected = load(&plain, None).unwrap();
            assert_eq!((expected.len(), expected[0].subset()), (1, "default"));
            let tasks = opened(&folder, subset).unwrap();
            let found = (tasks.len(), tasks[0].name(), tasks[0].subset(), tasks[0].split());
            assert_eq!(found, (1, "multi", subset, expected[0].split()), "layout {number}");
            assert_eq!(tasks[0].fingerprint(), expected[0].fingerprint(), "layout {number}");
        }
        assert_eq!(one[0].fingerprint(), opened(&folder, "zh").unwrap()[0].fingerprint());
        let unknown = message(opened(&folder, "fr"), &folder);
        assert!(
            unknown.starts_with("F: there is no subset \"fr\"; found: ") && unknown.ends_with("en, zh"),
            "{unknown}"
        );
    }
}

#[test]
fn a_task_file_names_its_subset() {
    let place = tempfile::tempdir().unwrap();
    write(place.path(), &files([("multi/zh/test.jsonl", sts("zh")), ("multi/en/test.jsonl", sts("en"))]));
    for (line, expected) in [("", "en"), ("subset = \"zh\"\n", "zh")] {
        let text = format!("name = \"similar\"\ndata = \"multi\"\n{line}");
        write(place.path(), &files([("task.toml", text)]));
        let tasks = load_task_file(place.path().join("task.toml"), &mut Sources::default().with_subset("en")).unwrap();
        let Task::Sts(task) = &tasks[0] else { panic!("{tasks:?}") };
        assert_eq!((tasks[0].name(), tasks[0].subset(), &*task.pairs()[0].sentence2), ("similar", expected, expected));
    }
}

#[test]
fn files_of_the_folder_itself_are_a_subset_of_their_own() {
    let place = tempfile::tempdir().unwrap();
    write(place.path(), &files([("test.jsonl", sts("a")), ("old/test.jsonl", sts("b"))]));
    let error = message(load(place.path(), None), place.path());
    assert!(error.starts_with("F: several subsets: default, old; choose one"), "{error}");
    assert_eq!(opened(place.path(), "default").unwrap()[0].subset(), "default");
    // Parts of different subsets do not belong together either.
    let place = tempfile::tempdir().unwrap();
    write(
        place.path(),
        &files([
            ("zh-corpus/test.jsonl", corpus("a")),
            ("queries.jsonl", queries("a")),
            ("en-qrels/test.jsonl", qrels("a")),
        ]),
    );
    let error = message(load(place.path(), None), place.path());
    assert!(error.starts_with("F: several subsets: en, zh; choose one"), "{error}");
}

#[test]
fn what_is_one_data_set_stays_one() {
    let pairs = |files: Files| {
        let place = tempfile::tempdir().unwrap();
        write(place.path(), &files);
        let tasks = load(place.path(), None).unwrap();
        let Task::Sts(task) = &tasks[0] else { panic!("{tasks:?}") };
        assert_eq!(tasks.len(), 1);
        let sentences: Vec<String> = task.pairs().iter().map(|pair| pair.sentence2.clone()).collect();
        (tasks[0].subset().to_owned(), sentences.join(""))
    };
    // Shards of one split.
    let shards = [("z/test-00000-of-00002.jsonl", sts("a")), ("b/test-00001-of-00002.jsonl", sts("b"))];
    assert_eq!(pairs(files(shards)), ("default".to_owned(), "aaabbb".to_owned()));
    // The folder itself and its `data`.
    let both = [("data/test.jsonl", sts("a")), ("test.jsonl", sts("b"))];
    assert_eq!(pairs(files(both)), ("default".to_owned(), "aaabbb".to_owned()));
    // Only the split that is evaluated counts.
    let trained = [("zh/train.jsonl", sts("a")), ("en/train.jsonl", sts("b")), ("zh/dev.jsonl", sts("c"))];
    assert_eq!(pairs(files(trained)), ("zh".to_owned(), "ccc".to_owned()));
}

#[test]
fn a_shard_that_one_subset_lacks_is_noticed() {
    let place = tempfile::tempdir().unwrap();
    let whole = [("zh/test-00000-of-00002.jsonl", sts("a")), ("zh/test-00001-of-00002.jsonl", sts("b"))];
    write(place.path(), &files(whole));
    write(place.path(), &files([("en/test-00001-of-00002.jsonl", sts("c"))]));
    let error = message(load(place.path(), None), place.path());
    assert_eq!(error, "F/en/test-00001-of-00002.jsonl: found only 1 of 2 shards");
    assert_eq!(opened(place.path(), "zh").unwrap()[0].subset(), "zh");
}
