//! Which losses a stage has, as its file says it.

use care_core::{Error, Result, TruncationOrder};
use serde::{Deserialize, Serialize};

use crate::loss::{CosineDistance, Distillation, EmbeddingMse, InfoNce, Loss, Matryoshka};

/// The losses that a configuration can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    /// [`InfoNce`]; `temperature`, `false_negative_margin`.
    InfoNce,
    /// [`EmbeddingMse`], in `query-alignment` only.
    EmbeddingMse,
    /// [`CosineDistance`], in `query-alignment` only.
    Cosine,
    /// [`Distillation`] from `pos_scores` and `neg_scores`; `temperature`, `teacher_temperature`.
    Distillation,
}

/// One loss of a stage. Fields that are left out have the defaults given here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Which loss.
    pub kind: LossKind,
    /// What it is multiplied by, above 0. Default 1.
    #[serde(default = "one")]
    pub weight: f64,
    /// What similarities are divided by, above 0: lower looks harder at the hardest negatives. Of `info-nce` and
    /// `distillation`. Default 0.02.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// What the teacher's scores are divided by, above 0: higher makes the teacher less sure. Of
    /// `distillation`. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_temperature: Option<f64>,
    /// Candidates more similar to the query than its positive by more than this are no negatives; from -2 to
    /// 2. Of `info-nce`. Default: every candidate is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_negative_margin: Option<f64>,
    /// Matryoshka: the loss is taken at each of these widths. Default: at the full width alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dims: Vec<usize>,
    /// The weight of each width, at least 0 and not all 0. Default 1 over their number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dim_weights: Vec<f64>,
}

fn one() -> f64 {
    1.0
}

const DEFAULT_TEMPERATURE: f64 = 0.02;

impl LossConfig {
    /// A loss with the default settings.
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

    /// InfoNCE at a temperature.
    pub fn info_nce(temperature: f64) -> Self {
        Self { temperature: Some(temperature), ..Self::new(LossKind::InfoNce) }
    }

    /// Checks ranges, and that a setting belongs to the loss it is given to.
    pub(super) fn check(&self) -> Result<()> {
        use LossKind::{Distillation, InfoNce};
        require_positive("weight", self.weight)?;
        let belongs = |field: &str, value: Option<f64>, kinds: &[LossKind], of: &str| match value {
            Some(value) if !kinds.contains(&self.kind) => {
                Err(Error::setting(field, value, &format!("only set for {of}")))
            }
            _ => Ok(()),
        };
        belongs("temperature", self.temperature, &[InfoNce, Distillation], "info-nce and distillation")?;
        belongs("teacher_temperature", self.teacher_temperature, &[Distillation], "distillation")?;
        belongs("false_negative_margin", self.false_negative_margin, &[InfoNce], "info-nce")?;
        self.temperature.map_or(Ok(()), |value| require_positive("temperature", value))?;
        self.teacher_temperature.map_or(Ok(()), |value| require_positive("teacher_temperature", value))?;
        if let Some(margin) = self.false_negative_margin.filter(|margin| !(-2.0..=2.0).contains(margin)) {
            return Err(Error::setting("false_negative_margin", margin, "-2 to 2"));
        }
        if self.dims.contains(&0) || self.dims.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(Error::setting("dims", format!("{:?}", self.dims), "ascending, each at least 1"));
        }
        if self.dim_weights.is_empty() {
            return Ok(());
        }
        let weights = format!("{:?}", self.dim_weights);
        if self.dim_weights.len() != self.dims.len() {
            return Err(Error::setting("dim_weights", weights, &format!("one for each of {} dims", self.dims.len())));
        }
        let allowed = self.dim_weights.iter().all(|weight| *weight >= 0.0 && weight.is_finite());
        if !allowed || self.dim_weights.iter().all(|weight| *weight == 0.0) {
            return Err(Error::setting("dim_weights", weights, "at least 0 each, one of them above"));
        }
        Ok(())
    }

    /// Whether the loss compares both towers on the same texts.
    pub(super) fn needs_alignment(&self) -> bool {
        matches!(self.kind, LossKind::EmbeddingMse | LossKind::Cosine)
    }

    /// The loss; `order` is how the towers cut their vectors.
    pub(crate) fn build(&self, order: TruncationOrder) -> Box<dyn Loss> {
        let temperature = self.temperature.unwrap_or(DEFAULT_TEMPERATURE);
        let loss: Box<dyn Loss> = match self.kind {
            LossKind::InfoNce => Box::new(InfoNce { temperature, false_negative_margin: self.false_negative_margin }),
            LossKind::EmbeddingMse => Box::new(EmbeddingMse),
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
                let widths = self.dims.iter().copied().zip(self.dim_weights.iter().copied()).collect();
                Box::new(Matryoshka::new(loss, widths, order))
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
