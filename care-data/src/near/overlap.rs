//! The exact similarity of one text and many others.

use std::ops::ControlFlow;

use super::grams::for_each_gram;

/// The n-grams of one text in a hash table, in which those of other texts are looked up.
#[derive(Debug, Default)]
pub(super) struct Probe {
    ngram: usize,
    size: usize,
    grams: Vec<u64>,
    /// 0: the place is free; else the last text that had this n-gram, by its turn.
    marks: Vec<u32>,
    turn: u32,
}

impl Probe {
    /// Takes another text: its distinct n-grams.
    pub(super) fn set(&mut self, ngram: usize, grams: &[u64]) {
        let places = (4 * grams.len()).next_power_of_two().max(16);
        (self.ngram, self.size, self.turn) = (ngram, grams.len(), 1);
        self.marks.clear();
        self.marks.resize(places, 0);
        self.grams.resize(places, 0);
        for &gram in grams {
            let mut place = gram as usize & (places - 1);
            while self.marks[place] != 0 {
                place = (place + 1) & (places - 1);
            }
            (self.marks[place], self.grams[place]) = (1, gram);
        }
    }

    /// The Jaccard similarity of the text and another one, with `other_size` distinct n-grams, if it is at least
    /// `threshold`.
    pub(super) fn similarity(&mut self, other: &str, other_size: usize, threshold: f64) -> Option<f64> {
        let total = self.size + other_size;
        // Rounding may only lower it.
        let needed = (threshold / (1.0 + threshold) * total as f64 - 1e-9).ceil().max(1.0) as usize;
        if needed > self.size.min(other_size) {
            return None;
        }
        if self.turn == u32::MAX {
            self.marks.iter_mut().filter(|mark| **mark != 0).for_each(|mark| *mark = 1);
            self.turn = 1;
        }
        self.turn += 1;
        let (mut common, mut left) = (0, (other.chars().count() + 1).saturating_sub(self.ngram).max(1));
        for_each_gram(self.ngram, other, |gram| {
            left -= 1;
            common += usize::from(self.marks_first(gram));
            if common + left < needed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let similarity = common as f64 / (total - common) as f64;
        (similarity >= threshold).then_some(similarity)
    }

    /// Whether the text has an n-gram that this turn's text has not had before.
    fn marks_first(&mut self, gram: u64) -> bool {
        let mask = self.marks.len() - 1;
        let mut place = gram as usize & mask;
        while self.marks[place] != 0 {
            if self.grams[place] == gram {
                return std::mem::replace(&mut self.marks[place], self.turn) != self.turn;
            }
            place = (place + 1) & mask;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::super::grams::distinct_grams;
    use super::*;

    fn grams(ngram: usize, text: &str) -> Vec<u64> {
        let mut grams = Vec::new();
        distinct_grams(ngram, text, &mut grams);
        grams
    }

    proptest! {
        #[test]
        fn similarity_is_the_share_of_common_grams(
            ngram in 1_usize..5, text in "[abc]{1,20}", others in prop::collection::vec("[abc]{1,20}", 1..8),
            threshold in prop::sample::select(vec![0.3, 0.5, 0.6, 0.75, 0.8, 0.9, 1.0]), turn in prop::sample::select(vec![1, u32::MAX - 2]),
        ) {
            let mut probe = Probe::default();
            probe.set(ngram, &grams(ngram, &text));
            probe.turn = turn;
            let own: HashSet<u64> = grams(ngram, &text).into_iter().collect();
            for other in &others {
                let set: HashSet<u64> = grams(ngram, other).into_iter().collect();
                let exact = own.intersection(&set).count() as f64 / own.union(&set).count() as f64;
                let expected = (exact >= threshold).then_some(exact);
                prop_assert_eq!(probe.similarity(other, set.len(), threshold), expected);
            }
        }
    }
}
