//! Small sketches of texts, which tell cheaply that two are no near-duplicates.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::near::{NearDuplicates, mix};

/// Bytes of a sketch, one per hash function.
const BYTES: usize = 64;
/// The most often that a pair exactly at the threshold may be overlooked.
const MISSED: f64 = 1e-6;

/// MinHash with 8 bits per hash function, compared with other sketches; the exact similarity decides.
pub(super) struct Sketches {
    near: NearDuplicates,
    hashes: Vec<(u64, u64)>,
    /// Bytes that agree in the sketches of near-duplicates, at least.
    equal: usize,
}

pub(super) type Sketch = [u8; BYTES];

impl Sketches {
    pub(super) fn new(near: NearDuplicates) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let hashes = (0..BYTES).map(|_| (rng.random::<u64>() | 1, rng.random())).collect();
        Self { near, hashes, equal: agreeing(near.threshold()) }
    }

    pub(super) fn of(&self, text: &str) -> Sketch {
        let grams = self.near.grams(text);
        let mut sketch = [0; BYTES];
        for (byte, &(a, b)) in sketch.iter_mut().zip(&self.hashes) {
            *byte = grams.iter().map(|gram| mix(gram.wrapping_mul(a) ^ b)).min().unwrap_or_default() as u8;
        }
        sketch
    }

    /// Whether the texts of two sketches may be near-duplicates.
    pub(super) fn may_be_near(&self, a: &Sketch, b: &Sketch) -> bool {
        // At most 64, so that bytes can be added to bytes, many at once.
        usize::from(a.iter().zip(b).map(|(a, b)| u8::from(a == b)).sum::<u8>()) >= self.equal
    }

    /// Whether two texts are near-duplicates.
    pub(super) fn are_near(&self, a: &str, b: &str) -> bool {
        let (a, b) = (self.near.grams(a), self.near.grams(b));
        // Texts without a single n-gram are duplicates of nothing.
        !a.is_empty() && jaccard(&a, &b) >= self.near.threshold()
    }
}

/// The Jaccard similarity of two ascending lists.
fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let (mut i, mut j, mut common) = (0, 0, 0usize);
    while i < a.len() && j < b.len() {
        let order = a[i].cmp(&b[j]);
        common += usize::from(order.is_eq());
        i += usize::from(order.is_le());
        j += usize::from(order.is_ge());
    }
    common as f64 / (a.len() + b.len() - common).max(1) as f64
}

/// The most bytes that all but [`MISSED`] of the pairs with this similarity have in common.
fn agreeing(similarity: f64) -> usize {
    let mut probability = (1.0 - similarity).powi(BYTES as i32);
    let mut below = 0.0;
    for equal in 0..BYTES {
        below += probability;
        if below > MISSED || similarity >= 1.0 {
            return if similarity >= 1.0 { BYTES } else { equal };
        }
        probability *= (BYTES - equal) as f64 / (equal + 1) as f64 * similarity / (1.0 - similarity);
    }
    BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_few_bytes_must_agree_as_the_binomial_distribution_says() {
        // scipy.stats.binom.ppf(1e-6, 64, p): the least k with a distribution function of at least 1e-6.
        assert_eq!([0.3, 0.5, 0.8, 0.95, 1.0].map(agreeing), [4, 14, 34, 50, 64]);
    }

    #[test]
    fn near_duplicates_are_told_from_other_texts() {
        let sketches = Sketches::new(NearDuplicates::default());
        let text = "糖尿病人可以吃西瓜吗，西瓜的含糖量比较高，建议少吃，每次不超过二百克，两餐之间吃比较好";
        let near = text.replace("二百克", "三百克");
        let other = "高血压病人不能喝酒，喝酒会使血压升高，建议戒酒，平时少吃盐，多运动，按时吃药，定期复查";
        assert!(sketches.may_be_near(&sketches.of(text), &sketches.of(&near)) && sketches.are_near(text, &near));
        assert!(!sketches.may_be_near(&sketches.of(text), &sketches.of(other)) && !sketches.are_near(text, other));
        assert!(!sketches.are_near("", ""));
    }
}
