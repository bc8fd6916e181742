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
    #[cfg(test)]
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.index.cmp(&other.index))
    }
}

/// The best hits of a query so far.
#[derive(Clone)]
pub(super) struct TopK {
    k: usize,
    /// The best `k`, and some that were not compared with them yet; from `count` on, free places.
    hits: Vec<Key>,
    count: usize,
    /// What a score must exceed to be among them: that of the `k`th hit, NaN until there is one. A later document with the
    /// same score has a higher row, so it ranks below.
    least: f32,
}

/// A hit as a number, less for a better one, since numbers are sorted without branches: the score's bits in the order of
/// `total_cmp`, inverted, above the 64 bits of the row.
type Key = u128;

/// Scores that are compared with the least at once.
const LANES: usize = 8;

impl TopK {
    pub(super) fn new(k: usize) -> Self {
        Self { k, hits: Vec::new(), count: 0, least: f32::NAN }
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
        let (lanes, rest) = scores.as_chunks::<LANES>();
        for (lane, scores) in lanes.iter().enumerate() {
            let least = self.least;
            if scores.iter().fold(false, |any, &score| any | exceeds(score, least)) {
                self.add_few(scores, lane * LANES, &row);
            }
        }
        self.add_few(rest, lanes.len() * LANES, &row);
    }

    /// Adds at most [`LANES`] scores, of which the first is number `from`.
    fn add_few(&mut self, scores: &[f32], from: usize, row: &impl Fn(usize) -> usize) {
        if self.hits.len() < self.count + LANES {
            let most = self.k.saturating_mul(2);
            self.hits.resize((self.count * 2).clamp(most.min(64), most) + LANES, 0);
        }
        for (at, &score) in (from..).zip(scores) {
            // Every score is put down, and only the count tells which is kept: a branch would often be mispredicted.
            self.hits[self.count] = key(row(at), score);
            self.count += usize::from(exceeds(score, self.least));
        }
        if self.count >= self.k.saturating_mul(2) {
            self.select();
        }
    }

    /// Keeps the `k` best, in any order.
    fn select(&mut self) {
        if self.count > self.k && self.k > 0 {
            let (_, last, _) = self.hits[..self.count].select_nth_unstable(self.k - 1);
            self.least = hit(*last).score;
            self.count = self.k;
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.hits.truncate(self.count);
        self.hits.extend_from_slice(&other.hits[..other.count]);
        self.count = self.hits.len();
        self.select();
    }

    /// The `k` best hits, in order.
    pub(super) fn into_hits(mut self) -> Vec<Hit> {
        self.select();
        self.hits.truncate(self.count);
        self.hits.sort_unstable();
        self.hits.into_iter().map(hit).collect()
    }
}

/// Whether a score is above another, or one of them is not a number, which only [`Key`]s can tell.
fn exceeds(score: f32, least: f32) -> bool {
    !matches!(score.partial_cmp(&least), Some(Ordering::Less | Ordering::Equal))
}

fn key(row: usize, score: f32) -> Key {
    // Adding 0 turns -0 into 0, which would be told apart.
    let bits = flip((score + 0.0).to_bits());
    Key::from(!(bits ^ SIGN)) << 64 | row as Key
}

fn hit(key: Key) -> Hit {
    let bits = !((key >> 64) as u32) ^ SIGN;
    Hit { index: key as u64 as usize, score: f32::from_bits(flip(bits)) }
}

const SIGN: u32 = 1 << 31;

/// A negative number's bits but for its sign inverted, which orders floats as signed integers; its own inverse.
fn flip(bits: u32) -> u32 {
    bits ^ (((bits as i32 >> 31) as u32) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_of_any_scores_are_sorted_as_floats() {
        let (nan, least) = (f32::NAN, f32::NEG_INFINITY);
        let mut scores = [-nan, least, 0.5, -0.0, nan, f32::INFINITY, -1.0, 0.0, 0.5, -nan, least, 1e-40, -1e-40, 2.0];
        let bits = |hits: Vec<Hit>| hits.iter().map(|hit| (hit.index, hit.score.to_bits())).collect::<Vec<_>>();
        for turn in 0..scores.len() {
            scores.rotate_left(1);
            for k in 0..=scores.len() + 1 {
                let mut all: Vec<Hit> =
                    scores.iter().enumerate().map(|(index, score)| Hit { index, score: score + 0.0 }).collect();
                all.sort_by(Hit::compare);
                all.truncate(k);
                let (mut best, mut other) = (TopK::new(k), TopK::new(k));
                best.add(&scores[..1], 0);
                best.add(&scores[1..10], 1);
                other.add(&scores[10..], 10);
                best.merge(other);
                assert_eq!(bits(best.into_hits()), bits(all), "{turn} {k}");
            }
        }
    }
}
