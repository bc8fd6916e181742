//! The configuration of the decoders: `config.json` of Qwen2, Qwen3, Llama, Mistral, EuroBERT and Gemma 3.

use care_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::family::DecoderFamily;
use super::gemma;
use super::window;
use crate::layers::{Activation, LayerType, RopeParameters};
use crate::settings::{
    Common, Settings, allow_no_padding_token, common, default, parse_fields, require, require_epsilon, require_multiple,
};

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
    /// Number of key and value heads; divides `num_attention_heads`. Default `num_attention_heads` for Llama and
    /// EuroBERT, 32 for Qwen, 8 for Mistral, 4 for Gemma 3.
    pub num_key_value_heads: usize,
    /// Dimensions per head. Default `hidden_size / num_attention_heads`, 128 for Qwen3, 256 for Gemma 3.
    pub head_dim: usize,
    /// Dimensions inside the feed-forward block.
    pub intermediate_size: usize,
    /// Length of the longest text in tokens.
    pub max_position_embeddings: usize,
    /// Added to the mean square in norms, above 0 and at most 1. Default 1e-6, 1e-5 for EuroBERT.
    #[serde(default = "default_rms_eps")]
    pub rms_norm_eps: f64,
    /// The rotary settings, in either spelling. For Gemma 3 those of layers without a window.
    pub rope_parameters: RopeParameters,
    /// Gemma 3 only: the rotary settings of layers with a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding_rope_parameters: Option<RopeParameters>,
    /// Gemma 3 only: attention scores are divided by the root of this, >= 1. Default 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_pre_attn_scalar: Option<usize>,
    /// Whether a token attends only to itself and the tokens before it. Default true; gte-Qwen2 sets it to false.
    /// The opposite of Gemma's `use_bidirectional_attention`. Always false for EuroBERT.
    #[serde(default = "default::yes")]
    pub is_causal: bool,
    /// What the attention of each layer reaches; empty if no layer has a sliding window. Default empty for Qwen2 and
    /// Qwen3, unless `use_sliding_window` is set. Llama's is empty, Mistral's follows from `sliding_window`. Default for
    /// Gemma 3: all but every sixth, or every `sliding_window_pattern`th, layer have one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layer_types: Vec<LayerType>,
    /// Size of the sliding window, >= 1: a token attends to this many tokens up to itself or, if not causal, to this
    /// many on each side of it, for Gemma 3 to half as many. None if no layer has a window. Default 4096; for Qwen2 and
    /// Qwen3 none without `use_sliding_window`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<usize>,
    /// Whether the projections of attention have biases. Default false; always false for Mistral. For Qwen2, queries,
    /// keys and values always do and the output never does.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the layers of the feed-forward block have biases; only for Llama and EuroBERT. Default false.
    #[serde(default)]
    pub mlp_bias: bool,
    /// Activation inside the feed-forward block. Default `silu`.
    #[serde(default = "default::silu")]
    pub hidden_act: Activation,
    /// Standard deviation of random weights. Default 0.02.
    #[serde(default = "default::initializer_range")]
    pub initializer_range: f64,
    /// Id of the padding token. Default none, also for -1.
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
            sliding_rope_parameters: None,
            query_pre_attn_scalar: None,
            is_causal: true,
            layer_types: Vec::new(),
            sliding_window: None,
            attention_bias: false,
            mlp_bias: false,
            hidden_act: default::silu(),
            initializer_range: default::initializer_range(),
            pad_token_id: Some(0),
        }
    }

    /// Fills in fields that follow from others, and rejects unsupported settings.
    pub(crate) fn normalize(config: &mut Value) -> Result<()> {
        allow_no_padding_token(config);
        let family: DecoderFamily = parse_fields(config["model_type"].clone())?;
        match family {
            DecoderFamily::Gemma3 => gemma::normalize(config)?,
            _ => RopeParameters::normalize(config, DEFAULT_THETA)?,
        }
        let number = |config: &Value, field: &str| config.get(field).and_then(Value::as_u64).filter(|&n| n > 0);
        let (width, heads) = (number(config, "hidden_size"), number(config, "num_attention_heads"));
        if let (Some(width), Some(heads)) = (width, heads) {
            if config.get("head_dim").is_none_or(Value::is_null) {
                config["head_dim"] = if family == DecoderFamily::Qwen3 { 128 } else { width / heads }.into();
            }
            let kv_heads = match (config.get("num_key_value_heads"), family) {
                (None, DecoderFamily::Qwen2 | DecoderFamily::Qwen3) => Some(32),
                (None, DecoderFamily::Mistral) => Some(8),
                (None | Some(Value::Null), _) => Some(heads),
                _ => None,
            };
            if let Some(kv_heads) = kv_heads {
                config["num_key_value_heads"] = kv_heads.into();
            }
        }
        if family == DecoderFamily::EuroBert {
            // transformers reads no `is_causal` for it.
            for (field, value) in [("is_causal", json!(false)), ("rms_norm_eps", json!(1e-5))] {
                if config.get(field).is_none() {
                    config[field] = value;
                }
            }
        }
        window::normalize(config, family)
    }

    /// The distance of the farthest tokens to which a layer with a sliding window attends; `None` if there is none.
    ///
    /// # Reference
    /// transformers counts the token itself among the `sliding_window` tokens of a causal layer, but not among those on
    /// either side of it if `is_causal` is false. Gemma 3 with `use_bidirectional_attention` has half of them on either
    /// side.
    pub(crate) fn reach(&self) -> Option<usize> {
        self.sliding_window.map(|window| match (self.is_causal, self.model_type) {
            (true, _) => window - 1,
            (false, DecoderFamily::Gemma3) => window / 2,
            (false, _) => window,
        })
    }

    /// The factor of attention scores, if it is not `1/sqrt(head_dim)`.
    pub(crate) fn attention_scale(&self) -> Option<f64> {
        self.query_pre_attn_scalar.map(|scalar| (scalar as f64).sqrt().recip())
    }

    /// The factor of token embeddings, if they are scaled.
    pub(crate) fn embedding_scale(&self) -> Option<f64> {
        (self.model_type == DecoderFamily::Gemma3).then(|| (self.hidden_size as f64).sqrt())
    }

    /// Whether the layer has a sliding window.
    pub(crate) fn slides(&self, layer: usize) -> bool {
        self.layer_types.get(layer) == Some(&LayerType::SlidingAttention)
    }

    /// Keeps the settings of the layers with these indices.
    pub(crate) fn keep_layers(&mut self, keep: &[usize]) {
        self.layer_types = keep.iter().filter_map(|&layer| self.layer_types.get(layer)).copied().collect();
        if !self.layer_types.contains(&LayerType::SlidingAttention) {
            self.layer_types.clear();
            self.sliding_window = None;
        }
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
        matches!(self.model_type, DecoderFamily::Qwen3 | DecoderFamily::Gemma3)
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
        self.model_type.name()
    }

    fn common(&self) -> Common {
        common!(self)
    }

    fn check(&self) -> Result<()> {
        require("head_dim", self.head_dim)?;
        require("num_key_value_heads", self.num_key_value_heads)?;
        require_epsilon("rms_norm_eps", self.rms_norm_eps)?;
        self.rope_parameters.check()?;
        let gemma = self.model_type == DecoderFamily::Gemma3;
        for (field, size) in
            [("sliding_window", self.sliding_window), ("query_pre_attn_scalar", self.query_pre_attn_scalar)]
        {
            size.map_or(Ok(()), |size| require(field, size))?;
        }
        for (field, set) in [
            ("query_pre_attn_scalar", self.query_pre_attn_scalar.is_some()),
            ("sliding_rope_parameters", self.sliding_rope_parameters.is_some()),
        ] {
            if set && !gemma {
                return Err(Error::setting(field, "set", "unset, except for gemma3_text"));
            }
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(Error::setting("head_dim", self.head_dim, "an even number"));
        }
        let groups = ("num_key_value_heads", self.num_key_value_heads);
        require_multiple(("num_attention_heads", self.num_attention_heads), groups)?;
        if self.mlp_bias && !matches!(self.model_type, DecoderFamily::Llama | DecoderFamily::EuroBert) {
            return Err(Error::setting("mlp_bias", self.mlp_bias, "false, except for llama and eurobert"));
        }
        if self.is_causal && self.model_type == DecoderFamily::EuroBert {
            return Err(Error::setting("is_causal", self.is_causal, "false for eurobert"));
        }
        if self.attention_bias && self.model_type == DecoderFamily::Mistral {
            return Err(Error::setting("attention_bias", self.attention_bias, "false for mistral"));
        }
        Ok(())
    }

    fn initial_norm_weight(&self) -> f32 {
        // Gemma's weights are added to 1.
        if self.model_type == DecoderFamily::Gemma3 { 0.0 } else { 1.0 }
    }

    fn to_json(&self) -> serde_json::Result<Value> {
        let mut fields = serde_json::to_value(self)?;
        match self.model_type {
            DecoderFamily::Gemma3 => gemma::denormalize(&mut fields),
            _ => RopeParameters::denormalize(&mut fields),
        }
        window::denormalize(&mut fields, self.model_type, self.sliding_window);
        // These networks have no language-model head; if transformers adds one, it shares the embedding table.
        fields["tie_word_embeddings"] = true.into();
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::parse;
    use LayerType::{FullAttention as Full, SlidingAttention as Sliding};

    fn read(model_type: &str, fields: &Value) -> Result<DecoderConfig> {
        let mut config = json!({
            "model_type": model_type, "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 4, "intermediate_size": 9, "max_position_embeddings": 9,
        });
        for (name, value) in fields.as_object().expect("fields") {
            config[name] = value.clone();
        }
        parse(config, DecoderConfig::normalize)
    }

    #[test]
    fn layers_have_the_windows_that_transformers_gives_them() {
        let none: &[LayerType] = &[];
        let mixed = json!(["sliding_attention", "full_attention", "sliding_attention"]);
        let full = json!(["full_attention", "full_attention", "full_attention"]);
        for (model_type, fields, types, window) in [
            (
                "qwen3",
                json!({"use_sliding_window": true, "layer_types": mixed, "sliding_window": 5}),
                [Sliding, Full, Sliding].as_slice(),
                Some(5),
            ),
            ("qwen2", json!({"use_sliding_window": true, "layer_types": mixed}), &[Sliding, Full, Sliding], Some(4096)),
            (
                "qwen2",
                json!({"use_sliding_window": true, "max_window_layers": 1, "sliding_window": 2}),
                &[Full, Sliding, Sliding],
                Some(2),
            ),
            ("qwen2", json!({"use_sliding_window": true, "max_window_layers": 0, "sliding_window": null}), none, None),
            ("qwen2", json!({"use_sliding_window": true, "sliding_window": 2}), none, None),
            ("qwen2", json!({"use_sliding_window": true, "max_window_layers": 0, "layer_types": full}), none, None),
            ("qwen3", json!({"use_sliding_window": false, "max_window_layers": 0, "sliding_window": 2}), none, None),
            ("qwen3", json!({"max_window_layers": 0, "sliding_window": 2, "layer_types": full}), none, None),
            ("llama", json!({"sliding_window": 2, "layer_types": full}), none, None),
            ("mistral", json!({}), &[Sliding, Sliding, Sliding], Some(4096)),
            (
                "mistral",
                json!({"sliding_window": 3, "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention"]}),
                &[Sliding, Sliding, Sliding],
                Some(3),
            ),
            ("mistral", json!({"sliding_window": null, "max_window_layers": 0}), none, None),
            (
                "eurobert",
                json!({"rope_theta": 25e4, "rope_scaling": null, "sliding_window": 2, "layer_types": full}),
                none,
                None,
            ),
            ("gemma3_text", json!({}), &[Sliding, Sliding, Sliding], Some(4096)),
            (
                "gemma3_text",
                json!({"sliding_window_pattern": 2, "sliding_window": 3}),
                &[Sliding, Full, Sliding],
                Some(3),
            ),
            (
                "gemma3_text",
                json!({"layer_types": mixed, "use_bidirectional_attention": true}),
                &[Sliding, Full, Sliding],
                Some(4096),
            ),
            ("gemma3_text", json!({"layer_types": full}), none, None),
            (
                "gemma3_text",
                json!({
                    "sliding_window_pattern": 2, "sliding_window": 9,
                    "rope_parameters": {"full_attention": null, "sliding_attention": {"type": "linear", "factor": 2.0}},
                }),
                &[Sliding, Full, Sliding],
                Some(9),
            ),
        ] {
            let config = read(model_type, &fields).expect("valid");
            assert_eq!(
                (config.layer_types.as_slice(), config.sliding_window),
                (types, window),
                "{model_type} {fields}"
            );
            let written = config.to_json().expect("written");
            assert_eq!(read(model_type, &written).expect("written"), config);
        }
    }

    #[test]
    fn eurobert_is_a_llama_in_both_directions() {
        let config =
            read("eurobert", &json!({"num_key_value_heads": null, "head_dim": null, "mlp_bias": true})).expect("valid");
        assert!(!config.is_causal && config.mlp_bias && config.rms_norm_eps == 1e-5);
        assert_eq!((config.num_key_value_heads, config.head_dim), (2, 4));
        assert!(read("llama", &json!({})).expect("valid").is_causal);
        let error = read("eurobert", &json!({"is_causal": true})).expect_err("refused").to_string();
        assert_eq!(error, "`is_causal` is true, allowed: false for eurobert");
        let error = read("qwen3", &json!({"mlp_bias": true})).expect_err("refused").to_string();
        assert_eq!(error, "`mlp_bias` is true, allowed: false, except for llama and eurobert");
    }

    #[test]
    fn windows_that_do_not_fit_are_refused() {
        let mixed = json!(["sliding_attention", "full_attention", "sliding_attention"]);
        let no_window = "`layer_types` is sliding_attention without a window, allowed: full_attention for every layer, or a \
                         `sliding_window` and, for qwen2 and qwen3, `use_sliding_window` true";
        for (model_type, fields, message) in [
            ("qwen3", json!({"layer_types": mixed}), no_window),
            ("qwen2", json!({"use_sliding_window": true, "layer_types": mixed, "sliding_window": null}), no_window),
            (
                "qwen2",
                json!({"use_sliding_window": true, "layer_types": ["full_attention"]}),
                "`layer_types` is 1 entries, allowed: one entry for each of the 3 layers",
            ),
            (
                "qwen2",
                json!({"use_sliding_window": true, "layer_types": mixed, "sliding_window": 0}),
                "`sliding_window` is 0, allowed: at least 1",
            ),
            ("gemma3_text", json!({"sliding_window": null}), no_window),
            ("gemma3_text", json!({"sliding_window_pattern": 0}), "`sliding_window_pattern` is 0, allowed: at least 1"),
            (
                "gemma3_text",
                json!({"is_causal": false}),
                "`is_causal` is false, allowed: true for gemma3_text, which has the field `use_bidirectional_attention`",
            ),
            ("gemma3_text", json!({"attn_logit_softcapping": 50.0}), "`attn_logit_softcapping` 50 is not supported"),
            (
                "gemma3_text",
                json!({"rope_parameters": {"rope_theta": 1e4}}),
                "`rope_parameters.rope_theta` is not supported: allowed are full_attention and sliding_attention",
            ),
            (
                "llama",
                json!({"query_pre_attn_scalar": 9}),
                "`query_pre_attn_scalar` is set, allowed: unset, except for gemma3_text",
            ),
            (
                "mistral",
                json!({"sliding_window": -1}),
                "field `sliding_window`: invalid value: integer `-1`, expected usize",
            ),
            (
                "qwen2",
                json!({"use_sliding_window": 1}),
                "field `use_sliding_window`: invalid type: integer `1`, expected a boolean",
            ),
            (
                "qwen3",
                json!({"layer_types": ["chunked_attention"]}),
                "field `layer_types[0]`: unknown variant `chunked_attention`, expected `full_attention` or `sliding_attention`",
            ),
            (
                "llama",
                json!({"layer_types": mixed}),
                "`layer_types` is [\"sliding_attention\",\"full_attention\",\"sliding_attention\"], allowed: full_attention for every layer",
            ),
            (
                "mistral",
                json!({"layer_types": mixed}),
                "`layer_types` is [\"sliding_attention\",\"full_attention\",\"sliding_attention\"], allowed: sliding_attention for every layer",
            ),
        ] {
            assert_eq!(read(model_type, &fields).expect_err("refused").to_string(), message);
        }
    }
}
