//! One Hugging Face folder: `config.json`, `model.safetensors`, `tokenizer.json`.

use std::path::Path;

use burn::tensor::Device;
use care_core::{
    Encoder, Error, ErrorKind, HeadConfig, Instruction, Network, Pooling, Result, Text, Tokenizer, Tower,
    TruncationOrder,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::checkpoint::Checkpoint;
use super::random::randomize;
use super::weights::{PROJECTION, fill_from, write_weights};
use crate::registry::parse_fields;
use crate::{AnyEncoder, EncoderConfig};

/// Texts are cut here when nothing else is said: the paper's limit.
const DEFAULT_MAX_LENGTH: usize = 512;

/// How an encoder becomes a tower. What is `None` follows the saved tower, or for a bare encoder
/// folder the architecture.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderOptions {
    /// Pooling; by default CLS for BERT and the last token for decoders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Components of an embedding; by default all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// Order of cutting and normalising; by default cut first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncation: Option<TruncationOrder>,
    /// The longest text in tokens; by default 512, or the network's positions if fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Template or prefix; by default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// Whether vectors are normalised; by default they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
}

/// Loads the network of a Hugging Face folder.
///
/// # Errors
/// When a file is missing or broken, the architecture is unknown, or a tensor is missing, surplus or
/// of another shape.
pub fn load_encoder(folder: &Path, device: &Device) -> Result<AnyEncoder> {
    if !folder.is_dir() {
        return Err(Error::new(ErrorKind::Io, format!("{}: no such model folder", folder.display())));
    }
    let config = EncoderConfig::from_file(&folder.join("config.json"))?;
    let checkpoint = Checkpoint::open(folder)?;
    fill_from(&checkpoint, config.weights(), config.build(device))
}

/// Loads a Hugging Face folder as a tower of either role.
///
/// # Errors
/// As [`load_encoder`], and when the tokenizer does not fit the network or an option is out of range.
pub fn load_tower<T: Text>(folder: &Path, options: &EncoderOptions, device: &Device) -> Result<Tower<T, AnyEncoder>> {
    tower_of(load_encoder(folder, device)?, folder, options, device)
}

/// The tower of a network whose weights are loaded; the tokenizer comes from `folder`.
///
/// # Errors
/// As [`load_tower`].
pub(crate) fn tower_of<T: Text>(
    encoder: AnyEncoder,
    folder: &Path,
    options: &EncoderOptions,
    device: &Device,
) -> Result<Tower<T, AnyEncoder>> {
    let config = encoder.config();
    let max_length = DEFAULT_MAX_LENGTH.min(config.max_positions());
    let tokenizer = load_tokenizer(folder, &config, max_length)?;
    let network = Network::new(encoder, HeadConfig::new(config.default_pooling()), device)?;
    options.apply(Tower::new(tokenizer, network, Instruction::default())?)
}

impl EncoderOptions {
    /// The tower with every option that is set in place of its own setting.
    ///
    /// # Errors
    /// When an option is out of range for this tower.
    pub(crate) fn apply<T: Text>(&self, tower: Tower<T, AnyEncoder>) -> Result<Tower<T, AnyEncoder>> {
        let old = tower.network().head().clone();
        let head = HeadConfig {
            pooling: self.pooling.unwrap_or(old.pooling),
            projection: old.projection,
            dim: self.dim.or(old.dim),
            truncation: self.truncation.unwrap_or(old.truncation),
            normalize: self.normalize.unwrap_or(old.normalize),
        };
        let tokenizer = tower.tokenizer().with_max_length(self.max_length.unwrap_or(tower.tokenizer().max_length()))?;
        let instruction = match &self.instruction {
            Some(template) => Instruction::new(template)?,
            None => tower.instruction().clone(),
        };
        Tower::new(tokenizer, tower.network().clone().with_head(head)?, instruction)
    }
}

fn load_tokenizer(folder: &Path, config: &EncoderConfig, max_length: usize) -> Result<Tokenizer> {
    Tokenizer::from_file(&folder.join("tokenizer.json"), config.pad_token_id().unwrap_or(0), max_length)
}

/// Saves a tower's parts: `<role>_0_Transformer`, and `<role>_2_Dense` for a learned projection.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn save_tower<T: Text>(folder: &Path, tower: &Tower<T, AnyEncoder>) -> Result<()> {
    let transformer = folder.join(format!("{}_0_Transformer", T::ROLE.as_str()));
    create_folder(&transformer)?;
    let encoder = tower.network().encoder();
    let config = encoder.config();
    write_json(&transformer.join("config.json"), &config.to_json())?;
    write_weights(&transformer.join("model.safetensors"), config.weights(), encoder)?;
    tower.tokenizer().save(&transformer.join("tokenizer.json"))?;
    if let (Some(projection), Some(width)) = (tower.network().projection(), tower.network().head().projection) {
        let dense = folder.join(format!("{}_2_Dense", T::ROLE.as_str()));
        create_folder(&dense)?;
        let identity = "torch.nn.modules.linear.Identity";
        let config = json!({"in_features": encoder.hidden_size(), "out_features": width, "bias": true, "activation_function": identity});
        write_json(&dense.join("config.json"), &config)?;
        write_weights(&dense.join("model.safetensors"), &PROJECTION, projection)?;
    }
    Ok(())
}

/// What [`save_tower`] wrote, put together again.
///
/// # Errors
/// As [`load_tower`].
pub(crate) fn load_saved_tower<T: Text>(
    folder: &Path,
    head: HeadConfig,
    max_length: usize,
    instruction: &str,
    device: &Device,
) -> Result<Tower<T, AnyEncoder>> {
    let transformer = folder.join(format!("{}_0_Transformer", T::ROLE.as_str()));
    let encoder = load_encoder(&transformer, device)?;
    let tokenizer = load_tokenizer(&transformer, &encoder.config(), max_length)?;
    let mut network = Network::new(encoder, head, device)?;
    if network.projection().is_some() {
        let checkpoint = Checkpoint::open(&folder.join(format!("{}_2_Dense", T::ROLE.as_str())))?;
        network = network.try_map_projection(|projection| fill_from(&checkpoint, &PROJECTION, projection))?;
    }
    Tower::new(tokenizer, network, Instruction::new(instruction)?)
}

/// A network with a head; a learned projection gets random weights from `seed`.
///
/// # Errors
/// As [`Network::new`].
pub fn network_with_head(
    encoder: AnyEncoder,
    head: HeadConfig,
    seed: u64,
    device: &Device,
) -> Result<Network<AnyEncoder>> {
    let deviation = (encoder.hidden_size() as f64).sqrt().recip();
    Network::new(encoder, head, device)?.try_map_projection(|projection| Ok(randomize(projection, seed, deviation)))
}

pub(crate) fn create_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::format(path, e))?;
    std::fs::write(path, text + "\n").map_err(|e| Error::io("write", path, e))
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| Error::format(path, e))?;
    parse_fields(value).map_err(|e| Error::format(path, e))
}
