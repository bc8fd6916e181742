//! Texts that are nearly equal, by their character trigrams.

use std::collections::HashMap;

use rayon::prelude::*;

/// Sets of character trigrams, among which the most similar one to another is found.
///
/// Similarity is the Jaccard index: the share of trigrams that two texts have in common. The search is exact and its result
/// does not depend on the number of threads.
///
/// # Reference
/// Prefix filtering of Bayardo, Ma and Srikant, *Scaling up all pairs similarity search*, WWW 2007: with the trigrams of
/// all sets in one order, the rarest first, two similar sets have one in common among their first.
pub(super) struct NearIndex {
    threshold: f64,
    /// The place of each trigram in the order.
    ranks: HashMap<u64, u32>,
    /// The trigrams of each text, by rank.
    sets: Vec<Vec<u32>>,
    /// For each trigram, the texts that have it among their first.
    holders: Vec<Vec<u32>>,
}

impl NearIndex {
    /// Indexes texts for a similarity of at least `threshold`, in `(0, 1]`.
    pub(super) fn new<S: AsRef<str> + Sync>(texts: &[S], threshold: f64) -> Self {
        let packed: Vec<Vec<u64>> = texts.par_iter().map(|text| trigrams(text.as_ref())).collect();
        let mut counts: HashMap<u64, u32> = HashMap::new();
        packed.iter().flatten().for_each(|trigram| *counts.entry(*trigram).or_default() += 1);
        let mut order: Vec<(u32, u64)> = counts.into_iter().map(|(trigram, count)| (count, trigram)).collect();
        order.par_sort_unstable();
        let ranks: HashMap<u64, u32> = order.iter().map(|(_, trigram)| *trigram).zip(0..).collect();
        let ranked = |set: Vec<u64>| {
            let mut set: Vec<u32> = set.iter().map(|trigram| ranks[trigram]).collect();
            set.sort_unstable();
            set
        };
        let sets: Vec<Vec<u32>> = packed.into_par_iter().map(ranked).collect();
        let mut holders = vec![Vec::new(); order.len()];
        for (set, text) in sets.iter().zip(0..) {
            set[..first(set.len(), threshold)].iter().for_each(|rank| holders[*rank as usize].push(text));
        }
        Self { threshold, ranks, sets, holders }
    }

    /// The most similar text before the text `end` and its similarity; of equally similar ones the first. `None` if none
    /// is similar enough.
    pub(super) fn nearest(&self, text: &str, end: usize) -> Option<(usize, f64)> {
        let trigrams = trigrams(text);
        let mut set: Vec<u32> = trigrams.iter().filter_map(|trigram| self.ranks.get(trigram)).copied().collect();
        set.sort_unstable();
        // Trigrams that no text has are rarer than all others.
        let size = trigrams.len();
        let first = first(size, self.threshold).saturating_sub(size - set.len());
        let holders = set[..first].iter().flat_map(|rank| &self.holders[*rank as usize]);
        let mut candidates: Vec<usize> = holders.map(|text| *text as usize).filter(|text| *text < end).collect();
        candidates.sort_unstable();
        candidates.dedup();
        let similarities = candidates.into_iter().filter_map(|candidate| {
            let other = &self.sets[candidate];
            let possible = size.min(other.len()) as f64 / size.max(other.len()) as f64;
            let similarity = if possible < self.threshold { possible } else { jaccard(&set, size, other) };
            (similarity >= self.threshold).then_some((candidate, similarity))
        });
        similarities.reduce(|best, next| if next.1 > best.1 { next } else { best })
    }
}

/// The number of trigrams of a set, rarest first, among which one is in every similar set.
fn first(size: usize, threshold: f64) -> usize {
    // Rounding may only lengthen it.
    let common = (threshold * size as f64 - 1e-9).ceil() as usize;
    (size + 1 - common.max(1)).min(size)
}

/// The similarity of a set of `size`, of which `set` are those that any text has, and another one.
fn jaccard(set: &[u32], size: usize, other: &[u32]) -> f64 {
    let (mut common, mut rest) = (0, other);
    for rank in set {
        let below = rest.iter().take_while(|other| *other < rank).count();
        rest = &rest[below..];
        common += usize::from(rest.first() == Some(rank));
    }
    common as f64 / (size + other.len() - common) as f64
}

/// The distinct trigrams of a text, each in one number: a character has 21 bits. A shorter text is one.
fn trigrams(text: &str) -> Vec<u64> {
    let characters: Vec<u64> = text.chars().map(|character| u64::from(u32::from(character))).collect();
    let pack = |characters: &[u64]| characters.iter().fold(0, |packed, character| packed << 21 | character);
    let mut trigrams: Vec<u64> = match characters.len() {
        0..3 => vec![pack(&characters)],
        _ => characters.windows(3).map(pack).collect(),
    };
    trigrams.sort_unstable();
    trigrams.dedup();
    trigrams
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn similarity(a: &str, b: &str) -> f64 {
        let [a, b] = [a, b].map(|text| trigrams(text).into_iter().collect::<HashSet<_>>());
        a.intersection(&b).count() as f64 / a.union(&b).count() as f64
    }

    #[test]
    fn similarity_is_the_share_of_common_trigrams() {
        let index = NearIndex::new(&["头痛三天怎么办", "发烧三天怎么办呢", "头"], 0.5);
        assert_eq!(index.nearest("头痛三天怎么办呢", 3), Some((0, 5.0 / 6.0)));
        assert_eq!(index.nearest("头痛三天怎么办呢", 0), None);
        assert_eq!(index.nearest("头", 3), Some((2, 1.0)), "a text of one character");
        assert_eq!(index.nearest("咳嗽", 3), None);
    }

    proptest! {
        #[test]
        fn the_nearest_of_all_earlier_texts_is_found(
            texts in prop::collection::vec("[abc]{0,12}", 1..40),
            threshold in prop::sample::select(vec![0.5, 0.6, 0.75, 0.8, 0.9, 1.0]),
        ) {
            let index = NearIndex::new(&texts, threshold);
            for (end, text) in texts.iter().enumerate() {
                let all = texts[..end].iter().map(|other| similarity(text, other)).enumerate();
                let expected = all
                    .filter(|(_, similarity)| *similarity >= threshold)
                    .reduce(|best, next| if next.1 > best.1 { next } else { best });
                prop_assert_eq!(index.nearest(text, end), expected);
                // Trigrams that the index lacks count, too.
                let longer = format!("{text}xyz");
                let all = texts.iter().map(|other| similarity(&longer, other));
                let found = index.nearest(&longer, texts.len()).map(|(_, similarity)| similarity);
                prop_assert_eq!(found, all.filter(|similarity| *similarity >= threshold).reduce(f64::max));
            }
        }
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let texts: Vec<String> = (0..300_u32).map(|n| format!("头痛{}天，发烧{}度", n % 7, n % 11 * (n % 3))).collect();
        let found = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| {
                let index = NearIndex::new(&texts, 0.5);
                (0..texts.len()).into_par_iter().map(|n| index.nearest(&texts[n], n)).collect::<Vec<_>>()
            })
        };
        let one = found(1);
        assert!(one.iter().flatten().count() > 200);
        assert_eq!(one, found(4));
    }
}
