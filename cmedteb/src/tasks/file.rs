//! Custom tasks: a TOML file that specifies where the data are.

use std::fs;
use std::path::Path;

use care_core::files::is_hub_name;
use care_core::{Error, Result};
use serde::Deserialize;

use super::hub::{Sources, of_hub};
use crate::loader::{Choice, load_as};
use crate::task::Task;

/// The name of the file in a task's folder.
pub(super) const NAME: &str = "task.toml";

/// The content of a task file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskFile {
    name: String,
    data: Option<String>,
    qrels: Option<String>,
    split: Option<String>,
    subset: Option<String>,
    main_score: Option<String>,
    #[serde(default)]
    ignore_identical_ids: bool,
}

/// Reads a task file.
///
/// ```toml
/// name = "clinic"              # name in tables and of the report file
/// data = "files"               # a folder relative to this file, or org/name@revision on the hub; default: this folder
/// qrels = "judgements"         # a folder with judgements, if separate; default: as found by cmedteb::load
/// split = "dev"                # default: the first of test, dev and validation
/// subset = "zh"                # default: the only one
/// main_score = "recall@100"    # default: ndcg@10 for retrieval, map@10 for reranking (map@1000 from the hub)
/// ignore_identical_ids = true  # retrieval: a query does not rank the document with its own id; default: false
/// ```
///
/// # Errors
/// If the file or its data cannot be read, or if a field is unknown, missing or of the wrong type; the message names the
/// line.
pub fn load_task_file(path: impl AsRef<Path>, sources: &mut Sources<'_>) -> Result<Vec<Task>> {
    let path = path.as_ref();
    let text = fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    let file: TaskFile = toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        Error::line(path, line, e.message())
    })?;
    if file.name.is_empty() || file.name.starts_with('.') || file.name.contains(['/', '\\']) {
        return Err(Error::format(path, format!("`name` is {:?}, which is not a valid file name", file.name)));
    }
    let here = path.parent().unwrap_or(Path::new("."));
    let folder = here.join(file.data.as_deref().unwrap_or("."));
    let qrels = file.qrels.map(|qrels| here.join(qrels));
    let choice = Choice {
        split: file.split.as_deref(),
        subset: file.subset.as_deref().or(sources.subset),
        qrels: qrels.as_deref(),
    };
    let mut tasks = match &file.data {
        Some(id) if !folder.exists() && is_hub_name(id) => of_hub(id, &file.name, choice, sources)?,
        _ if !folder.is_dir() => {
            return Err(Error::format(path, format!("`data`: no such folder: {}", folder.display())));
        }
        _ => load_as(&folder, &file.name, &Choice { split: choice.split.or(sources.split), ..choice })?,
    };
    if let Some(main) = &file.main_score {
        tasks = tasks
            .into_iter()
            .map(|task| task.with_main_score(main))
            .collect::<Result<_>>()
            .map_err(|e| e.in_file(path))?;
    }
    let tasks = tasks.into_iter().map(|task| task.with_ignore_identical_ids(file.ignore_identical_ids));
    tasks.collect::<Result<_>>().map_err(|e| e.in_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::open;

    #[test]
    fn a_task_file_names_data_judgements_split_and_main_score() {
        let place = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = place.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("files/corpus.jsonl", "{\"_id\":\"d\",\"text\":\"a\"}\n{\"_id\":\"e\",\"text\":\"b\"}");
        write("files/queries.jsonl", "{\"_id\":\"1\",\"text\":\"q\"}");
        write("judged/dev.jsonl", "{\"query-id\":\"1\",\"corpus-id\":\"d\",\"score\":\"2\"}");
        write("judged/test.jsonl", "{\"query-id\":\"1\",\"corpus-id\":\"e\",\"score\":1.0}");
        let lines =
            "name = \"clinic\"\ndata = \"files\"\nqrels = \"judged\"\nsplit = \"dev\"\nmain_score = \"recall@100\"";
        write("task.toml", lines);
        let folder = place.path().to_str().expect("a path").to_owned();
        let open = |word: &str| open(word, &mut Sources::default()).map_err(|e| e.to_string().replace(&folder, "F"));
        for word in [folder.clone(), format!("{folder}/task.toml")] {
            let tasks = open(&word).expect("a task");
            let task = tasks[0].as_retrieval().expect("retrieval");
            assert_eq!(
                (task.name(), task.split(), task.main_score().to_string().as_str()),
                ("clinic", "dev", "recall@100")
            );
            assert_eq!(task.qrels().judgements().collect::<Vec<_>>(), [("1", "d", 2)]);
        }
        // An explicit `qrels` takes precedence over judgements in the data folder.
        write("files/qrels/dev.jsonl", "{\"query-id\":\"1\",\"corpus-id\":\"e\",\"score\":1}");
        let tasks = open(&folder).expect("a task");
        assert_eq!(tasks[0].as_retrieval().expect("retrieval").qrels().judgements().next(), Some(("1", "d", 2)));
        for (lines, message) in [
            ("data = \"files\"", "F/task.toml:1: missing field `name`"),
            (
                "name = \"clinic\"\nsplits = \"dev\"",
                "F/task.toml:2: unknown field `splits`, expected one of `name`, `data`, `qrels`, `split`, `subset`, \
                 `main_score`, `ignore_identical_ids`",
            ),
            ("name = \"a/b\"", "F/task.toml: `name` is \"a/b\", which is not a valid file name"),
            ("name = 3", "F/task.toml:1: invalid type: integer `3`, expected a string"),
            ("name = \"clinic\"\ndata = \"elsewhere\"", "F/task.toml: `data`: no such folder: F/elsewhere"),
            (
                "name = \"clinic\"\ndata = \"org/name\"",
                "org/name is a data set of the Hugging Face hub, which cannot be accessed here",
            ),
        ] {
            write("task.toml", lines);
            assert_eq!(open(&folder).expect_err(message), message);
        }
        write("task.toml", "name = \"clinic\"\ndata = \"files\"\nqrels = \"judged\"\nignore_identical_ids = true");
        assert!(open(&folder).expect("a task")[0].as_retrieval().expect("retrieval").ignores_identical_ids());
        write(
            "rows/sts.jsonl",
            "{\"sentence1\":\"a\",\"sentence2\":\"b\",\"score\":1}\n{\"sentence1\":\"a\",\"sentence2\":\"c\",\"score\":0}",
        );
        write("task.toml", "name = \"clinic\"\ndata = \"rows\"\nignore_identical_ids = true");
        let message = "F/task.toml: `ignore_identical_ids` applies only to retrieval, which clinic-sts is not";
        assert_eq!(open(&folder).expect_err("no retrieval"), message);
        write("task.toml", "name = \"clinic\"\ndata = \"files\"\nqrels = \"judged\"\nmain_score = \"f1\"");
        let error = open(&folder).expect_err("no such measure");
        assert!(error.starts_with("F/task.toml: `main_score` is \"f1\", allowed: ndcg@10, "), "{error}");
    }
}
