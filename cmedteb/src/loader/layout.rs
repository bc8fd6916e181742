//! The role of each file of a folder, determined by its location and name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use care_core::{Error, Result};
use care_data::table::{EXTENSIONS, columns, is_table, stem};

use crate::task::{DEFAULT_SPLIT, DEFAULT_SUBSET};

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

impl Part {
    /// Whether the name of a folder suffices; the rows of other parts are recognised by their columns.
    fn is_of_folder(self) -> bool {
        !matches!(self, Part::Reranking | Part::Sts)
    }
}

/// A file of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: PathBuf,
    /// The subset that it belongs to: the default one in the folder itself and in a subfolder named `data`, `default` or
    /// after a part.
    subset: String,
}

/// The files of a folder by part and split.
#[derive(Debug, Default)]
pub(super) struct Layout {
    files: BTreeMap<(Part, String), Vec<File>>,
    subsets: BTreeSet<String>,
    /// Files that are named as parts of a task, but are of no format that is read.
    unread: Vec<PathBuf>,
}

impl Layout {
    /// Scans a folder and its subfolders, without hidden ones.
    ///
    /// A file's name specifies its split, e.g. `test.jsonl` or `test-00000-of-00002.parquet`. Its part is determined by
    /// the name of its folder (`corpus`, `queries`, `qrels` or `top_ranked`), else by its own name (one of these,
    /// `reranking` or `sts`), else by its columns. Other folders are subsets: `zh`, with folders of parts in it, or
    /// `zh-corpus`, `zh-queries` and so on.
    ///
    /// With `subset`, only its files are kept, and the default corpus and queries if it has judgements without its own.
    /// A folder without this subset keeps the default one.
    ///
    /// # Errors
    /// If a folder cannot be read, or a file whose columns are required; if a part of a task is in a packed file that is
    /// not read, or lacks a shard.
    pub(super) fn of(folder: &Path, subset: Option<&str>) -> Result<Self> {
        let mut layout = Self::default();
        layout.look_into(folder, DEFAULT_SUBSET, None, 0)?;
        for files in layout.files.values_mut() {
            files.sort_by(|a, b| a.path.cmp(&b.path));
            join_shards(files);
        }
        layout.subsets = layout.files.values().flatten().map(|file| file.subset.clone()).collect();
        if let Some(subset) = subset {
            layout.keep(subset);
        }
        for files in layout.files.values() {
            let mut of: BTreeMap<_, Vec<&Path>> = BTreeMap::new();
            files.iter().for_each(|file| of.entry(&file.subset).or_default().push(&file.path));
            of.values().try_for_each(|paths| complete(paths))?;
        }
        Ok(layout)
    }

