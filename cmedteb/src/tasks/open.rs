//! Tasks by name, folder, file or id.

use std::path::Path;

use care_core::files::is_hub_name;
use care_core::{Error, ErrorKind, Result};

use super::file::{NAME, load_task_file};
use super::hub::{Sources, hub_name, of_hub};
use super::table::{NamedTask, Origin, TASKS, repository};
use crate::loader::{Choice, load_as, load_folder};
use crate::task::Task;

/// The built-in task with this name.
///
/// # Errors
/// [`ErrorKind::Config`] if there is none; the message lists the names.
pub fn find(name: &str) -> Result<Task> {
    let build = TASKS.iter().find_map(|row| match row.origin {
        Origin::BuiltIn(build) if row.name == name => Some(build),
        _ => None,
    });
    let unknown = || Error::setting("task", format!("{name:?}"), &built_in_names().collect::<Vec<_>>().join(", "));
    build.ok_or_else(unknown)?(name)
}

/// The names of the built-in tasks.
pub fn built_in_names() -> impl Iterator<Item = &'static str> {
    TASKS.iter().filter(|row| matches!(row.origin, Origin::BuiltIn(_))).map(|row| row.name)
}

/// The names of all named tasks.
pub fn names() -> impl Iterator<Item = &'static str> {
    TASKS.iter().map(|row| row.name)
}

