//! What experts dispute, for another expert to decide, and one label per pair from all of them.

use std::collections::HashMap;
use std::path::Path;

use care_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::labels::{ExpertLabels, LabelledPair};
use super::sample::{Sample, Stratum, check_experts};
use crate::pair::{Pair, write_jsonl};
use crate::prompt::Prompt;

/// When experts dispute a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dispute {
    /// From this difference of the highest and the lowest score on, >= 1. Default 2.
    pub range: i32,
    /// Also if no score has more than half of the votes, e.g. 4 and 5 by two experts. Default true.
    pub no_majority: bool,
}

impl Default for Dispute {
    fn default() -> Self {
        Self { range: 2, no_majority: true }
    }
}

impl Dispute {
    /// Sets the least difference.
    #[must_use]
    pub fn with_range(mut self, range: i32) -> Self {
        self.range = range;
        self
    }

    /// Sets whether a pair without a majority is disputed.
    #[must_use]
    pub fn with_no_majority(mut self, no_majority: bool) -> Self {
        self.no_majority = no_majority;
        self
    }

    /// Whether a pair is disputed, or has no score at all.
    fn holds(self, pair: &LabelledPair) -> bool {
        let scores = pair.scores();
        let (Some(lowest), Some(highest)) = (scores.first(), scores.last()) else { return true };
        highest - lowest >= self.range || self.no_majority && majority(&scores).is_none()
    }
}

/// How the scores of several experts become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Join {
    /// The middle score; of an even number, the lower of the two in the middle, so that a pair never becomes positive by
    /// rounding. The default.
    #[default]
    Median,
    /// The score that more than half of the experts gave; none without such a score.
    Majority,
}

impl Join {
    fn apply(self, scores: &[i32]) -> Option<i32> {
        match self {
            Self::Median => scores.get(scores.len().saturating_sub(1) / 2).copied(),
            Self::Majority => majority(scores),
        }
    }
}

/// The score that more than half of the sorted scores are.
fn majority(scores: &[i32]) -> Option<i32> {
    scores.chunk_by(|a, b| a == b).find(|equal| equal.len() * 2 > scores.len()).map(|equal| equal[0])
}

/// Where a final label comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The experts, by the rule.
    Experts,
    /// The adjudication.
    Adjudicated,
}

/// The experts' label of a pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinalLabel {
    /// Id of the query.
    pub query_id: String,
    /// Id of the document.
    pub doc_id: String,
    /// The label; `None` if nobody scored the pair, or nobody decided without a majority.
    pub label: Option<i32>,
    /// Where it comes from.
    pub source: Source,
}

/// Writes final labels, one line per pair.
///
/// # Errors
/// If the file cannot be written.
pub fn write_final_labels(path: impl AsRef<Path>, labels: &[FinalLabel]) -> Result<()> {
    write_jsonl(path, labels)
}

/// The pairs that experts dispute, or that none scored, as a sample for another expert; `None` if there are none.
///
/// Its sheets are written with [`Sheets::with_opinions`](super::Sheets::with_opinions), filled and read as those of any
/// sample. It is one stratum of which everything is sampled.
///
/// # Errors
/// If the labels or the prompt are of another sample, a pair's texts are absent or altered, the name cannot be one, or the
/// range is less than 1.
pub fn adjudication(
    sample: &Sample,
    labels: &ExpertLabels,
    pairs: &[Pair],
    prompt: &Prompt,
    dispute: Dispute,
    expert: &str,
) -> Result<Option<Sample>> {
    let experts = [expert.trim().to_owned()];
    check_experts(&experts, 1)?;
    if dispute.range < 1 {
        return Err(Error::setting("range", dispute.range, ">= 1"));
    }
    if labels.sample != sample.id || sample.prompt.hash != prompt.hash() {
        return Err(Error::new(ErrorKind::Config, "the labels or the prompt are of another sample"));
    }
    let disputed: HashMap<(&str, &str), bool> =
        labels.pairs.iter().map(|pair| ((pair.query_id.as_str(), pair.doc_id.as_str()), dispute.holds(pair))).collect();
    // A pair that the file of labels lacks was not scored.
    let texts = sample.texts(pairs)?.into_iter().filter(|pair| *disputed.get(&pair.id()).unwrap_or(&true));
    let drawn: Vec<(&Pair, usize)> = texts.map(|pair| (pair, 0)).collect();
    if drawn.is_empty() {
        return Ok(None);
    }
    let strata = vec![Stratum { of: [].into(), population: drawn.len(), sampled: drawn.len() }];
    let empty =
        Sample { of: Some(sample.id.clone()), strata, pairs: Vec::new(), experts: Vec::new(), ..sample.clone() };
    empty.with_pairs(drawn, prompt, &experts, 1).map(Some)
}

