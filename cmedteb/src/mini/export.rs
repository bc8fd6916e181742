//! Exporting the demonstration set to files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use care_core::files::{PartialFolder, sweep_folder, write_atomic};
use care_core::{Error, ErrorKind, Result};
use serde::Serialize;

use super::{
    CORPUS, QUERIES, README, STS, Split, TrainingExample, alignment_texts, reranking_rows, title_examples,
    training_examples,
};

/// Writes the set to a new or empty folder: a BEIR folder that [`load`](crate::load) reads, and training files.
///
/// | file | content |
/// |---|---|
/// | `corpus.jsonl`, `queries.jsonl`, `qrels/*.tsv` | BEIR |
/// | `reranking.jsonl`, `sts.jsonl` | mteb's older formats |
/// | `train.jsonl` | FlagEmbedding rows of the training split, for the second stage |
/// | `titles.jsonl` | the same format with titles as queries, a second source for the second stage |
/// | `align.jsonl` | the same format with each text as its own positive, for the first stage: the training queries and every document, but no query of another split |
///
/// A new folder appears with the whole set or not at all. Writing the set where it is already, in whole or in part,
/// completes it.
///
/// # Errors
/// [`ErrorKind::Io`] if the folder holds anything else or cannot be written.
pub fn write_to(folder: impl AsRef<Path>) -> Result<()> {
    let (folder, files) = (folder.as_ref(), files()?);
    if !folder.exists() {
        let partial = PartialFolder::create(folder)?;
        write(partial.path(), &files)?;
        // Otherwise somebody has made the folder meanwhile.
        if partial.commit_new()? {
            return Ok(());
        }
    }
    check_empty(folder, folder, &files)?;
    write(folder, &files)
}

/// The files of the set, by their paths in the folder.
fn files() -> Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    for split in Split::ALL {
        files.insert(Path::new("qrels").join(format!("{}.tsv", split.name())), split.tsv().to_owned());
    }
    for (name, content) in
        [("README.md", README), ("corpus.jsonl", CORPUS), ("queries.jsonl", QUERIES), ("sts.jsonl", STS)]
    {
        files.insert(name.into(), content.to_owned());
    }
    let unlabelled = |text: String| TrainingExample { positives: vec![text.clone()], query: text, negatives: vec![] };
    let alignment: Vec<_> = alignment_texts().into_iter().map(unlabelled).collect();
    for (name, content) in [
        ("reranking.jsonl", rows(&reranking_rows())),
        ("train.jsonl", rows(&training_examples())),
        ("titles.jsonl", rows(&title_examples())),
        ("align.jsonl", rows(&alignment)),
    ] {
        files.insert(name.into(), content.map_err(|e| Error::io("write", name, e.into()))?);
    }
    Ok(files)
}

fn rows<T: Serialize>(rows: &[T]) -> serde_json::Result<String> {
    rows.iter().map(|row| Ok(serde_json::to_string(row)? + "\n")).collect()
}

fn write(folder: &Path, files: &BTreeMap<PathBuf, String>) -> Result<()> {
    for (name, content) in files {
        let path = folder.join(name);
        let inner = path.parent().unwrap_or(folder);
        fs::create_dir_all(inner).map_err(|e| Error::io("create", inner, e))?;
        // What is there has been compared.
        if !path.exists() {
            write_atomic(path, content)?;
        }
    }
    Ok(())
}

