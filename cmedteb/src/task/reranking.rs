//! Reranking: queries, each with its own candidates.

use std::collections::HashMap;

use care_core::{Document, Query, Result, Text};
use care_eval::{Measure, Qrels};
use serde::{Deserialize, Serialize};

use super::DEFAULT_SUBSET;
use super::measures::{RERANKING_MEASURES, one_of};
use crate::error::{from_eval, invalid};
use crate::fingerprint::Fingerprint;

/// A query with texts that answer it and texts that do not: a row of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RerankingRow {
    /// The query.
    pub query: String,
    /// Texts that answer it.
    pub positive: Vec<String>,
    /// Texts that do not answer it.
    pub negative: Vec<String>,
}

/// Queries, each with a short list of candidates to rank. White space around a candidate is removed, as mteb does.
#[derive(Debug, Clone, PartialEq)]
pub struct RerankingTask {
    name: String,
    split: String,
    pub(super) subset: String,
    queries: Vec<Query>,
    documents: Vec<Document>,
    lists: Vec<RerankingList>,
    qrels: Qrels,
    dropped: usize,
    main_score: Measure,
}

/// The candidates of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RerankingList {
    /// The id of the query.
    pub query_id: String,
    /// Each candidate's id and its index in [`RerankingTask::documents`].
    pub candidates: Vec<(String, usize)>,
}

impl RerankingTask {
    /// A task from rows. A row without a positive or without a negative is dropped and counted.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](care_core::ErrorKind::Format) if no row is left.
    ///
    /// # Reference
    /// mteb's `AbsTaskReranking`, for dropping rows and for the ids (`apositive_test_query0_00000`,
    /// `negative_test_query0_00000`). Under trec_eval's tie rule these ids rank negatives first, so a model gains nothing
    /// from equal scores.
    pub fn new(name: impl Into<String>, split: impl Into<String>, rows: Vec<RerankingRow>) -> Result<Self> {
        let mut task = Self::empty(name.into(), split.into());
        let mut places = HashMap::new();
        for row in rows {
            if row.positive.is_empty() || row.negative.is_empty() {
                task.dropped += 1;
                continue;
            }
            let query_id = format!("{}_query{}", task.split, task.queries.len());
            let mut candidates = Vec::with_capacity(row.positive.len() + row.negative.len());
            for (side, grade, texts) in [("apositive", 1, row.positive), ("negative", 0, row.negative)] {
                for (number, text) in texts.into_iter().enumerate() {
                    let doc_id = format!("{side}_{query_id}_{number:05}");
                    task.qrels.insert(&query_id, &doc_id, grade).map_err(from_eval)?;
                    let place = *places.entry(Document::new(text).trimmed()).or_insert_with_key(|document| {
                        task.documents.push(document.clone());
                        task.documents.len() - 1
                    });
                    candidates.push((doc_id, place));
                }
            }
            task.queries.push(Query::new(row.query));
            task.lists.push(RerankingList { query_id, candidates });
        }
        task.checked("no row has both a positive and a negative; rows")
    }

    /// A task from a corpus, queries, judgements and the candidates of each query, all by id.
    ///
    /// A query without judgements or without candidates is dropped and counted. One whose candidates are all relevant, or
    /// none, counts, with the same score for every model. A relevant document that is not a candidate counts as not
    /// retrieved.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](care_core::ErrorKind::Format) if no query is left, or if a candidate or a query is unknown
    /// or duplicated.
    ///
    /// # Reference
    /// The reranking tasks of mteb 2: retrieval with `top_ranked`.
    pub fn from_candidates(
        name: impl Into<String>,
        split: impl Into<String>,
        corpus: Vec<(String, Document)>,
        queries: Vec<(String, Query)>,
        qrels: &Qrels,
        candidates: Vec<(String, Vec<String>)>,
    ) -> Result<Self> {
        let mut task = Self::empty(name.into(), split.into());
        let mut queries: HashMap<String, Query> = queries.into_iter().collect();
        let corpus: Vec<_> = corpus.into_iter().map(|(id, document)| (id, document.trimmed())).collect();
        let of_id: HashMap<&str, &Document> = corpus.iter().map(|(id, document)| (id.as_str(), document)).collect();
        let mut places = HashMap::new();
        for (query_id, doc_ids) in candidates {
            let problem = |what: &str, id: &str| invalid(&task.name, format!("{what} {id:?} is unknown or duplicated"));
            let query = queries.remove(&query_id).ok_or_else(|| problem("the query of candidates", &query_id))?;
            let grade =
                |doc_id: &String| qrels.get(&query_id).and_then(|judged| judged.get(doc_id)).copied().unwrap_or(0);
            if qrels.get(&query_id).is_none() || doc_ids.is_empty() {
                task.dropped += 1;
                continue;
            }
            let mut list = Vec::with_capacity(doc_ids.len());
            let mut left: HashMap<&String, i32> =
                qrels.get(&query_id).into_iter().flatten().map(|(id, g)| (id, *g)).collect();
            for doc_id in doc_ids {
                let document = *of_id.get(doc_id.as_str()).ok_or_else(|| problem("the candidate", &doc_id))?;
                left.remove(&doc_id);
                task.qrels.insert(&query_id, &doc_id, grade(&doc_id)).map_err(from_eval)?;
                let place = *places.entry(document).or_insert_with(|| {
                    task.documents.push(document.clone());
                    task.documents.len() - 1
                });
                list.push((doc_id, place));
            }
            for (doc_id, grade) in left {
                task.qrels.insert(&query_id, doc_id, grade).map_err(from_eval)?;
            }
            task.queries.push(query);
            task.lists.push(RerankingList { query_id, candidates: list });
        }
        task.checked("no query has judgements and candidates; queries")
    }

