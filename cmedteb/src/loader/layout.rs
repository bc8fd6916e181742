//! The role of each file of a folder, determined by its location and name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use care_core::{Error, Result};

use crate::rows::{EXTENSIONS, columns, is_table, stem};
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
    /// Files that are named as parts of a task, but are of no format that is read.
    unread: Vec<PathBuf>,
}

impl Layout {
    /// Scans a folder and its subfolders, without hidden ones.
    ///
    /// A file's name specifies its split, e.g. `test.jsonl` or `test-00000-of-00002.parquet`. Its part is determined by
    /// the name of its folder (`corpus`, `queries`, `qrels` or `top_ranked`), else by its own name (one of these,
    /// `reranking` or `sts`), else by its columns.
    ///
    /// # Errors
    /// If a folder cannot be read, or a file whose columns are required; if a part of a task is in a packed file that is
    /// not read, or lacks a shard.
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
            } else if let Some(stem) = stem(&path) {
                // `gunzip -k` leaves both files.
                if name.strip_suffix(".gz").is_some_and(|unpacked| path.with_file_name(unpacked).exists()) {
                    continue;
                }
                let (split, _) = split_of(stem);
                if let Some((part, split)) = part(config, split, &path)? {
                    self.files.entry((part, split)).or_default().push(path);
                }
            } else if named(config.unwrap_or_default()).or_else(|| named(split_of(first_name(name)).0)).is_some() {
                if PACKED.iter().any(|extension| name.ends_with(extension)) {
                    return Err(Error::format(
                        path,
                        format!("packed files of this kind are not read: unpack it to {EXTENSIONS}"),
                    ));
                }
                self.unread.push(path);
            }
        }
        Ok(())
    }

    /// A remark on files that are named as parts of a task, but not read, for messages about what is missing.
    pub(super) fn unread(&self) -> String {
        match self.unread.as_slice() {
            [] => String::new(),
            files => {
                let names: Vec<_> = files.iter().filter_map(|file| file.file_name()?.to_str()).collect();
                format!("; not read: {}", names.join(", "))
            }
        }
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

/// Extensions of packed files that are not read as rows.
const PACKED: [&str; 8] = [".gz", ".zst", ".bz2", ".xz", ".lz4", ".zip", ".7z", ".tar"];

/// A file's name without any extension.
fn first_name(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// The part with this name of a file or a folder.
fn named(name: &str) -> Option<Part> {
    match name {
        "corpus" => Some(Part::Corpus),
        "queries" => Some(Part::Queries),
        "qrels" => Some(Part::Qrels),
        "top_ranked" => Some(Part::Candidates),
        "reranking" => Some(Part::Reranking),
        "sts" => Some(Part::Sts),
        _ => None,
    }
}

/// Split and shard of a file name: `test-00000-of-00002-6f2a` is the first of two shards of the split `test`.
fn split_of(stem: &str) -> (&str, Option<[u64; 2]>) {
    // Any number of five digits or more; one that does not fit in an integer is still a number of shards.
    let number = |text: &str| {
        let digits = text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let shard = stem.match_indices('-').find_map(|(place, _)| {
        let mut rest = stem[place + 1..].splitn(4, '-');
        let (shard, of, count) = (number(rest.next()?)?, rest.next()?, number(rest.next()?)?);
        (of == "of").then_some((&stem[..place], [shard, count]))
    });
    shard.map_or((stem, None), |(split, shard)| (split, Some(shard)))
}

/// Checks that all shards exist: half a corpus would be another task.
fn complete(paths: &[PathBuf]) -> Result<()> {
    let shards = paths.iter().filter_map(|path| Some((path, split_of(stem(path)?).1?)));
    let shards: Vec<(&PathBuf, [u64; 2])> = shards.collect();
    let Some(&(first, [_, count])) = shards.first() else { return Ok(()) };
    let all_in_place = (0..).zip(&shards).all(|(place, (_, shard))| *shard == [place, count]);
    if shards.len() as u64 == count && all_in_place {
        return Ok(());
    }
    let problem = format!("found only {} of {count} shards", shards.len());
    Err(Error::format(first, problem))
}

/// Part and split of a file; `None` if it does not belong to a task.
fn part(config: Option<&str>, split: &str, path: &Path) -> Result<Option<(Part, String)>> {
    let in_folder = config.and_then(named).filter(|part| !matches!(part, Part::Reranking | Part::Sts));
    if let Some(part) = in_folder {
        return Ok(Some((part, split.to_owned())));
    }
    // A file that names no split belongs to the default one.
    if let Some(part) = named(split) {
        return Ok(Some((part, DEFAULT_SPLIT.to_owned())));
    }
    // Tables are often something else; only their names tell.
    if is_table(path) {
        return Ok(None);
    }
    let columns = columns(path)?;
    let has = |name: &str| columns.iter().any(|column| column == name);
    let part = match () {
        () if has("positive") && has("negative") => Part::Reranking,
        () if has("sentence1") && has("sentence2") => Part::Sts,
        () if has("query-id") && has("corpus-ids") || has("query_id") && has("corpus_ids") => Part::Candidates,
        () if has("query-id") && has("corpus-id") || has("query_id") && has("corpus_id") => Part::Qrels,
        () if has("qid") && has("pid") => Part::Qrels,
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
        assert_eq!(split_of("dev-100000-of-123456").1, Some([100_000, 123_456]));
        assert_eq!(split_of("dev-00000-of-99999999999999999999999").1, Some([0, u64::MAX]));
    }

    #[test]
    fn a_missing_shard_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("corpus")).expect("made");
        let write = |name: &str| fs::write(folder.path().join("corpus").join(name), "{}\n").expect("written");
        write("test-00000-of-00002.jsonl");
        let error = Layout::of(folder.path()).expect_err("half a corpus").to_string();
        assert!(error.ends_with("test-00000-of-00002.jsonl: found only 1 of 2 shards"), "{error}");
        write("test-00001-of-00002.jsonl.gz");
        assert_eq!(Layout::of(folder.path()).expect("whole").files(Part::Corpus, "test").len(), 2);
        for count in ["000003", "999999999999999999", "99999999999999999999999"] {
            write(&format!("dev-00000-of-{count}.csv"));
            let error = Layout::of(folder.path()).expect_err("part of a corpus").to_string();
            assert!(error.contains(&format!("dev-00000-of-{count}.csv: found only 1 of ")), "{error}");
            fs::remove_file(folder.path().join(format!("corpus/dev-00000-of-{count}.csv"))).expect("removed");
        }
    }

    #[test]
    fn packed_files_are_read_or_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str| fs::write(folder.path().join(name), "{}\n").expect("written");
        for name in ["corpus.jsonl", "corpus.jsonl.gz", "queries.csv.gz", "sts.tsv", "other.zip", "dev.jsonl.bak"] {
            write(name);
        }
        let layout = Layout::of(folder.path()).expect("a layout");
        let found =
            |part| layout.files(part, "test").iter().filter_map(|path| path.file_name()?.to_str()).collect::<Vec<_>>();
        assert_eq!(found(Part::Corpus), ["corpus.jsonl"]);
        assert_eq!((found(Part::Queries), found(Part::Sts)), (vec!["queries.csv.gz"], vec!["sts.tsv"]));
        assert_eq!(layout.unread(), "");
        write("qrels.json");
        assert_eq!(Layout::of(folder.path()).expect("a layout").unread(), "; not read: qrels.json");
        for name in ["qrels.parquet.gz", "corpus.jsonl.zst", "queries-00000-of-00002.zip"] {
            write(name);
            let error = Layout::of(folder.path()).expect_err("packed").to_string();
            let problem =
                "packed files of this kind are not read: unpack it to .jsonl, .csv, .tsv (each also .gz) or .parquet";
            assert!(error.ends_with(&format!("{name}: {problem}")), "{error}");
            fs::remove_file(folder.path().join(name)).expect("removed");
        }
    }
}
