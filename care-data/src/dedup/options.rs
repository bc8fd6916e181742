//! What counts as a duplicate, and which of several is kept.

use std::str::FromStr;

use care_core::{Error, Result};
use serde::Serialize;

use super::field::TextField;
use crate::near::NearDuplicates;

/// Options of [`Deduplication`](super::Deduplication).
///
/// Texts are compared after [normalisation](crate::normalise). Exact duplicates, whose forms are equal, are always
/// dropped; the other methods see what is left.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct DedupOptions {
    /// Text of a row.
    pub field: TextField,
    /// Which of several duplicates is kept.
    pub keep: Keep,
    /// When texts are near-duplicates; `None`: only exact ones are dropped.
    pub near: Option<NearDuplicates>,
    /// When vectors are duplicates; `None`: there are no vectors.
    pub vectors: Option<VectorOptions>,
    /// Rows that cannot be read are left out and listed; else the first one is an error.
    pub skip_bad: bool,
}

/// When vectors are duplicates.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct VectorOptions {
    /// Least cosine of duplicates, above 0, at most 1.
    pub threshold: f64,
    /// Rows that are considered first, drawn at random, so that what is kept is spread over the whole file. They are
    /// compared with each other as well. 0: none, rows come in order.
    pub seeds: usize,
    /// Seed of the draw.
    pub seed: u64,
}

impl Default for VectorOptions {
    /// A cosine of 0.9, 5,000 seeds as CARE has.
    fn default() -> Self {
        Self { threshold: 0.9, seeds: 5000, seed: 42 }
    }
}

impl DedupOptions {
    /// Sets [`DedupOptions::field`].
    #[must_use]
    pub fn with_field(self, field: TextField) -> Self {
        Self { field, ..self }
    }

    /// Sets [`DedupOptions::keep`].
    #[must_use]
    pub fn with_keep(self, keep: Keep) -> Self {
        Self { keep, ..self }
    }

    /// Sets [`DedupOptions::near`].
    #[must_use]
    pub fn with_near(self, near: NearDuplicates) -> Self {
        Self { near: Some(near), ..self }
    }

    /// Sets [`DedupOptions::vectors`].
    #[must_use]
    pub fn with_vectors(self, vectors: VectorOptions) -> Self {
        Self { vectors: Some(vectors), ..self }
    }

    /// Sets [`DedupOptions::skip_bad`].
    #[must_use]
    pub fn with_skip_bad(self, skip_bad: bool) -> Self {
        Self { skip_bad, ..self }
    }
}

impl VectorOptions {
    /// Sets all options.
    pub fn new(threshold: f64, seeds: usize, seed: u64) -> Self {
        Self { threshold, seeds, seed }
    }
}

/// Which of several duplicates is kept. Rows are ranked by this rule, and of equal rank the first in the files comes first.
/// In this order, a row is dropped if it is a duplicate of one that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Keep {
    /// The first.
    #[default]
    First,
    /// The one with the longest text, in characters of its compared form.
    Longest,
    /// The one with the most positives.
    MostPositives,
}

impl Keep {
    /// Names and rules.
    const NAMES: [(&'static str, Self); 3] =
        [("first", Self::First), ("longest", Self::Longest), ("most-positives", Self::MostPositives)];

    /// The name of the rule.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Longest => "longest",
            Self::MostPositives => "most-positives",
        }
    }
}

impl FromStr for Keep {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let rule = Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule);
        rule.ok_or_else(|| Error::setting("keep", name, "first, longest, most-positives"))
    }
}

/// How a duplicate was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Its form equals that of another row.
    Exact,
    /// Its n-grams are those of another row, mostly.
    Near,
    /// Its vector is near to that of another row.
    Vectors,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_by_the_names_that_they_have() {
        for (name, rule) in Keep::NAMES {
            assert_eq!((rule.as_str(), name.parse::<Keep>().expect("known")), (name, rule));
        }
        let error = "last".parse::<Keep>().expect_err("unknown").to_string();
        assert_eq!(error, "`keep` is last, allowed: first, longest, most-positives");
    }
}
