//! The configuration of ModernBERT.

use care_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::layers::{Activation, LayerType, RopeParameters};
use crate::settings::{
    Common, MOST_LAYERS, Settings, common, default, require_epsilon, require_multiple, require_probability,
};

/// A ModernBERT configuration, with the field names of Hugging Face's `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModernBertConfig {
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
    /// What each layer's attention reaches, one entry per layer. Default: every `global_attn_every_n_layers`-th layer
    /// (default 3), from the first on, reaches the whole text, the others a window.
    pub layer_types: Vec<LayerType>,
    /// Size of the window: a token attends to half as many tokens on either side. Default 128.
    #[serde(default = "default_window")]
    pub local_attention: usize,
    /// The rotary settings of each type of layer, in either spelling.
    pub rope_parameters: ModernBertRope,
    /// Added to the variance in layer norms. Default 1e-5.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Whether layer norms have biases. Default false.
    #[serde(default)]
    pub norm_bias: bool,
    /// Whether the projections of attention have biases. Default false.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the layers of the feed-forward block have biases. Default false.
    #[serde(default)]
    pub mlp_bias: bool,
    /// Activation inside the feed-forward block. Default `gelu`.
    #[serde(default = "default::gelu")]
    pub hidden_activation: Activation,
    /// Dropout probability of token embeddings in training, `[0, 1)`. Default 0.
    #[serde(default)]
    pub embedding_dropout: f64,
    /// Dropout probability of the output of attention in training, `[0, 1)`. Default 0.
    #[serde(default)]
    pub attention_dropout: f64,
    /// Dropout probability inside the feed-forward block in training, `[0, 1)`. Default 0.
    #[serde(default)]
    pub mlp_dropout: f64,
    /// Standard deviation of random weights. Default 0.02.
    #[serde(default = "default::initializer_range")]
    pub initializer_range: f64,
    /// Id of the padding token. Default 50283.
    #[serde(default = "default_pad")]
    pub pad_token_id: Option<u32>,
}

/// The rotary settings of a ModernBERT, by type of layer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ModernBertRope {
    /// Of the layers that reach the whole text. Default base 160,000.
    pub full_attention: RopeParameters,
    /// Of the layers that reach a window. Default base 10,000.
    pub sliding_attention: RopeParameters,
}

/// Each type of layer, the older name of its base, and the default of it.
const THETAS: [(&str, &str, f64); 2] =
    [("full_attention", "global_rope_theta", 160_000.0), ("sliding_attention", "local_rope_theta", 10_000.0)];
/// The older way to state the types of layers.
const EVERY: &str = "global_attn_every_n_layers";
/// Its default.
const DEFAULT_EVERY: u64 = 3;

fn default_positions() -> usize {
    8192
}
fn default_window() -> usize {
    128
}
fn default_eps() -> f64 {
    1e-5
}
fn default_pad() -> Option<u32> {
    Some(50_283)
}

impl ModernBertConfig {
    /// A ModernBERT configuration with default proportions: 64 dimensions per head,
    /// `intermediate_size = 1.5 * hidden_size`, 8,192 positions, every third layer global, no dropout.
    pub fn new(vocab_size: usize, hidden_size: usize, num_hidden_layers: usize) -> Self {
        let [full_attention, sliding_attention] = THETAS.map(|(_, _, theta)| RopeParameters::new(theta));
        Self {
            vocab_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads: (hidden_size / 64).max(1),
            intermediate_size: hidden_size * 3 / 2,
            max_position_embeddings: default_positions(),
            layer_types: layer_types(num_hidden_layers, DEFAULT_EVERY),
            local_attention: default_window(),
            rope_parameters: ModernBertRope { full_attention, sliding_attention },
            norm_eps: default_eps(),
            norm_bias: false,
            attention_bias: false,
            mlp_bias: false,
            hidden_activation: default::gelu(),
            embedding_dropout: 0.0,
            attention_dropout: 0.0,
            mlp_dropout: 0.0,
            initializer_range: default::initializer_range(),
            pad_token_id: Some(0),
        }
    }

