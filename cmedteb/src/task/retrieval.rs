//! Retrieval: a corpus, queries, and judgements of which documents answer which query.

use std::collections::HashSet;

use care_core::{Query, Result, Text};
use care_eval::{Measure, Qrels};

use super::DEFAULT_SUBSET;
use super::corpus::Corpus;
use super::measures::{RETRIEVAL_MEASURES, one_of};
use crate::error::invalid;
use crate::fingerprint::Fingerprint;

/// A corpus to search, the queries to search it with, and the judgements.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrievalTask {
    name: String,
    split: String,
    pub(super) subset: String,
    corpus: Corpus,
    query_ids: Vec<String>,
    queries: Vec<Query>,
    qrels: Qrels,
    absent: Absent,
    identical: Identical,
    ignore_identical_ids: bool,
    main_score: Measure,
}

/// Judgements of documents that the corpus lacks.
#[derive(Debug, Clone, PartialEq)]
struct Absent {
    judgements: usize,
    /// The id of one of them.
    example: Option<String>,
}

/// Judged queries with a document of the same id.
#[derive(Debug, Clone, PartialEq)]
struct Identical {
    queries: usize,
    /// The id of one of them.
    example: Option<String>,
}

impl RetrievalTask {
    /// A task from its data. Queries without judgements cannot be scored and are left out.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](care_core::ErrorKind::Format) if there are no documents, queries or judgements, if an id is
    /// duplicated, if a judged query does not exist, or if no judged document is in the corpus; the message names the id.
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
        let mut absent = qrels.judgements().map(|(_, doc_id, _)| doc_id).filter(|doc_id| !doc_ids.contains(doc_id));
        let example = absent.next().map(str::to_owned);
        let absent = Absent { judgements: usize::from(example.is_some()) + absent.count(), example };
        if absent.judgements == qrels.judgements().count() {
            let problem = format!("no judged document is in the corpus: {}", both_ids(&absent, &corpus));
            return Err(invalid(&name, problem));
        }
        let mut identical = qrels.iter().map(|(query_id, _)| query_id).filter(|query_id| doc_ids.contains(query_id));
        let example = identical.next().map(str::to_owned);
        let identical = Identical { queries: usize::from(example.is_some()) + identical.count(), example };

