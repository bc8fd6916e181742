//! The result of an evaluation.

use care_core::Result;
use care_eval::{Evaluation, Evaluator, Measure, Missing, Qrels, Run, Ties};

use crate::error::from_eval;
use crate::task::StsMode;

/// The scores of a model on a task, and what they were computed from.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// Every score with mteb's key for it, e.g. `ndcg_at_10`; the first is the main score.
    pub scores: Vec<(String, f64)>,
    /// What the scores were computed from.
    pub evidence: Evidence,
    /// Number of dimensions of the model's vectors; `None` if only a run was scored.
    pub embedding_dim: Option<usize>,
    /// Duration of the evaluation in seconds, including encoding; `None` if only a run was scored.
    pub seconds: Option<f64>,
}

/// What scores were computed from.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Evidence {
    /// Retrieval and reranking.
    Ranking {
        /// The ranked documents.
        run: Run,
        /// The values of each query and the conventions behind them.
        evaluation: Evaluation,
    },
    /// STS.
    Similarity {
        /// The towers that encoded the sentences for the main score.
        mode: StsMode,
        /// The cosine of each pair in that mode.
        cosines: Vec<f64>,
    },
}

impl Outcome {
    /// The main score.
    pub fn main_score(&self) -> f64 {
        self.scores[0].1
    }

    /// The score with this mteb key, e.g. `ndcg_at_10`.
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

    /// Scores a run on every judged query by these measures, the main one first.
    pub(super) fn of_run(measures: &[Measure], main: Measure, qrels: &Qrels, run: Run, ties: Ties) -> Result<Self> {
        let others = measures.iter().copied().filter(|measure| *measure != main);
        let evaluator = Evaluator::new([main].into_iter().chain(others)).missing(Missing::Zero).ties(ties);
        let evaluation = evaluator.evaluate(qrels, &run).map_err(from_eval)?;
        let key = |measure: Measure| measure.to_string().replace('@', "_at_");
        let scores = evaluation.measures.iter().map(|(measure, value)| (key(measure), value)).collect();
        Ok(Self::new(scores, Evidence::Ranking { run, evaluation }))
    }
}
