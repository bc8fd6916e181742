//! Relevance judgements.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::error::{Error, ErrorKind, Result};

/// Which documents are relevant to which queries, and to what degree.
///
/// A grade above 0 means relevant; 0 or below means judged not relevant. Queries and documents iterate in the order of
/// their ids, so everything computed from qrels is deterministic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Qrels {
    queries: BTreeMap<String, BTreeMap<String, i32>>,
}

impl Qrels {
    /// Empty qrels.
    pub fn new() -> Self {
        Self::default()
    }

    /// Collects `(query_id, doc_id, grade)` judgements.
    ///
    /// # Errors
    /// [`ErrorKind::Duplicate`] if a document is judged twice for a query.
    pub fn from_judgements<Q, D>(judgements: impl IntoIterator<Item = (Q, D, i32)>) -> Result<Self>
    where
        Q: AsRef<str>,
        D: AsRef<str>,
    {
        let mut qrels = Self::new();
        for (query_id, doc_id, grade) in judgements {
            qrels.insert(query_id.as_ref(), doc_id.as_ref(), grade)?;
        }
        Ok(qrels)
    }

    /// Adds one judgement.
    ///
    /// # Errors
    /// [`ErrorKind::Duplicate`] if the document is already judged for the query, even with the same grade.
    pub fn insert(&mut self, query_id: &str, doc_id: &str, grade: i32) -> Result<()> {
        match self.queries.entry(query_id.to_owned()).or_default().entry(doc_id.to_owned()) {
            Entry::Vacant(entry) => {
                entry.insert(grade);
                Ok(())
            }
            Entry::Occupied(_) => Err(Error::new(
                ErrorKind::Duplicate,
                format!("document {doc_id:?} is judged twice for query {query_id:?}"),
            )),
        }
    }

    /// The grades of a query by document id; `None` if it has no judgements.
    pub fn get(&self, query_id: &str) -> Option<&BTreeMap<String, i32>> {
        self.queries.get(query_id)
    }

    /// The relevant documents of a query (grade above 0), with their grades.
    pub fn relevant(&self, query_id: &str) -> impl Iterator<Item = (&str, i32)> {
        let judged = self.queries.get(query_id).into_iter().flatten();
        judged.filter(|(_, grade)| **grade > 0).map(|(doc_id, grade)| (doc_id.as_str(), *grade))
    }

    /// Every query and its judgements, ordered by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, i32>)> {
        self.queries.iter().map(|(query_id, judged)| (query_id.as_str(), judged))
    }

    /// Every judgement as `(query_id, doc_id, grade)`, ordered by id.
    pub fn judgements(&self) -> impl Iterator<Item = (&str, &str, i32)> {
        self.iter().flat_map(|(query_id, judged)| {
            judged.iter().map(move |(doc_id, grade)| (query_id, doc_id.as_str(), *grade))
        })
    }

    /// The number of judged queries.
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    /// Whether there are no judgements.
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }
}