        let (query_ids, queries) = queries.into_iter().filter(|(query_id, _)| qrels.get(query_id).is_some()).unzip();
        Ok(Self {
            name,
            split,
            subset: DEFAULT_SUBSET.to_owned(),
            corpus,
            query_ids,
            queries,
            qrels,
            absent,
            identical,
            ignore_identical_ids: false,
            main_score: RETRIEVAL_MEASURES[0],
        })
    }

    /// A corpus and queries without judgements: documents can be ranked for every query, but nothing can be scored.
    ///
    /// # Errors
    /// If there are no documents or no queries, or an id is duplicated.
    pub fn unjudged(name: impl Into<String>, corpus: impl Into<Corpus>, queries: Vec<(String, Query)>) -> Result<Self> {
        let (name, corpus) = (name.into(), corpus.into());
        for (what, empty) in [("documents", corpus.is_empty()), ("queries", queries.is_empty())] {
            if empty {
                return Err(invalid(&name, format!("there are no {what}")));
            }
        }
        distinct(&name, "document", corpus.ids())?;
        distinct(&name, "query", queries.iter().map(|(id, _)| id))?;
        let (query_ids, queries) = queries.into_iter().unzip();
        Ok(Self {
            name,
            split: "all".into(),
            corpus,
            query_ids,
            queries,
            qrels: Qrels::new(),
            absent: Absent { judgements: 0, example: None },
            identical: Identical { queries: 0, example: None },
            ignore_identical_ids: false,
            main_score: RETRIEVAL_MEASURES[0],
            subset: DEFAULT_SUBSET.to_owned(),
        })
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

    /// The same task, in which the document with a query's id is not ranked for that query. Default false.
    ///
    /// For data whose queries are in the corpus, e.g. ArguAna and Quora: a query would retrieve itself first.
    ///
    /// # Reference
    /// `ignore_identical_ids` of mteb's tasks and of BEIR's evaluation.
    #[must_use]
    pub fn with_ignore_identical_ids(self, ignore: bool) -> Self {
        Self { ignore_identical_ids: ignore, ..self }
    }

    /// Whether the document with a query's id is left out of that query's ranking.
    pub fn ignores_identical_ids(&self) -> bool {
        self.ignore_identical_ids
    }

    /// Number of judged queries for which the corpus has a document with the same id.
    pub fn identical_ids(&self) -> usize {
        self.identical.queries
    }

    /// Whether a document may be in the ranking of a query.
    pub(crate) fn ranks(&self, query_id: &str, doc_id: &str) -> bool {
        !(self.ignore_identical_ids && query_id == doc_id)
    }

    /// Remarks on data that may be wrong and change the scores, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let (absent, all) = (self.absent.judgements, self.qrels.judgements().count());
        if absent > 0 {
            let ids =
                if 2 * absent > all { format!(": {}", both_ids(&self.absent, &self.corpus)) } else { String::new() };
            warnings.push(format!("{absent} of {all} judged documents are not in the corpus{ids}"));
        }
        if let (Some(example), false) = (&self.identical.example, self.ignore_identical_ids) {
            warnings.push(format!(
                "{} of {} queries have a document with their own id, e.g. {example:?}; if it is the query itself, as in \
                 ArguAna, set ignore_identical_ids",
                self.identical.queries,
                self.query_ids.len()
            ));
        }
        warnings
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
        self.absent.judgements
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

/// An id that only the judgements have, and one of the corpus: different forms of ids are the usual cause.
fn both_ids(absent: &Absent, corpus: &Corpus) -> String {
    let judged = absent.example.as_deref().unwrap_or_default();
    format!("the judgements have e.g. {judged:?}, the corpus {:?}", corpus.ids()[0])
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
        let cases: [Case<'_>; 8] = [
            (&[], &["q"], &judged, "task t: there are no documents"),
            (&["d"], &[], &judged, "task t: there are no queries"),
            (&["d"], &["q"], &[], "task t: there are no judgements"),
            (&["d", "e", "d"], &["q"], &judged, "task t: duplicate document id \"d\""),
            (&["d"], &["q", "q"], &judged, "task t: duplicate query id \"q\""),
            (&["d"], &["p"], &judged, "task t: query \"q\" is judged but is not among the queries"),
            (
                &["e", "f"],
                &["q"],
                &judged,
                "task t: no judged document is in the corpus: the judgements have e.g. \"d\", the corpus \"e\"",
            ),
            (
                &["01", "02"],
                &["q", "p"],
                &[("q", "1", 1), ("p", "2", 0)],
                "task t: no judged document is in the corpus: the judgements have e.g. \"2\", the corpus \"01\"",
            ),
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
        let most = "2 of 3 judged documents are not in the corpus: the judgements have e.g. \"x\", the corpus \"d\"";
        assert_eq!(task.warnings(), [most]);
        let task = build(&["d", "e"], &["q"], &[("q", "d", 1), ("q", "e", 1), ("q", "x", 1)]).expect("valid");
        assert_eq!(task.warnings(), ["1 of 3 judged documents are not in the corpus"]);
        assert_eq!(build(&["d"], &["q"], &[("q", "d", 1)]).expect("valid").warnings(), Vec::<String>::new());
    }

    #[test]
    fn queries_in_the_corpus_are_counted_until_they_are_ignored() {
        let task = build(&["a", "b", "c", "d"], &["a", "b", "q", "d"], &[("a", "c", 1), ("b", "c", 1), ("q", "c", 1)]);
        let task = task.expect("valid");
        assert_eq!((task.identical_ids(), task.ignores_identical_ids()), (2, false));
        let warning = "2 of 3 queries have a document with their own id, e.g. \"a\"; if it is the query itself, as in \
                       ArguAna, set ignore_identical_ids";
        assert_eq!(task.warnings(), [warning]);
        let task = task.with_ignore_identical_ids(true);
        assert_eq!((task.identical_ids(), task.ignores_identical_ids(), task.warnings()), (2, true, Vec::new()));
    }
}
