//! Semantic textual similarity (STS): pairs of sentences with human similarity scores.

use std::fmt;
use std::str::FromStr;

use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::DEFAULT_SUBSET;
use crate::error::invalid;
use crate::fingerprint::Fingerprint;

/// Two sentences and their similarity: a row of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StsPair {
    /// The first sentence.
    pub sentence1: String,
    /// The second sentence.
    pub sentence2: String,
    /// Human similarity score on any scale; higher means more similar.
    pub score: f64,
}

/// Pairs of sentences whose similarity a model predicts.
#[derive(Debug, Clone, PartialEq)]
pub struct StsTask {
    name: String,
    split: String,
    pub(super) subset: String,
    pairs: Vec<StsPair>,
}

impl StsTask {
    /// A task from pairs.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](care_core::ErrorKind::Format) if no correlation is defined: for fewer than two pairs, a score
    /// that is not finite, or equal scores.
    pub fn new(name: impl Into<String>, split: impl Into<String>, pairs: Vec<StsPair>) -> Result<Self> {
        let name = name.into();
        if pairs.len() < 2 {
            return Err(invalid(&name, format!("a correlation needs at least 2 pairs, found {}", pairs.len())));
        }
        if let Some((number, pair)) = (1..).zip(&pairs).find(|(_, pair)| !pair.score.is_finite()) {
            return Err(invalid(&name, format!("the score of pair {number} is {}, not a finite number", pair.score)));
        }
        if pairs.iter().all(|pair| pair.score == pairs[0].score) {
            return Err(invalid(&name, format!("all {} scores are {}", pairs.len(), pairs[0].score)));
        }
        Ok(Self { name, split: split.into(), subset: DEFAULT_SUBSET.to_owned(), pairs })
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The split of the pairs.
    pub fn split(&self) -> &str {
        &self.split
    }

    /// The pairs.
    pub fn pairs(&self) -> &[StsPair] {
        &self.pairs
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut fingerprint = Fingerprint::new();
        for pair in &self.pairs {
            fingerprint.add(&pair.sentence1);
            fingerprint.add(&pair.sentence2);
            fingerprint.add(&pair.score.to_string());
        }
        fingerprint
    }
}

/// Which tower encodes which sentence of a pair. For a symmetric model all modes are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StsMode {
    /// The query tower encodes both.
    #[default]
    QueryQuery,
    /// The query tower encodes the first, the document tower the second.
    QueryDocument,
    /// The document tower encodes both.
    DocumentDocument,
}

impl StsMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::QueryQuery, Self::QueryDocument, Self::DocumentDocument];

    /// The mode's name in files and on the command line, e.g. `query-document`.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueryQuery => "query-query",
            Self::QueryDocument => "query-document",
            Self::DocumentDocument => "document-document",
        }
    }
}

impl fmt::Display for StsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for StsMode {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let allowed = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|mode| mode.name() == name);
        found.ok_or_else(|| Error::setting("STS mode", format!("{name:?}"), &allowed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pair;

    #[test]
    fn scores_without_a_correlation_are_refused() {
        let cases: [(&[f64], &str); 4] = [
            (&[], "task t: a correlation needs at least 2 pairs, found 0"),
            (&[1.0], "task t: a correlation needs at least 2 pairs, found 1"),
            (&[1.0, f64::NAN], "task t: the score of pair 2 is NaN, not a finite number"),
            (&[4.5; 3], "task t: all 3 scores are 4.5"),
        ];
        for (scores, message) in cases {
            let pairs = scores.iter().map(|&score| pair("a", "b", score)).collect();
            assert_eq!(StsTask::new("t", "test", pairs).expect_err(message).to_string(), message);
        }
    }

    #[test]
    fn names_are_the_same_in_serde_and_on_the_command_line() {
        for mode in StsMode::ALL {
            assert_eq!(serde_json::to_value(mode).expect("a name"), mode.name());
            assert_eq!(mode.name().parse::<StsMode>().expect("known"), mode);
        }
        let error = "both".parse::<StsMode>().expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "`STS mode` is \"both\", allowed: query-query, query-document, document-document"
        );
    }
}
