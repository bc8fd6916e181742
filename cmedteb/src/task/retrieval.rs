//! A corpus, queries, and which documents answer which query.

use std::collections::HashSet;

use care_core::{Document, Query, Result, Text};
use care_eval::Qrels;

use crate::error::invalid;
use crate::fingerprint::Fingerprint;

/// A corpus to search, the queries to search it with, and the judgements.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrievalTask {
    name: String,
    split: String,
    doc_ids: Vec<String>,
    documents: Vec<Document>,
    query_ids: Vec<String>,
    queries: Vec<Query>,
    qrels: Qrels,
    absent_judged: usize,
}

impl RetrievalTask {
    /// Checks and keeps the data. Queries without judgements cannot be scored and are left out.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](care_core::ErrorKind::Format) when there is no document, no query or no
    /// judgement, when an id is given twice, or when a query is judged that does not exist; the
    /// message names the id.
    pub fn new(
        name: impl Into<String>,
        split: impl Into<String>,
        corpus: Vec<(String, Document)>,
        queries: Vec<(String, Query)>,
        qrels: Qrels,
    ) -> Result<Self> {
        let (name, split) = (name.into(), split.into());
        for (what, empty) in
            [("documents", corpus.is_empty()), ("queries", queries.is_empty()), ("judgements", qrels.is_empty())]
        {
            if empty {
                return Err(invalid(&name, format!("there are no {what}")));
            }
        }
        let doc_ids = distinct(&name, "document", &corpus)?;
        let query_ids = distinct(&name, "query", &queries)?;
        if let Some((query_id, _)) = qrels.iter().find(|(query_id, _)| !query_ids.contains(query_id)) {
            return Err(invalid(&name, format!("query {query_id:?} is judged but is not among the queries")));
        }
        let absent_judged = qrels.judgements().filter(|(_, doc_id, _)| !doc_ids.contains(doc_id)).count();

        let (query_ids, queries) = queries.into_iter().filter(|(query_id, _)| qrels.get(query_id).is_some()).unzip();
        let (doc_ids, documents) = corpus.into_iter().unzip();
        Ok(Self { name, split, doc_ids, documents, query_ids, queries, qrels, absent_judged })
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The split of the judgements.
    pub fn split(&self) -> &str {
        &self.split
    }

    /// The ids of the documents, in the order of [`documents`](Self::documents).
    pub fn doc_ids(&self) -> &[String] {
        &self.doc_ids
    }

    /// The corpus.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// The ids of the judged queries, in the order of [`queries`](Self::queries).
    pub fn query_ids(&self) -> &[String] {
        &self.query_ids
    }

    /// The judged queries.
    pub fn queries(&self) -> &[Query] {
        &self.queries
    }

    /// The judgements.
    pub fn qrels(&self) -> &Qrels {
        &self.qrels
    }

    /// How many judgements are of documents that the corpus lacks. Relevant ones among them still
    /// count as not found, as in trec_eval.
    pub fn absent_judged(&self) -> usize {
        self.absent_judged
    }

    pub(super) fn add_to(&self, fingerprint: &mut Fingerprint) {
        for (id, document) in self.doc_ids.iter().zip(&self.documents) {
            fingerprint.add(id);
            fingerprint.add(&document.content());
        }
        for (id, query) in self.query_ids.iter().zip(&self.queries) {
            fingerprint.add(id);
            fingerprint.add(&query.content());
        }
        for (query_id, doc_id, grade) in self.qrels.judgements() {
            fingerprint.add(query_id);
            fingerprint.add(doc_id);
            fingerprint.add(&grade.to_string());
        }
    }
}

fn distinct<'a, T>(task: &str, what: &str, rows: &'a [(String, T)]) -> Result<HashSet<&'a str>> {
    let mut ids = HashSet::with_capacity(rows.len());
    match rows.iter().find(|(id, _)| !ids.insert(id.as_str())) {
        None => Ok(ids),
        Some((id, _)) => Err(invalid(task, format!("there are two {what} entries of the id {id:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{documents, queries};

    /// Query, document, grade.
    type Judgement = (&'static str, &'static str, i32);
    /// Ids of documents, ids of queries, judgements, and what is wrong with them.
    type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [Judgement], &'a str);

    fn build(doc_ids: &[&str], query_ids: &[&str], judged: &[Judgement]) -> std::result::Result<RetrievalTask, String> {
        let qrels = Qrels::from_judgements(judged.iter().copied()).expect("distinct");
        RetrievalTask::new("t", "test", documents(doc_ids), queries(query_ids), qrels).map_err(|e| e.to_string())
    }

    #[test]
    fn contradictions_are_named() {
        let judged = [("q", "d", 1)];
        let cases: [Case<'_>; 6] = [
            (&[], &["q"], &judged, "task t: there are no documents"),
            (&["d"], &[], &judged, "task t: there are no queries"),
            (&["d"], &["q"], &[], "task t: there are no judgements"),
            (&["d", "e", "d"], &["q"], &judged, "task t: there are two document entries of the id \"d\""),
            (&["d"], &["q", "q"], &judged, "task t: there are two query entries of the id \"q\""),
            (&["d"], &["p"], &judged, "task t: query \"q\" is judged but is not among the queries"),
        ];
        for (doc_ids, query_ids, judged, message) in cases {
            assert_eq!(build(doc_ids, query_ids, judged).expect_err(message), message);
        }
    }

    #[test]
    fn unjudged_queries_are_left_out_and_absent_documents_counted() {
        let task = build(&["d"], &["p", "q"], &[("q", "d", 1), ("q", "x", 1), ("q", "y", 0)]).expect("valid");
        assert_eq!(task.query_ids(), ["q"]);
        assert_eq!(task.queries(), [Query::new("q")]);
        assert_eq!(task.absent_judged(), 2);
    }
}
