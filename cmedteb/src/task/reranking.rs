//! Queries, each with candidates of its own.

use std::collections::HashMap;

use care_core::{Document, Query, Result, Text};
use care_eval::Qrels;
use serde::{Deserialize, Serialize};

use crate::error::{from_eval, invalid};
use crate::fingerprint::Fingerprint;

/// A query with the texts that answer it and texts that do not, as in a file's line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RerankingRow {
    /// The query.
    pub query: String,
    /// Texts that answer it.
    pub positive: Vec<String>,
    /// Texts that do not.
    pub negative: Vec<String>,
}

/// Queries to be answered from their own short lists.
#[derive(Debug, Clone, PartialEq)]
pub struct RerankingTask {
    name: String,
    split: String,
    queries: Vec<Query>,
    documents: Vec<Document>,
    lists: Vec<RerankingList>,
    qrels: Qrels,
    dropped: usize,
}

/// The candidates of one query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RerankingList {
    /// The id of the query.
    pub query_id: String,
    /// Each candidate's id and its place in [`RerankingTask::documents`].
    pub candidates: Vec<(String, usize)>,
}

impl RerankingTask {
    /// Checks and keeps the rows; one without a positive or without a negative is dropped and counted.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](care_core::ErrorKind::Format) when no row is left.
    ///
    /// # Reference
    /// mteb's `AbsTaskReranking`: the rule for dropping rows, and the ids
    /// (`apositive_test_query0_00000`, `negative_test_query0_00000`, ..). By trec_eval's tie rule
    /// negatives come first, so a model gains nothing from equal scores.
    pub fn new(name: impl Into<String>, split: impl Into<String>, rows: Vec<RerankingRow>) -> Result<Self> {
        let mut task = Self {
            name: name.into(),
            split: split.into(),
            queries: Vec::new(),
            documents: Vec::new(),
            lists: Vec::new(),
            qrels: Qrels::new(),
            dropped: 0,
        };
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
                    let place = *places.entry(Document::new(text)).or_insert_with_key(|document| {
                        task.documents.push(document.clone());
                        task.documents.len() - 1
                    });
                    candidates.push((doc_id, place));
                }
            }
            task.queries.push(Query::new(row.query));
            task.lists.push(RerankingList { query_id, candidates });
        }
        if task.queries.is_empty() {
            let problem = format!(
                "there is no row with both a positive and a negative; rows dropped for lacking one: {}",
                task.dropped
            );
            return Err(invalid(&task.name, problem));
        }
        Ok(task)
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

    /// The candidates of all queries, each text once.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// The candidates of each query, in the order of [`queries`](Self::queries).
    pub fn lists(&self) -> &[RerankingList] {
        &self.lists
    }

    /// 1 for a positive, 0 for a negative.
    pub fn qrels(&self) -> &Qrels {
        &self.qrels
    }

    /// How many rows were dropped.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    pub(super) fn add_to(&self, fingerprint: &mut Fingerprint) {
        for (query, list) in self.queries.iter().zip(&self.lists) {
            fingerprint.add(&query.content());
            for (doc_id, place) in &list.candidates {
                fingerprint.add(doc_id);
                fingerprint.add(&self.documents[*place].content());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::row;

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
        assert_eq!(
            error.to_string(),
            "task t: there is no row with both a positive and a negative; rows dropped for lacking one: 1"
        );
    }
}
