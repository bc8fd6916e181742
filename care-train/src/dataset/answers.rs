//! Which texts are known to answer a query.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// A hash that stands for a text, without the white space around it.
pub(crate) fn text_key(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.trim().hash(&mut hasher);
    hasher.finish()
}

/// The known answers of every row of a source, as [`text_key`]s: its positives, and those of rows with the same query.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct AnswerKeys {
    /// The query of each row.
    queries: Vec<u64>,
    /// The positives of all rows, one row after the other.
    positives: Vec<u64>,
    /// Where the positives of each row end.
    ends: Vec<usize>,
    /// The positives of queries that several rows have, sorted.
    shared: HashMap<u64, Arc<[u64]>>,
}

impl AnswerKeys {
    /// Adds a row.
    pub(super) fn push(&mut self, query: &str, positives: &[String]) {
        self.queries.push(text_key(query));
        self.positives.extend(positives.iter().map(|text| text_key(text)));
        self.ends.push(self.positives.len());
    }

    /// Joins the answers of rows with the same query, once all rows are added.
    pub(super) fn join(&mut self) {
        let mut order: Vec<usize> = (0..self.queries.len()).collect();
        order.sort_unstable_by_key(|&row| self.queries[row]);
        for rows in order.chunk_by(|&left, &right| self.queries[left] == self.queries[right]) {
            if let [first, _, ..] = *rows {
                let mut answers: Vec<u64> = rows.iter().flat_map(|&row| self.positives(row)).copied().collect();
                answers.sort_unstable();
                answers.dedup();
                self.shared.insert(self.queries[first], answers.into());
            }
        }
        self.positives.shrink_to_fit();
    }

    /// The query of a row.
    pub(crate) fn query(&self, row: usize) -> u64 {
        self.queries[row]
    }

    /// The positives of a row itself.
    pub(crate) fn positives(&self, row: usize) -> &[u64] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.positives[start..self.ends[row]]
    }

    /// The known answers of a row, sorted.
    pub(crate) fn of(&self, row: usize) -> Arc<[u64]> {
        match self.shared.get(&self.queries[row]) {
            Some(answers) => Arc::clone(answers),
            None => {
                let mut answers = self.positives(row).to_vec();
                answers.sort_unstable();
                answers.into()
            }
        }
    }
}