    fn look_into(&mut self, folder: &Path, subset: &str, part: Option<Part>, depth: usize) -> Result<()> {
        let entries = fs::read_dir(folder).map_err(|e| Error::io("read the folder", folder, e))?;
        for entry in entries {
            let path = entry.map_err(|e| Error::io("read the folder", folder, e))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'))
            else {
                continue;
            };
            if path.is_dir() {
                match (depth, folder_of(name)) {
                    (0, (subset, part)) => self.look_into(&path, subset, part, 1)?,
                    (1, (DEFAULT_SUBSET, Some(of))) if subset != DEFAULT_SUBSET && part.is_none() => {
                        self.look_into(&path, subset, Some(of), 2)?;
                    }
                    _ => {}
                }
            } else if let Some(stem) = stem(&path) {
                // `gunzip -k` leaves both files.
                if name.strip_suffix(".gz").is_some_and(|unpacked| path.with_file_name(unpacked).exists()) {
                    continue;
                }
                let (split, _) = split_of(stem);
                if let Some((part, split)) = part_of(part, split, &path)? {
                    let file = File { path, subset: subset.to_owned() };
                    self.files.entry((part, split)).or_default().push(file);
                }
            } else if part.or_else(|| named(split_of(first_name(name)).0)).is_some() {
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

    /// Drops what is not of a subset.
    fn keep(&mut self, subset: &str) {
        let subset = if self.subsets.contains(subset) { subset } else { DEFAULT_SUBSET };
        let has = |of: Part| {
            self.files.iter().any(|((part, _), files)| *part == of && files.iter().any(|file| file.subset == subset))
        };
        let shared: Vec<Part> =
            [Part::Corpus, Part::Queries].into_iter().filter(|part| has(Part::Qrels) && !has(*part)).collect();
        for ((part, _), files) in &mut self.files {
            let of = if shared.contains(part) { DEFAULT_SUBSET } else { subset };
            files.retain(|file| file.subset == of);
        }
        self.files.retain(|_, files| !files.is_empty());
    }

    /// The names of all subsets that the folder has.
    pub(super) fn subsets(&self) -> impl Iterator<Item = &str> {
        self.subsets.iter().map(String::as_str)
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
    pub(super) fn files(&self, part: Part, split: &str) -> &[File] {
        self.files.get(&(part, split.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// The files of a part in the given split, or in all splits if it has none: a corpus often has only one.
    pub(super) fn files_for(&self, part: Part, split: &str) -> Vec<File> {
        match self.files(part, split) {
            [] => self.files.iter().filter(|((of, _), _)| *of == part).flat_map(|(_, files)| files.clone()).collect(),
            files => files.to_vec(),
        }
    }
}

/// The subset of a task in `folder`, given the files of each of its parts.
///
/// # Errors
/// If a part is of several subsets, or parts are of different ones: together they would be another task.
pub(super) fn one_subset<'a>(folder: &Path, parts: &[&'a [File]]) -> Result<&'a str> {
    let of = |files: &'a [File]| files.iter().map(|file| file.subset.as_str()).collect::<BTreeSet<_>>();
    let named = |subset: &&str| *subset != DEFAULT_SUBSET;
    let mut subsets: BTreeSet<&str> =
        parts.iter().map(|files| of(files)).filter(|subsets| subsets.len() > 1).flatten().collect();
    if subsets.is_empty() {
        // The default corpus may have judgements of a subset.
        subsets = parts.iter().flat_map(|files| of(files)).filter(named).collect();
    }
    if subsets.len() > 1 {
        let names = subsets.into_iter().collect::<Vec<_>>().join(", ");
        let problem = format!(
            "several subsets: {names}; choose one with --subset NAME, or with `subset = \"NAME\"` in a task file"
        );
        return Err(Error::format(folder, problem));
    }
    Ok(subsets.first().copied().unwrap_or(DEFAULT_SUBSET))
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

/// The subset and the part that a subfolder's name specifies: `zh-corpus` is the corpus of `zh`, as in mteb's data sets.
fn folder_of(name: &str) -> (&str, Option<Part>) {
    match (named(name), name.rsplit_once('-')) {
        (Some(part), _) => (DEFAULT_SUBSET, Some(part)),
        (None, _) if name == "data" => (DEFAULT_SUBSET, None),
        (None, Some((subset, part))) if named(part).is_some_and(Part::is_of_folder) => (subset, named(part)),
        (None, _) => (name, None),
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

/// Puts shards into the default subset that only together, from several folders, are whole.
fn join_shards(files: &mut [File]) {
    let shard = |file: &File| stem(&file.path).and_then(|stem| split_of(stem).1).unwrap_or_default();
    let count = files.len() as u64;
    let mut shards: Vec<_> = files.iter().map(shard).collect();
    shards.sort_unstable();
    if count > 1 && (0..).zip(shards).all(|(place, shard)| shard == [place, count]) {
        files.sort_by_key(shard);
        files.iter_mut().for_each(|file| file.subset = DEFAULT_SUBSET.to_owned());
    }
}

/// Checks that all shards exist: half a corpus would be another task.
fn complete(paths: &[&Path]) -> Result<()> {
    let shards = paths.iter().filter_map(|path| Some((path, split_of(stem(path)?).1?)));
    let shards: Vec<(&&Path, [u64; 2])> = shards.collect();
    let Some(&(first, [_, count])) = shards.first() else { return Ok(()) };
    let all_in_place = (0..).zip(&shards).all(|(place, (_, shard))| *shard == [place, count]);
    if shards.len() as u64 == count && all_in_place {
        return Ok(());
    }
    let problem = format!("found only {} of {count} shards", shards.len());
    Err(Error::format(first, problem))
}

/// Part and split of a file; `None` if it does not belong to a task.
fn part_of(folder: Option<Part>, split: &str, path: &Path) -> Result<Option<(Part, String)>> {
    if let Some(part) = folder.filter(|part| part.is_of_folder()) {
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
        let error = Layout::of(folder.path(), None).expect_err("half a corpus").to_string();
        assert!(error.ends_with("test-00000-of-00002.jsonl: found only 1 of 2 shards"), "{error}");
        write("test-00001-of-00002.jsonl.gz");
        assert_eq!(Layout::of(folder.path(), None).expect("whole").files(Part::Corpus, "test").len(), 2);
        for count in ["000003", "999999999999999999", "99999999999999999999999"] {
            write(&format!("dev-00000-of-{count}.csv"));
            let error = Layout::of(folder.path(), None).expect_err("part of a corpus").to_string();
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
        let layout = Layout::of(folder.path(), None).expect("a layout");
        let found = |part| {
            layout.files(part, "test").iter().filter_map(|file| file.path.file_name()?.to_str()).collect::<Vec<_>>()
        };
        assert_eq!(found(Part::Corpus), ["corpus.jsonl"]);
        assert_eq!((found(Part::Queries), found(Part::Sts)), (vec!["queries.csv.gz"], vec!["sts.tsv"]));
        assert_eq!(layout.unread(), "");
        write("qrels.json");
        assert_eq!(Layout::of(folder.path(), None).expect("a layout").unread(), "; not read: qrels.json");
        for name in ["qrels.parquet.gz", "corpus.jsonl.zst", "queries-00000-of-00002.zip"] {
            write(name);
            let error = Layout::of(folder.path(), None).expect_err("packed").to_string();
            let problem =
                "packed files of this kind are not read: unpack it to .jsonl, .csv, .tsv (each also .gz) or .parquet";
            assert!(error.ends_with(&format!("{name}: {problem}")), "{error}");
            fs::remove_file(folder.path().join(name)).expect("removed");
        }
    }
}
