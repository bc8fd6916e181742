//! The events that a run reports.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::stage::StageKind;

/// An event of a run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Vectors of the frozen tower were computed for the coming steps.
    Teacher(TeacherReport),
    /// A step was completed.
    Step(StepReport),
    /// The towers were evaluated on the dev set.
    Evaluation(EvaluationReport),
    /// Something that stops nothing, but failed or is probably not meant, e.g. a picture that cannot be drawn, or hard
    /// negatives that are positives.
    Warning(String),
}

/// Called on every event; `Break` stops the training.
pub type Observer<'a> = dyn FnMut(&Event) -> ControlFlow<()> + 'a;

/// Progress on the vectors of the frozen tower.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TeacherReport {
    /// Number of the stage in the run, from 1.
    pub stage: usize,
    /// Texts of the coming steps whose vectors are available.
    pub done: usize,
    /// Texts of the coming steps: some thousands, or all of the stage if these are fewer.
    pub total: usize,
}

/// The result of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepReport {
    /// Number of the stage in the run, from 1.
    pub stage: usize,
    /// Kind of the stage.
    pub kind: StageKind,
    /// Completed steps of the stage, including this one.
    pub step: usize,
    /// Total steps of the stage.
    pub total_steps: usize,
    /// The weighted sum of the losses, averaged over the step's batches.
    pub loss: f64,
    /// Each unweighted loss by name.
    pub losses: BTreeMap<String, f64>,
    /// Learning rate of this step; the higher one of the two towers.
    pub learning_rate: f64,
    /// Gradient norm over all trained weights together, before clipping.
    pub gradient_norm: f64,
    /// Tokens that the towers encoded; vectors from the teacher cache do not count.
    pub tokens: usize,
    /// Duration of the step in seconds.
    pub seconds: f64,
    /// Unix time at the end of the step, in seconds; 0 in the logs of earlier versions.
    #[serde(default)]
    pub time: f64,
}

impl StepReport {
    /// Encoded tokens per second in this step.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds
    }
}

/// The result of an evaluation on the dev set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EvaluationReport {
    /// Number of the stage in the run, from 1.
    pub stage: usize,
    /// Completed steps of the stage; 0 is before the first.
    pub step: usize,
    /// The split of the dev set.
    pub split: String,
    /// What the score is, e.g. `ndcg@10`, or `mean of map@10, ndcg@10` over several tasks.
    pub measure: String,
    /// The mean of the tasks' main scores; `None` if one of them is undefined.
    pub score: Option<f64>,
    /// The main score of each task that has one.
    pub scores: BTreeMap<String, f64>,
    /// For every other task, why its score is undefined, e.g. since all cosines of an STS task are equal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub undefined: BTreeMap<String, String>,
    /// Whether the score is the best of the stage so far.
    pub best: bool,
    /// Duration of the evaluation in seconds.
    pub seconds: f64,
    /// Unix time at its end, in seconds; 0 in the logs of earlier versions.
    #[serde(default)]
    pub time: f64,
}

impl EvaluationReport {
    /// Split and measure, e.g. `dev ndcg@10`.
    pub fn label(&self) -> String {
        format!("{} {}", self.split, self.measure)
    }
}

/// The Unix time now, in seconds to the millisecond.
pub(crate) fn unix_time() -> f64 {
    // A clock before 1970 is as good as none.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1000.0
}