/// One label per pair of `labels`: that of the adjudication where it has one, else of the experts by the rule. Several
/// experts of an adjudication are joined by the same rule.
///
/// # Errors
/// If the adjudication has a pair that the labels lack: it is of another sample.
pub fn final_labels(labels: &ExpertLabels, adjudicated: Option<&ExpertLabels>, join: Join) -> Result<Vec<FinalLabel>> {
    let mut decided: HashMap<(&str, &str), Option<i32>> = HashMap::new();
    for pair in adjudicated.into_iter().flat_map(|labels| &labels.pairs) {
        decided.insert((pair.query_id.as_str(), pair.doc_id.as_str()), join.apply(&pair.scores()));
    }
    let mut joined = Vec::with_capacity(labels.pairs.len());
    for pair in &labels.pairs {
        let adjudicated = decided.remove(&(pair.query_id.as_str(), pair.doc_id.as_str())).flatten();
        let source = if adjudicated.is_some() { Source::Adjudicated } else { Source::Experts };
        let label = adjudicated.or_else(|| join.apply(&pair.scores()));
        joined.push(FinalLabel { query_id: pair.query_id.clone(), doc_id: pair.doc_id.clone(), label, source });
    }
    match decided.keys().min() {
        Some((query, document)) => {
            let problem = format!("the adjudication has the pair `{query}`, `{document}`, which the labels lack");
            Err(Error::new(ErrorKind::Format, problem))
        }
        None => Ok(joined),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experts::labels::Answer;

    fn pair(doc_id: &str, scores: &[Option<i32>]) -> LabelledPair {
        let answers = scores.iter().enumerate().map(|(expert, score)| Answer { expert, score: *score, note: None });
        LabelledPair { query_id: "q".into(), doc_id: doc_id.into(), answers: answers.collect() }
    }

    fn labels(pairs: &[LabelledPair]) -> ExpertLabels {
        ExpertLabels { sample: "s".into(), experts: ["a", "b", "c"].map(str::to_owned).to_vec(), pairs: pairs.to_vec() }
    }

    #[test]
    fn disputes_are_wide_ranges_missing_majorities_and_missing_scores() {
        let holds = |scores: &[Option<i32>], dispute: Dispute| dispute.holds(&pair("d", scores));
        let default = Dispute::default();
        for (scores, expected) in [
            (vec![Some(4), Some(4), Some(5)], false),
            (vec![Some(3), Some(5), Some(5)], true),
            (vec![Some(4), Some(5)], true),
            (vec![Some(4), None], false),
            (vec![None, None], true),
            (vec![], true),
        ] {
            assert_eq!(holds(&scores, default), expected, "{scores:?}");
        }
        assert!(!holds(&[Some(4), Some(5)], default.with_no_majority(false)));
        assert!(holds(&[Some(4), Some(4), Some(5)], default.with_range(1)));
    }

    #[test]
    fn the_adjudication_decides_and_else_the_rule() {
        let labels_of = labels(&[
            pair("1", &[Some(5), Some(2), Some(4)]),
            pair("2", &[Some(4), Some(5), None]),
            pair("3", &[None, None, None]),
            pair("4", &[Some(1), Some(1), Some(5)]),
        ]);
        let values = |adjudicated: Option<&ExpertLabels>, join| -> Vec<_> {
            let labels = final_labels(&labels_of, adjudicated, join).expect("labels");
            labels.iter().map(|label| (label.label, label.source)).collect()
        };
        use Source::{Adjudicated, Experts};
        let median = [(Some(4), Experts), (Some(4), Experts), (None, Experts), (Some(1), Experts)];
        assert_eq!(values(None, Join::Median), median);
        let majority = [(None, Experts), (None, Experts), (None, Experts), (Some(1), Experts)];
        assert_eq!(values(None, Join::Majority), majority);
        let senior = labels(&[pair("2", &[Some(5)]), pair("3", &[Some(3)]), pair("1", &[None])]);
        let decided = [(Some(4), Experts), (Some(5), Adjudicated), (Some(3), Adjudicated), (Some(1), Experts)];
        assert_eq!(values(Some(&senior), Join::Median), decided);
        let foreign = labels(&[pair("9", &[Some(5)])]);
        let problem = final_labels(&labels_of, Some(&foreign), Join::Median).expect_err("foreign").to_string();
        assert_eq!(problem, "the adjudication has the pair `q`, `9`, which the labels lack");
    }
}
