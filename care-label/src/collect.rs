//! Collects candidates: the best documents of several systems for each query, pooled.

use std::collections::{HashMap, HashSet};

use care_core::{Error, ErrorKind, Result};
use care_eval::{Qrels, Run, Ties};

use crate::pair::{Found, Pair};

/// A query that candidates are collected for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryText {
    /// Its id.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Its group, e.g. the department, for stratified samples.
    pub group: Option<String>,
}

/// The documents that systems found, and who found each.
///
/// # Reference
/// Depth-k pooling as in TREC; CMedTEB pools several retrievers before its LLMs judge.
#[derive(Debug, Clone, Default)]
pub struct Pool {
    found: HashMap<String, HashMap<String, Vec<Found>>>,
    systems: Vec<String>,
}

impl Pool {
    /// Adds the `depth` best documents of each query of a run. Equal scores are ordered by document id, descending, as
    /// trec_eval does.
    ///
    /// # Errors
    /// If a system of this name was added, or `depth` is 0.
    pub fn add(&mut self, system: &str, run: &Run, depth: usize) -> Result<()> {
        if depth == 0 {
            return Err(Error::setting("depth", depth, ">= 1"));
        }
        if self.systems.iter().any(|known| known == system) {
            return Err(Error::setting("system", format!("`{system}` twice"), "one run per system"));
        }
        self.systems.push(system.to_owned());
        for query_id in run.query_ids() {
            let ranking = run.ranked(query_id, Ties::TrecEval);
            let documents = self.found.entry(query_id.to_owned()).or_default();
            for (at, (doc_id, score)) in ranking.into_iter().take(depth).enumerate() {
                let found = Found { system: system.to_owned(), rank: at + 1, score };
                documents.entry(doc_id.to_owned()).or_default().push(found);
            }
        }
        Ok(())
    }

    /// Ids of all documents in the pool, and of those that `qrels` judge for its queries: the texts that
    /// [`Pool::pairs`] needs.
    pub fn doc_ids(&self, qrels: Option<&Qrels>) -> HashSet<String> {
        let judged = qrels.into_iter().flat_map(Qrels::judgements).map(|(_, document, _)| document.to_owned());
        self.found.values().flat_map(HashMap::keys).cloned().chain(judged).collect()
    }

    /// The pairs of the queries, in their order; within a query by best rank, then by document id.
    ///
    /// With `qrels`, each pair has its known grade, and judged documents that no system found are candidates too.
    ///
    /// # Errors
    /// If a run has a query that is not among `queries` (it belongs to other data), a document has no text, or no query
    /// has a candidate. Queries without candidates are left out; [`Pool::without_candidates`] lists them.
    pub fn pairs(
        &self,
        queries: &[QueryText],
        documents: &HashMap<String, String>,
        qrels: Option<&Qrels>,
    ) -> Result<Vec<Pair>> {
        let known: HashSet<&str> = queries.iter().map(|query| query.id.as_str()).collect();
        if let Some(foreign) = self.found.keys().filter(|id| !known.contains(id.as_str())).min() {
            let problem = format!("a run has results for query `{foreign}`, which is not among the queries");
            return Err(Error::new(ErrorKind::Format, problem));
        }
        let nothing = HashMap::new();
        let mut pairs = Vec::new();
        for query in queries {
            let found = self.found.get(&query.id).unwrap_or(&nothing);
            let grades = qrels.and_then(|qrels| qrels.get(&query.id));
            let mut ids: Vec<&String> = found.keys().collect();
            ids.extend(grades.into_iter().flat_map(|grades| grades.keys()).filter(|id| !found.contains_key(*id)));
            let best = |id: &String| found.get(id).and_then(|by| by.iter().map(|f| f.rank).min()).unwrap_or(usize::MAX);
            ids.sort_unstable_by_key(|id| (best(id), *id));
            for id in ids {
                let document = documents.get(id).ok_or_else(|| {
                    let problem = format!("document `{id}`, found for query `{}`, is not in the corpus", query.id);
                    Error::new(ErrorKind::Format, problem)
                })?;
                pairs.push(Pair {
                    query_id: query.id.clone(),
                    doc_id: id.clone(),
                    query: query.text.clone(),
                    document: document.clone(),
                    positive: None,
                    group: query.group.clone(),
                    grade: grades.and_then(|grades| grades.get(id)).copied(),
                    systems: found.get(id).cloned().unwrap_or_default(),
                });
            }
        }
        if pairs.is_empty() {
            return Err(Error::new(ErrorKind::Format, "no query has a candidate"));
        }
        Ok(pairs)
    }

