//! The losses of a stage, added up.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use care_core::{Error, ErrorKind, Result, TruncationOrder};

use crate::config::CheckedStage;
use crate::loss::{Loss, LossInput};
use crate::stage::StageKind;

/// A weighted sum of losses, each under a name of its own.
pub(crate) struct Objective {
    parts: Vec<(String, f64, Box<dyn Loss>)>,
}

impl Objective {
    /// The losses that a stage's settings name.
    pub(crate) fn new(stage: &CheckedStage, order: TruncationOrder) -> Self {
        let mut objective = Self { parts: Vec::new() };
        for loss in stage.losses() {
            objective.add(loss.weight, loss.build(order));
        }
        objective
    }

    /// One more loss; a name that is taken gets a number.
    pub(crate) fn add(&mut self, weight: f64, loss: Box<dyn Loss>) {
        let name = loss.name();
        let taken = self.parts.iter().filter(|(_, _, other)| other.name() == name).count();
        let name = if taken == 0 { name } else { format!("{name} {}", taken + 1) };
        self.parts.push((name, weight, loss));
    }

    /// Refuses to train for nothing.
    ///
    /// # Errors
    /// When there is no loss.
    pub(crate) fn require_loss(&self) -> Result<()> {
        match self.parts.is_empty() {
            true => Err(Error::setting("loss", "empty", "at least one, here or of one's own")),
            false => Ok(()),
        }
    }

    /// Whether every row needs a teacher's scores.
    pub(crate) fn needs_teacher_scores(&self) -> bool {
        self.parts.iter().any(|(_, _, loss)| loss.needs_teacher_scores())
    }

    /// Refuses losses that a stage cannot compute.
    ///
    /// # Errors
    /// When one compares both towers on the same texts and the stage has no such vectors.
    pub(crate) fn check(&self, kind: StageKind) -> Result<()> {
        match self.parts.iter().find(|(_, _, loss)| loss.needs_alignment()) {
            Some((name, _, _)) if kind != StageKind::QueryAlignment => {
                let message = format!("the loss `{name}` needs a query-alignment stage, not {}", kind.as_str());
                Err(Error::new(ErrorKind::Config, message))
            }
            _ => Ok(()),
        }
    }

    /// The weighted sum, and each loss before its weight.
    ///
    /// # Errors
    /// When there is no loss.
    pub(crate) fn forward(&self, input: &LossInput) -> Result<(Tensor<1>, BTreeMap<String, Tensor<1>>)> {
        self.require_loss()?;
        let mut total = Tensor::zeros([1], &input.queries.device());
        let mut parts = BTreeMap::new();
        for (name, weight, loss) in &self.parts {
            let value = loss.forward(input);
            total = total + value.clone().mul_scalar(*weight);
            parts.insert(name.clone(), value);
        }
        Ok((total, parts))
    }
}
