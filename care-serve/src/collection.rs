//! The documents of a server: an index on disk, searched by vectors and by words, changed while it is searched.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, RwLock, RwLockReadGuard};

use care_core::index::{Changes, DiskIndex, DocumentTower, Filter, Hit, IndexWriter, Record, SearchOptions};
use care_core::{Embeddings, Error, ErrorKind, Result};
use care_data::hybrid::{Fusion, HybridHit};
use serde::Deserialize;

use crate::tower::Pair;
use crate::words::Words;

/// Candidates of each half of a hybrid search, at least.
const CANDIDATES: usize = 100;

/// What documents are ranked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Similarity of vectors.
    Vector,
    /// BM25.
    Bm25,
    /// Both rankings, joined.
    Hybrid,
}

impl Mode {
    /// The name in requests and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vector => "vector",
            Self::Bm25 => "bm25",
            Self::Hybrid => "hybrid",
        }
    }
}

/// A search.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) query: String,
    /// Not needed by BM25.
    pub(crate) vector: Option<Vec<f32>>,
    pub(crate) mode: Mode,
    pub(crate) k: usize,
    pub(crate) filter: Option<Filter>,
}

/// A document that was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub(crate) record: Record,
    pub(crate) score: f32,
    pub(crate) vector_score: Option<f32>,
    pub(crate) bm25_score: Option<f32>,
}

/// The documents of a server: an index in a folder, which one server changes and searches.
pub struct Collection {
    tower: DocumentTower,
    /// How vectors are searched, but for what a request decides.
    search: SearchOptions,
    /// The log's line that the graphs are gone.
    without_graphs: Once,
    writer: Mutex<IndexWriter>,
    /// The index as the last change left it. Never locked for long, so any thread may lock it.
    index: Mutex<Arc<DiskIndex>>,
    has_texts: AtomicBool,
    /// Locked while words are searched and changed: only by threads that may block.
    words: RwLock<Words>,
}

