//! Near-duplicates by character n-grams: MinHash finds candidates, the exact Jaccard similarity decides.

use std::hash::{BuildHasher, Hasher};

use care_core::{Error, Result};
use foldhash::quality::FixedState;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::normalise::normalise;

/// Number of hash functions of a signature.
const HASHES: usize = 128;
/// The most often that a pair exactly at the threshold may be overlooked.
const MISSED: f64 = 1e-3;

/// When two texts are near-duplicates: their sets of character n-grams have at least a given Jaccard similarity, after
/// [`normalise`]. A text with fewer characters than an n-gram is one n-gram; nothing is left out for being short. An
/// empty text is a duplicate of nothing.
///
/// Memory is 8 bytes per distinct n-gram of a text and 1 kB per text. The result is the same for any number of threads.
///
/// # Reference
/// Broder, *On the resemblance and containment of documents*, 1997. A pair at the threshold is missed with a probability
/// below 0.001, a more similar one less often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NearDuplicates {
    ngram: usize,
    threshold: f64,
}

/// Two near-duplicates, by their positions, and their similarity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NearPair {
    /// Position of the first text.
    pub first: usize,
    /// Position of the second text, above the first.
    pub second: usize,
    /// Jaccard similarity, 0 to 1.
    pub similarity: f64,
}

impl Default for NearDuplicates {
    /// Trigrams of characters, similarity 0.8.
    fn default() -> Self {
        Self { ngram: 3, threshold: 0.8 }
    }
}

impl NearDuplicates {
    /// Characters per n-gram, 1 to 16, and the least similarity of near-duplicates, 0.3 to 1.
    ///
    /// # Errors
    /// If a number is out of its range.
    pub fn new(ngram: usize, threshold: f64) -> Result<Self> {
        if !(1..=16).contains(&ngram) {
            return Err(Error::setting("ngram", ngram, "1 to 16"));
        }
        if !(0.3..=1.0).contains(&threshold) {
            return Err(Error::setting("threshold", threshold, "0.3 to 1"));
        }
        Ok(Self { ngram, threshold })
    }

    /// The group of each text: the position of the first text that it is connected to by near-duplicates.
    pub fn groups<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Vec<usize> {
        let mut groups: Vec<usize> = (0..texts.len()).collect();
        fn root(groups: &mut [usize], mut at: usize) -> usize {
            while groups[at] != at {
                groups[at] = groups[groups[at]];
                at = groups[at];
            }
            at
        }
        for pair in self.pairs(texts) {
            let (first, second) = (root(&mut groups, pair.first), root(&mut groups, pair.second));
            groups[first.max(second)] = first.min(second);
        }
        (0..groups.len()).map(|at| root(&mut groups, at)).collect()
    }

    /// All near-duplicates among the texts, ordered by position. Of many equal texts, each is paired with the first one
    /// only.
    pub fn pairs<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Vec<NearPair> {
        let grams: Vec<Vec<u64>> = texts.par_iter().map(|text| self.grams(text.as_ref())).collect();
        let (mut pairs, distinct) = equal_pairs(&grams);
        pairs.extend(
            self.candidates(&grams, &distinct)
                .into_par_iter()
                .filter_map(|(first, second)| {
                    let similarity = jaccard(&grams[first], &grams[second]);
                    (similarity >= self.threshold).then_some(NearPair { first, second, similarity })
                })
                .collect::<Vec<_>>(),
        );
        pairs.sort_unstable_by_key(|pair| (pair.first, pair.second));
        pairs
    }

    /// The least similarity of near-duplicates.
    pub(crate) fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The hashes of a text's distinct n-grams, in ascending order.
    pub(crate) fn grams(&self, text: &str) -> Vec<u64> {
        let text = normalise(text);
        let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let hash = |gram: &str| {
            let mut hasher = FixedState::with_seed(1).build_hasher();
            hasher.write(gram.as_bytes());
            hasher.finish()
        };
        let mut grams: Vec<u64> = match starts.len() - 1 {
            0 => vec![],
            length if length <= self.ngram => vec![hash(&text)],
            _ => starts.windows(self.ngram + 1).map(|window| hash(&text[window[0]..window[self.ngram]])).collect(),
        };
        grams.sort_unstable();
        grams.dedup();
        grams
    }

    /// Pairs of texts whose signatures agree in a band, each once, among the texts at these positions.
    fn candidates(&self, grams: &[Vec<u64>], texts: &[usize]) -> Vec<(usize, usize)> {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let hashes: Vec<(u64, u64)> = (0..HASHES).map(|_| (rng.random::<u64>() | 1, rng.random())).collect();
        let signatures: Vec<Vec<u64>> = texts
            .par_iter()
            .map(|&text| {
                let least = |&(a, b): &(u64, u64)| grams[text].iter().map(|gram| mix(gram.wrapping_mul(a) ^ b)).min();
                hashes.iter().map(|hash| least(hash).unwrap_or_default()).collect()
            })
            .collect();
        let rows = rows_per_band(self.threshold);
        let mut candidates: Vec<(usize, usize)> = (0..HASHES / rows)
            .into_par_iter()
            .flat_map_iter(|band| {
                let mut order: Vec<usize> = (0..texts.len()).collect();
                let key = |at: usize| &signatures[at][band * rows..(band + 1) * rows];
                order.sort_unstable_by(|&a, &b| key(a).cmp(key(b)).then(a.cmp(&b)));
                let mut found = Vec::new();
                for bucket in order.chunk_by(|&a, &b| key(a) == key(b)) {
                    for (at, &first) in bucket.iter().enumerate() {
                        found.extend(bucket[at + 1..].iter().map(|&second| (texts[first], texts[second])));
                    }
                }
                found
            })
            .collect();
        candidates.par_sort_unstable();
        candidates.dedup();
        candidates
    }
}

