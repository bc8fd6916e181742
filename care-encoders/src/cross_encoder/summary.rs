//! What a reranker was made of, and where each setting comes from.

use std::fmt;

use super::activation::ScoreActivation;
use crate::device::Precision;
use crate::summary::Setting;

/// What decides a reranker's scores, beside its weights and its tokenizer, each with where it comes from.
///
/// Its text form is one line without a line end, e.g. `reranker: classifier of XLMRobertaForSequenceClassification, sigmoid
/// (default of sentence-transformers), pairs of at most 512 tokens (tokenizer_config.json), f32 (default)`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrossEncoderSummary {
    /// What computes the logit: the class of transformers, and for a language model the tokens it compares.
    pub head: String,
    /// What turns the logit into a score.
    pub activation: Setting<ScoreActivation>,
    /// Whether the tokens of the two texts have different types, which the network reads.
    pub token_types: bool,
    /// Length limit of a pair in tokens, special tokens included.
    pub max_length: Setting<usize>,
    /// The instruction; `None` if the network reads none.
    pub instruction: Option<Setting<String>>,
    /// Dtype of weights and activations.
    pub precision: Setting<Precision>,
}

impl fmt::Display for CrossEncoderSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reranker: {}, {} ({}), ", self.head, self.activation.value, self.activation.source)?;
        let types = if self.token_types { " with token types" } else { "" };
        write!(f, "pairs{types} of at most {} tokens ({}), ", self.max_length.value, self.max_length.source)?;
        if let Some(instruction) = &self.instruction {
            write!(f, "instruction {:?} ({}), ", instruction.value, instruction.source)?;
        }
        write!(f, "{} ({})", self.precision.value.as_str(), self.precision.source)
    }
}