    /// Converts the types of layers and the rotary settings to the newer of their two spellings.
    ///
    /// # Reference
    /// transformers 5 writes `layer_types` and `rope_parameters: {full_attention, sliding_attention}`, earlier versions
    /// wrote `global_attn_every_n_layers`, `global_rope_theta` and `local_rope_theta`. If both are present, the newer
    /// ones take precedence; a `rope_scaling` applies to all layers.
    ///
    /// # Errors
    /// If one of the older fields is out of range, or only a part of each head is rotated.
    pub(crate) fn normalize(config: &mut Value) -> Result<()> {
        if config.get("layer_types").is_none_or(Value::is_null) {
            let every = match config.get(EVERY) {
                None => DEFAULT_EVERY,
                Some(every) => match every.as_u64() {
                    None | Some(0) => return Err(Error::setting(EVERY, every, "an integer of at least 1")),
                    Some(every) => every,
                },
            };
            // Another number of layers is refused later.
            let layers = config.get("num_hidden_layers").and_then(Value::as_u64).unwrap_or(0) as usize;
            config["layer_types"] = json!(layer_types(if layers > MOST_LAYERS { 0 } else { layers }, every));
        }
        let mut rope = json!({});
        for (kind, name, default) in THETAS {
            let theta = config.get(name).unwrap_or(&Value::Null);
            let mut own = json!({ "rope_theta": theta, "rope_scaling": config.get("rope_scaling") });
            own["rope_parameters"] = config.pointer(&format!("/rope_parameters/{kind}")).cloned().into();
            RopeParameters::normalize(&mut own, default)?;
            rope[kind] = own["rope_parameters"].take();
        }
        config["rope_parameters"] = rope;
        Ok(())
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads.max(1)
    }

    /// The distance of the farthest tokens to which a layer attends; `None`: any.
    pub(crate) fn reach(&self, kind: LayerType) -> Option<usize> {
        match kind {
            LayerType::FullAttention => None,
            LayerType::SlidingAttention => Some(self.local_attention / 2),
        }
    }
}

fn layer_types(layers: usize, every: u64) -> Vec<LayerType> {
    let of = |layer: u64| match layer.is_multiple_of(every) {
        true => LayerType::FullAttention,
        false => LayerType::SlidingAttention,
    };
    (0..layers as u64).map(of).collect()
}