/// Checks that a folder, or one within it, holds nothing but files of the set.
fn check_empty(folder: &Path, within: &Path, files: &BTreeMap<PathBuf, String>) -> Result<()> {
    sweep_folder(within);
    for entry in fs::read_dir(within).map_err(|e| Error::io("read", within, e))? {
        let path = entry.map_err(|e| Error::io("read", within, e))?.path();
        let name = path.strip_prefix(folder).unwrap_or(&path);
        // Another process may be writing the set too.
        let is_partial = path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with('.') && name.ends_with(".partial")
        });
        if is_partial {
            continue;
        }
        if path.is_dir() && files.keys().any(|file| file.parent() == Some(name)) {
            check_empty(folder, &path, files)?;
        } else if !files.get(name).is_some_and(|content| fs::read(&path).is_ok_and(|is| is == content.as_bytes())) {
            let problem = format!("{} is not empty; choose a new or empty folder", folder.display());
            return Err(Error::new(ErrorKind::Io, problem));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use care_core::jsonl::read_jsonl;

    use super::*;
    use crate::loader::load;
    use crate::mini::qrels;
    use crate::tasks::find;
    use crate::testing::documents_of;

    #[test]
    fn the_folder_loads_as_the_same_tasks() {
        let outer = tempfile::tempdir().expect("a folder");
        let folder = outer.path().join("mini");
        write_to(&folder).expect("written");

        let loaded = load(&folder, None).expect("tasks");
        let names: Vec<_> = loaded.iter().map(|task| task.name()).collect();
        assert_eq!(names, ["mini", "mini-reranking", "mini-sts"]);
        for (loaded, name) in loaded.iter().zip(["mini-retrieval", "mini-reranking", "mini-sts"]) {
            let built_in = find(name).expect("built in");
            assert_eq!((loaded.split(), loaded.fingerprint()), (built_in.split(), built_in.fingerprint()));
        }
        // Apart from the name of the first task, everything is equal, not only the fingerprint.
        assert_eq!(loaded[1..], [find("mini-reranking").expect("built in"), find("mini-sts").expect("built in")]);
        let (loaded, built_in) = (loaded[0].as_retrieval(), find("mini-retrieval").expect("built in"));
        let (loaded, built_in) = (loaded.expect("retrieval"), built_in.as_retrieval().expect("retrieval"));
        assert_eq!((documents_of(loaded), loaded.queries()), (documents_of(built_in), built_in.queries()));
        for split in Split::ALL {
            let path = folder.join("qrels").join(split.name()).with_extension("tsv");
            assert_eq!(care_eval::io::read_qrels(path).expect("BEIR"), *qrels(split));
        }
    }

    #[test]
    fn training_files_are_flag_embedding_rows() {
        let outer = tempfile::tempdir().expect("a folder");
        write_to(outer.path()).expect("an empty folder is fine");
        let rows = |name| -> Vec<TrainingExample> {
            let rows = read_jsonl(outer.path().join(name)).expect("rows");
            rows.into_iter().map(|(_, row)| row).collect()
        };
        assert_eq!(rows("train.jsonl"), training_examples());
        assert_eq!(rows("titles.jsonl"), title_examples());
        let align = rows("align.jsonl");
        assert_eq!(align.len(), 752);
        assert!(align.iter().all(|row| row.positives == [row.query.clone()] && row.negatives.is_empty()));
        let line = fs::read_to_string(outer.path().join("align.jsonl")).expect("text");
        assert_eq!(
            line.lines().next(),
            Some(
                "{\"query\":\"我妈自己在家量血压138/88，这算高血压吗\",\"pos\":[\"我妈自己在家量血压138/88，这算高血压吗\"],\"neg\":[]}"
            )
        );
    }

    #[test]
    fn nothing_is_overwritten_and_what_is_missing_is_added() {
        let outer = tempfile::tempdir().expect("a folder");
        let folder = outer.path().join("mini");
        write_to(&folder).expect("written");
        for lost in ["corpus.jsonl", "qrels/test.tsv"] {
            fs::remove_file(folder.join(lost)).expect("removed");
            fs::write(folder.join(".corpus.jsonl.77-3.partial"), "{").expect("written");
            write_to(&folder).expect("completed");
            assert_eq!(fs::read_to_string(folder.join("corpus.jsonl")).expect("read"), CORPUS);
            assert!(folder.join(lost).exists() && !folder.join(".corpus.jsonl.77-3.partial").exists());
        }
        for (name, content) in [("notes.txt", "mine"), ("qrels/mine.tsv", "mine"), ("sts.jsonl", "mine")] {
            let before = fs::read(folder.join(name)).ok();
            fs::write(folder.join(name), content).expect("written");
            fs::remove_file(folder.join("train.jsonl")).expect("removed");
            let error = write_to(&folder).expect_err("not empty").to_string();
            assert_eq!(error, format!("{} is not empty; choose a new or empty folder", folder.display()));
            assert_eq!(fs::read_to_string(folder.join(name)).expect("read"), content);
            assert!(!folder.join("train.jsonl").exists());
            match before {
                Some(before) => fs::write(folder.join(name), before).expect("written"),
                None => fs::remove_file(folder.join(name)).expect("removed"),
            }
            write_to(&folder).expect("completed");
        }
        assert_eq!(fs::read_dir(outer.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn two_processes_write_one_whole_set() {
        let outer = tempfile::tempdir().expect("a folder");
        let folder = outer.path().join("new/mini");
        std::thread::scope(|scope| {
            (0..4).for_each(|_| drop(scope.spawn(|| write_to(&folder).expect("written"))));
        });
        assert_eq!(load(&folder, None).expect("tasks").len(), 3);
        assert_eq!(fs::read_dir(outer.path().join("new")).expect("a folder").count(), 1);
    }
}
