//! An index of texts in which the near-duplicates of another one are found.

use rayon::prelude::*;

use super::forms::Forms;
use super::grams::distinct_grams;
use super::overlap::Probe;
use super::prefix::{Frequencies, Prefixes};
use super::settings::NearDuplicates;

/// Texts whose near-duplicates are looked up at once.
const BLOCK: usize = 4096;

/// Texts of which some are indexed: the near-duplicates of any text among these are found.
///
/// The search is exact, and its result does not depend on the number of threads. Memory is the forms and, per text, about
/// 30 bytes and 8 per n-gram of its prefix, which is a fifth of its n-grams at a threshold of 0.8.
///
/// # Reference
/// Prefix filtering of Bayardo, Ma and Srikant, *Scaling up all pairs similarity search*, WWW 2007.
/// DIFFERENCE from MinHash with bands (Broder 1997; datasketch, text-dedup): nothing is missed, at the threshold or above,
/// and no signatures are computed, which for texts of a sentence or two cost more than the search.
#[derive(Debug)]
pub struct NearIndex {
    near: NearDuplicates,
    forms: Forms,
    frequencies: Frequencies,
    prefixes: Prefixes,
    /// Where the list of each bucket of n-grams starts, and how long it is.
    starts: Vec<u64>,
    lengths: Vec<u32>,
    /// The lists: indexed texts, by their turn.
    holders: Vec<u32>,
    shift: u32,
    /// Indexed texts, and the numbers of their n-grams, by their turn.
    indexed: Vec<u32>,
    sizes: Vec<u32>,
}

/// An indexed text that is a near-duplicate of another one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NearMatch {
    /// Position of the indexed text.
    pub text: usize,
    /// Jaccard similarity, 0 to 1.
    pub similarity: f64,
}

/// What a thread needs for a search.
#[derive(Debug, Default)]
struct Scratch {
    grams: Vec<u64>,
    candidates: Vec<u32>,
    probe: Probe,
}

impl NearIndex {
    /// An index without texts, into which any of these, each [normalised](crate::normalise), can be put.
    ///
    /// # Panics
    /// Panics if there are 2³² texts or more.
    pub fn new(near: NearDuplicates, forms: Forms) -> Self {
        assert!(u32::try_from(forms.len()).is_ok(), "{} texts", forms.len());
        let frequencies = Frequencies::count(near.ngram, near.threshold, &forms);
        let prefixes = frequencies.prefixes(&forms);
        let bits = (prefixes.all().len() / 2).max(1).ilog2().clamp(8, 28);
        let shift = u32::BITS - bits;
        let mut lengths = vec![0_u32; 1 << bits];
        prefixes.all().iter().for_each(|gram| lengths[(gram >> shift) as usize] += 1);
        let mut end = 0;
        let mut start = |length: &u32| {
            end += u64::from(*length);
            end - u64::from(*length)
        };
        let starts = lengths.iter().map(&mut start).collect();
        lengths.fill(0);
        let holders = vec![0; prefixes.all().len()];
        let (indexed, sizes) = (Vec::new(), Vec::new());
        Self { near, forms, frequencies, prefixes, starts, lengths, holders, shift, indexed, sizes }
    }

    /// An index of all these texts.
    pub fn of_all(near: NearDuplicates, forms: Forms) -> Self {
        let mut index = Self::new(near, forms);
        (0..index.forms.len()).for_each(|text| index.insert(text as u32));
        index
    }

    /// The texts, indexed or not.
    pub fn forms(&self) -> &Forms {
        &self.forms
    }

    /// Takes texts in an order, each once. `keep` sees each with its near-duplicates among the indexed ones, in the order
    /// in which these were indexed, and says whether it is indexed, too.
    pub fn grow(&mut self, order: &[u32], keep: &mut dyn FnMut(usize, &[NearMatch]) -> bool) {
        self.grow_by(BLOCK, order, keep);
    }

