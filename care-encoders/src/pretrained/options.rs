//! How an encoder becomes a tower.

use std::path::PathBuf;

use care_core::{Pooling, Precision, TruncationOrder};
use serde::{Deserialize, Serialize};

/// How an encoder becomes a tower. What is `None` follows the saved model, or for a bare encoder folder
/// the architecture.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderOptions {
    /// Pooling; by default the last token for decoders, else CLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Components of an embedding; by default all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// Order of cutting and normalising; by default cut first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncation: Option<TruncationOrder>,
    /// The longest text in tokens; by default 512, or the network's positions if fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Template or prefix; by default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// Whether vectors are normalised; by default they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
    /// The layers that are kept, by index from 0; by default all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<usize>>,
    /// Number format of weights and activations; by default f32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Whether f16 is taken for a decoder of more than a billion weights, where it may overflow.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force_f16: bool,
    /// A folder with a PEFT adapter that is merged into the weights; by default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
}
