//! [`CrossEncoderOptions`]: the options for loading a reranker.

use super::activation::ScoreActivation;
use crate::device::Precision;
use crate::pretrained::EncoderOptions;

/// Options for loading a reranker. `None` means what the folder states;
/// [`CrossEncoder::summary`](crate::CrossEncoder::summary) tells what was taken.
///
/// ```
/// use care_encoders::{CrossEncoderOptions, Precision, ScoreActivation};
///
/// let options = CrossEncoderOptions::default()
///     .with_activation(ScoreActivation::Identity)
///     .with_max_length(512)
///     .with_precision(Precision::Int8);
/// assert_eq!(options.max_length, Some(512));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct CrossEncoderOptions {
    /// What turns a logit into a score. Default: as sentence-transformers' settings say, else sigmoid.
    pub activation: Option<ScoreActivation>,
    /// Length limit of a pair in tokens, special tokens included, at most the network's positions. Default:
    /// `max_seq_length` of sentence-transformers, else `model_max_length` of the tokenizer, else the positions; for
    /// Qwen3-Reranker 8192 at most, as in its model card.
    pub max_length: Option<usize>,
    /// What a document has to do, for Qwen3-Reranker's `<Instruct>`. Default: the default prompt of
    /// sentence-transformers' settings, else that of the model card. Refused for networks that read no instruction.
    pub instruction: Option<String>,
    /// Dtype of weights and activations. Default: f32.
    pub precision: Option<Precision>,
    /// Accept f16 for a decoder of more than a billion weights, where it may overflow. Default: false.
    pub force_f16: bool,
    /// Compute a network whose `auto_map` names unknown custom code as transformers computes its `model_type`. Default:
    /// false, such a network is refused.
    pub ignore_custom_code: bool,
}

impl CrossEncoderOptions {
    /// The same options with this activation.
    #[must_use]
    pub fn with_activation(self, activation: ScoreActivation) -> Self {
        Self { activation: Some(activation), ..self }
    }

    /// The same options with this length limit in tokens.
    #[must_use]
    pub fn with_max_length(self, max_length: usize) -> Self {
        Self { max_length: Some(max_length), ..self }
    }

    /// The same options with this instruction.
    #[must_use]
    pub fn with_instruction(self, instruction: impl Into<String>) -> Self {
        Self { instruction: Some(instruction.into()), ..self }
    }

    /// The same options with this dtype.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision: Some(precision), ..self }
    }

    /// The same options, accepting f16 where it may overflow.
    #[must_use]
    pub fn with_force_f16(self, force_f16: bool) -> Self {
        Self { force_f16, ..self }
    }

    /// The same options, without regard to the custom code that `auto_map` names.
    #[must_use]
    pub fn with_ignore_custom_code(self, ignore_custom_code: bool) -> Self {
        Self { ignore_custom_code, ..self }
    }

    /// Those of the network alone.
    pub(super) fn of_network(&self) -> EncoderOptions {
        let mut options =
            EncoderOptions::default().with_force_f16(self.force_f16).with_ignore_custom_code(self.ignore_custom_code);
        options.precision = self.precision;
        options
    }
}
