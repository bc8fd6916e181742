//! Pairs of sentences with how similar people find them.

use care_core::Result;
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
}
