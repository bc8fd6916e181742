//! When texts are near-duplicates.

use care_core::{Error, Result};

use super::grams::distinct_grams;
use crate::normalise::normalise;

/// When two texts are near-duplicates: their sets of character n-grams have at least a given Jaccard similarity, after
/// [normalisation](crate::normalise). A text with fewer characters than an n-gram is one n-gram; nothing is left out for being short. An
/// empty text is a duplicate of nothing.
///
/// All such pairs are found: see [`NearIndex`](super::NearIndex), also for memory. The result is the same for any number of threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NearDuplicates {
    pub(super) ngram: usize,
    pub(super) threshold: f64,
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

    /// Characters per n-gram.
    pub fn ngram(&self) -> usize {
        self.ngram
    }

    /// The least similarity of near-duplicates.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The distinct n-grams of a text, after normalisation, in ascending order.
    pub(crate) fn grams(&self, text: &str) -> Vec<u64> {
        let mut grams = Vec::new();
        distinct_grams(self.ngram, &normalise(text), &mut grams);
        grams
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_ranges() {
        assert_eq!(NearDuplicates::new(0, 0.5).expect_err("none").to_string(), "`ngram` is 0, allowed: 1 to 16");
        assert_eq!(NearDuplicates::new(3, 0.2).expect_err("low").to_string(), "`threshold` is 0.2, allowed: 0.3 to 1");
        assert!(NearDuplicates::new(3, f64::NAN).is_err());
    }
}
