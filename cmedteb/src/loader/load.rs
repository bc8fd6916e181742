//! Loading the tasks of a folder.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use care_core::{Document, Error, ErrorKind, Query, Result};
use care_data::table::{EXTENSIONS, for_each_row, is_tsv, stem};
use care_eval::Qrels;
use care_eval::io::read_qrels;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::layout::{File, Layout, Part, one_subset};
use crate::error::from_eval;
use crate::rows::{CandidatesRow, CorpusRow, FullRow, QrelsRow, QueryRow, duplicate_id};
use crate::task::{Corpus, RerankingTask, RetrievalTask, SPLITS, StsTask, Task};

/// Loads the tasks of a folder of JSON Lines, CSV, TSV or Parquet files (the last with the Cargo feature `parquet`).
///
/// | files | task | name |
/// |---|---|---|
/// | `corpus`, `queries` and judgements (`qrels`, or columns `query-id` and `corpus-id`, or `qid` and `pid`) | retrieval | `FOLDER` |
/// | the same with `top_ranked` | reranking | `FOLDER` |
/// | `reranking`, or columns `positive` and `negative` | reranking | `FOLDER-reranking`, or `FOLDER` if it is the only task |
/// | `sts`, or columns `sentence1` and `sentence2` | STS | `FOLDER-sts`, or `FOLDER` if it is the only task |
///
/// This covers the layouts of BEIR (`corpus.jsonl`, `queries.jsonl`, `qrels/test.tsv`), of mteb (one folder each for
/// `corpus`, `queries` and `qrels` or `default`, with Parquet files) and of the older C-MTEB (`data/corpus-*`,
/// `data/queries-*`, and judgements in the folder `NAME-qrels` next to `NAME`). Without `split`, the first of `test`,
/// `dev` and `validation` that has judgements or rows is loaded.
///
/// Folders with other names are subsets, e.g. languages: `zh` and `en`, or `zh-corpus`, `zh-queries` and `zh-qrels`. Several
/// subsets are several tasks; [`Sources::with_subset`](crate::Sources::with_subset) chooses one.
///
/// # Errors
/// If the folder contains no task or an incomplete one (the message lists what was expected) or several subsets, if a row cannot be read
/// (the message names file and row), or if a task's data are inconsistent.
///
/// # Reference
/// BEIR's folders, and the data sets of mteb 2 and C-MTEB on the Hugging Face hub.
pub fn load(folder: impl AsRef<Path>, split: Option<&str>) -> Result<Vec<Task>> {
    load_folder(folder.as_ref(), &Choice { split, ..Choice::default() })
}

