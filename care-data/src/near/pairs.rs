//! All near-duplicates among texts, as pairs and as groups.

use rayon::prelude::*;

use super::index::NearIndex;
use super::settings::NearDuplicates;
use crate::disjoint::{join, root};
use crate::normalise::normalise;

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

impl NearDuplicates {
    /// The group of each text: the position of the first text that it is connected to by near-duplicates.
    pub fn groups<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Vec<usize> {
        let mut groups: Vec<usize> = (0..texts.len()).collect();
        self.for_each_pair(texts, &mut |pair| {
            join(&mut groups, pair.first, pair.second);
        });
        (0..groups.len()).map(|at| root(&mut groups, at)).collect()
    }

    /// All near-duplicates among the texts, ordered by position. Of many texts with the same n-grams, each is paired with
    /// the first one only.
    pub fn pairs<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Vec<NearPair> {
        let mut pairs = Vec::new();
        self.for_each_pair(texts, &mut |pair| pairs.push(pair));
        pairs.sort_unstable_by_key(|pair| (pair.first, pair.second));
        pairs
    }

    /// Calls `each` with what [`Self::pairs`] lists, ordered by the second position. Of many similar texts there may be far
    /// more pairs than fit in memory.
    fn for_each_pair<S: AsRef<str> + Sync>(&self, texts: &[S], each: &mut dyn FnMut(NearPair)) {
        let forms: Vec<String> = texts.par_iter().map(|text| normalise(text.as_ref())).collect();
        let mut index = NearIndex::new(*self, forms.into_iter().collect());
        let order: Vec<u32> = (0..texts.len() as u32).collect();
        index.grow(&order, &mut |second, matches| {
            let equal = matches.iter().find(|found| found.similarity == 1.0);
            let matches = equal.map_or(matches, std::slice::from_ref);
            for found in matches {
                each(NearPair { first: found.text, second, similarity: found.similarity });
            }
            equal.is_none()
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::grams::distinct_grams;
    use super::*;

    fn grams(ngram: usize, text: &str) -> Vec<u64> {
        let mut grams = Vec::new();
        distinct_grams(ngram, &normalise(text), &mut grams);
        grams
    }

    fn jaccard(a: &[u64], b: &[u64]) -> f64 {
        let common = a.iter().filter(|gram| b.binary_search(gram).is_ok()).count();
        common as f64 / (a.len() + b.len() - common).max(1) as f64
    }

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
            let grams: Vec<_> = texts.iter().map(|text| grams(ngram, text)).collect();
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
