//! The rarest n-grams of each text, among which similar texts have one in common.

use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use super::forms::Forms;
use super::grams::{distinct_grams, for_each_gram};

/// Texts that a thread takes at once.
const CHUNK: usize = 1024;

/// How often n-grams occur, counted in fewer places than there are n-grams: some share one.
///
/// It orders n-grams, the rarest first. Any order would do; in this one, few texts share an n-gram.
#[derive(Debug)]
pub(super) struct Frequencies {
    ngram: usize,
    threshold: f64,
    counts: Vec<AtomicU32>,
    shift: u32,
}

/// The prefixes of texts.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    /// Distinct n-grams of each text.
    pub(super) sizes: Vec<u32>,
    /// Where the prefix of each text ends.
    ends: Vec<usize>,
    /// The upper halves of the n-grams.
    grams: Vec<u32>,
}

impl Frequencies {
    pub(super) fn count(ngram: usize, threshold: f64, forms: &Forms) -> Self {
        let bits = (forms.bytes() / 16).max(1).ilog2().clamp(12, 24);
        let counts: Vec<AtomicU32> = (0..1_usize << bits).map(|_| AtomicU32::new(0)).collect();
        let all = Self { ngram, threshold, counts, shift: u64::BITS - bits };
        (0..forms.len()).into_par_iter().with_min_len(CHUNK).for_each(|at| {
            for_each_gram(ngram, forms.get(at), |gram| {
                all.counts[(gram >> all.shift) as usize].fetch_add(1, Ordering::Relaxed);
                std::ops::ControlFlow::Continue(())
            });
        });
        all
    }

    /// Writes the upper halves of a form's rarest n-grams into `prefix`; `grams` will hold all distinct ones.
    ///
    /// # Reference
    /// Prefix filtering of Bayardo, Ma and Srikant, *Scaling up all pairs similarity search*, WWW 2007: of two sets with
    /// a Jaccard similarity of `t` or more, the first `n - ceil(t n) + 1` elements of each, of its `n` in one order of all
    /// elements, have one in common.
    pub(super) fn prefix(&self, form: &str, grams: &mut Vec<u64>, prefix: &mut Vec<u32>) {
        distinct_grams(self.ngram, form, grams);
        let length = prefix_length(grams.len(), self.threshold);
        let rarity = |gram: &u64| (self.counts[(gram >> self.shift) as usize].load(Ordering::Relaxed), *gram);
        let mut order: Vec<(u32, u64)> = grams.iter().map(rarity).collect();
        if length < order.len() {
            order.select_nth_unstable(length);
        }
        prefix.clear();
        prefix.extend(order[..length].iter().map(|(_, gram)| (gram >> 32) as u32));
    }

    /// The prefixes of all forms.
    pub(super) fn prefixes(&self, forms: &Forms) -> Prefixes {
        let starts: Vec<usize> = (0..forms.len()).step_by(CHUNK).collect();
        let of_chunk = |start: usize| {
            let (mut part, mut grams, mut prefix) = (Prefixes::default(), Vec::new(), Vec::new());
            for at in start..(start + CHUNK).min(forms.len()) {
                self.prefix(forms.get(at), &mut grams, &mut prefix);
                part.push(grams.len(), &prefix);
            }
            part
        };
        let parts: Vec<Prefixes> = starts.into_par_iter().map(of_chunk).collect();
        let mut all = Prefixes::default();
        all.grams.reserve_exact(parts.iter().map(|part| part.grams.len()).sum());
        for part in parts {
            let before = all.grams.len();
            all.sizes.extend(part.sizes);
            all.ends.extend(part.ends.iter().map(|end| before + end));
            all.grams.extend(part.grams);
        }
        all
    }
}

impl Prefixes {
    fn push(&mut self, size: usize, prefix: &[u32]) {
        self.sizes.push(size as u32);
        self.grams.extend_from_slice(prefix);
        self.ends.push(self.grams.len());
    }

    pub(super) fn get(&self, at: usize) -> &[u32] {
        &self.grams[at.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[at]]
    }

    /// The n-grams of all prefixes.
    pub(super) fn all(&self) -> &[u32] {
        &self.grams
    }
}

/// Elements of a set, the first in any order, of which one is in every similar set.
fn prefix_length(size: usize, threshold: f64) -> usize {
    // Rounding may only lengthen it.
    let common = (threshold * size as f64 - 1e-9).ceil() as usize;
    (size + 1 - common.max(1)).min(size)
}
