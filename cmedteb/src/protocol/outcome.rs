//! What an evaluation found.

use care_core::Result;
use care_eval::{Evaluation, Evaluator, Measure, Missing, Qrels, Run, Ties};

use crate::error::from_eval;
use crate::task::StsMode;

/// The scores of a model on a task, and what they were computed from.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// Every score under mteb's key for it, such as `ndcg_at_10`; the first is the main score.
    pub scores: Vec<(String, f64)>,
    /// What the scores were computed from.
    pub evidence: Evidence,
    /// Components of the model's vectors; `None` if what was scored had none.
    pub embedding_dim: Option<usize>,
    /// How long the evaluation took, encoding included; `None` if only a ready run was scored.
    pub seconds: Option<f64>,
}

/// What scores were computed from.
#[derive(Debug, Clone, PartialEq)]
pub enum Evidence {
    /// Retrieval and reranking.
    Ranking {
        /// The ranked documents, to be written as a TREC file or fused with others.
        run: Run,
        /// The values of each query and the conventions behind them.
        evaluation: Evaluation,
    },
    /// STS.
    Similarity {
        /// Which towers read the sentences for the main score.
        mode: StsMode,
        /// The cosine of each pair, read so.
        cosines: Vec<f64>,
    },
}

impl Outcome {
    /// The score that the task is known by.
    pub fn main_score(&self) -> f64 {
        self.scores[0].1
    }

    /// A score by mteb's key for it, such as `ndcg_at_10`.
    pub fn score(&self, key: &str) -> Option<f64> {
        self.scores.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// The ranked documents; `None` for STS.
    pub fn run(&self) -> Option<&Run> {
        match &self.evidence {
            Evidence::Ranking { run, .. } => Some(run),
            Evidence::Similarity { .. } => None,
        }
    }

    pub(super) fn new(scores: Vec<(String, f64)>, evidence: Evidence) -> Self {
        Self { scores, evidence, embedding_dim: None, seconds: None }
    }

    /// Scores a run by these measures, the main one moved to the front, over every judged query.
    pub(super) fn of_run(measures: &[Measure], main: Measure, qrels: &Qrels, run: Run, ties: Ties) -> Result<Self> {
        let others = measures.iter().copied().filter(|measure| *measure != main);
        let evaluator = Evaluator::new([main].into_iter().chain(others)).missing(Missing::Zero).ties(ties);
        let evaluation = evaluator.evaluate(qrels, &run).map_err(from_eval)?;
        let key = |measure: Measure| measure.to_string().replace('@', "_at_");
        let scores = evaluation.measures.iter().map(|(measure, value)| (key(measure), value)).collect();
        Ok(Self::new(scores, Evidence::Ranking { run, evaluation }))
    }
}
