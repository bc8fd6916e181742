//! Distillation of a teacher's scores for each group of documents.

use burn::tensor::{Tensor, activation::log_softmax};

use super::{Loss, LossInput};

/// Kullback-Leibler divergence from the teacher's distribution over each query's group to the towers'.
///
/// The group's documents have grades and are not negatives, so [`LossInput::known_answers`] has no effect: a hard
/// negative that is also a positive counts by its score.
///
/// # Reference
/// FlagEmbedding's `kl_div` distillation from `pos_scores` and `neg_scores`, up to the teacher's entropy, which has no
/// gradient: here the loss is 0 if both distributions agree.
#[derive(Debug, Clone, PartialEq)]
pub struct Distillation {
    /// Softmax temperature of the towers' similarities, > 0.
    pub temperature: f64,
    /// Softmax temperature of the teacher's scores, > 0.
    pub teacher_temperature: f64,
}

impl Loss for Distillation {
    fn name(&self) -> String {
        "distillation".into()
    }

    /// # Panics
    /// Panics if the input has no teacher scores.
    fn forward(&self, input: &LossInput) -> Tensor<1> {
        let students = log_softmax(input.group_similarities().div_scalar(self.temperature), 1);
        let Some(scores) = &input.teacher_scores else { panic!("the distillation loss needs teacher scores") };
        let teachers = log_softmax(scores.clone().div_scalar(self.teacher_temperature), 1);
        (teachers.clone().exp() * (teachers - students)).sum_dim(1).mean()
    }

    fn needs_teacher_scores(&self) -> bool {
        true
    }
}