impl Settings for ModernBertConfig {
    fn model_type(&self) -> &'static str {
        "modernbert"
    }

    fn common(&self) -> Common {
        common!(self)
    }

    fn check(&self) -> Result<()> {
        require_epsilon("norm_eps", self.norm_eps)?;
        require_probability("embedding_dropout", self.embedding_dropout)?;
        require_probability("attention_dropout", self.attention_dropout)?;
        require_probability("mlp_dropout", self.mlp_dropout)?;
        self.rope_parameters.full_attention.check()?;
        self.rope_parameters.sliding_attention.check()?;
        if self.layer_types.len() != self.num_hidden_layers {
            let allowed = format!("one entry for each of the {} layers", self.num_hidden_layers);
            return Err(Error::setting("layer_types", format!("{} entries", self.layer_types.len()), &allowed));
        }
        let halves = ("twice num_attention_heads", 2 * self.num_attention_heads);
        require_multiple(("hidden_size", self.hidden_size), halves)
    }

    fn needs_first_layer(&self) -> bool {
        true
    }

    /// Both spellings, since earlier versions of transformers read the older only.
    fn to_json(&self) -> serde_json::Result<Value> {
        let mut fields = serde_json::to_value(self)?;
        for (kind, name, _) in THETAS {
            fields[name] = fields["rope_parameters"][kind]["rope_theta"].clone();
        }
        let layers = self.num_hidden_layers;
        if let Some(every) = (1..=layers.max(1) as u64).find(|every| layer_types(layers, *every) == self.layer_types) {
            fields[EVERY] = every.into();
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use LayerType::{FullAttention, SlidingAttention};

    use super::*;
    use crate::settings::parse;

    fn read(change: Value) -> Result<ModernBertConfig> {
        let mut config = json!({
            "vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2,
            "intermediate_size": 12,
        });
        for (name, value) in change.as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        parse(config, ModernBertConfig::normalize)
    }

    #[test]
    fn either_spelling_of_layers_and_rotations_is_read_and_both_are_written() {
        let older = json!({"global_attn_every_n_layers": 2, "global_rope_theta": 5e4, "local_rope_theta": 7e3});
        let newer = json!({
            "layer_types": ["full_attention", "sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {"full_attention": {"rope_theta": 5e4}, "sliding_attention": {"rope_theta": 7e3}},
            // Not used beside the newer ones.
            "global_attn_every_n_layers": 3, "global_rope_theta": 1.0,
        });
        let [older, newer] = [older, newer].map(|config| read(config).expect("valid"));
        assert_eq!(older, newer);
        assert_eq!(older.layer_types, [FullAttention, SlidingAttention, FullAttention, SlidingAttention]);
        assert_eq!(older.rope_parameters.full_attention, RopeParameters::new(5e4));
        assert_eq!(older.rope_parameters.sliding_attention, RopeParameters::new(7e3));
        let written = older.to_json().expect("numbers and names");
        assert_eq!(written["global_attn_every_n_layers"], 2);
        assert_eq!([&written["global_rope_theta"], &written["local_rope_theta"]], [5e4, 7e3]);
        assert_eq!(read(written).expect("valid"), older);

        let default = read(json!({})).expect("valid");
        assert_eq!(default.layer_types, [FullAttention, SlidingAttention, SlidingAttention, FullAttention]);
        assert_eq!(default.rope_parameters.full_attention, RopeParameters::new(16e4));
        assert_eq!(default.rope_parameters.sliding_attention, RopeParameters::new(1e4));
        assert_eq!(default.to_json().expect("numbers and names")["global_attn_every_n_layers"], 3);
        let types = json!(["full_attention", "sliding_attention", "full_attention", "full_attention"]);
        let irregular = read(json!({ "layer_types": types })).expect("valid");
        assert_eq!(irregular.to_json().expect("numbers and names").get("global_attn_every_n_layers"), None);
    }

    #[test]
    fn a_window_reaches_half_its_size_to_either_side() {
        for (size, reach) in [(128, 64), (7, 3), (1, 0)] {
            let config = read(json!({ "local_attention": size })).expect("valid");
            assert_eq!(config.reach(SlidingAttention), Some(reach));
            assert_eq!(config.reach(FullAttention), None);
        }
    }

    #[test]
    fn fields_out_of_range_are_named() {
        for (change, message) in [
            (
                json!({"global_attn_every_n_layers": 0}),
                "`global_attn_every_n_layers` is 0, allowed: an integer of at least 1",
            ),
            (json!({"norm_eps": -1.0}), "`norm_eps` is -1, allowed: above 0, at most 1"),
            (json!({"global_rope_theta": -1.0}), "`rope_theta` is -1, allowed: a number above 0"),
            (
                json!({"layer_types": ["full_attention"]}),
                "`layer_types` is 1 entries, allowed: one entry for each of the 4 layers",
            ),
            (json!({"mlp_dropout": 1.0}), "`mlp_dropout` is 1, allowed: 0 to below 1"),
            (
                json!({"layer_types": ["full_attention", "linear_attention"]}),
                "field `layer_types[1]`: unknown variant `linear_attention`, expected `full_attention` or \
                 `sliding_attention`",
            ),
            (
                json!({"num_attention_heads": 8}),
                "`hidden_size` is 8, allowed: a multiple of twice num_attention_heads (16)",
            ),
        ] {
            assert_eq!(read(change).expect_err("out of range").to_string(), message);
        }
    }
}