    /// [`NearIndex::grow`] in blocks of a size, on which the result does not depend.
    pub(super) fn grow_by(&mut self, block: usize, order: &[u32], keep: &mut dyn FnMut(usize, &[NearMatch]) -> bool) {
        let mut scratch = Scratch::default();
        for block in order.chunks(block) {
            let before = self.indexed.len();
            let of_text = |scratch: &mut Scratch, text: &u32| self.matches(*text, 0, scratch);
            let found: Vec<Vec<NearMatch>> = block.par_iter().map_init(Scratch::default, of_text).collect();
            for (&text, mut found) in block.iter().zip(found) {
                found.extend(self.matches(text, before as u32, &mut scratch));
                if keep(text as usize, &found) {
                    self.insert(text);
                }
            }
        }
    }

    /// The most similar near-duplicate of a form, which need not be one of the texts, among those that were indexed with a
    /// position below `end`; of equally similar ones the first. The texts must have been indexed in order.
    pub fn nearest(&self, form: &str, end: usize) -> Option<NearMatch> {
        let (mut scratch, mut prefix) = (Scratch::default(), Vec::new());
        self.frequencies.prefix(form, &mut scratch.grams, &mut prefix);
        let size = scratch.grams.len();
        self.collect(&prefix, size, 0, &mut scratch.candidates);
        scratch.candidates.retain(|turn| (self.indexed[*turn as usize] as usize) < end);
        self.verify(&mut scratch)
            .into_iter()
            .reduce(|best, next| if next.similarity > best.similarity { next } else { best })
    }

    fn insert(&mut self, text: u32) {
        let turn = self.indexed.len() as u32;
        for gram in self.prefixes.get(text as usize) {
            let bucket = (gram >> self.shift) as usize;
            self.holders[self.starts[bucket] as usize + self.lengths[bucket] as usize] = turn;
            self.lengths[bucket] += 1;
        }
        self.indexed.push(text);
        self.sizes.push(self.prefixes.sizes[text as usize]);
    }

    /// The near-duplicates of a text among those indexed from a turn on.
    fn matches(&self, text: u32, from: u32, scratch: &mut Scratch) -> Vec<NearMatch> {
        let size = self.prefixes.sizes[text as usize] as usize;
        self.collect(self.prefixes.get(text as usize), size, from, &mut scratch.candidates);
        if scratch.candidates.is_empty() {
            return Vec::new();
        }
        distinct_grams(self.near.ngram, self.forms.get(text as usize), &mut scratch.grams);
        self.verify(scratch)
    }

    /// The turns, from a turn on, of the texts that share an n-gram of a prefix and are neither too short nor too long.
    fn collect(&self, prefix: &[u32], size: usize, from: u32, candidates: &mut Vec<u32>) {
        candidates.clear();
        let least = (self.near.threshold * size as f64 - 1e-9).ceil() as u32;
        let most = (size as f64 / self.near.threshold + 1e-9) as u32;
        for gram in prefix {
            let bucket = (gram >> self.shift) as usize;
            let start = self.starts[bucket] as usize;
            let list = &self.holders[start..start + self.lengths[bucket] as usize];
            let list = list.iter().rev().copied().take_while(|turn| *turn >= from);
            candidates.extend(list.filter(|turn| (least..=most).contains(&self.sizes[*turn as usize])));
        }
        candidates.sort_unstable();
        candidates.dedup();
    }

