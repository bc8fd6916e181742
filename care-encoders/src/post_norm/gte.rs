//! The configuration of GTE, in Hugging Face's and in the authors' form.

use care_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::layers::{Activation, RopeParameters};
use crate::settings::{
    Common, Settings, allow_no_padding_token, common, default, require_dropout, require_epsilon, require_multiple,
};

/// A GTE configuration, with the field names of Hugging Face's `config.json` for `model_type: gte`.
///
/// The authors' form, `model_type: new`, is the same network under other names. It is read too, but saved as `gte`,
/// which transformers loads without remote code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GteConfig {
    /// Rows of the token embedding table.
    pub vocab_size: usize,
    /// Dimensions of a hidden state.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads; divides `hidden_size` into heads of an even number of dimensions.
    pub num_attention_heads: usize,
    /// Dimensions inside the feed-forward block.
    pub intermediate_size: usize,
    /// Length of the longest text in tokens. Default 8192.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    /// Rows of the token-type table; 0 rows mean no table. Tokens have type 0, those of a pair's second segment
    /// type 1. Default 1.
    #[serde(default = "default_types")]
    pub type_vocab_size: usize,
    /// Added to the variance in layer norms, above 0 and at most 1. Default 1e-12.
    #[serde(default = "default::layer_norm_eps")]
    pub layer_norm_eps: f64,
    /// Activation inside the feed-forward block. Default `gelu`.
    #[serde(default = "default::gelu")]
    pub hidden_act: Activation,
    /// Dropout probability of hidden states in training, `[0, 1)`. Default 0.1.
    #[serde(default = "default::dropout")]
    pub hidden_dropout_prob: f64,
    /// Standard deviation of random weights. Default 0.02.
    #[serde(default = "default::initializer_range")]
    pub initializer_range: f64,
    /// The rotary settings, in either spelling.
    pub rope_parameters: RopeParameters,
    /// Id of the padding token. Default 1.
    #[serde(default = "default_pad")]
    pub pad_token_id: Option<u32>,
}

/// Default base of the rotary frequencies for `model_type: gte`.
const NATIVE_THETA: f64 = 160_000.0;
/// Default base of the rotary frequencies for `model_type: new`.
const NEW_THETA: f64 = 10_000.0;

fn default_positions() -> usize {
    8192
}
fn default_types() -> usize {
    1
}
fn default_pad() -> Option<u32> {
    Some(1)
}

impl GteConfig {
    /// A GTE configuration with default proportions: 64 dimensions per head, `intermediate_size = 4 * hidden_size`,
    /// 8,192 positions, no dropout.
    pub fn new(vocab_size: usize, hidden_size: usize, num_hidden_layers: usize) -> Self {
        Self {
            vocab_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads: (hidden_size / 64).max(1),
            intermediate_size: 4 * hidden_size,
            max_position_embeddings: default_positions(),
            type_vocab_size: default_types(),
            layer_norm_eps: default::layer_norm_eps(),
            hidden_act: default::gelu(),
            hidden_dropout_prob: 0.0,
            initializer_range: default::initializer_range(),
            rope_parameters: RopeParameters::new(NATIVE_THETA),
            pad_token_id: default_pad(),
        }
    }

    pub(crate) fn normalize(config: &mut Value) -> Result<()> {
        allow_no_padding_token(config);
        RopeParameters::normalize(config, NATIVE_THETA)
    }

    /// Converts a `config.json` of the authors' form into Hugging Face's, and rejects unsupported settings.
    ///
    /// # Reference
    /// The authors' variant of NTK scaling with a factor `f` multiplies the base by `f` and divides every frequency by
    /// `f^(2 / head_dim)`, which equals a linear scaling with another base.
    pub(crate) fn normalize_new(config: &mut Value) -> Result<()> {
        let supported = [
            ("position_embedding_type", Value::from("rope")),
            ("layer_norm_type", "layer_norm".into()),
            ("logn_attention_scale", false.into()),
        ];
        for (field, value) in supported {
            if let Some(found) = config.get(field)
                && !found.is_null()
                && *found != value
            {
                return Err(Error::new(ErrorKind::Config, format!("`{field}` {found} is not supported")));
            }
        }
        if config.pointer("/rope_scaling/mixed_b").is_some_and(|mixed| !mixed.is_null()) {
            return Err(Error::new(ErrorKind::Config, "rotary scaling with `mixed_b` is not supported"));
        }
        let number = |path: &str| config.pointer(path).and_then(Value::as_f64);
        let ntk = ["/rope_scaling/rope_type", "/rope_scaling/type"].iter().find_map(|path| config.pointer(path));
        if ntk.is_some_and(|kind| kind == "ntk")
            && let (Some(width), Some(heads)) = (number("/hidden_size"), number("/num_attention_heads"))
            && let Some(factor) = number("/rope_scaling/factor")
        {
            let theta = number("/rope_theta").unwrap_or(NEW_THETA);
            config["rope_scaling"] = json!({"rope_type": "linear", "factor": factor.powf(2.0 * heads / width)});
            config["rope_theta"] = (theta * factor).into();
        }
        allow_no_padding_token(config);
        RopeParameters::normalize(config, NEW_THETA)
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads.max(1)
    }
}

impl Settings for GteConfig {
    fn model_type(&self) -> &'static str {
        "gte"
    }

    fn common(&self) -> Common {
        common!(self)
    }

    fn check(&self) -> Result<()> {
        require_dropout(self.hidden_dropout_prob)?;
        require_epsilon("layer_norm_eps", self.layer_norm_eps)?;
        self.rope_parameters.check()?;
        let halves = ("twice num_attention_heads", 2 * self.num_attention_heads);
        require_multiple(("hidden_size", self.hidden_size), halves)
    }

    fn to_json(&self) -> serde_json::Result<Value> {
        let mut fields = serde_json::to_value(self)?;
        RopeParameters::denormalize(&mut fields);
        Ok(fields)
    }
}
