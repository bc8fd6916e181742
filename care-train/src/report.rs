//! What a run says while it runs.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::stage::StageKind;

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The frozen tower's vectors are being computed, or found.
    Teacher(TeacherReport),
    /// A step was made.
    Step(StepReport),
    /// The dev set was scored.
    Evaluation(EvaluationReport),
}

/// Called at every event; `Break` ends the training.
pub type Observer<'a> = dyn FnMut(&Event) -> ControlFlow<()> + 'a;

/// How far the teacher's vectors are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TeacherReport {
    /// Index of the stage in its run.
    pub stage: usize,
    /// Texts that have their vector.
    pub done: usize,
    /// Texts in all.
    pub total: usize,
    /// Files of the cache that are torn, changed or foreign: they are not used.
    pub refused: Vec<PathBuf>,
}

/// What one step did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepReport {
    /// Index of the stage in its run.
    pub stage: usize,
    /// What the stage trains.
    pub kind: StageKind,
    /// Steps of the stage that are done, this one included.
    pub step: usize,
    /// Steps of the stage.
    pub total_steps: usize,
    /// The weighted sum of the losses, averaged over the step's batches.
    pub loss: f64,
    /// Each loss before its weight.
    pub losses: BTreeMap<String, f64>,
    /// The learning rate of this step, of the tower that has the higher one.
    pub learning_rate: f64,
    /// Length of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Tokens that the towers read; what comes from the teacher cache is not read.
    pub tokens: usize,
    /// How long the step took.
    pub seconds: f64,
}

impl StepReport {
    /// Tokens read a second, over this step.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds
    }
}

/// What a dev set said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EvaluationReport {
    /// Index of the stage in its run.
    pub stage: usize,
    /// Steps of the stage that were done; 0 is before the first.
    pub step: usize,
    /// The mean of the tasks' main scores.
    pub score: f64,
    /// Each task's main score.
    pub scores: BTreeMap<String, f64>,
    /// Whether it is the best of the stage so far.
    pub best: bool,
    /// How long it took.
    pub seconds: f64,
}
