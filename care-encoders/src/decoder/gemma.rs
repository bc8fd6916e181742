//! Gemma 3: what its `config.json` names or defaults otherwise than that of the other decoders.

use care_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::layers::{Activation, RopeParameters};
use crate::settings::optional;

/// Default base of the rotary frequencies in layers without a window.
const FULL_THETA: f64 = 1e6;
/// Default base of the rotary frequencies in layers with a window.
const SLIDING_THETA: f64 = 1e4;

/// Defaults of transformers that are not those of the other decoders.
const DEFAULTS: [(&str, u64); 5] = [
    ("head_dim", 256),
    ("max_position_embeddings", 131_072),
    ("num_key_value_heads", 4),
    ("pad_token_id", 0),
    ("query_pre_attn_scalar", 256),
];

/// Converts fields to those of the other decoders.
///
/// # Errors
/// If a field has the wrong type, or is not computed.
pub(super) fn normalize(config: &mut Value) -> Result<()> {
    RopeParameters::normalize_by_layer(config, FULL_THETA, SLIDING_THETA)?;
    if let Some(causal) = config.get("is_causal").filter(|causal| **causal != true) {
        let allowed = "true for gemma3_text, which has the field `use_bidirectional_attention`";
        return Err(Error::setting("is_causal", causal, allowed));
    }
    if let Some(cap) = config.get("attn_logit_softcapping") {
        return Err(Error::new(ErrorKind::Config, format!("`attn_logit_softcapping` {cap} is not supported")));
    }
    let bidirectional: bool = optional(config, "use_bidirectional_attention")?.unwrap_or(false);
    config["is_causal"] = (!bidirectional).into();
    let activation: Option<Activation> = optional(config, "hidden_activation")?;
    config["hidden_act"] = json!(activation.unwrap_or(Activation::GeluTanh));
    for (field, default) in DEFAULTS {
        if config.get(field).is_none() {
            config[field] = default.into();
        }
    }
    Ok(())
}

/// Converts the fields back.
pub(super) fn denormalize(fields: &mut Value) {
    RopeParameters::denormalize_by_layer(fields);
    let Some(fields) = fields.as_object_mut() else { return };
    let causal = fields.remove("is_causal").is_none_or(|causal| causal == true);
    fields.insert("use_bidirectional_attention".into(), (!causal).into());
    if let Some(activation) = fields.remove("hidden_act") {
        fields.insert("hidden_activation".into(), activation);
    }
}
