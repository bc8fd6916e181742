//! What the files of a folder are, by their places and names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use care_core::{Error, Result};

use crate::rows::columns;
use crate::task::DEFAULT_SPLIT;

/// What rows are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Corpus,
    Queries,
    Qrels,
    Candidates,
    Reranking,
    Sts,
}

/// The files of a folder that hold rows, by what they are and the split that they are of.
#[derive(Debug, Default)]
pub(super) struct Layout {
    files: BTreeMap<(Part, String), Vec<PathBuf>>,
}

impl Layout {
    /// Looks through a folder and the folders in it; hidden ones are left out.
    ///
    /// A file's name says its split: `test.jsonl`, `test-00000-of-00002.parquet`. The folder that it lies in
    /// says what it is, if that is `corpus`, `queries`, `qrels` or `top_ranked`; else the split does, if that
    /// is one of these, `reranking` or `sts`; else the columns do.
    ///
    /// # Errors
    /// When a folder cannot be read, or a file whose columns are asked for.
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let mut layout = Self::default();
        layout.look_into(folder, None)?;
        for paths in layout.files.values_mut() {
            paths.sort();
            complete(paths)?;
        }
        Ok(layout)
    }

    fn look_into(&mut self, folder: &Path, config: Option<&str>) -> Result<()> {
        let entries = fs::read_dir(folder).map_err(|e| Error::io("read the folder", folder, e))?;
        for entry in entries {
            let path = entry.map_err(|e| Error::io("read the folder", folder, e))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'))
            else {
                continue;
            };
            if path.is_dir() {
                if config.is_none() {
                    self.look_into(&path, Some(name))?;
                }
            } else if let Some((stem, "jsonl" | "parquet" | "tsv")) = name.rsplit_once('.') {
                let (split, _) = split_of(stem);
                if let Some((part, split)) = part(config, split, &path)? {
                    self.files.entry((part, split)).or_default().push(path);
                }
            }
        }
        Ok(())
    }

    /// The splits that there are of a part.
    pub(super) fn splits(&self, part: Part) -> impl Iterator<Item = &str> {
        self.files.keys().filter(move |(of, _)| *of == part).map(|(_, split)| split.as_str())
    }

    /// The files of a part and a split.
    pub(super) fn files(&self, part: Part, split: &str) -> &[PathBuf] {
        self.files.get(&(part, split.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// The files of a part in the given split, or else in all of them: a corpus often has but one.
    pub(super) fn files_for(&self, part: Part, split: &str) -> Vec<PathBuf> {
        match self.files(part, split) {
            [] => self.files.iter().filter(|((of, _), _)| *of == part).flat_map(|(_, paths)| paths.clone()).collect(),
            paths => paths.to_vec(),
        }
    }
}

/// `test-00000-of-00002-6f2a` is of the split `test`, and the first of two shards.
fn split_of(stem: &str) -> (&str, Option<[usize; 2]>) {
    let number = |text: &str| text.parse().ok().filter(|_| text.len() == 5);
    let shard = stem.match_indices('-').find_map(|(place, _)| {
        let mut rest = stem[place + 1..].splitn(4, '-');
        let (shard, of, count) = (number(rest.next()?)?, rest.next()?, number(rest.next()?)?);
        (of == "of").then_some((&stem[..place], [shard, count]))
    });
    shard.map_or((stem, None), |(split, shard)| (split, Some(shard)))
}

/// Refuses shards of which some are not there: half a corpus is another task.
fn complete(paths: &[PathBuf]) -> Result<()> {
    let shards = paths.iter().filter_map(|path| Some((path, split_of(path.file_stem()?.to_str()?).1?)));
    let shards: Vec<(&PathBuf, [usize; 2])> = shards.collect();
    let Some(&(first, [_, count])) = shards.first() else { return Ok(()) };
    let whole = shards.len() == count && shards.iter().enumerate().all(|(place, (_, shard))| *shard == [place, count]);
    if whole {
        return Ok(());
    }
    let problem = format!("it is one of {count} shards, of which {} are here", shards.len());
    Err(Error::format(first, problem))
}

/// What a file is and the split that it is of; `None` if it is nothing that tasks are made of.
fn part(config: Option<&str>, split: &str, path: &Path) -> Result<Option<(Part, String)>> {
    let named = |name: &str| match name {
        "corpus" => Some(Part::Corpus),
        "queries" => Some(Part::Queries),
        "qrels" => Some(Part::Qrels),
        "top_ranked" => Some(Part::Candidates),
        _ => None,
    };
    if let Some(part) = config.and_then(named) {
        return Ok(Some((part, split.to_owned())));
    }
    // A file without a split of its own is of the one that is tested by default.
    let whole = |part| Ok(Some((part, DEFAULT_SPLIT.to_owned())));
    match split {
        "reranking" => return whole(Part::Reranking),
        "sts" => return whole(Part::Sts),
        _ => {}
    }
    if let Some(part) = named(split) {
        return whole(part);
    }
    if path.extension().is_some_and(|extension| extension == "tsv") {
        return Ok(None);
    }
    let columns = columns(path)?;
    let has = |name: &str| columns.iter().any(|column| column == name);
    let part = match () {
        () if has("positive") && has("negative") => Part::Reranking,
        () if has("sentence1") && has("sentence2") => Part::Sts,
        () if has("query-id") && has("corpus-ids") => Part::Candidates,
        () if has("query-id") && has("corpus-id") || has("qid") && has("pid") => Part::Qrels,
        () => return Ok(None),
    };
    Ok(Some((part, split.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_of_their_split() {
        for (stem, split) in [
            ("test", "test"),
            ("test-00000-of-00002", "test"),
            ("dev-00001-of-00002-6f2ab3", "dev"),
            ("my-test", "my-test"),
            ("my-test-00000-of-00001", "my-test"),
            ("test-0-of-1", "test-0-of-1"),
        ] {
            assert_eq!(split_of(stem).0, split);
        }
        assert_eq!(split_of("dev-00001-of-00002-6f2ab3").1, Some([1, 2]));
    }

    #[test]
    fn a_missing_shard_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("corpus")).expect("made");
        let write = |name: &str| fs::write(folder.path().join("corpus").join(name), "{}\n").expect("written");
        write("test-00000-of-00002.jsonl");
        let error = Layout::of(folder.path()).expect_err("half a corpus").to_string();
        assert!(error.ends_with("test-00000-of-00002.jsonl: it is one of 2 shards, of which 1 are here"), "{error}");
        write("test-00001-of-00002.jsonl");
        assert_eq!(Layout::of(folder.path()).expect("whole").files(Part::Corpus, "test").len(), 2);
    }
}
