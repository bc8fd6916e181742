//! The configuration of the decoders: `config.json` of Qwen2, Qwen3 and Llama.

use care_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::layers::{Activation, RopeParameters};
use crate::settings::{Common, Settings, common, default, require, require_multiple};

/// The family of a decoder. Families differ in their biases and in the norms of their heads.
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
}

/// A decoder's configuration, with the field names of Hugging Face's `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DecoderConfig {
    /// Family of the decoder.
    pub model_type: DecoderFamily,
    /// Rows of the token embedding table.
    pub vocab_size: usize,
    /// Dimensions of a hidden state.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; divides `num_attention_heads`. Default `num_attention_heads` for Llama, 32 for
    /// Qwen.
    pub num_key_value_heads: usize,
    /// Dimensions per head. Default `hidden_size / num_attention_heads`, for Qwen3 128.
    pub head_dim: usize,
    /// Dimensions inside the feed-forward block.
    pub intermediate_size: usize,
    /// Length of the longest text in tokens.
    pub max_position_embeddings: usize,
    /// Added to the mean square in norms. Default 1e-6.
    #[serde(default = "default_rms_eps")]
    pub rms_norm_eps: f64,
    /// The rotary settings, in either spelling.
    pub rope_parameters: RopeParameters,
    /// Whether a token attends only to itself and the tokens before it. Default true; gte-Qwen2 sets it to false.
    #[serde(default = "default::yes")]
    pub is_causal: bool,
    /// Whether the projections of attention have biases. Default false. For Qwen2, queries, keys and values always do
    /// and the output never does.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the layers of the feed-forward block have biases; only for Llama. Default false.
    #[serde(default)]
    pub mlp_bias: bool,
    /// Activation inside the feed-forward block. Default `silu`.
    #[serde(default = "default::silu")]
    pub hidden_act: Activation,
    /// Standard deviation of random weights. Default 0.02.
    #[serde(default = "default::initializer_range")]
    pub initializer_range: f64,
    /// Id of the padding token. Default none.
    #[serde(default)]
    pub pad_token_id: Option<u32>,
}

/// Default base of the rotary frequencies.
const DEFAULT_THETA: f64 = 10_000.0;

fn default_rms_eps() -> f64 {
    1e-6
}

impl DecoderConfig {
    /// A Qwen3 configuration with default proportions: 64 dimensions per head, two query heads per key/value head,
    /// `intermediate_size = 3 * hidden_size`, 512 positions.
    pub fn new(vocab_size: usize, hidden_size: usize, num_hidden_layers: usize) -> Self {
        let heads = (hidden_size / 128).max(1) * 2;
        Self {
            model_type: DecoderFamily::Qwen3,
            vocab_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: heads / 2,
            head_dim: 64,
            intermediate_size: 3 * hidden_size,
            max_position_embeddings: 512,
            rms_norm_eps: default_rms_eps(),
            rope_parameters: RopeParameters::new(1e6),
            is_causal: true,
            attention_bias: false,
            mlp_bias: false,
            hidden_act: default::silu(),
            initializer_range: default::initializer_range(),
            pad_token_id: Some(0),
        }
    }

    /// Fills in fields that follow from others, and rejects unsupported settings.
    pub(crate) fn normalize(config: &mut Value) -> Result<()> {
        RopeParameters::normalize(config, DEFAULT_THETA)?;
        let number = |config: &Value, field: &str| config.get(field).and_then(Value::as_u64).filter(|&n| n > 0);
        let (width, heads) = (number(config, "hidden_size"), number(config, "num_attention_heads"));
        let is_null = |config: &Value, field: &str| config.get(field).is_none_or(Value::is_null);
        if let (Some(width), Some(heads)) = (width, heads) {
            let family = config.get("model_type").and_then(Value::as_str).unwrap_or_default().to_owned();
            if is_null(config, "head_dim") {
                config["head_dim"] = if family == "qwen3" { 128 } else { width / heads }.into();
            }
            if is_null(config, "num_key_value_heads") {
                config["num_key_value_heads"] = if family == "llama" { heads } else { 32 }.into();
            }
        }
        let slides = config.get("use_sliding_window") == Some(&Value::Bool(true))
            && number(config, "max_window_layers") < number(config, "num_hidden_layers");
        if slides {
            let message = "sliding-window attention (`use_sliding_window`) is not supported";
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(())
    }

    /// Whether queries, keys and values have biases.
    pub(crate) fn attention_input_bias(&self) -> bool {
        self.model_type == DecoderFamily::Qwen2 || self.attention_bias
    }

    /// Whether the output of attention has a bias.
    pub(crate) fn attention_output_bias(&self) -> bool {
        self.model_type != DecoderFamily::Qwen2 && self.attention_bias
    }

    /// Whether the heads of queries and keys are normalised.
    pub(crate) fn norms_heads(&self) -> bool {
        self.model_type == DecoderFamily::Qwen3
    }

    /// Number of weights, without biases and norms.
    pub(crate) fn parameter_count(&self) -> f64 {
        let [width, head_dim, inner] = [self.hidden_size, self.head_dim, self.intermediate_size].map(|n| n as f64);
        let heads = 2.0 * (self.num_attention_heads + self.num_key_value_heads) as f64;
        let layer = width * (heads * head_dim + 3.0 * inner);
        self.vocab_size as f64 * width + self.num_hidden_layers as f64 * layer
    }
}

impl Settings for DecoderConfig {
    fn model_type(&self) -> &'static str {
        match self.model_type {
            DecoderFamily::Qwen2 => "qwen2",
            DecoderFamily::Qwen3 => "qwen3",
            DecoderFamily::Llama => "llama",
        }
    }

    fn common(&self) -> Common {
        common!(self)
    }

    fn check(&self) -> Result<()> {
        require("head_dim", self.head_dim)?;
        require("num_key_value_heads", self.num_key_value_heads)?;
        self.rope_parameters.check()?;
        if !self.head_dim.is_multiple_of(2) {
            return Err(Error::setting("head_dim", self.head_dim, "an even number"));
        }
        let groups = ("num_key_value_heads", self.num_key_value_heads);
        require_multiple(("num_attention_heads", self.num_attention_heads), groups)?;
        if self.mlp_bias && self.model_type != DecoderFamily::Llama {
            return Err(Error::setting("mlp_bias", self.mlp_bias, "false, except for llama"));
        }
        Ok(())
    }

    fn to_json(&self) -> serde_json::Result<Value> {
        let mut fields = serde_json::to_value(self)?;
        RopeParameters::denormalize(&mut fields);
        // These networks have no language-model head; if transformers adds one, it shares the embedding table.
        fields["tie_word_embeddings"] = true.into();
        Ok(fields)
    }
}
