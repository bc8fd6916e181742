//! The weighted sum of a stage's losses.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use care_core::{Error, ErrorKind, Result};
use care_encoders::head::TruncationOrder;

use crate::config::CheckedStage;
use crate::loss::{Loss, LossInput};
use crate::stage::StageKind;

/// A weighted sum of losses with unique names.
pub(crate) struct Objective {
    parts: Vec<(String, f64, Box<dyn Loss>)>,
}

impl Objective {
    /// The losses configured for a stage.
    pub(crate) fn new(stage: &CheckedStage, order: TruncationOrder) -> Self {
        let mut objective = Self { parts: Vec::new() };
        for loss in stage.losses() {
            objective.add(loss.weight, loss.build(order));
        }
        objective
    }

    /// Adds a loss. A duplicate name gets a numeric suffix.
    pub(crate) fn add(&mut self, weight: f64, loss: Box<dyn Loss>) {
        let name = loss.name();
        let taken = self.parts.iter().filter(|(_, _, other)| other.name() == name).count();
        let name = if taken == 0 { name } else { format!("{name} {}", taken + 1) };
        self.parts.push((name, weight, loss));
    }

    /// Checks that there is a loss to minimise.
    ///
    /// # Errors
    /// Returns an error if there is no loss.
    pub(crate) fn require_loss(&self) -> Result<()> {
        match self.parts.is_empty() {
            true => Err(Error::setting("loss", "empty", "at least one loss, configured or custom")),
            false => Ok(()),
        }
    }

    /// Number of losses.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether every row needs teacher scores.
    pub(crate) fn needs_teacher_scores(&self) -> bool {
        self.parts.iter().any(|(_, _, loss)| loss.needs_teacher_scores())
    }

    /// Checks that a stage of this kind can compute every loss.
    ///
    /// # Errors
    /// Returns an error if a loss needs [`LossInput::alignment`] and the stage does not provide it.
    pub(crate) fn check(&self, kind: StageKind) -> Result<()> {
        match self.parts.iter().find(|(_, _, loss)| loss.needs_alignment()) {
            Some((name, _, _)) if kind != StageKind::QueryAlignment => {
                let message = format!("the loss `{name}` requires a query-alignment stage, not {}", kind.as_str());
                Err(Error::new(ErrorKind::Config, message))
            }
            _ => Ok(()),
        }
    }

    /// The weighted sum, and each unweighted loss by name.
    ///
    /// # Errors
    /// Returns an error if there is no loss.
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
