//! The fields of a decoder's `config.json` that decide what the network computes.

use care_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::layers::Activation;
use crate::registry::{require_deviation, require_sizes};

/// A Qwen3 configuration, by the names of Hugging Face's `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecoderConfig {
    /// Rows of the token embedding table.
    pub vocab_size: usize,
    /// Width of a hidden state.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Components of a head, whatever `hidden_size / num_attention_heads` is.
    pub head_dim: usize,
    /// Width inside the feed-forward block.
    pub intermediate_size: usize,
    /// The longest text.
    pub max_position_embeddings: usize,
    /// Added to the mean square in norms.
    #[serde(default = "default_eps")]
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// Whether the projections of attention have biases.
    #[serde(default)]
    pub attention_bias: bool,
    /// The function inside the feed-forward block.
    #[serde(default = "default_activation")]
    pub hidden_act: Activation,
    /// Standard deviation of random weights.
    #[serde(default = "default_range")]
    pub initializer_range: f64,
    /// The padding token.
    #[serde(default)]
    pub pad_token_id: Option<u32>,
}

fn default_eps() -> f64 {
    1e-6
}
fn default_theta() -> f64 {
    1e6
}
fn default_activation() -> Activation {
    Activation::Silu
}
fn default_range() -> f64 {
    0.02
}

impl DecoderConfig {
    /// A configuration with Qwen3's usual proportions: 64 components a head, two query heads to a
    /// key/value head, a feed-forward block three times as wide, 512 positions.
    pub fn new(vocab_size: usize, hidden_size: usize, num_hidden_layers: usize) -> Self {
        let heads = (hidden_size / 128).max(1) * 2;
        Self {
            vocab_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: heads / 2,
            head_dim: 64,
            intermediate_size: 3 * hidden_size,
            max_position_embeddings: 512,
            rms_norm_eps: default_eps(),
            rope_theta: default_theta(),
            attention_bias: false,
            hidden_act: default_activation(),
            initializer_range: default_range(),
            pad_token_id: Some(0),
        }
    }

    /// Brings both spellings of the rotary settings into the older one, and refuses what the
    /// network does not compute.
    ///
    /// # Reference
    /// transformers 5 writes `rope_parameters: {rope_type, rope_theta}` where earlier versions wrote
    /// `rope_theta` and `rope_scaling`.
    pub(crate) fn normalize(config: &mut Value) -> Result<()> {
        let refuse = |what: String| Err(Error::new(ErrorKind::Config, what));
        if let Some(theta) = config.pointer("/rope_parameters/rope_theta").cloned() {
            config["rope_theta"] = theta;
        }
        for pointer in ["/rope_parameters/rope_type", "/rope_scaling/rope_type", "/rope_scaling/type"] {
            if let Some(kind) = config.pointer(pointer)
                && kind != "default"
            {
                return refuse(format!("rotary scaling {kind} is not supported"));
            }
        }
        if config.get("use_sliding_window") == Some(&Value::Bool(true)) {
            return refuse("sliding-window attention (`use_sliding_window`) is not supported".into());
        }
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        require_sizes(&sizes)?;
        require_deviation(self.initializer_range)?;
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return Err(Error::setting("head_dim", self.head_dim, "an even number above 0"));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let allowed = format!("a multiple of num_key_value_heads ({})", self.num_key_value_heads);
            return Err(Error::setting("num_attention_heads", self.num_attention_heads, &allowed));
        }
        Ok(())
    }
}