    /// The queries for which no system found a document.
    pub fn without_candidates<'a>(&self, queries: &'a [QueryText]) -> Vec<&'a str> {
        let none = |query: &&QueryText| self.found.get(&query.id).is_none_or(HashMap::is_empty);
        queries.iter().filter(none).map(|query| query.id.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(id: &str) -> QueryText {
        QueryText { id: id.into(), text: format!("text of {id}"), group: None }
    }

    fn texts(ids: &[&str]) -> HashMap<String, String> {
        ids.iter().map(|id| ((*id).to_owned(), format!("text of {id}"))).collect()
    }

    #[test]
    fn systems_are_pooled_and_remembered() {
        let mut pool = Pool::default();
        let first =
            Run::from_scores([("q1", "a", 3.0), ("q1", "b", 2.0), ("q1", "c", 1.0), ("q2", "a", 1.0)]).expect("run");
        let second = Run::from_scores([("q1", "d", 0.5), ("q1", "b", 0.9), ("q1", "a", 0.5)]).expect("run");
        pool.add("bm25", &first, 2).expect("added");
        pool.add("pair", &second, 2).expect("added");
        let qrels = Qrels::from_judgements([("q1", "e", 1), ("q1", "b", 0)]).expect("qrels");
        assert_eq!(pool.doc_ids(Some(&qrels)).len(), 4);
        let queries = [query("q2"), query("q1"), query("q3")];
        let pairs = pool.pairs(&queries, &texts(&["a", "b", "d", "e"]), Some(&qrels)).expect("pairs");
        let ids: Vec<_> = pairs.iter().map(Pair::id).collect();
        // Of the tie of `d` and `a`, trec_eval takes `d`.
        assert_eq!(ids, [("q2", "a"), ("q1", "a"), ("q1", "b"), ("q1", "d"), ("q1", "e")]);
        let by: Vec<_> = pairs[2].systems.iter().map(|found| (found.system.as_str(), found.rank)).collect();
        assert_eq!((by, pairs[2].grade), (vec![("bm25", 2), ("pair", 1)], Some(0)));
        assert_eq!((pairs[4].systems.len(), pairs[4].grade, pairs[3].grade), (0, Some(1), None));
        assert_eq!(pool.without_candidates(&queries), ["q3"]);
    }

    #[test]
    fn foreign_runs_and_absent_documents_are_refused() {
        let mut pool = Pool::default();
        let run = Run::from_scores([("q1", "a", 3.0)]).expect("run");
        pool.add("bm25", &run, 10).expect("added");
        let message = |result: Result<Vec<Pair>>| result.expect_err("refused").to_string();
        let foreign = "a run has results for query `q1`, which is not among the queries";
        assert_eq!(message(pool.pairs(&[query("q2")], &texts(&["a"]), None)), foreign);
        let absent = "document `a`, found for query `q1`, is not in the corpus";
        assert_eq!(message(pool.pairs(&[query("q1")], &texts(&["b"]), None)), absent);
        assert_eq!(message(Pool::default().pairs(&[query("q1")], &texts(&[]), None)), "no query has a candidate");
        assert_eq!(
            pool.add("bm25", &run, 1).expect_err("twice").to_string(),
            "`system` is `bm25` twice, allowed: one run per system"
        );
        assert_eq!(pool.add("b", &run, 0).expect_err("none").to_string(), "`depth` is 0, allowed: >= 1");
    }
}
