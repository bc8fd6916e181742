//! Which layers of a decoder have a sliding window, from the settings that transformers reads.

use care_core::{Error, Result};
use serde_json::{Value, json};

use super::family::DecoderFamily;
use crate::layers::LayerType;
use crate::settings::{MOST_LAYERS, optional, require};

/// Default size of the window.
const DEFAULT_WINDOW: usize = 4096;
/// Default of Gemma's `sliding_window_pattern`.
const DEFAULT_PATTERN: usize = 6;
/// Default of `max_window_layers`.
const DEFAULT_WINDOW_LAYERS: usize = 28;

/// Sets `layer_types` and `sliding_window`, or removes both if no layer has a window.
///
/// # Reference
/// transformers. Qwen has a window only with `use_sliding_window`, in the layers that `layer_types` names; without the
/// field, in those from `max_window_layers` on. Every layer of Mistral has one unless `sliding_window` is null. Llama
/// and EuroBERT have none. Gemma 3 has one in the layers that `layer_types` names, else in all but every `sliding_window_pattern`th.
///
/// # Errors
/// If a field has the wrong type, `layer_types` does not fit the network, or there is no window for its layers.
pub(super) fn normalize(config: &mut Value, family: DecoderFamily) -> Result<()> {
    let layers = optional(config, "num_hidden_layers")?.unwrap_or(0);
    if layers > MOST_LAYERS {
        return Ok(());
    }
    let given: Option<Vec<LayerType>> = optional(config, "layer_types")?;
    let window = match config.get("sliding_window") {
        None => Some(DEFAULT_WINDOW),
        Some(_) => optional(config, "sliding_window")?,
    };
    let on: bool = optional(config, "use_sliding_window")?.unwrap_or(false);
    let window = match family {
        DecoderFamily::Qwen2 | DecoderFamily::Qwen3 => window.filter(|_| on),
        DecoderFamily::Llama | DecoderFamily::EuroBert => None,
        DecoderFamily::Mistral | DecoderFamily::Gemma3 => window,
    };
    let first = match family {
        DecoderFamily::Mistral => 0,
        _ => optional(config, "max_window_layers")?.unwrap_or(DEFAULT_WINDOW_LAYERS),
    };
    let pattern = optional(config, "sliding_window_pattern")?.unwrap_or(DEFAULT_PATTERN);
    require("sliding_window_pattern", pattern)?;
    let slides = |layer: usize| match family {
        DecoderFamily::Gemma3 => !(layer + 1).is_multiple_of(pattern),
        _ => window.is_some() && layer >= first,
    };
    let of = |slides| if slides { LayerType::SlidingAttention } else { LayerType::FullAttention };
    let derived: Vec<LayerType> = (0..layers).map(|layer| of(slides(layer))).collect();
    if let Some(given) = &given {
        check(given, &derived, family)?;
    }
    let types = given.unwrap_or(derived);
    if !types.contains(&LayerType::SlidingAttention) {
        let fields = config.as_object_mut().into_iter();
        fields.for_each(|fields| fields.retain(|name, _| name != "layer_types" && name != "sliding_window"));
        return Ok(());
    }
    if window.is_none() {
        let allowed = "full_attention for every layer, or a `sliding_window` and, for qwen2 and qwen3, \
                       `use_sliding_window` true";
        return Err(Error::setting("layer_types", "sliding_attention without a window", allowed));
    }
    config["layer_types"] = json!(types);
    config["sliding_window"] = json!(window);
    Ok(())
}

/// Checks `layer_types` against what follows from the other fields.
fn check(given: &[LayerType], derived: &[LayerType], family: DecoderFamily) -> Result<()> {
    let layers = derived.len();
    if given.len() != layers {
        let allowed = format!("one entry for each of the {layers} layers");
        return Err(Error::setting("layer_types", format!("{} entries", given.len()), &allowed));
    }
    // transformers does not read the field for these, so other types would be those of another network.
    if matches!(family, DecoderFamily::Llama | DecoderFamily::Mistral | DecoderFamily::EuroBert) && given != derived {
        let kind = if derived.contains(&LayerType::SlidingAttention) { "sliding" } else { "full" };
        return Err(Error::setting("layer_types", json!(given), &format!("{kind}_attention for every layer")));
    }
    Ok(())
}

/// Writes the fields from which transformers derives the same layers.
pub(super) fn denormalize(fields: &mut Value, family: DecoderFamily, window: Option<usize>) {
    match family {
        DecoderFamily::Qwen2 | DecoderFamily::Qwen3 if fields.get("layer_types").is_some() => {
            fields["use_sliding_window"] = true.into();
            fields["sliding_window"] = json!(window);
        }
        // Without the field, transformers has a window.
        DecoderFamily::Mistral => fields["sliding_window"] = json!(window),
        DecoderFamily::Gemma3 => {
            if fields.get("layer_types").is_none() {
                let layers = fields["num_hidden_layers"].as_u64().unwrap_or(0);
                fields["layer_types"] = (0..layers).map(|_| json!(LayerType::FullAttention)).collect();
            }
            fields["sliding_window"] = window.unwrap_or(DEFAULT_WINDOW).into();
        }
        _ => {}
    }
}
