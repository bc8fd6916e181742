//! The character n-grams of a text, as numbers.

use std::hash::{BuildHasher, Hasher};
use std::ops::ControlFlow;

use foldhash::quality::FixedState;

/// Bits of a character.
const CHARACTER: u32 = 21;
/// The longest n-grams that fit into a number, so that equal numbers are equal n-grams.
const PACKED: usize = 3;

/// Calls `each` with every n-gram of a form in order, repeated ones too, until it breaks. A form with fewer characters
/// than an n-gram is one n-gram; an empty one has none.
///
/// Up to trigrams, a number stands for one n-gram. Longer ones are hashed to 64 bits.
pub(super) fn for_each_gram(ngram: usize, form: &str, mut each: impl FnMut(u64) -> ControlFlow<()>) {
    if ngram > PACKED {
        return for_each_long(ngram, form, each);
    }
    let (mut packed, mut length) = (0_u64, 0);
    let mask = (1 << (CHARACTER * ngram as u32)) - 1;
    for character in form.chars() {
        packed = (packed << CHARACTER | u64::from(character)) & mask;
        length += 1;
        if length >= ngram && each(mix(packed)).is_break() {
            return;
        }
    }
    if (1..ngram).contains(&length) {
        // Behind the bits of whole n-grams.
        let _ = each(mix(packed | 1 << 63 | (length as u64) << 61));
    }
}

fn for_each_long(ngram: usize, form: &str, mut each: impl FnMut(u64) -> ControlFlow<()>) {
    let hash = |gram: &str| {
        let mut hasher = FixedState::with_seed(1).build_hasher();
        hasher.write(gram.as_bytes());
        hasher.finish()
    };
    let starts = form.char_indices().map(|(start, _)| start);
    let mut ends = form.char_indices().map(|(start, _)| start).chain([form.len()]).skip(ngram).peekable();
    if ends.peek().is_none() && !form.is_empty() {
        let _ = each(hash(form));
    }
    for (start, end) in starts.zip(ends) {
        if each(hash(&form[start..end])).is_break() {
            return;
        }
    }
}

/// Writes the distinct n-grams of a form into `grams`, in ascending order.
pub(super) fn distinct_grams(ngram: usize, form: &str, grams: &mut Vec<u64>) {
    grams.clear();
    for_each_gram(ngram, form, |gram| {
        grams.push(gram);
        ControlFlow::Continue(())
    });
    grams.sort_unstable();
    grams.dedup();
}

/// Spreads the bits of a number; different numbers stay different (the finaliser of SplitMix64).
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn grams(ngram: usize, form: &str) -> Vec<u64> {
        let mut grams = Vec::new();
        distinct_grams(ngram, form, &mut grams);
        grams
    }

    /// The n-grams as texts.
    fn texts(ngram: usize, form: &str) -> BTreeSet<Vec<char>> {
        let characters: Vec<char> = form.chars().collect();
        match characters.len() {
            0 => BTreeSet::new(),
            length if length < ngram => [characters].into(),
            _ => characters.windows(ngram).map(<[char]>::to_vec).collect(),
        }
    }

    #[test]
    fn a_short_form_is_one_gram_and_no_part_of_a_longer_one() {
        for ngram in [2, 3, 5] {
            assert_eq!((grams(ngram, "").len(), grams(ngram, "咳").len()), (0, 1));
        }
        // A character with the number 0 is one too.
        assert_ne!(grams(3, "ab"), grams(3, "\0ab"));
        assert_ne!(grams(3, "b"), grams(3, "\0b"));
    }

    proptest! {
        #[test]
        fn numbers_are_equal_where_grams_are(
            ngram in 1_usize..7, a in "[一-三\u{10ffff}\0a-c]{0,12}", b in "[一-三\u{10ffff}\0a-c]{0,12}",
        ) {
            let common = |a: &[u64], b: &[u64]| a.iter().filter(|gram| b.contains(gram)).count();
            prop_assert_eq!(grams(ngram, &a).len(), texts(ngram, &a).len());
            let expected = texts(ngram, &a).intersection(&texts(ngram, &b)).count();
            prop_assert_eq!(common(&grams(ngram, &a), &grams(ngram, &b)), expected);
        }
    }
}
