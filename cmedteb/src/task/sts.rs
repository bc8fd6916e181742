//! Pairs of sentences with how similar people find them.

use std::fmt;
use std::str::FromStr;

use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::error::invalid;
use crate::fingerprint::Fingerprint;

/// Two sentences and their similarity, as in a file's line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StsPair {
    /// One sentence.
    pub sentence1: String,
    /// The other.
    pub sentence2: String,
    /// How similar they are, on any scale: higher is more similar.
    pub score: f64,
}

/// Pairs whose similarity a model is to predict.
#[derive(Debug, Clone, PartialEq)]
pub struct StsTask {
    name: String,
    split: String,
    pairs: Vec<StsPair>,
}

impl StsTask {
    /// Checks and keeps the pairs.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](care_core::ErrorKind::Format) when there are fewer than two pairs, or
    /// when a score is not finite or all are equal: no correlation with them is defined.
    pub fn new(name: impl Into<String>, split: impl Into<String>, pairs: Vec<StsPair>) -> Result<Self> {
        let name = name.into();
        if pairs.len() < 2 {
            return Err(invalid(&name, format!("a correlation needs at least 2 pairs, there are {}", pairs.len())));
        }
        if let Some((number, pair)) = (1..).zip(&pairs).find(|(_, pair)| !pair.score.is_finite()) {
            return Err(invalid(&name, format!("the score of pair {number} is {}, not a finite number", pair.score)));
        }
        if pairs.iter().all(|pair| pair.score == pairs[0].score) {
            return Err(invalid(&name, format!("all {} scores are {}", pairs.len(), pairs[0].score)));
        }
        Ok(Self { name, split: split.into(), pairs })
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

/// Which tower reads which sentence of a pair. For a model of one tower all three are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StsMode {
    /// The query tower reads both.
    #[default]
    QueryQuery,
    /// The query tower reads the first, the document tower the second.
    QueryDocument,
    /// The document tower reads both.
    DocumentDocument,
}

impl StsMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::QueryQuery, Self::QueryDocument, Self::DocumentDocument];

    /// The mode's name in files and on the command line, such as `query-document`.
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
            (&[], "task t: a correlation needs at least 2 pairs, there are 0"),
            (&[1.0], "task t: a correlation needs at least 2 pairs, there are 1"),
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
