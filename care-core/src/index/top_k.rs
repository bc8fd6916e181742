//! Search results, and the best `k` of many.

use std::cmp::Ordering;

/// A search result: a document's row in the index and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Row of the document in the index.
    pub index: usize,
    /// Dot product of query and document.
    pub score: f32,
}

impl Hit {
    /// The total order of results: score descending, then row ascending.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.index.cmp(&other.index))
    }
}

/// The best hits of a query so far.
#[derive(Clone)]
pub(super) struct TopK {
    k: usize,
    /// The best `k`, and some that were not compared with them yet.
    hits: Vec<Hit>,
    /// What a score must exceed to be among them: that of the `k`th hit. A later document with the same score has a higher
    /// row, so it ranks below.
    least: f32,
}

/// Scores that are compared with the least at once.
const LANES: usize = 32;

impl TopK {
    pub(super) fn new(k: usize) -> Self {
        Self { k, hits: Vec::new(), least: f32::NEG_INFINITY }
    }

    /// Adds the scores of documents whose rows, from `start`, are above all before.
    pub(super) fn add(&mut self, scores: &[f32], start: usize) {
        self.add_rows(scores, |at| start + at);
    }

    /// Adds the scores of documents whose rows, in ascending order, are above all before.
    pub(super) fn add_rows(&mut self, scores: &[f32], row: impl Fn(usize) -> usize) {
        if self.k == 0 {
            return;
        }
        // A score that is not a number is above all others for `total_cmp`.
        let exceeds =
            |score: f32, least: f32| !matches!(score.partial_cmp(&least), Some(Ordering::Less | Ordering::Equal));
        for (lane, scores) in scores.chunks(LANES).enumerate() {
            let full = self.hits.len() >= self.k;
            if full && !scores.iter().fold(false, |any, &score| any | exceeds(score, self.least)) {
                continue;
            }
            for (at, &score) in (lane * LANES..).zip(scores) {
                if self.hits.len() < self.k || exceeds(score, self.least) {
                    // Adding 0 turns -0 into 0, which `total_cmp` would tell apart.
                    self.hits.push(Hit { index: row(at), score: score + 0.0 });
                }
            }
            if self.hits.len() >= self.k.saturating_mul(2).saturating_add(LANES) {
                self.select();
            }
        }
    }

    /// Keeps the `k` best, in any order.
    fn select(&mut self) {
        if self.hits.len() > self.k && self.k > 0 {
            self.hits.select_nth_unstable_by(self.k - 1, Hit::compare);
            self.hits.truncate(self.k);
            self.least = self.hits[self.k - 1].score;
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.hits.extend(other.hits);
        self.select();
    }

    /// The `k` best hits, in order.
    pub(super) fn into_hits(mut self) -> Vec<Hit> {
        self.select();
        self.hits.sort_unstable_by(Hit::compare);
        self.hits
    }
}
