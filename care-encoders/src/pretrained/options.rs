//! [`EncoderOptions`]: the options for loading an encoder or a tower.

use std::path::PathBuf;

use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::device::Precision;
use crate::head::{Pooling, TruncationOrder};

/// Options for loading an encoder or a tower.
///
/// `None` means what the saved model specifies (`care.json`, the modules of sentence-transformers); for a bare Hugging
/// Face folder, which specifies none of it, the default that each field states.
///
/// ```
/// use care_encoders::EncoderOptions;
/// use care_encoders::head::Pooling;
///
/// let options = EncoderOptions::default().with_pooling(Pooling::Mean).with_instruction("query: ").with_max_length(64);
/// assert_eq!(options.max_length, Some(64));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EncoderOptions {
    /// Pooling. Default for a bare folder: `last-token` for a causal language model by its `architectures`, else `mean`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Dimensions of an embedding, `1..=` the tower's. Default for a bare folder: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// Order of truncating and normalising. Default for a bare folder: truncate first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncation: Option<TruncationOrder>,
    /// Length limit of a text in tokens, special tokens included. Default for a bare folder: 512, or the network's
    /// positions if fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Template with `{text}`, or prefix. Default for a bare folder: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// Whether vectors are normalised to length 1. Default for a bare folder: yes. Default for sentence-transformers:
    /// yes, unless its `similarity_fn_name` is `dot` and it has no `Normalize` module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
    /// Layers to keep, by index from 0, ascending. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<usize>>,
    /// Dtype of weights and activations. Default: f32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Accept f16 for a decoder of more than a billion weights, where it may overflow. Default: false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force_f16: bool,
    /// Compute a network whose `auto_map` names unknown custom code as transformers computes its `model_type`. Default:
    /// false, such a network is refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignore_custom_code: bool,
    /// Folder of a PEFT adapter that is merged into the weights. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
}

impl EncoderOptions {
    /// The same options with this pooling.
    #[must_use]
    pub fn with_pooling(self, pooling: Pooling) -> Self {
        Self { pooling: Some(pooling), ..self }
    }

    /// The same options with embeddings of `dim` dimensions.
    #[must_use]
    pub fn with_dim(self, dim: usize) -> Self {
        Self { dim: Some(dim), ..self }
    }

    /// The same options with this order of truncating and normalising.
    #[must_use]
    pub fn with_truncation(self, truncation: TruncationOrder) -> Self {
        Self { truncation: Some(truncation), ..self }
    }

    /// The same options with this length limit in tokens.
    #[must_use]
    pub fn with_max_length(self, max_length: usize) -> Self {
        Self { max_length: Some(max_length), ..self }
    }

    /// The same options with this template or prefix.
    #[must_use]
    pub fn with_instruction(self, instruction: impl Into<String>) -> Self {
        Self { instruction: Some(instruction.into()), ..self }
    }

    /// The same options with normalised vectors, or without.
    #[must_use]
    pub fn with_normalize(self, normalize: bool) -> Self {
        Self { normalize: Some(normalize), ..self }
    }

    /// The same options with these layers only.
    #[must_use]
    pub fn with_layers(self, layers: impl Into<Vec<usize>>) -> Self {
        Self { layers: Some(layers.into()), ..self }
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

    /// The same options with this PEFT adapter.
    #[must_use]
    pub fn with_adapter(self, adapter: impl Into<PathBuf>) -> Self {
        Self { adapter: Some(adapter.into()), ..self }
    }

    /// Returns an error if an option is set that applies only to a tower, not to an encoder alone.
    pub(crate) fn require_network_options(&self) -> Result<()> {
        let set = [
            ("pooling", self.pooling.is_some()),
            ("dim", self.dim.is_some()),
            ("truncation", self.truncation.is_some()),
            ("max_length", self.max_length.is_some()),
            ("instruction", self.instruction.is_some()),
            ("normalize", self.normalize.is_some()),
        ];
        match set.into_iter().find(|(_, set)| *set) {
            Some((field, _)) => Err(Error::setting(field, "set", "for whole towers only (`load_tower`)")),
            None => Ok(()),
        }
    }
}