    /// The candidates that are near-duplicates of the text with these n-grams.
    fn verify(&self, scratch: &mut Scratch) -> Vec<NearMatch> {
        let Scratch { grams, candidates, probe } = scratch;
        if candidates.is_empty() {
            return Vec::new();
        }
        probe.set(self.near.ngram, grams);
        let exact = |turn: &u32| {
            let text = self.indexed[*turn as usize] as usize;
            let size = self.sizes[*turn as usize] as usize;
            let similarity = probe.similarity(self.forms.get(text), size, self.near.threshold)?;
            Some(NearMatch { text, similarity })
        };
        candidates.iter().filter_map(exact).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn near(threshold: f64) -> NearDuplicates {
        NearDuplicates::new(3, threshold).expect("in range")
    }

    fn index(texts: &[impl AsRef<str>], threshold: f64) -> NearIndex {
        NearIndex::of_all(near(threshold), texts.iter().collect())
    }

    fn similarity(a: &str, b: &str) -> f64 {
        let [a, b] = [a, b].map(|text| {
            let mut grams = Vec::new();
            distinct_grams(3, text, &mut grams);
            grams.into_iter().collect::<HashSet<_>>()
        });
        a.intersection(&b).count() as f64 / a.union(&b).count().max(1) as f64
    }

    #[test]
    fn the_nearest_is_the_most_similar_and_then_the_first() {
        let index = index(&["头痛三天怎么办", "发烧三天怎么办呢", "头", "头痛三天怎么办"], 0.5);
        let nearest = |text, end| index.nearest(text, end).map(|found| (found.text, found.similarity));
        assert_eq!(nearest("头痛三天怎么办呢", 4), Some((0, 5.0 / 6.0)));
        assert_eq!(nearest("头痛三天怎么办呢", 0), None);
        assert_eq!(nearest("头", 3), Some((2, 1.0)), "a text of one character");
        assert_eq!(nearest("咳嗽", 4), None);
        assert_eq!(nearest("", 4), None);
    }

    /// What growing keeps, and what each text was near to, by comparing all pairs.
    fn all_pairs(texts: &[String], order: &[u32], threshold: f64) -> Vec<(usize, Vec<NearMatch>)> {
        let (mut kept, mut seen) = (Vec::new(), Vec::new());
        for &text in order {
            let of = |&other: &usize| {
                let similarity = similarity(&texts[other], &texts[text as usize]);
                (similarity >= threshold).then_some(NearMatch { text: other, similarity })
            };
            let found: Vec<NearMatch> = kept.iter().filter_map(of).collect();
            if found.is_empty() {
                kept.push(text as usize);
            }
            seen.push((text as usize, found));
        }
        seen
    }

    proptest! {
        #[test]
        fn the_nearest_of_all_earlier_texts_is_found(
            texts in prop::collection::vec("[abc]{0,12}", 1..40),
            threshold in prop::sample::select(vec![0.3, 0.5, 0.6, 0.75, 0.8, 0.9, 1.0]),
        ) {
            let index = index(&texts, threshold);
            for (end, text) in texts.iter().enumerate() {
                // N-grams that the index lacks count, too.
                for text in [text.clone(), format!("{text}xyz")] {
                    let all = texts[..end].iter().map(|other| similarity(&text, other)).enumerate();
                    let expected = all
                        .filter(|(_, similarity)| *similarity >= threshold)
                        .reduce(|best, next| if next.1 > best.1 { next } else { best });
                    prop_assert_eq!(index.nearest(&text, end).map(|found| (found.text, found.similarity)), expected);
                }
            }
        }

        #[test]
        fn growing_sees_every_near_duplicate_whatever_the_blocks_and_threads(
            texts in prop::collection::vec("[abc]{0,12}", 1..40),
            threshold in prop::sample::select(vec![0.3, 0.5, 0.6, 0.75, 0.8, 0.9, 1.0]),
            block in 1_usize..50, threads in 1_usize..4, seed in any::<u32>(),
        ) {
            let mut order: Vec<u32> = (0..texts.len() as u32).collect();
            order.sort_by_key(|text| (text ^ seed).wrapping_mul(0x9e37_79b9));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            let grown = pool.install(|| {
                let mut index = NearIndex::new(near(threshold), texts.iter().collect());
                let mut seen = Vec::new();
                index.grow_by(block, &order, &mut |text, found| {
                    seen.push((text, found.to_vec()));
                    found.is_empty()
                });
                seen
            });
            prop_assert_eq!(grown, all_pairs(&texts, &order, threshold));
        }
    }

    #[test]
    fn texts_of_100_000_characters_and_of_none_have_their_place() {
        let long: String = (0..100_000_u32).filter_map(|n| char::from_u32(0x4e00 + n * 7919 % 20_000)).collect();
        let texts =
            [long.clone(), String::new(), long[..long.len() - 30].to_owned(), String::new(), "药".repeat(100_000)];
        let mut index = NearIndex::new(near(0.9), texts.iter().collect());
        let mut seen = Vec::new();
        index.grow(&[0, 1, 2, 3, 4], &mut |_, found| {
            seen.push(found.len());
            found.is_empty()
        });
        assert_eq!(seen, [0, 0, 1, 0, 0]);
    }
}
