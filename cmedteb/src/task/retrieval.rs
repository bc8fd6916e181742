//! Retrieval: a corpus, queries, and judgements of which documents answer which query.

use std::collections::HashSet;

use care_core::{Query, Result, Text};
use care_eval::{Measure, Qrels};

use super::corpus::Corpus;
use super::measures::{RETRIEVAL_MEASURES, one_of};
use crate::error::invalid;
use crate::fingerprint::Fingerprint;

/// A corpus to search, the queries to search it with, and the judgements.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrievalTask {
    name: String,
    split: String,
    corpus: Corpus,
    query_ids: Vec<String>,
    queries: Vec<Query>,
    qrels: Qrels,
    absent_judged: usize,
    main_score: Measure,
}

impl RetrievalTask {
    /// A task from its data. Queries without judgements cannot be scored and are left out.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](care_core::ErrorKind::Format) if there are no documents, queries or judgements, if an id is
    /// duplicated, or if a judged query does not exist; the message names the id.
    pub fn new(
        name: impl Into<String>,
        split: impl Into<String>,
        corpus: impl Into<Corpus>,
        queries: Vec<(String, Query)>,
        qrels: Qrels,
    ) -> Result<Self> {
        let (name, split, corpus) = (name.into(), split.into(), corpus.into());
        for (what, empty) in
            [("documents", corpus.is_empty()), ("queries", queries.is_empty()), ("judgements", qrels.is_empty())]
        {
            if empty {
                return Err(invalid(&name, format!("there are no {what}")));
            }
        }
        let doc_ids = distinct(&name, "document", corpus.ids())?;
        let query_ids = distinct(&name, "query", queries.iter().map(|(id, _)| id))?;
        if let Some((query_id, _)) = qrels.iter().find(|(query_id, _)| !query_ids.contains(query_id)) {
            return Err(invalid(&name, format!("query {query_id:?} is judged but is not among the queries")));
        }
        let absent_judged = qrels.judgements().filter(|(_, doc_id, _)| !doc_ids.contains(doc_id)).count();

        let (query_ids, queries) = queries.into_iter().filter(|(query_id, _)| qrels.get(query_id).is_some()).unzip();
        Ok(Self { name, split, corpus, query_ids, queries, qrels, absent_judged, main_score: RETRIEVAL_MEASURES[0] })
    }

    /// The measure of the main score. Default nDCG@10.
    pub fn main_score(&self) -> Measure {
        self.main_score
    }

    /// The same task with another of the reported measures as its main score.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](care_core::ErrorKind::Config) if the measure is not reported; the message lists those that
    /// are.
    pub fn with_main_score(self, measure: &str) -> Result<Self> {
        Ok(Self { main_score: one_of(&RETRIEVAL_MEASURES, measure)?, ..self })
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The split of the judgements.
    pub fn split(&self) -> &str {
        &self.split
    }

    /// The documents to search.
    pub fn corpus(&self) -> &Corpus {
        &self.corpus
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

    /// Number of judgements of documents that the corpus lacks. Relevant ones among them still count as not retrieved, as
    /// in trec_eval.
    pub fn absent_judged(&self) -> usize {
        self.absent_judged
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut fingerprint = self.corpus.fingerprint();
        for (id, query) in self.query_ids.iter().zip(&self.queries) {
            fingerprint.add(id);
            fingerprint.add(&query.content());
        }
        for (query_id, doc_id, grade) in self.qrels.judgements() {
            fingerprint.add(query_id);
            fingerprint.add(doc_id);
            fingerprint.add(&grade.to_string());
        }
        fingerprint
    }
}

fn distinct<'a>(task: &str, what: &str, ids: impl IntoIterator<Item = &'a String>) -> Result<HashSet<&'a str>> {
    let mut distinct = HashSet::new();
    match ids.into_iter().find(|id| !distinct.insert(id.as_str())) {
        None => Ok(distinct),
        Some(id) => Err(invalid(task, format!("duplicate {what} id {id:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{documents, queries};

    /// Query, document, grade.
    type Judgement = (&'static str, &'static str, i32);
    /// Document ids, query ids, judgements, and the error.
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
            (&["d", "e", "d"], &["q"], &judged, "task t: duplicate document id \"d\""),
            (&["d"], &["q", "q"], &judged, "task t: duplicate query id \"q\""),
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
