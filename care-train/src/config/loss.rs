//! Configuration of a stage's losses.

use care_core::{Error, Result};
use care_encoders::head::TruncationOrder;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::loss::{CosineDistance, Distillation, EmbeddingKl, EmbeddingMse, InfoNce, Loss, Matryoshka};

/// The built-in losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LossKind {
    /// [`InfoNce`], with `temperature` and `false_negative_margin`.
    InfoNce,
    /// [`EmbeddingMse`], in `query-alignment` only.
    EmbeddingMse,
    /// [`EmbeddingKl`], with `temperature`, in `query-alignment` only.
    EmbeddingKl,
    /// [`CosineDistance`], in `query-alignment` only.
    Cosine,
    /// [`Distillation`] from `pos_scores` and `neg_scores`, with `temperature` and `teacher_temperature`.
    Distillation,
}

/// One loss of a stage. Omitted fields take the defaults given here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LossConfig {
    /// Which loss.
    pub kind: LossKind,
    /// Factor of the loss in the stage's weighted sum, > 0. Default 1.
    #[serde(default = "one")]
    pub weight: f64,
    /// Softmax temperature, > 0. For `info-nce` and `distillation`: of similarities, lower values put more weight on the
    /// hardest negatives; default 0.02. For `embedding-kl`: of the vectors' components; default 0.05, about the size of
    /// a component at 384 dimensions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Softmax temperature of the teacher's scores, > 0. Higher values flatten the teacher's distribution. For
    /// `distillation`. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_temperature: Option<f64>,
    /// Candidates whose similarity to the query exceeds that of its positive by more than this margin are not used as
    /// negatives, `-2..=2`. For `info-nce`. Default: every candidate is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_negative_margin: Option<f64>,
    /// Matryoshka: the loss is computed at each of these dimensions, ascending and >= 1. Default: the full dimension
    /// only.
    #[serde(default, deserialize_with = "not_empty", skip_serializing_if = "Vec::is_empty")]
    pub dims: Vec<usize>,
    /// Weight of each of `dims`, >= 0 and not all 0. Default `1 / dims.len()`.
    #[serde(default, deserialize_with = "not_empty", skip_serializing_if = "Vec::is_empty")]
    pub dim_weights: Vec<f64>,
}

fn one() -> f64 {
    1.0
}

/// An empty list in a file would be taken for none, and do nothing.
fn not_empty<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<T>, D::Error> {
    let values = Vec::deserialize(deserializer)?;
    match values.is_empty() {
        true => {
            Err(D::Error::custom("the list is empty, allowed: at least one value; leave the field out for its default"))
        }
        false => Ok(values),
    }
}

const DEFAULT_TEMPERATURE: f64 = 0.02;
const DEFAULT_COMPONENT_TEMPERATURE: f64 = 0.05;

impl LossConfig {
    /// These settings after a change.
    ///
    /// ```
    /// use care_train::{LossConfig, LossKind};
    ///
    /// let loss = LossConfig::new(LossKind::InfoNce).with(|loss| loss.temperature = Some(0.02));
    /// assert_eq!(loss.temperature, Some(0.02));
    /// ```
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// A loss of this kind with default settings.
    pub fn new(kind: LossKind) -> Self {
        Self {
            kind,
            weight: 1.0,
            temperature: None,
            teacher_temperature: None,
            false_negative_margin: None,
            dims: Vec::new(),
            dim_weights: Vec::new(),
        }
    }

    /// InfoNCE with this temperature.
    pub fn info_nce(temperature: f64) -> Self {
        Self { temperature: Some(temperature), ..Self::new(LossKind::InfoNce) }
    }

    /// Checks ranges, and that every setting applies to this kind of loss.
    pub(super) fn check(&self) -> Result<()> {
        use LossKind::{Distillation, EmbeddingKl, InfoNce};
        require_positive("weight", self.weight)?;
        let belongs = |field: &str, value: Option<f64>, kinds: &[LossKind], of: &str| match value {
            Some(value) if !kinds.contains(&self.kind) => Err(Error::setting(field, value, &format!("only for {of}"))),
            _ => Ok(()),
        };
        let softmax = [InfoNce, Distillation, EmbeddingKl];
        belongs("temperature", self.temperature, &softmax, "info-nce, distillation and embedding-kl")?;
        belongs("teacher_temperature", self.teacher_temperature, &[Distillation], "distillation")?;
        belongs("false_negative_margin", self.false_negative_margin, &[InfoNce], "info-nce")?;
        self.temperature.map_or(Ok(()), |value| require_positive("temperature", value))?;
        self.teacher_temperature.map_or(Ok(()), |value| require_positive("teacher_temperature", value))?;
        if let Some(margin) = self.false_negative_margin.filter(|margin| !(-2.0..=2.0).contains(margin)) {
            return Err(Error::setting("false_negative_margin", margin, "-2..=2"));
        }
        if self.dims.contains(&0) || self.dims.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(Error::setting("dims", format!("{:?}", self.dims), "ascending values, each at least 1"));
        }
        if self.dim_weights.is_empty() {
            return Ok(());
        }
        let weights = format!("{:?}", self.dim_weights);
        if self.dim_weights.len() != self.dims.len() {
            return Err(Error::setting(
                "dim_weights",
                weights,
                &format!("{} weights, one for each of `dims`", self.dims.len()),
            ));
        }
        let allowed = self.dim_weights.iter().all(|weight| *weight >= 0.0 && weight.is_finite());
        if !allowed || self.dim_weights.iter().all(|weight| *weight == 0.0) {
            return Err(Error::setting("dim_weights", weights, "each at least 0, not all 0"));
        }
        Ok(())
    }

    /// Whether the loss compares both towers on the same texts.
    pub(super) fn needs_alignment(&self) -> bool {
        matches!(self.kind, LossKind::EmbeddingMse | LossKind::EmbeddingKl | LossKind::Cosine)
    }

    /// The temperature of the loss's softmax over similarities, if it has one.
    pub(crate) fn softmax_temperature(&self) -> Option<f64> {
        let has_one = matches!(self.kind, LossKind::InfoNce | LossKind::Distillation);
        has_one.then_some(self.temperature.unwrap_or(DEFAULT_TEMPERATURE))
    }

    /// Builds the loss. `order` is the truncation order of the towers.
    pub(crate) fn build(&self, order: TruncationOrder) -> Box<dyn Loss> {
        let temperature = self.softmax_temperature().unwrap_or(DEFAULT_TEMPERATURE);
        let loss: Box<dyn Loss> = match self.kind {
            LossKind::InfoNce => Box::new(InfoNce { temperature, false_negative_margin: self.false_negative_margin }),
            LossKind::EmbeddingMse => Box::new(EmbeddingMse),
            LossKind::EmbeddingKl => {
                Box::new(EmbeddingKl { temperature: self.temperature.unwrap_or(DEFAULT_COMPONENT_TEMPERATURE) })
            }
            LossKind::Cosine => Box::new(CosineDistance),
            LossKind::Distillation => {
                Box::new(Distillation { temperature, teacher_temperature: self.teacher_temperature.unwrap_or(1.0) })
            }
        };
        if self.dims.is_empty() {
            return loss;
        }
        match self.dim_weights.is_empty() {
            true => Box::new(Matryoshka::even(loss, &self.dims, order)),
            false => {
                let dims = self.dims.iter().copied().zip(self.dim_weights.iter().copied()).collect();
                Box::new(Matryoshka::new(loss, dims, order))
            }
        }
    }
}

pub(super) fn require_positive(field: &str, value: f64) -> Result<()> {
    match value > 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(Error::setting(field, value, "above 0")),
    }
}
