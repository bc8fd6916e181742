//! [`EncoderOptions`]: the options for loading an encoder or a tower.

use std::path::PathBuf;

use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::device::Precision;
use crate::head::{Pooling, TruncationOrder};

/// Options for loading an encoder or a tower.
///
/// `None` means what the folder states. A saved pair states everything in `care.json`. A sentence-transformers model states
/// what its modules and settings say, and each field tells what applies if they say nothing. The published CARE layout
/// implies pooling, order and dimensions. A bare Hugging Face folder states none of it: each field tells what applies to
/// such a folder, and to the base model of a PEFT adapter. [`Tower::summary`](crate::Tower::summary) tells what was taken.
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
    /// Pooling. Bare folder: `last-token` for a network with a causal mask, else `mean`. Published CARE layout: `cls` for
    /// queries, `last-token` for documents. sentence-transformers: as its `Pooling` module says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Dimensions of an embedding, `1..=` the tower's. Bare folder: all. Published CARE layout: those of the query tower.
    /// sentence-transformers: `truncate_dim`, else all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// Order of truncating and normalising. Bare folder: truncate first. Published CARE layout: normalise first.
    /// sentence-transformers: truncate first, unless its `similarity_fn_name` is `dot` and it has a `truncate_dim`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncation: Option<TruncationOrder>,
    /// Length limit of a text in tokens, special tokens included, at most the network's positions. Bare folder and
    /// published CARE layout: 512, or `model_max_length` of the tokenizer if that is less. sentence-transformers: `query_length` or `document_length`, else `max_seq_length`, else
    /// `model_max_length` of its tokenizer, else the positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Template with `{text}`, or prefix. Bare folder and published CARE layout: none. sentence-transformers: the prompt of
    /// the role, else none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// Special token that ends every text, where `tokenizer.json` adds none; the empty string accepts that there is
    /// none. Default: `eos_token`, if `add_eos_token` of `tokenizer_config.json` is true; last-token pooling requires
    /// one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal_token: Option<String>,
    /// Whether vectors are normalised to length 1. Bare folder and published CARE layout: yes. sentence-transformers: yes,
    /// unless its `similarity_fn_name` is `dot` and it has no `Normalize` module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
    /// Layers to keep, by index from 0, ascending. Every layout: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<usize>>,
    /// Dtype of weights and activations. Every layout: f32; on the CPU, int8 for weights that are stored in int8.
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
    /// For training: without a `precision`, weights that are stored in int8 become f32 on the CPU too.
    #[doc(hidden)]
    #[serde(skip)]
    pub floats: bool,
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

    /// The same options with this terminal token; the empty string for none.
    #[must_use]
    pub fn with_terminal_token(self, token: impl Into<String>) -> Self {
        Self { terminal_token: Some(token.into()), ..self }
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
            ("terminal_token", self.terminal_token.is_some()),
            ("normalize", self.normalize.is_some()),
        ];
        match set.into_iter().find(|(_, set)| *set) {
            Some((field, _)) => Err(Error::setting(field, "set", "for whole towers only (`load_tower`)")),
            None => Ok(()),
        }
    }
}