    fn empty(name: String, split: String) -> Self {
        let (queries, documents, lists, qrels) = (Vec::new(), Vec::new(), Vec::new(), Qrels::new());
        let (subset, main_score) = (DEFAULT_SUBSET.to_owned(), RERANKING_MEASURES[0]);
        Self { name, split, subset, queries, documents, lists, qrels, dropped: 0, main_score }
    }

    fn checked(self, problem: &str) -> Result<Self> {
        if self.queries.is_empty() {
            return Err(invalid(&self.name, format!("{problem} dropped: {}", self.dropped)));
        }
        Ok(self)
    }

    /// The measure of the main score. Default MAP@10.
    pub fn main_score(&self) -> Measure {
        self.main_score
    }

    /// The same task with another of the reported measures as its main score.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](care_core::ErrorKind::Config) if the measure is not reported; the message lists those that
    /// are.
    pub fn with_main_score(self, measure: &str) -> Result<Self> {
        Ok(Self { main_score: one_of(&RERANKING_MEASURES, measure)?, ..self })
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The split of the rows.
    pub fn split(&self) -> &str {
        &self.split
    }

    /// The queries.
    pub fn queries(&self) -> &[Query] {
        &self.queries
    }

    /// The candidates of all queries, without duplicates.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// The candidates of each query, in the order of [`queries`](Self::queries).
    pub fn lists(&self) -> &[RerankingList] {
        &self.lists
    }

    /// The judgements: grade 1 for a positive, 0 for a negative.
    pub fn qrels(&self) -> &Qrels {
        &self.qrels
    }

    /// Number of dropped rows or queries.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut fingerprint = Fingerprint::new();
        for (query, list) in self.queries.iter().zip(&self.lists) {
            fingerprint.add(&list.query_id);
            fingerprint.add(&query.content());
            for (doc_id, place) in &list.candidates {
                fingerprint.add(doc_id);
                fingerprint.add(&self.documents[*place].content());
            }
        }
        for (query_id, doc_id, grade) in self.qrels.judgements() {
            fingerprint.add(query_id);
            fingerprint.add(doc_id);
            fingerprint.add(&grade.to_string());
        }
        fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Protocol, evaluate};
    use crate::task::Task;
    use crate::testing::{Table, documents, queries, row};

    #[test]
    fn rows_without_a_side_are_dropped_and_texts_are_kept_once() {
        let rows = vec![
            row("empty", &[], &["b"]),
            row("first", &["a"], &["b", "c"]),
            row("empty", &["a"], &[]),
            row("second", &["b"], &["a"]),
        ];
        let task = RerankingTask::new("t", "test", rows).expect("two rows are whole");
        assert_eq!(task.dropped(), 2);
        assert_eq!(task.queries(), ["first", "second"].map(Query::new));
        assert_eq!(task.documents(), ["a", "b", "c"].map(Document::new));
        let candidate = |id: &str, place| (id.to_owned(), place);
        assert_eq!(
            task.lists()[1],
            RerankingList {
                query_id: "test_query1".to_owned(),
                candidates: vec![
                    candidate("apositive_test_query1_00000", 1),
                    candidate("negative_test_query1_00000", 0)
                ],
            }
        );
        assert_eq!(task.qrels().relevant("test_query0").collect::<Vec<_>>(), [("apositive_test_query0_00000", 1)]);
    }

    #[test]
    fn a_task_without_a_whole_row_is_refused() {
        let error = RerankingTask::new("t", "test", vec![row("empty", &["a"], &[])]).expect_err("no row");
        assert_eq!(error.to_string(), "task t: no row has both a positive and a negative; rows dropped: 1");
    }

    #[test]
    fn queries_whose_candidates_are_all_relevant_or_none_count_as_in_mteb() {
        let judged = [("all", "a", 1), ("all", "b", 1), ("none", "a", 0), ("outside", "c", 1), ("both", "a", 1)];
        let qrels = Qrels::from_judgements(judged).expect("distinct");
        let ids = ["all", "none", "outside", "both", "unjudged", "empty"];
        let candidates = |of: &[&str]| {
            let list = |id: &&str| match *id {
                "empty" => Vec::new(),
                _ => vec!["a".to_owned(), "b".to_owned()],
            };
            of.iter().map(|id| ((*id).to_owned(), list(id))).collect::<Vec<_>>()
        };
        let corpus = documents(&["a", "b", "c"]);
        let task = RerankingTask::from_candidates("t", "test", corpus, queries(&ids), &qrels, candidates(&ids));
        let task = task.expect("four queries count");
        assert_eq!((task.queries().len(), task.dropped()), (4, 2));
        let table = ids.iter().fold(Table::new(1), |table, id| table.query(id, [1.0]));
        let table = table.document("a", [2.0]).document("b", [1.0]);
        let outcome = evaluate(&Task::Reranking(task), &table, &Protocol::default(), &mut |_| {}).expect("evaluated");
        // pytrec_eval: 1 for "all" and "both", 0 for "none" and "outside".
        assert_eq!(outcome.main_score(), 0.5);
        let left = candidates(&["unjudged", "empty"]);
        let error = RerankingTask::from_candidates("t", "test", documents(&["a", "b"]), queries(&ids), &qrels, left);
        let problem = "task t: no query has judgements and candidates; queries dropped: 2";
        assert_eq!(error.expect_err("no query").to_string(), problem);
    }
}
