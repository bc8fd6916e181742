//! The fields of a BERT `config.json` that decide what the network computes.

use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::layers::Activation;
use crate::registry::{require_deviation, require_sizes};

/// A BERT configuration, by the names of Hugging Face's `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BertConfig {
    /// Rows of the token embedding table.
    pub vocab_size: usize,
    /// Width of a hidden state.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward block.
    pub intermediate_size: usize,
    /// Rows of the position table: the longest text.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    /// Rows of the token-type table; every token has type 0.
    #[serde(default = "default_types")]
    pub type_vocab_size: usize,
    /// Added to the variance in layer norms.
    #[serde(default = "default_eps")]
    pub layer_norm_eps: f64,
    /// The function inside the feed-forward block.
    #[serde(default = "default_activation")]
    pub hidden_act: Activation,
    /// Probability of dropping a hidden component in training.
    #[serde(default = "default_dropout")]
    pub hidden_dropout_prob: f64,
    /// Standard deviation of random weights.
    #[serde(default = "default_range")]
    pub initializer_range: f64,
    /// The padding token.
    #[serde(default)]
    pub pad_token_id: Option<u32>,
}

fn default_positions() -> usize {
    512
}
fn default_types() -> usize {
    2
}
fn default_eps() -> f64 {
    1e-12
}
fn default_activation() -> Activation {
    Activation::Gelu
}
fn default_dropout() -> f64 {
    0.1
}
fn default_range() -> f64 {
    0.02
}

impl BertConfig {
    /// A configuration with BERT's usual proportions: 64 components a head, a feed-forward block
    /// four times as wide, 512 positions, no dropout.
    pub fn new(vocab_size: usize, hidden_size: usize, num_hidden_layers: usize) -> Self {
        Self {
            vocab_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads: (hidden_size / 64).max(1),
            intermediate_size: 4 * hidden_size,
            max_position_embeddings: default_positions(),
            type_vocab_size: default_types(),
            layer_norm_eps: default_eps(),
            hidden_act: default_activation(),
            hidden_dropout_prob: 0.0,
            initializer_range: default_range(),
            pad_token_id: Some(0),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        require_sizes(&sizes)?;
        require_deviation(self.initializer_range)?;
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let allowed = format!("a multiple of num_attention_heads ({})", self.num_attention_heads);
            return Err(Error::setting("hidden_size", self.hidden_size, &allowed));
        }
        if !(0.0..1.0).contains(&self.hidden_dropout_prob) {
            return Err(Error::setting("hidden_dropout_prob", self.hidden_dropout_prob, "0 to below 1"));
        }
        Ok(())
    }
}
