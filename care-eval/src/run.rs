//! The output of a retrieval system.

use std::collections::BTreeMap;

use compact_str::CompactString;
use indexmap::IndexMap;
use indexmap::map::Entry;

use crate::error::{Error, ErrorKind, Result};
use crate::ties::{Candidate, Ties};

/// The documents that a system retrieved for each query, with their scores; higher scores rank first.
///
/// Scores are `f32`, as trec_eval 9 compares them. A run holds scores, not ranks: [`Ties`](crate::Ties) decides the
/// order of equal scores at evaluation. A query exists once it has a document, as in a TREC file, or once it is added
/// without one ([`insert_query`](Run::insert_query)): it was answered with nothing.
#[derive(Debug, Clone, Default)]
pub struct Run {
    queries: BTreeMap<String, Retrieved>,
}

/// The documents of a query and their scores, in the order in which they were added.
pub(crate) type Retrieved = IndexMap<CompactString, f32, foldhash::fast::RandomState>;

impl Run {
    /// An empty run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Collects `(query_id, doc_id, score)` entries.
    ///
    /// # Errors
    /// As [`insert`](Run::insert).
    pub fn from_scores<Q, D>(scores: impl IntoIterator<Item = (Q, D, f32)>) -> Result<Self>
    where
        Q: AsRef<str>,
        D: AsRef<str>,
    {
        let mut run = Self::new();
        for (query_id, doc_id, score) in scores {
            run.insert(query_id.as_ref(), doc_id.as_ref(), score)?;
        }
        Ok(run)
    }

    /// Adds one retrieved document.
    ///
    /// # Errors
    /// [`ErrorKind::Score`] if the score is NaN, [`ErrorKind::Duplicate`] if the query already has the document.
    pub fn insert(&mut self, query_id: &str, doc_id: &str, score: f32) -> Result<()> {
        // No allocation for a known query.
        match self.queries.get_mut(query_id) {
            Some(retrieved) => retrieve(retrieved, query_id, doc_id, score),
            None => {
                let mut retrieved = Retrieved::default();
                retrieve(&mut retrieved, query_id, doc_id, score)?;
                self.queries.insert(query_id.to_owned(), retrieved);
                Ok(())
            }
        }
    }

    /// Adds a query that was answered, if only with no document; a query that is in the run stays as it is.
    pub fn insert_query(&mut self, query_id: &str) {
        if !self.contains(query_id) {
            self.queries.insert(query_id.to_owned(), Retrieved::default());
        }
    }

    /// The documents of a query and their scores, in the order in which they were added; `None` if it is not in the run.
    pub fn get(&self, query_id: &str) -> Option<impl ExactSizeIterator<Item = (&str, f32)>> {
        let retrieved = self.queries.get(query_id)?;
        Some(retrieved.iter().map(|(doc_id, score)| (doc_id.as_str(), *score)))
    }

    /// The run without each query's document of the same id, if it has one.
    ///
    /// For data whose queries are in the corpus under their own ids, e.g. ArguAna and Quora: a query retrieves itself
    /// first. Ids that are equal by chance name another document, which this removes too.
    ///
    /// # Reference
    /// `ignore_identical_ids` of BEIR's and mteb's evaluation.
    #[must_use]
    pub fn without_identical_ids(mut self) -> Self {
        for (query_id, retrieved) in &mut self.queries {
            retrieved.shift_remove(query_id.as_str());
        }
        self
    }

    /// The score of a document for a query; `None` if it was not retrieved.
    pub fn score(&self, query_id: &str, doc_id: &str) -> Option<f32> {
        self.queries.get(query_id)?.get(doc_id).copied()
    }

    /// Whether the run answers a query.
    pub fn contains(&self, query_id: &str) -> bool {
        self.queries.contains_key(query_id)
    }

    /// The ids of the answered queries, in order.
    pub fn query_ids(&self) -> impl Iterator<Item = &str> {
        self.queries.keys().map(String::as_str)
    }

    /// The number of answered queries.
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    /// Whether the run answers no query.
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// The documents of a query and their scores, best first; none if it is not in the run. All grades count as 0 for the
    /// tie rule.
    ///
    /// ```
    /// use care_eval::{Run, Ties};
    ///
    /// let run = Run::from_scores([("q", "b", 1.0), ("q", "a", 2.0)])?;
    /// assert_eq!(run.ranked("q", Ties::TrecEval), [("a", 2.0), ("b", 1.0)]);
    /// # Ok::<(), care_eval::Error>(())
    /// ```
    pub fn ranked(&self, query_id: &str, ties: Ties) -> Vec<(&str, f32)> {
        let retrieved = self.queries.get(query_id).into_iter().flatten().enumerate();
        let mut candidates: Vec<_> =
            retrieved.map(|(position, (doc_id, &score))| Candidate { doc_id, score, position, grade: 0 }).collect();
        ties.sort(&mut candidates, None);
        candidates.into_iter().map(|candidate| (candidate.doc_id, candidate.score)).collect()
    }

    pub(crate) fn retrieved(&self, query_id: &str) -> Option<&Retrieved> {
        self.queries.get(query_id)
    }

    /// Adds distinct documents to a query. If the query already has one of them, the error comes with its position.
    pub(crate) fn extend(&mut self, query_id: String, documents: Retrieved) -> std::result::Result<(), (usize, Error)> {
        let Some(retrieved) = self.queries.get_mut(&query_id) else {
            self.queries.insert(query_id, documents);
            return Ok(());
        };
        for (position, (doc_id, score)) in documents.into_iter().enumerate() {
            retrieve(retrieved, &query_id, &doc_id, score).map_err(|error| (position, error))?;
        }
        Ok(())
    }
}

/// Two runs are equal if they hold the same documents in the same order.
impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        self.queries.len() == other.queries.len()
            && self
                .queries
                .iter()
                .zip(&other.queries)
                .all(|(left, right)| left.0 == right.0 && left.1.iter().eq(right.1))
    }
}

/// Adds a document to those of a query.
pub(crate) fn retrieve(retrieved: &mut Retrieved, query_id: &str, doc_id: &str, score: f32) -> Result<()> {
    if score.is_nan() {
        let message = format!("the score of document {doc_id:?} for query {query_id:?} is NaN");
        return Err(Error::new(ErrorKind::Score, message));
    }
    match retrieved.entry(doc_id.into()) {
        Entry::Vacant(entry) => {
            entry.insert(score);
            Ok(())
        }
        Entry::Occupied(_) => {
            let message = format!("document {doc_id:?} is retrieved twice for query {query_id:?}");
            Err(Error::new(ErrorKind::Duplicate, message))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn own_ids_are_removed_and_the_order_of_the_others_stays() {
        let scores = [("a", "b", 0.5), ("a", "a", 1.0), ("a", "c", 0.5), ("b", "b", 1.0), ("c", "a", 1.0)];
        let run = Run::from_scores(scores).unwrap().without_identical_ids();
        assert_eq!(run.get("a").unwrap().collect::<Vec<_>>(), [("b", 0.5), ("c", 0.5)]);
        assert_eq!(run.get("b").map(Iterator::count), Some(0));
        assert_eq!(run.get("c").unwrap().collect::<Vec<_>>(), [("a", 1.0)]);
    }
}