impl Collection {
    /// Opens an index to search and to change it, and reads its texts for BM25.
    ///
    /// # Errors
    /// As [`IndexWriter::open`]; another process that has the index open to change it is one.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let writer = IndexWriter::open(folder)?;
        let index = Arc::new(writer.index().clone());
        let words = Words::read(&index)?;
        Ok(Self {
            tower: index.tower().clone(),
            search: SearchOptions::new(0),
            without_graphs: Once::new(),
            writer: Mutex::new(writer),
            index: Mutex::new(index),
            has_texts: AtomicBool::new(words.has_texts()),
            words: RwLock::new(words),
        })
    }

    /// Searches by codes or by graphs, by default by all vectors. The options' `k` and filter are those of each request.
    ///
    /// Documents that are replaced and segments that are merged take their graphs along. An index that has none any more is
    /// searched by all vectors, which is logged.
    ///
    /// # Errors
    /// As [`DiskIndex::search`]; an index without these codes or graphs is one.
    pub fn with_search(mut self, options: SearchOptions) -> Result<Self> {
        let index = self.index();
        // Without a query nothing is scored, so the index is not read.
        index.search(&Embeddings::zeros(0, index.dim()), &options)?;
        self.search = options;
        Ok(self)
    }

    /// Refuses a pair whose document tower is not that of the vectors.
    pub(crate) fn check(&self, pair: &Pair) -> Result<()> {
        self.index().check_tower(&pair.document_tower())?;
        let (index, tower) = (self.index().dim(), pair.document.about().dim);
        if index == tower {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Dimension, format!("the index has {index} dimensions, the pair {tower}")))
    }

    /// The index as the last change left it.
    pub(crate) fn index(&self) -> Arc<DiskIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether BM25 has texts to read.
    pub(crate) fn has_texts(&self) -> bool {
        self.has_texts.load(Ordering::Acquire)
    }

    /// Adds rows in place of those with the same ids. They are on disk when this returns, and searches find them.
    ///
    /// # Errors
    /// As [`IndexWriter::add`]. Nothing is added then.
    pub(crate) fn add(&self, records: &[Record], vectors: &Embeddings) -> Result<Changes> {
        let mut writer = self.writer();
        let changes = writer.add(&self.tower, records, vectors)?;
        self.publish(&writer, |words| words.add(records));
        Ok(changes)
    }

    /// Removes rows. Returns how many there were.
    ///
    /// # Errors
    /// As [`IndexWriter::remove`]. Nothing is removed then.
    pub(crate) fn remove(&self, ids: &[String]) -> Result<usize> {
        let mut writer = self.writer();
        let removed = writer.remove(ids)?;
        self.publish(&writer, |words| words.remove(ids.iter().map(String::as_str)));
        Ok(removed)
    }

    /// Lets searches see a change. The writer's lock is held, so there is no other.
    fn publish(&self, writer: &IndexWriter, change: impl FnOnce(&mut Words)) {
        let index = Arc::new(writer.index().clone());
        let is_worn = self.change_words(|words| {
            change(words);
            *self.index.lock().unwrap_or_else(PoisonError::into_inner) = index.clone();
            words.is_worn()
        });
        if is_worn {
            match Words::read(&index) {
                Ok(read) => self.change_words(|words| *words = read),
                // The change is made, and the words in memory have it too: they only count removed texts.
                Err(error) => tracing::error!(%error, "cannot read the texts again, BM25 keeps those in memory"),
            }
        }
    }

    fn change_words<T>(&self, change: impl FnOnce(&mut Words) -> T) -> T {
        let mut words = self.words.write().unwrap_or_else(PoisonError::into_inner);
        let done = change(&mut words);
        self.has_texts.store(words.has_texts(), Ordering::Release);
        done
    }

    fn writer(&self) -> MutexGuard<'_, IndexWriter> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn words(&self) -> RwLockReadGuard<'_, Words> {
        self.words.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The best documents, best first, each with the scores of both halves if both were asked for. Blocks.
    ///
    /// # Errors
    /// If a file cannot be read or is damaged, or a vector is needed and of another tower's dimensions.
    pub(crate) fn search(&self, ask: &Ask) -> Result<Vec<Found>> {
        match (ask.mode, &ask.vector) {
            (Mode::Bm25, _) => {
                let (index, hits) = self.by_words(ask, ask.k)?;
                let found = |Hit { index: row, score }| {
                    Ok(Found { record: index.record(row)?, score, vector_score: None, bm25_score: Some(score) })
                };
                hits.into_iter().map(found).collect()
            }
            (_, None) => Err(Error::new(ErrorKind::Config, "a search by vectors needs a vector")),
            (Mode::Vector, Some(vector)) => {
                let index = self.index();
                let found = |Hit { index: row, score }| {
                    Ok(Found { record: index.record(row)?, score, vector_score: Some(score), bm25_score: None })
                };
                self.by_vector(&index, vector, ask, ask.k)?.into_iter().map(found).collect()
            }
            (Mode::Hybrid, Some(vector)) => {
                let depth = ask.k.max(CANDIDATES);
                let (index, by_words) = self.by_words(ask, depth)?;
                let by_vector = self.by_vector(&index, vector, ask, depth)?;
                let joined = Fusion::reciprocal_rank().fuse(&by_words, &by_vector, ask.k);
                // What one half alone has found is scored by the other.
                let rows = |of: fn(&HybridHit) -> Option<f32>| -> Vec<usize> {
                    joined.iter().filter(|hit| of(hit).is_none()).map(|hit| hit.index).collect()
                };
                let (without_vector, without_words) = (rows(|hit| hit.vector), rows(|hit| hit.bm25));
                let vectors = index.vectors(&without_vector)?;
                let query = Embeddings::from_rows(vector.len(), [vector])?;
                let mut of_vectors = (0..without_vector.len()).map(|at| query.dot(0, &vectors, at));
                // The words may have changed since; then these are scores of the texts as they are now.
                let of_words = match without_words.is_empty() {
                    true => Vec::new(),
                    false => self.words().scores(&index, &ask.query, &without_words)?,
                };
                let mut of_words = of_words.into_iter();
                let found = joined.into_iter().map(|hit| {
                    Ok(Found {
                        record: index.record(hit.index)?,
                        score: hit.score,
                        vector_score: hit.vector.or_else(|| of_vectors.next()),
                        bm25_score: hit.bm25.or_else(|| of_words.next()),
                    })
                });
                found.collect()
            }
        }
    }

    /// The `k` best rows by their words, in an index that has the same documents as the words.
    fn by_words(&self, ask: &Ask, k: usize) -> Result<(Arc<DiskIndex>, Vec<Hit>)> {
        let words = self.words();
        // Both change under the lock of the words.
        let index = self.index();
        let hits = words.search(&index, &ask.query, k, ask.filter.as_ref())?;
        Ok((index, hits))
    }

    /// The `k` best rows by their vectors.
    fn by_vector(&self, index: &DiskIndex, vector: &[f32], ask: &Ask, k: usize) -> Result<Vec<Hit>> {
        let mut options = self.search.clone();
        (options.k, options.filter) = (k, ask.filter.clone());
        if options.approximate && index.approximation().is_none() {
            self.without_graphs.call_once(|| {
                tracing::warn!(
                    "changes left the index without graphs: every vector is scored; stop the server and run `care index \
                     approximate` to build them again"
                );
            });
            (options.approximate, options.expansion) = (false, None);
        }
        Ok(index.search(&Embeddings::from_rows(vector.len(), [vector])?, &options)?.pop().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use care_core::index::{Codes, DiskIndexOptions};

    /// An index of two dimensions in a new folder.
    fn collection(folder: &Path, rows: &[(&str, &str, [f32; 2], i64)]) -> Collection {
        let tower = DocumentTower::new("tower");
        drop(IndexWriter::create(folder, &tower, 2, &DiskIndexOptions::default()).expect("creates"));
        let collection = Collection::open(folder).expect("opens");
        add(&collection, rows);
        collection
    }

    fn add(collection: &Collection, rows: &[(&str, &str, [f32; 2], i64)]) {
        let record = |row: &(&str, &str, [f32; 2], i64)| Record::new(row.0).with_text(row.1).with_field("year", row.3);
        let records: Vec<Record> = rows.iter().map(record).collect();
        let vectors = Embeddings::from_rows(2, rows.iter().map(|row| row.2)).expect("two values each");
        collection.add(&records, &vectors).expect("adds");
    }

    fn search(collection: &Collection, query: &str, mode: Mode, filter: Option<&str>) -> Vec<(String, f32)> {
        let filter = filter.map(|filter| filter.parse().expect("a filter"));
        let ask = Ask { query: query.into(), vector: Some(vec![1.0, 0.0]), mode, k: 2, filter };
        let found = collection.search(&ask).expect("searches");
        found.into_iter().map(|found| (found.record.id, found.score)).collect()
    }

    fn ids(found: Vec<(String, f32)>) -> Vec<String> {
        found.into_iter().map(|found| found.0).collect()
    }

    #[test]
    fn both_halves_rank_and_a_filter_holds_for_both() {
        let folder = tempfile::tempdir().expect("a folder");
        let rows = [
            ("a", "头痛发热", [1.0, 0.0], 2020),
            ("b", "咳嗽", [0.8, 0.6], 2021),
            ("c", "咳嗽咳嗽有痰", [0.0, 1.0], 2022),
        ];
        let collection = collection(folder.path(), &rows);
        assert_eq!(ids(search(&collection, "咳嗽", Mode::Vector, None)), ["a", "b"]);
        assert_eq!(ids(search(&collection, "咳嗽", Mode::Bm25, None)), ["b", "c"]);
        let hybrid = search(&collection, "咳嗽", Mode::Hybrid, None);
        assert_eq!(hybrid[0], ("b".to_owned(), (1.0 / 62.0 + 1.0 / 61.0) as f32));
        for (mode, expected) in [(Mode::Vector, ["b", "c"]), (Mode::Bm25, ["b", "c"]), (Mode::Hybrid, ["b", "c"])] {
            assert_eq!(ids(search(&collection, "咳嗽", mode, Some("year>=2021"))), expected);
        }
        let ask = Ask { query: "咳嗽".into(), vector: Some(vec![1.0, 0.0]), mode: Mode::Hybrid, k: 3, filter: None };
        let found = collection.search(&ask).expect("searches");
        let a = found.iter().find(|found| found.record.id == "a").expect("found");
        assert_eq!((a.vector_score, a.bm25_score), (Some(1.0), Some(0.0)));
    }

    #[test]
    fn what_one_half_alone_has_found_is_scored_by_the_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let names: Vec<String> = (0..CANDIDATES).map(|at| format!("near {at}")).collect();
        let mut rows: Vec<(&str, &str, [f32; 2], i64)> =
            names.iter().map(|name| (name.as_str(), "头痛", [1.0, 0.0], 1)).collect();
        // Beyond the candidates of the vectors, in an order of their own.
        rows.extend([("far", "咳嗽", [0.25, 0.75], 1), ("farther", "咳嗽有痰", [0.0, 1.0], 1)]);
        let collection = collection(folder.path(), &rows);
        let ask = |mode| Ask { query: "咳嗽".into(), vector: Some(vec![1.0, 0.0]), mode, k: 50, filter: None };
        let words = collection.search(&ask(Mode::Bm25)).expect("searches");
        let found = collection.search(&ask(Mode::Hybrid)).expect("searches");
        assert_eq!((words.len(), found.len()), (2, 50));
        assert_eq!(found.iter().filter(|found| found.record.id.starts_with("far")).count(), 2);
        for Found { record, vector_score, bm25_score, .. } in found {
            let [expected, _] = rows.iter().find(|row| row.0 == record.id).expect("a row").2;
            let of_words = words.iter().find(|found| found.record.id == record.id).map_or(0.0, |found| found.score);
            assert_eq!((vector_score, bm25_score), (Some(expected), Some(of_words)), "{}", record.id);
        }
    }

    #[test]
    fn changes_are_seen_by_both_halves_and_survive_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let collection = collection(folder.path(), &[("a", "头痛", [1.0, 0.0], 1), ("b", "发热", [0.0, 1.0], 1)]);
        add(&collection, &[("a", "咳嗽", [0.0, 1.0], 1), ("c", "头痛", [0.6, 0.8], 1)]);
        let check = |collection: &Collection| {
            assert_eq!(ids(search(collection, "头痛", Mode::Bm25, None)), ["c"]);
            assert_eq!(ids(search(collection, "头痛", Mode::Vector, None))[0], "c");
        };
        check(&collection);
        assert_eq!(collection.remove(&["b".into(), "x".into()]).expect("removes"), 1);
        assert!(search(&collection, "发热", Mode::Bm25, None).is_empty());
        check(&collection);
        drop(collection);
        let again = Collection::open(folder.path()).expect("opens");
        assert_eq!(again.index().len(), 2);
        check(&again);
    }

    /// Replaces a document in memory so often that the texts should be read again.
    fn wear_out(collection: &Collection, id: &str) {
        for _ in 0..1100 {
            collection.change_words(|words| words.add(&[Record::new(id).with_text("发热")]));
        }
        assert!(collection.words().is_worn());
    }

    #[test]
    fn many_replacements_do_not_fill_the_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let collection = collection(folder.path(), &[("a", "头痛", [1.0, 0.0], 1)]);
        wear_out(&collection, "a");
        add(&collection, &[("a", "咳嗽", [1.0, 0.0], 1)]);
        assert!(!collection.words().is_worn());
        assert_eq!(ids(search(&collection, "咳嗽", Mode::Bm25, None)), ["a"]);
        assert!(search(&collection, "发热", Mode::Bm25, None).is_empty());
    }

    #[test]
    fn a_change_succeeds_though_the_texts_cannot_be_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let rows = [("a", "头痛", [1.0, 0.0], 1), ("b", "流鼻血", [0.0, 1.0], 1)];
        let collection = collection(folder.path(), &rows);
        wear_out(&collection, "a");
        let records = folder.path().join("segment-0").join("records");
        let damaged = vec![b'?'; std::fs::read(&records).expect("read").len()];
        std::fs::write(&records, damaged).expect("damaged");
        add(&collection, &[("a", "咳嗽", [1.0, 0.0], 1)]);
        assert_eq!(ids(search(&collection, "咳嗽", Mode::Bm25, None)), ["a"]);
        assert!(search(&collection, "发热", Mode::Bm25, None).is_empty());
        assert_eq!(collection.remove(&["a".into()]).expect("removes"), 1);
        assert!(search(&collection, "咳嗽", Mode::Bm25, None).is_empty());
    }

    #[test]
    fn a_search_by_vectors_does_not_wait_for_a_change_of_the_words() {
        let folder = tempfile::tempdir().expect("a folder");
        let collection = collection(folder.path(), &[("a", "头痛", [1.0, 0.0], 1)]);
        let changing = collection.words.write().expect("not poisoned");
        assert_eq!((collection.index().len(), collection.has_texts()), (1, true));
        assert_eq!(ids(search(&collection, "头痛", Mode::Vector, None)), ["a"]);
        drop(changing);
        assert_eq!(ids(search(&collection, "头痛", Mode::Bm25, None)), ["a"]);
    }

    #[test]
    fn an_index_whose_graphs_are_gone_is_searched_by_all_vectors() {
        let folder = tempfile::tempdir().expect("a folder");
        let rows = [("a", "头痛", [1.0, 0.0], 2020), ("b", "咳嗽", [0.8, 0.6], 2021)];
        let mut collection = collection(folder.path(), &rows);
        // As after a change that left no segment with a graph; at the start it would be refused.
        collection.search = SearchOptions::new(0).with_approximate().with_expansion(64);
        for mode in [Mode::Vector, Mode::Hybrid] {
            assert_eq!(ids(search(&collection, "咳嗽", mode, Some("year>=2021"))), ["b"]);
        }
        assert_eq!(ids(search(&collection, "", Mode::Vector, None)), ["a", "b"]);
        assert!(collection.without_graphs.is_completed());
        let refused = collection.with_search(SearchOptions::new(0).with_approximate()).map(|_| ());
        assert_eq!(refused.expect_err("no graphs").kind(), ErrorKind::Config);
    }

    #[test]
    fn a_wide_filter_reads_hits_and_a_narrow_one_rows() {
        let folder = tempfile::tempdir().expect("a folder");
        let names: Vec<String> = (0..5000).map(|row| row.to_string()).collect();
        let rows: Vec<_> = names.iter().zip(0..).map(|(id, row)| (id.as_str(), "头痛", [1.0, 0.0], row)).collect();
        let collection = collection(folder.path(), &rows);
        assert_eq!(ids(search(&collection, "头痛", Mode::Bm25, Some("year>=2500"))), ["2500", "2501"]);
        assert_eq!(ids(search(&collection, "头痛", Mode::Bm25, Some("year>=4999"))), ["4999"]);
    }

    #[test]
    fn codes_select_candidates_and_must_be_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let rows = [("a", "头痛", [1.0, 0.0], 1), ("b", "发热", [0.8, 0.6], 2), ("c", "咳嗽", [0.6, 0.8], 3)];
        let plain = collection(folder.path(), &rows);
        let binary = || SearchOptions::new(0).with_codes(Codes::Binary).with_oversampling(1);
        let problem = plain.with_search(binary()).map(|_| ()).expect_err("no codes").to_string();
        assert!(problem.contains("has no binary codes (it has: none)"), "{problem}");

        let folder = tempfile::tempdir().expect("a folder");
        let options = DiskIndexOptions::default().with_codes([Codes::Binary]);
        drop(IndexWriter::create(folder.path(), &DocumentTower::new("tower"), 2, &options).expect("creates"));
        let coded = Collection::open(folder.path()).expect("opens").with_search(binary()).expect("codes");
        add(&coded, &rows);
        // "b" and "c" differ from the query in one sign each, so the earlier one is a candidate; "c" alone has the year.
        assert_eq!(search(&coded, "", Mode::Vector, None), [("a".to_owned(), 1.0), ("b".to_owned(), 0.8)]);
        assert_eq!(search(&coded, "", Mode::Vector, Some("year>=3")), [("c".to_owned(), 0.6)]);
        add(&coded, &[("d", "流鼻血", [1.0, 0.0], 9)]);
        assert_eq!(ids(search(&coded, "", Mode::Vector, None)), ["a", "d"], "the signs of both are the query's");
    }
}
