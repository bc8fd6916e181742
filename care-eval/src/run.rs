//! What a retrieval system returned.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use crate::error::{Error, ErrorKind, Result};
use crate::ties::{Candidate, Ties};

/// The documents that a system retrieved for each query, with their scores; a higher score ranks
/// first.
///
/// Scores are `f32`, as trec_eval 9 compares them. A run holds scores, not ranks: the order among
/// equal scores is chosen at evaluation by [`Ties`]. A query exists once it has a document, as in a
/// TREC file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    queries: BTreeMap<String, HashMap<String, Scored>>,
}

/// A document's score, and its place in the input.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scored {
    score: f32,
    position: usize,
}

impl Run {
    /// No documents.
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
    /// [`ErrorKind::Score`] if the score is NaN, [`ErrorKind::Duplicate`] if the query already has
    /// the document.
    pub fn insert(&mut self, query_id: &str, doc_id: &str, score: f32) -> Result<()> {
        if score.is_nan() {
            let message = format!("the score of document {doc_id:?} for query {query_id:?} is not a number");
            return Err(Error::new(ErrorKind::Score, message));
        }
        let retrieved = self.queries.entry(query_id.to_owned()).or_default();
        let position = retrieved.len();
        match retrieved.entry(doc_id.to_owned()) {
            Entry::Vacant(entry) => {
                entry.insert(Scored { score, position });
                Ok(())
            }
            Entry::Occupied(_) => Err(Error::new(
                ErrorKind::Duplicate,
                format!("document {doc_id:?} is retrieved twice for query {query_id:?}"),
            )),
        }
    }

    /// The documents of a query and their scores in the order they were added; `None` if it has
    /// none.
    pub fn get(&self, query_id: &str) -> Option<Vec<(&str, f32)>> {
        let retrieved = self.queries.get(query_id)?;
        let mut documents: Vec<_> = retrieved.iter().collect();
        documents.sort_unstable_by_key(|(_, scored)| scored.position);
        Some(documents.into_iter().map(|(doc_id, scored)| (doc_id.as_str(), scored.score)).collect())
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

    /// The documents of a query, best first, with the grades that `grade_of` gives them; empty for
    /// an unknown query.
    pub(crate) fn ranked(&self, query_id: &str, ties: Ties, grade_of: impl Fn(&str) -> i32) -> Vec<Candidate<'_>> {
        let retrieved = self.queries.get(query_id).into_iter().flatten();
        let mut candidates: Vec<_> = retrieved
            .map(|(doc_id, &Scored { score, position })| Candidate { doc_id, score, position, grade: grade_of(doc_id) })
            .collect();
        ties.sort(&mut candidates);
        candidates
    }
}
