//! The role of each file of a folder, determined by its location and name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use care_core::{Error, Result};

use crate::rows::columns;
use crate::task::DEFAULT_SPLIT;

/// The part of a task that rows belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Corpus,
    Queries,
    Qrels,
    Candidates,
    Reranking,
    Sts,
}

/// The files of a folder by part and split.
#[derive(Debug, Default)]
pub(super) struct Layout {
    files: BTreeMap<(Part, String), Vec<PathBuf>>,
}

impl Layout {
    /// Scans a folder and its subfolders, without hidden ones.
    ///
    /// A file's name specifies its split, e.g. `test.jsonl` or `test-00000-of-00002.parquet`. Its part is determined by
    /// the name of its folder (`corpus`, `queries`, `qrels` or `top_ranked`), else by its own name (one of these,
    /// `reranking` or `sts`), else by its columns.
    ///
    /// # Errors
    /// If a folder cannot be read, or a file whose columns are required.
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

    /// The splits of a part.
    pub(super) fn splits(&self, part: Part) -> impl Iterator<Item = &str> {
        self.files.keys().filter(move |(of, _)| *of == part).map(|(_, split)| split.as_str())
    }

    /// The files of a part and a split.
    pub(super) fn files(&self, part: Part, split: &str) -> &[PathBuf] {
        self.files.get(&(part, split.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// The files of a part in the given split, or in all splits if it has none: a corpus often has only one.
    pub(super) fn files_for(&self, part: Part, split: &str) -> Vec<PathBuf> {
        match self.files(part, split) {
            [] => self.files.iter().filter(|((of, _), _)| *of == part).flat_map(|(_, paths)| paths.clone()).collect(),
            paths => paths.to_vec(),
        }
    }
}

/// Split and shard of a file name: `test-00000-of-00002-6f2a` is the first of two shards of the split `test`.
fn split_of(stem: &str) -> (&str, Option<[usize; 2]>) {
    let number = |text: &str| text.parse().ok().filter(|_| text.len() == 5);
    let shard = stem.match_indices('-').find_map(|(place, _)| {
        let mut rest = stem[place + 1..].splitn(4, '-');
        let (shard, of, count) = (number(rest.next()?)?, rest.next()?, number(rest.next()?)?);
        (of == "of").then_some((&stem[..place], [shard, count]))
    });
    shard.map_or((stem, None), |(split, shard)| (split, Some(shard)))
}

/// Checks that all shards exist: half a corpus would be another task.
fn complete(paths: &[PathBuf]) -> Result<()> {
    let shards = paths.iter().filter_map(|path| Some((path, split_of(path.file_stem()?.to_str()?).1?)));
    let shards: Vec<(&PathBuf, [usize; 2])> = shards.collect();
    let Some(&(first, [_, count])) = shards.first() else { return Ok(()) };
    let whole = shards.len() == count && shards.iter().enumerate().all(|(place, (_, shard))| *shard == [place, count]);
    if whole {
        return Ok(());
    }
    let problem = format!("found only {} of {count} shards", shards.len());
    Err(Error::format(first, problem))
}

/// Part and split of a file; `None` if it does not belong to a task.
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
    // A file that names no split belongs to the default one.
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
        assert!(error.ends_with("test-00000-of-00002.jsonl: found only 1 of 2 shards"), "{error}");
        write("test-00001-of-00002.jsonl");
        assert_eq!(Layout::of(folder.path()).expect("whole").files(Part::Corpus, "test").len(), 2);
    }
}
