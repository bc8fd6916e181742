//! The families of decoders.

use serde::{Deserialize, Serialize};

/// The family of a decoder. Families differ in their biases, in the norms of their heads and in their windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DecoderFamily {
    /// Qwen2: biases on queries, keys and values.
    Qwen2,
    /// Qwen3: norms over the heads of queries and keys.
    Qwen3,
    /// Llama: neither.
    Llama,
    /// Mistral: neither, and every layer has a sliding window.
    Mistral,
    /// EuroBERT: as Llama, without a causal mask.
    EuroBert,
    /// Gemma 3: norms over the heads, and before and after each block, whose weights are added to 1; scaled embeddings;
    /// rotary settings by layer type.
    #[serde(rename = "gemma3_text")]
    Gemma3,
}

impl DecoderFamily {
    /// The `model_type`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            DecoderFamily::Qwen2 => "qwen2",
            DecoderFamily::Qwen3 => "qwen3",
            DecoderFamily::Llama => "llama",
            DecoderFamily::Mistral => "mistral",
            DecoderFamily::EuroBert => "eurobert",
            DecoderFamily::Gemma3 => "gemma3_text",
        }
    }
}
