//! Exporting the demonstration set to files.

use std::fs;
use std::path::Path;

use care_core::files::write_atomic;
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
/// # Errors
/// [`ErrorKind::Io`] if the folder is not empty or cannot be written.
pub fn write_to(folder: impl AsRef<Path>) -> Result<()> {
    let folder = folder.as_ref();
    fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
    if fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))?.next().is_some() {
        let problem = format!("{} is not empty; choose a new or empty folder", folder.display());
        return Err(Error::new(ErrorKind::Io, problem));
    }
    let qrels = folder.join("qrels");
    fs::create_dir(&qrels).map_err(|e| Error::io("create", &qrels, e))?;
    for split in Split::ALL {
        write_atomic(qrels.join(format!("{}.tsv", split.name())), split.tsv())?;
    }
    for (name, content) in
        [("README.md", README), ("corpus.jsonl", CORPUS), ("queries.jsonl", QUERIES), ("sts.jsonl", STS)]
    {
        write_atomic(folder.join(name), content)?;
    }
    write_rows(&folder.join("reranking.jsonl"), &reranking_rows())?;
    write_rows(&folder.join("train.jsonl"), &training_examples())?;
    write_rows(&folder.join("titles.jsonl"), &title_examples())?;
    let unlabelled = |text: String| TrainingExample { positives: vec![text.clone()], query: text, negatives: vec![] };
    write_rows(&folder.join("align.jsonl"), &alignment_texts().into_iter().map(unlabelled).collect::<Vec<_>>())
}

fn write_rows<T: Serialize>(path: &Path, rows: &[T]) -> Result<()> {
    let mut content = String::new();
    for row in rows {
        content += &serde_json::to_string(row).map_err(|e| Error::io("write", path, e.into()))?;
        content.push('\n');
    }
    write_atomic(path, content)
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
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("notes.txt"), "mine").expect("written");
        let error = write_to(folder.path()).expect_err("not empty");
        assert_eq!(
            error.to_string(),
            format!("{} is not empty; choose a new or empty folder", folder.path().display())
        );
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
