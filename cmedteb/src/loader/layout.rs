//! What the files of a folder are, by their places and names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use care_core::{Error, Result};

use super::rows::columns;

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
        layout.files.values_mut().for_each(|paths| paths.sort());
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
                let split = split_of(stem);
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

/// `test-00000-of-00002-6f2a` is of the split `test`.
fn split_of(stem: &str) -> &str {
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let shard = stem.match_indices('-').find(|(place, _)| {
        let mut rest = stem[place + 1..].splitn(4, '-');
        let [shard, of, count] = [rest.next(), rest.next(), rest.next()].map(Option::unwrap_or_default);
        digits(shard) && of == "of" && digits(count)
    });
    shard.map_or(stem, |(place, _)| &stem[..place])
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

/// The splits that are tested, the first choice first.
pub(super) const SPLITS: [&str; 3] = [DEFAULT_SPLIT, "dev", "validation"];
const DEFAULT_SPLIT: &str = "test";

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
            assert_eq!(split_of(stem), split);
        }
    }
}