/// Each text with the same n-grams as an earlier one, paired with the first of them; and the positions of the others that
/// have n-grams.
fn equal_pairs(grams: &[Vec<u64>]) -> (Vec<NearPair>, Vec<usize>) {
    let mut order: Vec<usize> = (0..grams.len()).filter(|&at| !grams[at].is_empty()).collect();
    order.par_sort_unstable_by(|&a, &b| grams[a].cmp(&grams[b]).then(a.cmp(&b)));
    let (mut pairs, mut distinct) = (Vec::new(), Vec::new());
    for equal in order.chunk_by(|&a, &b| grams[a] == grams[b]) {
        distinct.push(equal[0]);
        pairs.extend(equal[1..].iter().map(|&second| NearPair { first: equal[0], second, similarity: 1.0 }));
    }
    distinct.sort_unstable();
    (pairs, distinct)
}

/// Hashes in a band: as many as leave the probability to miss a pair at the threshold below [`MISSED`].
fn rows_per_band(threshold: f64) -> usize {
    let missed = |rows: usize| (1.0 - threshold.powi(rows as i32)).powi((HASHES / rows) as i32);
    (1..=16).rev().find(|&rows| missed(rows) <= MISSED).unwrap_or(1)
}

/// Spreads the bits of a hash (the finaliser of SplitMix64).
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The Jaccard similarity of two ascending lists.
pub(crate) fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let (mut i, mut j, mut common) = (0, 0, 0usize);
    while i < a.len() && j < b.len() {
        let order = a[i].cmp(&b[j]);
        common += usize::from(order.is_eq());
        i += usize::from(order.is_le());
        j += usize::from(order.is_ge());
    }
    common as f64 / (a.len() + b.len() - common).max(1) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Texts of a few hundred characters in families: an original, then copies with some characters replaced.
    fn families(seed: u64) -> Vec<String> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut texts = Vec::new();
        for _ in 0..20 {
            let original: Vec<char> =
                (0..200).map(|_| char::from_u32(0x4e00 + rng.random_range(0..3000)).expect("Han")).collect();
            for copies in 0..6 {
                let mut copy = original.clone();
                for _ in 0..copies * copies {
                    let at = rng.random_range(0..copy.len());
                    copy[at] = '药';
                }
                texts.push(copy.into_iter().collect());
            }
        }
        texts
    }

    #[test]
    fn what_is_found_is_what_all_pairs_compared_would_give() {
        let texts = families(1);
        for (ngram, threshold) in [(3, 0.8), (2, 0.5), (5, 0.9), (1, 0.3)] {
            let near = NearDuplicates::new(ngram, threshold).expect("in range");
            let grams: Vec<_> = texts.iter().map(|text| near.grams(text)).collect();
            let mut all = Vec::new();
            for first in 0..texts.len() {
                for second in first + 1..texts.len() {
                    let similarity = jaccard(&grams[first], &grams[second]);
                    if similarity >= threshold {
                        all.push(NearPair { first, second, similarity });
                    }
                }
            }
            assert!(all.len() >= 20, "{ngram} {threshold}: {}", all.len());
            assert_eq!(near.pairs(&texts), all, "{ngram} {threshold}");
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let texts = families(2);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| NearDuplicates::default().pairs(&texts))
        };
        assert_eq!(with(1), with(4));
    }

    #[test]
    fn short_chinese_texts_are_compared_and_empty_ones_are_not() {
        let texts = ["咳", "咳。", "咳嗽", "。", "!", "", "咳嗽 ", "头痛怎么办", "头痛，怎么办？"];
        assert_eq!(NearDuplicates::default().groups(&texts), [0, 0, 2, 3, 4, 5, 2, 7, 7]);
    }

    #[test]
    fn a_million_equal_texts_are_no_million_squared_pairs() {
        let texts = vec!["阿司匹林肠溶片饭前服用"; 20_000];
        let pairs = NearDuplicates::default().pairs(&texts);
        assert_eq!(pairs.len(), 19_999);
        assert!(pairs.iter().all(|pair| pair.first == 0));
    }

    #[test]
    fn settings_have_ranges() {
        assert_eq!(NearDuplicates::new(0, 0.5).expect_err("none").to_string(), "`ngram` is 0, allowed: 1 to 16");
        assert_eq!(NearDuplicates::new(3, 0.2).expect_err("low").to_string(), "`threshold` is 0.2, allowed: 0.3 to 1");
        assert!(NearDuplicates::new(3, f64::NAN).is_err());
    }

    proptest! {
        #[test]
        fn equal_texts_are_always_in_one_group(texts in proptest::collection::vec("[一-三a-c。]{0,6}", 0..20)) {
            let groups = NearDuplicates::default().groups(&texts);
            for a in 0..texts.len() {
                prop_assert!(groups[a] <= a);
                for b in 0..texts.len() {
                    if normalise(&texts[a]) == normalise(&texts[b]) && !normalise(&texts[a]).is_empty() {
                        prop_assert_eq!(groups[a], groups[b]);
                    }
                }
            }
        }
    }
}