/// The splits of a folder's tasks, i.e. those with judgements or rows that [`load`] accepts, in alphabetical order.
///
/// # Errors
/// If the folder or a file whose columns are required cannot be read.
pub fn splits(folder: impl AsRef<Path>) -> Result<Vec<String>> {
    let folder = folder.as_ref();
    let own = Layout::of(folder, None)?;
    let judged = beside(folder)?.map(|folder| Layout::of(&folder, None)).transpose()?;
    let of = |layout: &Layout, parts: &[Part]| -> Vec<String> {
        parts.iter().flat_map(|part| layout.splits(*part).map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    let mut splits = of(&own, &[Part::Qrels, Part::Reranking, Part::Sts]);
    splits.extend(judged.iter().flat_map(|layout| of(layout, &[Part::Qrels])));
    splits.sort_unstable();
    splits.dedup();
    Ok(splits)
}

/// What to load of a folder.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Choice<'a> {
    /// The split; by default the first of [`SPLITS`] that has judgements or rows.
    pub(crate) split: Option<&'a str>,
    /// The subset; by default the only one.
    pub(crate) subset: Option<&'a str>,
    /// The folder with the judgements; by default as [`load`] finds them.
    pub(crate) qrels: Option<&'a Path>,
}

/// [`load`] with a choice.
pub(crate) fn load_folder(folder: &Path, choice: &Choice<'_>) -> Result<Vec<Task>> {
    // The real path has a name even if `folder` is "." or ends in "..".
    let real = folder.canonicalize().map_err(|e| Error::io("open the folder", folder, e))?;
    load_as(folder, &real.file_name().unwrap_or_default().to_string_lossy(), choice)
}

/// [`load_folder`] with a custom name.
pub(crate) fn load_as(folder: &Path, name: &str, choice: &Choice<'_>) -> Result<Vec<Task>> {
    let Choice { split, subset, qrels } = *choice;
    let layout = Layout::of(folder, subset)?;
    let judged = match qrels {
        Some(folder) => vec![Layout::of(folder, subset)?],
        // C-MTEB keeps judgements in a separate folder.
        None => beside(folder)?.map(|folder| Layout::of(&folder, subset)).transpose()?.into_iter().collect(),
    };
    let known: BTreeSet<&str> = [&layout].into_iter().chain(&judged).flat_map(Layout::subsets).collect();
    if let Some(unknown) = subset.filter(|subset| !known.contains(subset)) {
        let known: Vec<_> = known.into_iter().collect();
        let problem = format!("there is no subset {unknown:?}; found: {}", known.join(", "));
        return Err(Error::format(folder, problem));
    }
    let own = qrels.is_none().then_some(&layout);
    let places: Vec<&Layout> = own.into_iter().chain(&judged).collect();
    let choose = |layouts: &[&Layout], part| choose(layouts, part, split);

    let mut tasks = Vec::new();
    let has_corpus = layout.splits(Part::Corpus).next().is_some();
    if has_corpus {
        let Some(split) = choose(&places, Part::Qrels) else {
            let wanted = split.map_or_else(|| SPLITS.join(", "), str::to_owned);
            let place = match qrels {
                Some(qrels) => format!("in {}", qrels.display()),
                None => format!("here or in {}-qrels", folder.display()),
            };
            let unread: String = places.iter().map(|place| place.unread()).collect();
            let problem =
                format!("the corpus has no judgements: found no qrels for the split {wanted} {place}{unread}");
            return Err(Error::format(folder, problem));
        };
        let files = places.iter().map(|place| place.files(Part::Qrels, &split)).find(|files| !files.is_empty());
        tasks.push(of_corpus(folder, name, &layout, &split, files.unwrap_or_default())?);
    }
    let reranking = choose(&[&layout], Part::Reranking);
    let sts = choose(&[&layout], Part::Sts);
    let alone = usize::from(has_corpus) + usize::from(reranking.is_some()) + usize::from(sts.is_some()) == 1;
    let of_part = |suffix: &str, paths: &[&Path]| match alone && !named_after(suffix, paths) {
        true => name.to_owned(),
        false => format!("{name}-{suffix}"),
    };
    if let Some(split) = reranking {
        let files = layout.files(Part::Reranking, &split);
        let (subset, paths) = (one_subset(folder, &[files])?, paths(files));
        let task = RerankingTask::new(of_part("reranking", &paths), &split, read_all(&paths)?);
        tasks.push(Task::Reranking(task.map_err(|e| e.in_file(paths[0]))?).with_subset(subset));
    }
    if let Some(split) = sts {
        let files = layout.files(Part::Sts, &split);
        let (subset, paths) = (one_subset(folder, &[files])?, paths(files));
        let task = StsTask::new(of_part("sts", &paths), &split, read_all(&paths)?);
        tasks.push(Task::Sts(task.map_err(|e| e.in_file(paths[0]))?).with_subset(subset));
    }
    if tasks.is_empty() {
        let wanted = split.map_or_else(|| SPLITS.join(", "), str::to_owned);
        let problem = format!(
            "no task for the split {wanted} in {}: expected corpus, queries and qrels (retrieval), rows with positive and \
             negative (reranking), or rows with sentence1 and sentence2 (STS), in files {EXTENSIONS}{}",
            folder.display(),
            layout.unread()
        );
        return Err(Error::new(ErrorKind::Format, problem));
    }
    Ok(tasks)
}

/// Reads a corpus into memory: ids and documents of a file with the columns `_id` (or `id`), `title` (optional) and
/// `text`, in a format of [`for_each_row`](crate::for_each_row). White space around documents is removed, as for a task.
///
/// # Errors
/// If the file cannot be read, a row lacks a field, or an id is duplicated; the message names file and row.
pub fn read_corpus(path: impl AsRef<Path>) -> Result<Vec<(String, Document)>> {
    read_rows::<CorpusRow, Document>(&[path.as_ref()])
}

/// Calls `each` with the number, the id, the document and the further columns of every row of a corpus, read as by
/// [`read_corpus`]. In a table (`.csv`, `.tsv`) every value is text. The fields of an object `metadata`, which BEIR's
/// corpora have, count as columns.
///
/// # Errors
/// If the file cannot be read, a row lacks a field, an id is duplicated, or a field of `metadata` is a column too; the message
/// names file and row. And if `each` returns an error.
pub fn for_each_document(
    path: impl AsRef<Path>,
    each: &mut dyn FnMut(usize, String, Document, Map<String, Value>) -> Result<()>,
) -> Result<()> {
    let (path, mut ids) = (path.as_ref(), HashMap::new());
    for_each_row(path, &mut |number, mut row: FullRow| {
        let fields = with_metadata(std::mem::take(&mut row.fields));
        let fields = fields.map_err(|problem| Error::line(path, number, problem))?;
        let (id, document) = row.into();
        check_id(&mut ids, path, number, &id)?;
        each(number, id, document, fields)
    })
}

/// Calls `each` with the number, the id and the query of every row of queries, read as those of a task.
///
/// # Errors
/// If the file cannot be read, a row lacks a field, or an id is duplicated; the message names file and row. And if `each`
/// returns an error.
pub fn for_each_query(path: impl AsRef<Path>, each: &mut dyn FnMut(usize, String, Query) -> Result<()>) -> Result<()> {
    let (path, mut ids) = (path.as_ref(), HashMap::new());
    for_each_row(path, &mut |number, row: QueryRow| {
        let (id, query) = row.into();
        check_id(&mut ids, path, number, &id)?;
        each(number, id, query)
    })
}

/// Columns with the fields of an object `metadata` among them.
fn with_metadata(mut columns: Map<String, Value>) -> std::result::Result<Map<String, Value>, String> {
    let metadata = match columns.remove("metadata") {
        Some(Value::Object(metadata)) => metadata,
        Some(other) => Map::from_iter([("metadata".to_owned(), other)]),
        None => Map::new(),
    };
    for (name, value) in metadata {
        if ["_id", "title", "text"].contains(&name.as_str()) || columns.contains_key(&name) {
            return Err(format!("`{name}` is both a column and a field of `metadata`"));
        }
        columns.insert(name, value);
    }
    Ok(columns)
}

/// Refuses an id that an earlier row of the file has; `ids` holds the numbers of these rows.
fn check_id(ids: &mut HashMap<String, usize>, path: &Path, number: usize, id: &str) -> Result<()> {
    match ids.insert(id.to_owned(), number) {
        Some(line) => Err(duplicate_id(path, number, id, path, line)),
        None => Ok(()),
    }
}

/// Whether a folder has a corpus without judgements.
pub(crate) fn lacks_judgements(folder: &Path, choice: &Choice<'_>) -> Result<bool> {
    let layout = Layout::of(folder, choice.subset)?;
    Ok(layout.splits(Part::Corpus).next().is_some() && choose(&[&layout], Part::Qrels, choice.split).is_none())
}

/// The folder `NAME-qrels` next to the folder `NAME`, if it exists.
fn beside(folder: &Path) -> Result<Option<PathBuf>> {
    // The real path has a name even if `folder` is "." or ends in a slash.
    let real = folder.canonicalize().map_err(|e| Error::io("open the folder", folder, e))?;
    let mut path = real.into_os_string();
    path.push("-qrels");
    Ok(Some(PathBuf::from(path)).filter(|path| path.is_dir()))
}

/// The requested split if any layout has it; by default the first that any layout has.
fn choose(layouts: &[&Layout], part: Part, wanted: Option<&str>) -> Option<String> {
    let there = |split: &&str| layouts.iter().any(|layout| layout.splits(part).any(|found| found == *split));
    match wanted {
        Some(split) => Some(split).filter(there).map(str::to_owned),
        None => SPLITS.into_iter().find(there).map(str::to_owned),
    }
}

/// The task of a corpus: retrieval, or reranking if there are candidates.
fn of_corpus(folder: &Path, name: &str, layout: &Layout, split: &str, judged: &[File]) -> Result<Task> {
    let [corpus, queries, candidates] =
        [Part::Corpus, Part::Queries, Part::Candidates].map(|part| layout.files_for(part, split));
    if queries.is_empty() {
        return Err(Error::format(folder, format!("the corpus has no queries{}", layout.unread())));
    }
    let subset = one_subset(folder, &[judged, &corpus, &queries, &candidates])?;
    let qrels = read_judgements(&paths(judged))?;
    let queries = read_rows::<QueryRow, Query>(&paths(&queries))?;
    let corpus = paths(&corpus);
    let task = if candidates.is_empty() {
        RetrievalTask::new(name, split, Corpus::open(corpus)?, queries, qrels).map(Task::Retrieval)
    } else {
        let corpus = read_rows::<CorpusRow, Document>(&corpus)?;
        let lists = read_all(&paths(&candidates))?;
        let lists = lists.into_iter().map(|row: CandidatesRow| (row.query_id, row.doc_ids)).collect();
        RerankingTask::from_candidates(name, split, corpus, queries, &qrels, lists).map(Task::Reranking)
    };
    Ok(task.map_err(|e| e.in_file(folder))?.with_subset(subset))
}

fn paths(files: &[File]) -> Vec<&Path> {
    files.iter().map(|file| file.path.as_path()).collect()
}

fn named_after(name: &str, paths: &[&Path]) -> bool {
    paths.iter().any(|path| stem(path) == Some(name))
}

fn read_all<R: DeserializeOwned>(paths: &[&Path]) -> Result<Vec<R>> {
    let mut rows = Vec::new();
    for path in paths {
        for_each_row(path, &mut |_, row| {
            rows.push(row);
            Ok(())
        })?;
    }
    Ok(rows)
}

/// Ids and texts of files; ids must be unique.
fn read_rows<R, T>(paths: &[&Path]) -> Result<Vec<(String, T)>>
where
    R: DeserializeOwned + Into<(String, T)>,
{
    let (mut rows, mut first) = (Vec::new(), HashMap::new());
    for path in paths {
        for_each_row(path, &mut |number, row: R| {
            let (id, text) = row.into();
            if let Some((path_before, line)) = first.insert(id.clone(), (path, number)) {
                return Err(duplicate_id(path, number, &id, path_before, line));
            }
            rows.push((id, text));
            Ok(())
        })?;
    }
    Ok(rows)
}

fn read_judgements(paths: &[&Path]) -> Result<Qrels> {
    let mut qrels = Qrels::new();
    for path in paths {
        if is_tsv(path) {
            let read = read_qrels(path).map_err(from_eval)?;
            for (query_id, doc_id, grade) in read.judgements() {
                qrels.insert(query_id, doc_id, grade).map_err(|e| Error::format(path, &e).with_source(e))?;
            }
            continue;
        }
        for_each_row(path, &mut |number, row: QrelsRow| {
            qrels
                .insert(&row.query_id, &row.doc_id, row.score)
                .map_err(|e| Error::line(path, number, &e).with_source(e))
        })?;
    }
    Ok(qrels)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::documents_of;

    /// Loads a folder named `set` with these files; in messages the folder is `F`.
    fn load_files(files: &[(&str, &str)]) -> std::result::Result<Vec<Task>, String> {
        load_in(tempfile::tempdir().expect("a folder").path(), files)
    }

    fn load_in(outer: &Path, files: &[(&str, &str)]) -> std::result::Result<Vec<Task>, String> {
        let folder = outer.join("set");
        fs::create_dir_all(folder.join("qrels")).expect("created");
        for (path, content) in files {
            fs::write(folder.join(path), content).expect("written");
        }
        load(&folder, None).map_err(|e| e.to_string().replace(&folder.display().to_string(), "F"))
    }

    const CORPUS: (&str, &str) =
        ("corpus.jsonl", "{\"_id\":\"d1\",\"title\":\"感冒\",\"text\":\"多喝水\"}\n{\"_id\":2,\"text\":\"b\"}\n");
    const QUERIES: (&str, &str) =
        ("queries.jsonl", "{\"_id\":\"q1\",\"text\":\"a\",\"more\":[]}\n{\"_id\":7,\"text\":\"b\"}\n");

    #[test]
    fn ids_may_be_numbers_titles_may_lack_and_test_comes_before_dev() {
        let test = ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n7\t2\t1\n");
        let dev = ("qrels/dev.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n");
        // Documents are read on demand, so the folder has to stay.
        let outer = tempfile::tempdir().expect("a folder");
        let tasks = load_in(outer.path(), &[CORPUS, QUERIES, test, dev]).expect("a task");
        let task = tasks[0].as_retrieval().expect("retrieval");
        assert_eq!((task.name(), task.split()), ("set", "test"));
        assert_eq!(task.corpus().ids(), ["d1", "2"]);
        assert_eq!(documents_of(task)[0], Document::with_title("感冒", "多喝水"));
        assert_eq!(task.query_ids(), ["7"]);
        let tasks = load_files(&[CORPUS, QUERIES, dev]).expect("a task");
        assert_eq!((tasks.len(), tasks[0].split()), (1, "dev"));
        assert_eq!(splits(outer.path().join("set")).expect("read"), ["dev", "test"]);
    }

    #[test]
    fn further_columns_are_kept_and_those_in_metadata_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("corpus.jsonl");
        let read = |rows: &str| {
            fs::write(&path, rows).expect("written");
            let mut fields = Vec::new();
            let read = for_each_document(&path, &mut |number, id, document, columns| {
                fields.push((number, id, document, Value::Object(columns)));
                Ok(())
            });
            read.map(|()| fields).map_err(|e| e.to_string().replace(&path.display().to_string(), "F"))
        };
        let rows = "{\"_id\":1,\"text\":\"a\",\"year\":2024,\"metadata\":{\"url\":\"u\",\"tags\":[\"x\"]}}\n\
                    {\"_id\":2,\"title\":\"t\",\"text\":\"b\",\"metadata\":\"m\"}\n{\"_id\":3,\"text\":\"c\",\"metadata\":{}}\n";
        let columns = [
            serde_json::json!({"year": 2024, "url": "u", "tags": ["x"]}),
            serde_json::json!({"metadata": "m"}),
            serde_json::json!({}),
        ];
        let documents = [Document::new("a"), Document::with_title("t", "b"), Document::new("c")];
        let rows_read = read(rows).expect("read");
        for ((row, number), (document, columns)) in
            rows_read.into_iter().zip(1..).zip(documents.into_iter().zip(columns))
        {
            assert_eq!(row, (number, number.to_string(), document, columns));
        }
        for (name, row) in [("url", "\"url\":1"), ("title", "\"title\":null")] {
            let row = format!("{{\"_id\":1,\"text\":\"a\",{row},\"metadata\":{{\"{name}\":2}}}}\n");
            assert_eq!(read(&row), Err(format!("F:1: `{name}` is both a column and a field of `metadata`")));
        }
    }

    #[test]
    fn queries_are_read_with_their_rows_and_duplicates_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("queries.csv");
        fs::write(&path, "text,id,instruction\na,7,\n\nb,q,short\n").expect("written");
        let mut rows = Vec::new();
        let mut keep = |number, id, query| {
            rows.push((number, id, query));
            Ok(())
        };
        for_each_query(&path, &mut keep).expect("read");
        assert_eq!(rows, [(2, "7".to_owned(), Query::new("a")), (4, "q".to_owned(), Query::new("b short"))]);
        fs::write(&path, "text,id\na,7\nb,7\n").expect("written");
        let error = for_each_query(&path, &mut |_, _, _| Ok(())).expect_err("twice").to_string();
        assert!(error.ends_with("queries.csv:3: duplicate `_id` \"7\", first on line 2"), "{error}");
    }

    #[test]
    fn documents_are_trimmed_and_instructions_appended_as_mteb_does() {
        let outer = tempfile::tempdir().expect("a folder");
        let qrels = ("qrels.tsv", "1\t1\t1\n2\t1\t1\n3\t2\t1\n4\t1\t1\n");
        let corpus =
            ("corpus.jsonl", "{\"_id\":1,\"text\":\"\\n a\\u3000\"}\n{\"_id\":2,\"title\":\"\",\"text\":\" b\\t\"}");
        let queries = "{\"_id\":1,\"text\":\" a \"}\n{\"_id\":2,\"text\":\"b\",\"instruction\":\"long answers\"}\n\
                       {\"_id\":3,\"text\":\"c\",\"instruction\":null}\n{\"_id\":4,\"text\":\"d\",\"instruction\":\"\"}";
        let tasks = load_in(outer.path(), &[corpus, ("queries.jsonl", queries), qrels]).expect("a task");
        let task = tasks[0].as_retrieval().expect("retrieval");
        assert_eq!(documents_of(task), ["a", "b"].map(Document::new));
        assert_eq!(task.queries(), [" a ", "b long answers", "c", "d "].map(Query::new));
        let rows = "{\"query\":\" q \",\"positive\":[\" a\\n\"],\"negative\":[\"a\",\"\\u3000b\"]}";
        let tasks = load_files(&[("reranking.jsonl", rows)]).expect("a task");
        let Task::Reranking(task) = &tasks[0] else { panic!("{tasks:?}") };
        assert_eq!(task.documents(), ["a", "b"].map(Document::new));
        assert_eq!(task.queries(), [Query::new(" q ")]);
    }

    #[test]
    fn tables_and_packed_rows_are_read_as_json_lines_are() {
        let expected = load_files(&[CORPUS, QUERIES, ("qrels.tsv", "q1\td1\t1\n7\t2\t1\n")]).expect("a task");
        let fingerprint = expected[0].fingerprint();
        let quoted = ("corpus.csv", "\u{feff}title,_id,text\r\n感冒,d1,\"多喝水\"\r\n,2,b\r\n");
        let tabs = ("queries.tsv", "id\ttext\nq1\ta\n7\tb\n");
        let qrels = ("qrels.csv", "corpus_id,score,query_id\nd1,1.0,q1\n2,1,7\n");
        let tasks = load_files(&[quoted, tabs, qrels]).expect("a task");
        assert_eq!(tasks[0].fingerprint(), fingerprint);
        let instructed = ("queries.csv", "_id,text,instruction\nq1,a,\n7,b,short\n");
        let tasks = load_files(&[quoted, instructed, qrels]).expect("a task");
        let queries = tasks[0].as_retrieval().expect("retrieval").queries();
        assert_eq!(queries, ["a", "b short"].map(Query::new));
        let sts = ("sts.tsv", "sentence1\tsentence2\tscore\na\tb\t1.5\na\tc\t2\n");
        let Task::Sts(task) = &load_files(&[sts]).expect("a task")[0] else { panic!("no STS") };
        assert_eq!(task.pairs().iter().map(|pair| pair.score).collect::<Vec<_>>(), [1.5, 2.0]);
    }

    #[test]
    fn unread_files_are_named_where_something_is_missing() {
        let error = load_files(&[CORPUS, QUERIES, ("qrels.txt", "q1 0 d1 1\n")]).expect_err("no qrels");
        assert!(error.ends_with("here or in F-qrels; not read: qrels.txt"), "{error}");
        let error =
            load_files(&[CORPUS, ("queries.json", "[]"), ("qrels.tsv", "q1\td1\t1\n")]).expect_err("no queries");
        assert_eq!(error, "F: the corpus has no queries; not read: queries.json");
        let error = load_files(&[("corpus.json", "[]"), ("sts.txt", "")]).expect_err("nothing");
        assert!(error.contains(" or .parquet; not read: ") && error.contains("corpus.json"), "{error}");
    }

    #[test]
    fn qrels_may_lie_beside_the_corpus_with_other_tasks() {
        let tasks = load_files(&[
            CORPUS,
            QUERIES,
            ("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n"),
            ("reranking.jsonl", "{\"query\":\"a\",\"positive\":[\"b\"],\"negative\":[\"c\"]}"),
            ("sts.jsonl", "{\"sentence1\":\"a\",\"sentence2\":\"b\",\"score\":1}\n{\"sentence1\":\"a\",\"sentence2\":\"c\",\"score\":0.5}"),
        ])
        .expect("three tasks");
        let found: Vec<_> = tasks.iter().map(|task| (task.name(), task.split())).collect();
        assert_eq!(found, [("set", "test"), ("set-reranking", "test"), ("set-sts", "test")]);
        // Judgements in a folder of their own count as well.
        let outer = tempfile::tempdir().expect("a folder");
        for file in ["set/corpus.jsonl", "set/reranking-train.jsonl", "set-qrels/validation.jsonl"] {
            let path = outer.path().join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            let row = "{\"_id\":\"d\",\"text\":\"a\",\"qid\":\"q\",\"pid\":\"d\",\"score\":1}\n";
            fs::write(path, row).expect("written");
        }
        assert_eq!(splits(outer.path().join("set")).expect("read").last().map(String::as_str), Some("validation"));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(
            load_files(&[]).expect_err("nothing"),
            "no task for the split test, dev, validation in F: expected corpus, queries and qrels (retrieval), rows with \
             positive and negative (reranking), or rows with sentence1 and sentence2 (STS), in files .jsonl, .csv, .tsv \
             (each also .gz) or .parquet"
        );
        assert_eq!(
            load_files(&[CORPUS, QUERIES]).expect_err("no qrels"),
            "F: the corpus has no judgements: found no qrels for the split test, dev, validation here or in F-qrels"
        );
        let qrels = ("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n");
        assert_eq!(load_files(&[CORPUS, qrels]).expect_err("no queries"), "F: the corpus has no queries");
        assert_eq!(
            load("/no/such/folder", None).expect_err("no folder").to_string(),
            "cannot open the folder /no/such/folder"
        );
    }

    #[test]
    fn bad_lines_are_named() {
        let qrels = ("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n");
        let cases: [(&[(&str, &str)], &str); 14] = [
            (
                &[
                    ("corpus.jsonl", "{\"_id\":\"d1\",\"text\":\"a\"}\n\n{\"_id\":\"d1\",\"text\":\"b\"}"),
                    QUERIES,
                    qrels,
                ],
                "F/corpus.jsonl:3: duplicate `_id` \"d1\", first on line 1",
            ),
            (
                &[CORPUS, ("queries.jsonl", "{\"_id\":\"7\",\"text\":\"a\"}\n{\"_id\":7,\"text\":\"b\"}"), qrels],
                "F/queries.jsonl:2: duplicate `_id` \"7\", first on line 1",
            ),
            (
                &[("corpus.jsonl", "{\"_id\":null,\"text\":\"a\"}"), QUERIES, qrels],
                "F/corpus.jsonl:1: invalid type: null, expected a string or an integer (column 11)",
            ),
            (
                &[("corpus.jsonl", "{\"_id\":\"d1\"}"), QUERIES, qrels],
                "F/corpus.jsonl:1: missing field `text` (column 12)",
            ),
            (&[("corpus.jsonl", "\n"), QUERIES, qrels], "F: task set: there are no documents"),
            (
                &[("corpus.jsonl", "[{\"_id\":\"d1\",\"text\":\"a\"}]"), QUERIES, qrels],
                "F/corpus.jsonl:1: the file is a JSON array; JSON Lines holds one object per line: convert it, e.g. with jq -c",
            ),
            (
                &[CORPUS, ("queries.csv", "_id,text\nq1,\"a\nb\"\nq1,c\n"), qrels],
                "F/queries.csv:4: duplicate `_id` \"q1\", first on line 2",
            ),
            (&[("corpus.csv", "text,title\na,b\n"), QUERIES, qrels], "F/corpus.csv:2: missing field `_id`"),
            (
                &[CORPUS, QUERIES, ("qrels.csv", "query-id,corpus-id,score\nq1,d1,0.5\n")],
                "F/qrels.csv:2: invalid type: string \"0.5\", expected an integer",
            ),
            (
                &[CORPUS, QUERIES, ("qrels.tsv", "q1\td9\t1\n")],
                "F: task set: no judged document is in the corpus: the judgements have e.g. \"d9\", the corpus \"d1\"",
            ),
            (
                &[CORPUS, QUERIES, ("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\tyes\n")],
                "F/qrels.tsv:2: score \"yes\" is not an integer",
            ),
            (
                &[CORPUS, QUERIES, ("qrels.tsv", "query-id\tcorpus-id\tscore\nq9\td1\t1\n")],
                "F: task set: query \"q9\" is judged but is not among the queries",
            ),
            (
                &[("reranking.jsonl", "{\"query\":\"a\",\"positive\":\"b\",\"negative\":[\"c\"]}")],
                "F/reranking.jsonl:1: invalid type: string \"b\", expected a sequence (column 27)",
            ),
            (
                &[("sts.jsonl", "{\"sentence1\":\"a\",\"sentence2\":\"b\",\"score\":1}")],
                "F/sts.jsonl: task set-sts: a correlation needs at least 2 pairs, found 1",
            ),
        ];
        for (files, message) in cases {
            assert_eq!(load_files(files).expect_err(message), message);
        }
    }
}
