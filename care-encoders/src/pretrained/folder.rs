//! Loads and writes the network of a Hugging Face folder: `config.json` and `model.safetensors`.

use std::path::Path;

use burn::tensor::Device;
use care_core::files::{former_content, read_file};
use care_core::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::checkpoint::{Checkpoint, SINGLE};
use super::options::EncoderOptions;
use super::weights::{fill_encoder, write_weights};
use crate::decoder::DecoderFamily;
use crate::device::{Precision, is_cpu};
use crate::encoder::Encoder;
use crate::layers::{Linear, Parts, Prepack};
use crate::registry::{AnyEncoder, Architecture, EncoderConfig};
use crate::settings::parse_fields;

pub(crate) const CONFIG: &str = "config.json";
/// The file that specifies the towers of a pair.
pub(crate) const MANIFEST: &str = "care.json";

/// Decoders with more weights than this may overflow f16 in their hidden states.
const LARGEST_F16_DECODER: f64 = 1e9;

/// Loads the network of a Hugging Face folder. Of the options, `precision`, `force_f16`, `layers`, `adapter` and
/// `ignore_custom_code` apply; the adapter is merged.
///
/// Weights stay plain, ready for training and for any device, unless the precision is int8 or int4;
/// [`Encoder::prepacked`](crate::Encoder::prepacked) packs them for inference on the CPU. Weights that are stored in int8
/// stay so on the CPU without a `precision`; else they become those numbers in its dtype, by default f32.
///
/// # Errors
/// If an option is set that belongs to a whole tower (use [`load_tower`](crate::load_tower) for those); a file is
/// missing or broken; the architecture is unknown; a tensor is missing, unexpected, of the wrong shape or not finite;
/// the adapter does not fit; f16 is requested for a large decoder; or int8 or int4 is requested on a device other than
/// the CPU.
pub fn load_encoder(folder: impl AsRef<Path>, options: &EncoderOptions, device: &Device) -> Result<AnyEncoder> {
    options.require_network_options()?;
    read_encoder(folder.as_ref(), options.adapter.as_deref(), options, device, false)
}

/// [`load_encoder`] with the adapter as an argument; with `packed`, each weight is packed for inference on the CPU before the
/// next is read.
pub(crate) fn read_encoder(
    folder: &Path,
    adapter: Option<&Path>,
    options: &EncoderOptions,
    device: &Device,
    packed: bool,
) -> Result<AnyEncoder> {
    require_folder(folder)?;
    let (config, row) = Architecture::read(&folder.join(CONFIG), options.ignore_custom_code)?;
    let checkpoint = Checkpoint::open(folder)?;
    let stays_int8 = checkpoint.has_int8() && is_cpu(device) && !options.floats;
    let precision = options.precision.unwrap_or(if stays_int8 { Precision::Int8 } else { Precision::F32 });
    let quantizing = Prepack::quantizing(precision);
    let form = quantizing.or(packed.then_some(Prepack::F32));
    if let EncoderConfig::Decoder(decoder) = &config
        && precision == Precision::F16
        && (decoder.parameter_count() > LARGEST_F16_DECODER || decoder.model_type == DecoderFamily::Gemma3)
        && !options.force_f16
    {
        let what = match decoder.model_type {
            // Of any size: the states grow with the scaled embeddings.
            DecoderFamily::Gemma3 => "gemma3_text".to_owned(),
            _ => format!("a decoder of {:.1} billion weights", decoder.parameter_count() / 1e9),
        };
        let message = format!("{}: {what} overflows f16: use bf16, or force f16", folder.display());
        return Err(Error::new(ErrorKind::Config, message));
    }
    // Layers that an adapter changes stay plain until it is merged.
    let early = form.filter(|_| adapter.is_none());
    let mut each = |linear: &mut Linear| early.into_iter().for_each(|form| linear.prepack(form));
    let mut encoder = fill_encoder(&checkpoint, row.weights, precision, config.build(device), &mut each)?;
    if let Some(adapter) = adapter {
        encoder = encoder.with_adapter(adapter)?.merge_lora();
    }
    if let Some(keep) = &options.layers {
        encoder = encoder.with_layers(keep)?;
    }
    if quantizing.is_some() && !encoder.prefers_varlen() {
        return Err(Error::setting("precision", precision.as_str(), "only on the CPU; elsewhere bf16, f16 or f32"));
    }
    Ok(form.into_iter().fold(encoder, Encoder::prepacked))
}

/// Writes a network as a Hugging Face folder, without a tokenizer, that transformers loads unless the network is
/// int8-quantized. LoRA adapters are merged.
///
/// # Errors
/// If the network is quantized to 4 bits, or was quantized and is not packed in int8, or a file cannot be written.
pub(crate) fn write_encoder(folder: &Path, encoder: &AnyEncoder) -> Result<()> {
    let config = encoder.config();
    let Some(row) = config.architecture() else {
        return Err(Error::new(ErrorKind::Config, "the architecture cannot be saved"));
    };
    let mut linears = encoder.clone();
    let stored = linears.linears().iter().all(|(_, linear)| linear.prepacked() == Some(Prepack::Int8));
    if let Some(form) = encoder.quantization().filter(|_| !stored) {
        let allowed = "f32, bf16, f16, or int8 as loaded, to save a network";
        return Err(Error::setting("precision", form.precision().as_str(), allowed));
    }
    create_folder(folder)?;
    let mut json = config.to_json();
    json["torch_dtype"] = match Precision::of(encoder) {
        Precision::F32 | Precision::Int8 | Precision::Int4 => "float32",
        Precision::Bf16 => "bfloat16",
        Precision::F16 => "float16",
    }
    .into();
    if stored {
        // Other programs refuse a method that they do not know, instead of taking the integers for weights.
        json["quantization_config"] = json!({ "quant_method": "care", "bits": 8, "weights": "symmetric, per output" });
    }
    write_json(&folder.join(CONFIG), &json)?;
    let mut encoder = encoder.clone();
    let linears = encoder.linears().into_iter().map(|(path, linear)| (path, linear.clone())).collect();
    write_weights(&folder.join(SINGLE), row.weights, &encoder, &linears)
}

/// Returns an error if a path is not a folder.
pub(crate) fn require_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let place = folder.display();
    let message = match former_content(folder) {
        Some(old) => {
            format!("{place} is missing, its former content is in {}: rename that to {place}", old.display())
        }
        None if is_shared_document(folder) => {
            format!("{place}: no such model folder: both towers of this pair are one network; name the pair instead")
        }
        None => format!("{place}: no such model folder"),
    };
    Err(Error::new(ErrorKind::Io, message))
}

/// Whether a folder would hold the document tower's network in a pair that has one network for both towers.
fn is_shared_document(folder: &Path) -> bool {
    let manifest = || read_json::<Value>(&folder.with_file_name(MANIFEST));
    folder.ends_with("document_0_Transformer") && manifest().is_ok_and(|it| it["shared_transformer"] == true)
}

pub(crate) fn create_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::format(path, &e).with_source(e))?;
    std::fs::write(path, text + "\n").map_err(|e| Error::io("write", path, e))
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = read_file(path)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| Error::format(path, &e).with_source(e))?;
    parse_fields(value).map_err(|e| e.in_file(path))
}
