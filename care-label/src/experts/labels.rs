//! What experts answered, and its file `labels.jsonl`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use care_core::jsonl::for_each_jsonl;
use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::pair::write_jsonl;

/// The answers of all experts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ExpertLabels {
    /// Id of the sample.
    pub sample: String,
    /// Names of the experts.
    pub experts: Vec<String>,
    /// The pairs of the sample, in its order, with who answered what.
    pub pairs: Vec<LabelledPair>,
}

/// A pair with its answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledPair {
    /// Id of the query.
    pub query_id: String,
    /// Id of the document.
    pub doc_id: String,
    /// One for each expert who was asked, in order of the experts.
    pub answers: Vec<Answer>,
}

/// An expert's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Number of the expert in [`ExpertLabels::experts`].
    pub expert: usize,
    /// The score; `None` if the expert gave none.
    pub score: Option<i32>,
    /// The expert's remark.
    pub note: Option<String>,
}

/// A line of `labels.jsonl`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    sample: Cow<'a, str>,
    expert: Cow<'a, str>,
    query_id: Cow<'a, str>,
    doc_id: Cow<'a, str>,
    score: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<Cow<'a, str>>,
}

impl LabelledPair {
    /// The scores that were given, lowest first.
    pub fn scores(&self) -> Vec<i32> {
        let mut scores: Vec<i32> = self.answers.iter().filter_map(|answer| answer.score).collect();
        scores.sort_unstable();
        scores
    }
}

impl ExpertLabels {
    /// The table that agreement is computed from: a row for each pair with the score of each expert, `None` where there is
    /// none.
    pub fn table(&self) -> Vec<Vec<Option<i32>>> {
        let row = |pair: &LabelledPair| {
            let mut scores = vec![None; self.experts.len()];
            for answer in &pair.answers {
                scores[answer.expert] = answer.score;
            }
            scores
        };
        self.pairs.iter().map(row).collect()
    }

    /// How many answers without a score each expert gave.
    pub fn missing(&self) -> Vec<usize> {
        let mut missing = vec![0; self.experts.len()];
        for answer in self.pairs.iter().flat_map(|pair| &pair.answers).filter(|answer| answer.score.is_none()) {
            missing[answer.expert] += 1;
        }
        missing
    }

    /// Writes a `labels.jsonl`, atomically: one line per pair and expert, `"score": null` where the expert gave none.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let line = |pair, answer| self.line(pair, answer);
        write_jsonl(path, self.pairs.iter().flat_map(|pair| pair.answers.iter().map(move |answer| line(pair, answer))))
    }

    fn line<'a>(&'a self, pair: &'a LabelledPair, answer: &'a Answer) -> Line<'a> {
        Line {
            sample: self.sample.as_str().into(),
            expert: self.experts[answer.expert].as_str().into(),
            query_id: pair.query_id.as_str().into(),
            doc_id: pair.doc_id.as_str().into(),
            score: answer.score,
            note: answer.note.as_deref().map(Into::into),
        }
    }

    /// Reads a `labels.jsonl`. Pairs that nobody was asked about are not in the file; experts and pairs are in order of
    /// their first line.
    ///
    /// # Errors
    /// If it cannot be read, a line is no answer or of another sample, an expert answers a pair twice, or there is none.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut labels = Self::default();
        let (mut experts, mut pairs) = (HashMap::new(), HashMap::new());
        for_each_jsonl(path, &mut |number, line: Line<'_>| {
            if labels.pairs.is_empty() {
                labels.sample = line.sample.to_string();
            } else if labels.sample != line.sample {
                let problem = format!("an answer of sample `{}` among those of `{}`", line.sample, labels.sample);
                return Err(Error::line(path, number, problem));
            }
            let expert = *experts.entry(line.expert.to_string()).or_insert_with(|| {
                labels.experts.push(line.expert.to_string());
                labels.experts.len() - 1
            });
            let (query_id, doc_id) = (line.query_id.into_owned(), line.doc_id.into_owned());
            let at = *pairs.entry((query_id.clone(), doc_id.clone())).or_insert_with(|| {
                labels.pairs.push(LabelledPair { query_id, doc_id, answers: Vec::new() });
                labels.pairs.len() - 1
            });
            let LabelledPair { query_id, doc_id, answers } = &mut labels.pairs[at];
            if answers.iter().any(|answer| answer.expert == expert) {
                let problem = format!("`{}` answers the pair `{query_id}`, `{doc_id}` twice", line.expert);
                return Err(Error::line(path, number, problem));
            }
            answers.push(Answer { expert, score: line.score, note: line.note.map(Into::into) });
            Ok(())
        })?;
        if labels.pairs.is_empty() {
            return Err(Error::format(path, "no answers"));
        }
        for pair in &mut labels.pairs {
            pair.answers.sort_by_key(|answer| answer.expert);
        }
        Ok(labels)
    }
}
