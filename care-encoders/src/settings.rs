//! Fields, defaults and checks that the configurations of all architectures share.

use std::collections::BTreeMap;

use care_core::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::layers::Activation;

/// The largest size in a configuration; the product of two sizes then fits into a `usize`.
const LARGEST_SIZE: usize = 1 << 30;
/// The largest number of layers; more are refused.
pub(crate) const MOST_LAYERS: usize = 10_000;

/// The fields that every configuration has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Common {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) max_position_embeddings: usize,
    pub(crate) initializer_range: f64,
    pub(crate) pad_token_id: Option<u32>,
}

/// Copies the common fields out of a configuration.
macro_rules! common {
    ($config:expr) => {
        $crate::settings::Common {
            vocab_size: $config.vocab_size,
            hidden_size: $config.hidden_size,
            num_hidden_layers: $config.num_hidden_layers,
            num_attention_heads: $config.num_attention_heads,
            intermediate_size: $config.intermediate_size,
            max_position_embeddings: $config.max_position_embeddings,
            initializer_range: $config.initializer_range,
            pad_token_id: $config.pad_token_id,
        }
    };
}
pub(crate) use common;

/// The configuration of an architecture.
pub(crate) trait Settings {
    /// The `model_type` under which it is written.
    fn model_type(&self) -> &'static str;

    /// The fields that every configuration has.
    fn common(&self) -> Common;

    /// Checks the fields that are not in [`Common`]; those are checked before.
    fn check(&self) -> Result<()>;

    /// The fields of the `config.json`.
    fn to_json(&self) -> serde_json::Result<Value>;

    /// The weight of a norm in a new network.
    fn initial_norm_weight(&self) -> f32 {
        1.0
    }

    /// Whether a network without the first of its layers is none of this architecture.
    fn needs_first_layer(&self) -> bool {
        false
    }

    /// Length of the longest text, in tokens, that the network has positions for.
    fn max_positions(&self) -> usize {
        self.common().max_position_embeddings
    }
}

/// Normalises a `config.json` to the fields of its struct, reads it and checks it.
pub(crate) fn parse<C: Settings + DeserializeOwned>(
    mut json: Value,
    normalize: fn(&mut Value) -> Result<()>,
) -> Result<C> {
    tidy(&mut json);
    normalize(&mut json)?;
    let config: C = parse_fields(json)?;
    config.common().check()?;
    config.check()?;
    Ok(config)
}

/// Fields for which null is a value of its own.
const NULLABLE: [&str; 4] = ["is_causal", "num_key_value_heads", "pad_token_id", "sliding_window"];

/// Removes fields that are null, which stands for their default, and writes whole numbers such as `256.0` as integers.
fn tidy(config: &mut Value) {
    if let Some(fields) = config.as_object_mut() {
        fields.retain(|name, value| !value.is_null() || NULLABLE.contains(&name.as_str()));
    }
    make_whole(config);
}

fn make_whole(value: &mut Value) {
    /// Above this, neighbouring floating-point numbers are more than 1 apart.
    const LARGEST: f64 = (1u64 << 53) as f64;
    match value {
        Value::Object(fields) => fields.values_mut().for_each(make_whole),
        Value::Array(items) => items.iter_mut().for_each(make_whole),
        Value::Number(number) => {
            if let Some(whole) = number.as_f64().filter(|x| number.is_f64() && x.fract() == 0.0 && x.abs() <= LARGEST) {
                *value = (whole as i64).into();
            }
        }
        _ => {}
    }
}

/// Takes a padding token of -1, which is in conversions of older Llamas, as none.
pub(crate) fn allow_no_padding_token(config: &mut Value) {
    if config.get("pad_token_id").is_some_and(|id| *id == -1) {
        config["pad_token_id"] = Value::Null;
    }
}

/// Deserializes JSON; the error for a wrong type names the field.
pub(crate) fn parse_fields<T: DeserializeOwned>(json: Value) -> Result<T> {
    serde_path_to_error::deserialize(json).map_err(|e| {
        let field = e.path().to_string();
        let problem = e.into_inner();
        let message = if field == "." { problem.to_string() } else { format!("field `{field}`: {problem}") };
        Error::new(ErrorKind::Format, message)
    })
}

/// A field of an object that may be absent or null; the error for a wrong type names it.
pub(crate) fn optional<T: DeserializeOwned>(json: &Value, field: &str) -> Result<Option<T>> {
    let Some(value) = json.get(field) else { return Ok(None) };
    // The field alone in an object, so that the error has its path.
    let fields: BTreeMap<String, Option<T>> = parse_fields(json!({ field: value }))?;
    Ok(fields.into_values().next().flatten())
}

impl Common {
    fn check(&self) -> Result<()> {
        require_size("vocab_size", self.vocab_size, LARGEST_SIZE)?;
        require_size("hidden_size", self.hidden_size, LARGEST_SIZE)?;
        require_size("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS)?;
        require_size("num_attention_heads", self.num_attention_heads, LARGEST_SIZE)?;
        require_size("intermediate_size", self.intermediate_size, LARGEST_SIZE)?;
        require_size("max_position_embeddings", self.max_position_embeddings, LARGEST_SIZE)?;
        if self.initializer_range >= 0.0 && self.initializer_range.is_finite() {
            return Ok(());
        }
        Err(Error::setting("initializer_range", self.initializer_range, "at least 0"))
    }
}

fn require_size(field: &str, size: usize, most: usize) -> Result<()> {
    match size {
        0 => Err(Error::setting(field, size, "at least 1")),
        size if size > most => Err(Error::setting(field, size, &format!("at most {most}"))),
        _ => Ok(()),
    }
}

/// Checks that a size is in range.
pub(crate) fn require(field: &str, size: usize) -> Result<()> {
    require_size(field, size, LARGEST_SIZE)
}

/// Checks that a size can be split into this many parts.
pub(crate) fn require_multiple((field, size): (&str, usize), (of, parts): (&str, usize)) -> Result<()> {
    if size.is_multiple_of(parts) {
        return Ok(());
    }
    Err(Error::setting(field, size, &format!("a multiple of {of} ({parts})")))
}

/// Checks what is added to a variance or a mean square.
pub(crate) fn require_epsilon(field: &str, epsilon: f64) -> Result<()> {
    if epsilon > 0.0 && epsilon <= 1.0 {
        return Ok(());
    }
    Err(Error::setting(field, epsilon, "above 0, at most 1"))
}

/// Checks that `hidden_dropout_prob` is in `[0, 1)`.
pub(crate) fn require_dropout(probability: f64) -> Result<()> {
    require_probability("hidden_dropout_prob", probability)
}

/// Checks that a dropout probability is in `[0, 1)`.
pub(crate) fn require_probability(field: &str, probability: f64) -> Result<()> {
    if (0.0..1.0).contains(&probability) {
        return Ok(());
    }
    Err(Error::setting(field, probability, "0 to below 1"))
}

/// transformers' defaults of fields that several configurations share.
pub(crate) mod default {
    use super::Activation;

    pub(crate) fn layer_norm_eps() -> f64 {
        1e-12
    }

    pub(crate) fn gelu() -> Activation {
        Activation::Gelu
    }

    pub(crate) fn silu() -> Activation {
        Activation::Silu
    }

    pub(crate) fn dropout() -> f64 {
        0.1
    }

    pub(crate) fn initializer_range() -> f64 {
        0.02
    }

    pub(crate) fn yes() -> bool {
        true
    }
}