/// Opens the tasks that `word` refers to: a task file (`.toml`), a folder, the name of a task, or a data set of the hub
/// (`org/name` or `org/name@revision`), tried in this order. Local data take precedence over the hub. A data set of the hub
/// that has a name is that task.
///
/// # Errors
/// If there is no such task (the message lists the names), or if it cannot be downloaded or read.
pub fn open(word: &str, sources: &mut Sources<'_>) -> Result<Vec<Task>> {
    let path = Path::new(word);
    if path.is_file() {
        if path.extension().is_none_or(|extension| extension != "toml") {
            return Err(Error::format(path, "a task is a folder of such files, or a task file (.toml)"));
        }
        return load_task_file(path, sources);
    }
    if path.join(NAME).is_file() {
        return load_task_file(path.join(NAME), sources);
    }
    let choice = Choice { subset: sources.subset, ..Choice::default() };
    if path.is_dir() {
        return load_folder(path, &Choice { split: sources.split, ..choice });
    }
    // The pinned id of a named set is that task; with another revision it is the set alone.
    let id_of = |row: &NamedTask| row.set_of(word).map(|(id, _)| id).filter(|id| [*id, repository(id)].contains(&word));
    let Some(row) = TASKS.iter().find(|row| row.name == word || id_of(row).is_some()) else {
        return match is_hub_name(word) {
            true => of_hub(word, &hub_name(word), choice, sources),
            false => {
                let names = names().collect::<Vec<_>>().join(", ");
                let allowed = format!("{names}, a folder, a task file (.toml), or ORG/NAME on the Hugging Face hub");
                Err(Error::setting("task", format!("{word:?}"), &allowed))
            }
        };
    };
    let local = sources.data.map(|data| data.join(row.name)).filter(|folder| folder.is_dir());
    let (tasks, main_score) = match (&row.origin, local) {
        (Origin::BuiltIn(build), _) => (vec![build(row.name)?], None),
        (Origin::Hub(set), Some(folder)) => {
            (load_as(&folder, row.name, &Choice { split: Some(set.split), ..choice })?, Some(set.main_score))
        }
        (Origin::Hub(set), None) => (of_hub(id_of(row).unwrap_or(set.id()), row.name, choice, sources)?, None),
        (Origin::Folder { main_score }, Some(folder)) => {
            (load_as(&folder, row.name, &Choice { split: sources.split, ..choice })?, *main_score)
        }
        (Origin::Folder { .. }, None) => {
            let message = format!(
                "no public copy of {word} is known; put its files into a folder of this name in the folder for data sets"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
    };
    match main_score {
        Some(main) => tasks.into_iter().map(|task| task.with_main_score(main)).collect(),
        None => Ok(tasks),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn local<'a>(data: Option<&'a Path>) -> Sources<'a> {
        Sources { data, ..Sources::default() }
    }

    fn message(word: &str, sources: &mut Sources<'_>) -> String {
        open(word, sources).expect_err(word).to_string()
    }

    #[test]
    fn every_built_in_name_is_of_a_task_that_bears_it() {
        assert_eq!(built_in_names().count(), 4);
        for name in built_in_names() {
            assert_eq!(find(name).expect("built in").name(), name);
            assert_eq!(open(name, &mut local(None)).expect("built in")[0].name(), name);
        }
        let error = find("mini").expect_err("unknown");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(
            error.to_string(),
            "`task` is \"mini\", allowed: mini-retrieval, mini-retrieval-dev, mini-reranking, mini-sts"
        );
    }

    fn write_reranking(folder: &Path) {
        fs::create_dir_all(folder).expect("made");
        fs::write(folder.join("test.jsonl"), r#"{"query":"q","positive":["a"],"negative":["b"]}"#).expect("written");
    }

    #[test]
    fn a_folder_of_data_sets_comes_before_the_hub() {
        let data = tempfile::tempdir().expect("a folder");
        write_reranking(&data.path().join("CMedQAv1-reranking"));
        let tasks = open("CMedQAv1-reranking", &mut local(Some(data.path()))).expect("found");
        let Task::Reranking(task) = &tasks[0] else { panic!("{tasks:?}") };
        assert_eq!(
            (task.name(), task.split(), task.main_score().to_string().as_str()),
            ("CMedQAv1-reranking", "test", "map@1000")
        );
        write_reranking(&data.path().join("CMedTEB-reranking"));
        let tasks = open("CMedTEB-reranking", &mut local(Some(data.path()))).expect("found");
        let Task::Reranking(task) = &tasks[0] else { panic!("{tasks:?}") };
        assert_eq!((task.name(), task.main_score().to_string().as_str()), ("CMedTEB-reranking", "map@10"));
    }

    #[test]
    fn hub_sets_are_fetched_by_their_pinned_id_with_judgements_from_beside() {
        let hub = tempfile::tempdir().expect("a folder");
        let mut asked = Vec::new();
        let mut fetch = |id: &str| {
            asked.push(id.to_owned());
            let folder = hub.path().join(id.split('@').next().expect("a name").replace('/', "--"));
            fs::create_dir_all(folder.join("data")).expect("made");
            let write = |name: &str, text: &str| fs::write(folder.join("data").join(name), text).expect("written");
            if id.ends_with("-qrels") {
                write("dev-00000-of-00001.jsonl", "{\"qid\":\"1\",\"pid\":\"d\",\"score\":1}");
            } else {
                write("corpus-00000-of-00001.jsonl", "{\"id\":\"d\",\"text\":\"a\"}\n{\"id\":\"e\",\"text\":\"b\"}");
                write("queries-00000-of-00001.jsonl", "{\"id\":\"1\",\"text\":\"q\"}");
            }
            Ok(folder)
        };
        let mut sources = Sources::default().with_hub(&mut fetch);
        let tasks = open("CmedqaRetrieval", &mut sources).expect("fetched");
        let task = tasks[0].as_retrieval().expect("retrieval");
        assert_eq!((task.name(), task.split(), task.corpus().len()), ("CmedqaRetrieval", "dev", 2));
        let tasks = open("C-MTEB/Other@v1", &mut sources).expect("fetched");
        assert_eq!(tasks[0].name(), "Other");
        assert_eq!(
            asked,
            [
                "mteb/CmedqaRetrieval@c476f85bf03d6642ec66bf54b9a551c88108bbb4",
                "mteb/CmedqaRetrieval-qrels",
                "C-MTEB/Other@v1",
                "C-MTEB/Other-qrels",
            ]
        );
    }

    #[test]
    fn the_id_of_a_named_set_is_that_task_and_unknown_reranking_is_scored_as_in_mteb() {
        let hub = tempfile::tempdir().expect("a folder");
        let mut asked = Vec::new();
        let mut fetch = |id: &str| {
            asked.push(id.to_owned());
            let row = r#"{"query":"q","positive":["a"],"negative":["b"]}"#;
            for split in ["dev", "test", "train"] {
                fs::write(hub.path().join(format!("{split}.jsonl")), row).expect("written");
            }
            Ok(hub.path().to_owned())
        };
        let mut sources = Sources::default().with_hub(&mut fetch).with_split("dev");
        let place = tempfile::tempdir().expect("a folder");
        let file = place.path().join("task.toml");
        let mut opened = |word: &str| {
            let tasks = open(word, &mut sources).expect(word);
            let Task::Reranking(task) = &tasks[0] else { panic!("{tasks:?}") };
            [task.name(), task.split(), &task.main_score().to_string()].join(" ")
        };
        for name in ["CMedQAv1-reranking", "CMedQAv2-reranking"] {
            let expected = format!("{name} test map@1000");
            for word in [
                name.to_owned(),
                format!("mteb/{name}"),
                format!("mteb/{name}@v1"),
                format!("C-MTEB/{name}"),
                format!("C-MTEB/{name}@v1"),
            ] {
                assert_eq!(opened(&word), expected, "{word}");
            }
            for (lines, expected) in
                [("", "clinic test map@1000"), ("split = \"train\"\nmain_score = \"mrr@10\"", "clinic train mrr@10")]
            {
                fs::write(&file, format!("name = \"clinic\"\ndata = \"mteb/{name}\"\n{lines}")).expect("written");
                assert_eq!(opened(file.to_str().expect("a path")), expected);
            }
        }
        for name in ["MMarcoReranking", "T2Reranking"] {
            assert_eq!(opened(&format!("C-MTEB/{name}")), format!("{name} dev map@1000"));
        }
        let mut expected = Vec::new();
        for (name, of_mteb, original) in [
            (
                "CMedQAv1-reranking",
                "f77f0345c9b6ac0a2447a3a71483d5b27393cb35",
                "8d7f1e942507dac42dc58017c1a001c3717da7df",
            ),
            (
                "CMedQAv2-reranking",
                "01399b6956a4c6bf9edc5b6b90e176aeeb399686",
                "23d186750531a14a0357ca22cd92d712fd512ea0",
            ),
        ] {
            let [pinned, other] = [of_mteb, "v1"].map(|revision| format!("mteb/{name}@{revision}"));
            let [pinned_original, other_original] =
                [original, "v1"].map(|revision| format!("C-MTEB/{name}@{revision}"));
            expected.extend(
                [&pinned, &pinned, &other, &pinned_original, &other_original, &pinned, &pinned].map(String::clone),
            );
        }
        expected.extend(["C-MTEB/MMarcoReranking".to_owned(), "C-MTEB/T2Reranking".to_owned()]);
        assert_eq!(asked, expected);
    }

    #[test]
    fn an_original_of_c_mteb_is_the_task_of_that_name_in_its_split() {
        let hub = tempfile::tempdir().expect("a folder");
        let mut fetch = |id: &str| {
            let folder = hub.path().join(id.replace(['/', '@'], "--"));
            fs::create_dir_all(&folder).expect("made");
            let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("written");
            if id.ends_with("-qrels") {
                write("dev.jsonl", "{\"qid\":\"1\",\"pid\":\"d\",\"score\":1}");
                write("test.jsonl", "{\"qid\":\"1\",\"pid\":\"e\",\"score\":1}");
            } else {
                write("corpus.jsonl", "{\"id\":\"d\",\"text\":\"a\"}\n{\"id\":\"e\",\"text\":\"b\"}");
                write("queries.jsonl", "{\"id\":\"1\",\"text\":\"q\"}");
            }
            Ok(folder)
        };
        let mut sources = Sources::default().with_hub(&mut fetch);
        for name in ["CmedqaRetrieval", "MedicalRetrieval"] {
            let tasks = open(&format!("C-MTEB/{name}"), &mut sources).expect(name);
            assert_eq!((tasks[0].name(), tasks[0].split()), (name, "dev"));
        }
        let tasks = open("C-MTEB/Other", &mut sources).expect("fetched");
        assert_eq!((tasks[0].name(), tasks[0].split()), ("Other", "test"));
    }

    #[test]
    fn what_cannot_be_found_is_said() {
        let mut sources = local(None);
        assert!(message("mini", &mut sources).starts_with("`task` is \"mini\", allowed: mini-retrieval, "));
        assert_eq!(
            message("CMedTEB-sts", &mut sources),
            "no public copy of CMedTEB-sts is known; put its files into a folder of this name in the folder for data sets"
        );
        assert_eq!(
            message("org/name", &mut sources),
            "org/name is a data set of the Hugging Face hub, which cannot be accessed here"
        );
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().to_str().expect("UTF-8");
        let expected = format!("{path}: a task is a folder of such files, or a task file (.toml)");
        assert_eq!(message(path, &mut sources), expected);
        assert!(message("./no/folder", &mut sources).starts_with("`task` is \"./no/folder\", allowed: "));
        let mut refuse = |id: &str| -> Result<PathBuf> { Err(Error::new(ErrorKind::Hub, format!("no {id} here"))) };
        let mut sources = Sources::default().with_hub(&mut refuse);
        assert_eq!(message("org/name@v2", &mut sources), "no org/name@v2 here");
    }
}
