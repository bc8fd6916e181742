//! Loads and writes a Hugging Face folder: `config.json`, `model.safetensors`, `tokenizer.json`.

use std::path::Path;

use burn::tensor::Device;
use care_core::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::checkpoint::{Checkpoint, SINGLE};
use super::options::EncoderOptions;
use super::weights::{fill_from, write_weights};
use crate::batch::PaddingSide;
use crate::device::Precision;
use crate::encoder::Encoder;
use crate::layers::Prepack;
use crate::registry::{AnyEncoder, Architecture, EncoderConfig};
use crate::settings::parse_fields;
use crate::tokenize::Tokenizer;

pub(crate) const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// Decoders with more weights than this may overflow f16 in their hidden states.
const LARGEST_F16_DECODER: f64 = 1e9;

/// Loads the network of a Hugging Face folder. Of the options, `precision`, `force_f16`, `layers`, `adapter` and
/// `ignore_custom_code` apply; the adapter is merged.
///
/// Weights stay plain, ready for training and for any device, unless the precision is int8;
/// [`Encoder::prepacked`](crate::Encoder::prepacked) packs them for inference on the CPU.
///
/// # Errors
/// If an option is set that belongs to a whole tower (use [`load_tower`](crate::load_tower) for those); a file is
/// missing or broken; the architecture is unknown; a tensor is missing, unexpected, of the wrong shape or not finite;
/// the adapter does not fit; f16 is requested for a large decoder; or int8 is requested on a device other than the CPU.
pub fn load_encoder(folder: impl AsRef<Path>, options: &EncoderOptions, device: &Device) -> Result<AnyEncoder> {
    options.require_network_options()?;
    read_encoder(folder.as_ref(), options.adapter.as_deref(), options, device)
}

/// [`load_encoder`] with the adapter as an argument.
pub(crate) fn read_encoder(
    folder: &Path,
    adapter: Option<&Path>,
    options: &EncoderOptions,
    device: &Device,
) -> Result<AnyEncoder> {
    require_folder(folder)?;
    let (config, row) = Architecture::read(&folder.join(CONFIG), options.ignore_custom_code)?;
    let checkpoint = Checkpoint::open(folder)?;
    let precision = options.precision.unwrap_or_default();
    if let EncoderConfig::Decoder(decoder) = &config
        && precision == Precision::F16
        && decoder.parameter_count() > LARGEST_F16_DECODER
        && !options.force_f16
    {
        let billions = decoder.parameter_count() / 1e9;
        let message = format!(
            "{}: a decoder of {billions:.1} billion weights overflows f16: use bf16, or force f16",
            folder.display()
        );
        return Err(Error::new(ErrorKind::Config, message));
    }
    let mut encoder = fill_from(&checkpoint, row.weights, precision, config.build(device))?;
    if let Some(adapter) = adapter {
        encoder = encoder.with_adapter(adapter)?.merge_lora();
    }
    if let Some(keep) = &options.layers {
        encoder = encoder.with_layers(keep)?;
    }
    match precision {
        Precision::Int8 if !encoder.prefers_varlen() => {
            Err(Error::setting("precision", "int8", "only on the CPU; elsewhere bf16, f16 or f32"))
        }
        Precision::Int8 => Ok(encoder.prepacked(Prepack::Int8)),
        _ => Ok(encoder),
    }
}

/// Writes a network as a Hugging Face folder, without a tokenizer, that transformers loads.
///
/// # Errors
/// If the network is int8-quantized, or a file cannot be written.
pub(crate) fn write_encoder(folder: &Path, encoder: &AnyEncoder) -> Result<()> {
    let config = encoder.config();
    let Some(row) = config.architecture() else {
        return Err(Error::new(ErrorKind::Config, "the architecture cannot be saved"));
    };
    if encoder.is_quantized() {
        return Err(Error::setting("precision", "int8", "f32, bf16 or f16 to save a network"));
    }
    create_folder(folder)?;
    let mut json = config.to_json();
    json["torch_dtype"] = match Precision::of(encoder) {
        Precision::F32 | Precision::Int8 => "float32",
        Precision::Bf16 => "bfloat16",
        Precision::F16 => "float16",
    }
    .into();
    write_json(&folder.join(CONFIG), &json)?;
    write_weights(&folder.join(SINGLE), row.weights, encoder)
}

/// Reads the tokenizer of a folder, and checks that it matches `tokenizer_config.json`.
///
/// # Errors
/// If it is missing or broken, or lacks a special token that `tokenizer_config.json` names.
pub(crate) fn load_tokenizer(folder: &Path, config: &EncoderConfig, max_length: usize) -> Result<Tokenizer> {
    let path = folder.join(TOKENIZER);
    let pad = config.settings().common().pad_token_id;
    let tokenizer = Tokenizer::from_file(&path, pad.unwrap_or(0), max_length)?;
    let mut named_pad = None;
    for (role, token) in special_tokens(folder)? {
        let Some(id) = tokenizer.token_to_id(&token) else {
            let message = format!(
                "{}: has no token {token:?}, which {TOKENIZER_CONFIG} names as {role}: the tokenizer belongs to \
                 another model",
                path.display()
            );
            return Err(Error::new(ErrorKind::Tokenizer, message));
        };
        if role == "pad_token" {
            named_pad = Some(id);
        }
    }
    Ok(match (pad, named_pad) {
        (None, Some(id)) => tokenizer.with_pad_id(id),
        _ => tokenizer,
    })
}

/// The special tokens of `tokenizer_config.json` as pairs of role and token; empty without the file.
fn special_tokens(folder: &Path) -> Result<Vec<(String, String)>> {
    let path = folder.join(TOKENIZER_CONFIG);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let settings: Map<String, Value> = read_json(&path)?;
    let roles = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    let named = roles.iter().filter_map(|role| {
        let token = settings.get(*role)?;
        // A token is a string, or an object with the string as its `content`.
        let text = token.as_str().or_else(|| token.get("content")?.as_str())?;
        Some(((*role).to_owned(), text.to_owned()))
    });
    Ok(named.collect())
}

/// Writes a tokenizer, with settings that make transformers use `tokenizer.json` as it is.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn write_tokenizer(folder: &Path, tokenizer: &Tokenizer, encoder: &AnyEncoder) -> Result<()> {
    tokenizer.save(folder.join(TOKENIZER))?;
    let mut settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": tokenizer.max_length(),
        "padding_side": match encoder.padding_side() {
            PaddingSide::Right => "right",
            PaddingSide::Left => "left",
        },
        "clean_up_tokenization_spaces": false,
    });
    // transformers makes the padding token special, so naming an ordinary token would change how texts are split.
    let special = tokenizer.special_tokens();
    let candidates = [Some(tokenizer.pad_id()), tokenizer.terminal_token(), special.first().copied()];
    let pad = candidates.into_iter().flatten().find(|id| special.contains(id));
    if let Some(pad) = pad.and_then(|id| tokenizer.id_to_token(id)) {
        settings["pad_token"] = pad.into();
    }
    write_json(&folder.join(TOKENIZER_CONFIG), &settings)
}

/// Returns an error if a path is not a folder.
pub(crate) fn require_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Io, format!("{}: no such model folder", folder.display())))
}

pub(crate) fn create_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::format(path, &e).with_source(e))?;
    std::fs::write(path, text + "\n").map_err(|e| Error::io("write", path, e))
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| Error::format(path, &e).with_source(e))?;
    parse_fields(value).map_err(|e| e.in_file(path))
}
