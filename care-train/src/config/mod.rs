//! The configuration of a run: TOML is parsed into an unchecked struct, which is then checked.

mod loss;
mod stage;
mod suggest;

use std::path::{Path, PathBuf};

use care_core::{Error, ErrorKind, Result};
use care_encoders::{Device, EncoderOptions};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use loss::{LossConfig, LossKind};
pub use stage::{CheckedStage, Preset, StageConfig, TowerTraining, TrainMode};
use suggest::with_suggestion;

/// A training run as its TOML file specifies it.
///
/// ```
/// let config: care_train::TrainConfig = r#"
///     output = "runs/first"
///     [model]
///     pair = "models/untrained"
///     [[stage]]
///     preset = "reference-stage1"
///     data = ["align.jsonl"]
///     batch_size = 64
///     [[stage]]
///     kind = "joint-finetuning"
///     data = ["train.jsonl"]
///     group_size = 4
///     loss = [{ kind = "info-nce", temperature = 0.02 }]
/// "#.parse()?;
/// assert_eq!((config.stage[0].epochs, config.stage[0].batch_size), (2, 64));
/// # Ok::<(), care_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TrainConfig {
    /// Folder for checkpoints, the log, the curves and the trained pair (`<output>/model`).
    pub output: PathBuf,
    /// Seed for batches, negatives and dropout. Default 42.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// Device of the towers: `cpu`, `wgpu` or `cuda:0`. Default `cpu`.
    #[serde(default)]
    pub device: Device,
    /// Steps between checkpoints; 0 writes one only at the end of each stage. Default 200.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: usize,
    /// Number of newest checkpoints to keep besides the best one, >= 1. Default 2.
    #[serde(default = "default_keep_checkpoints")]
    pub keep_checkpoints: usize,
    /// Whether the vectors of a frozen document tower are computed once and cached. Default true.
    #[serde(default = "yes")]
    pub cache_teacher: bool,
    /// Folder of that cache; several runs may share it. Default `<output>/teacher-cache`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// The towers to start from.
    pub model: ModelConfig,
    /// Evaluation during training. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<EvaluationConfig>,
    /// The stages, in order.
    #[serde(default)]
    pub stage: Vec<StageConfig>,
}

/// The towers to start from: a saved pair, or one encoder folder per tower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelConfig {
    /// A saved pair; excludes `query` and `document`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<PathBuf>,
    /// The query tower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<TowerConfig>,
    /// The document tower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<TowerConfig>,
}

/// An encoder folder, and the options that make it a tower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TowerConfig {
    /// A folder in any supported layout, e.g. Hugging Face, sentence-transformers or a saved pair.
    pub encoder: PathBuf,
    /// Pooling, dimension, maximum length, layers and instruction; all optional.
    #[serde(default)]
    pub options: EncoderOptions,
}

/// A dev set, and how its scores are used. Each stage ends with the weights that scored best.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct EvaluationConfig {
    /// A task folder as read by `care eval`, e.g. in BEIR layout. If it holds several tasks, the score is the mean of
    /// their main scores (nDCG@10, MAP@10, Spearman).
    pub data: PathBuf,
    /// The split that chooses the weights. Default: `dev`, else `validation`; any other, such as `test`, must be named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Steps between evaluations, >= 1. The towers are also evaluated before the first step and after the last.
    /// Default 100.
    #[serde(default = "default_evaluate_every")]
    pub every: usize,
    /// Early-stopping patience: evaluations without improvement before the stage stops, >= 1. Default: no early
    /// stopping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
}

fn default_seed() -> u64 {
    42
}
fn default_checkpoint_every() -> usize {
    200
}
fn default_keep_checkpoints() -> usize {
    2
}
fn default_evaluate_every() -> usize {
    100
}
fn yes() -> bool {
    true
}

impl std::str::FromStr for TrainConfig {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |e: toml::de::Error| Error::new(ErrorKind::Config, with_suggestion(&e.to_string()));
        let mut table: Table = toml::from_str(text).map_err(refuse)?;
        for stage in table.get_mut("stage").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(stage) = stage.as_table_mut() {
                apply_preset(stage).map_err(refuse)?;
            }
        }
        table.try_into().map_err(|e: toml::de::Error| {
            // The table has no positions. Parsing the text again finds them, unless the error comes from a preset.
            let placed = toml::from_str::<Self>(text).err().filter(|placed| placed.message() == e.message());
            refuse(placed.unwrap_or(e))
        })
    }
}

/// Fills in the fields that a stage omits from its preset.
fn apply_preset(stage: &mut Table) -> std::result::Result<(), toml::de::Error> {
    let Some(name) = stage.get("preset") else { return Ok(()) };
    let preset: Preset = name.clone().try_into()?;
    merge(stage, toml::from_str(preset.toml())?);
    Ok(())
}

fn merge(table: &mut Table, defaults: Table) {
    for (name, default) in defaults {
        match (table.get_mut(&name), default) {
            (Some(Value::Table(inner)), Value::Table(default)) => merge(inner, default),
            (Some(_), _) => {}
            (None, default) => {
                table.insert(name, default);
            }
        }
    }
}

impl TrainConfig {
    /// Reads a TOML file. Relative paths in it are resolved against the file's folder.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, a field is unknown or a value has the wrong type; the message
    /// names line and column.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        let mut config: Self = text.parse().map_err(|e: Error| e.in_file(path))?;
        let base = path.parent().unwrap_or(Path::new(""));
        let resolve = |file: &mut PathBuf| *file = base.join(&*file);
        resolve(&mut config.output);
        config.cache.iter_mut().for_each(resolve);
        config.model.pair.iter_mut().for_each(resolve);
        for tower in [&mut config.model.query, &mut config.model.document].into_iter().flatten() {
            resolve(&mut tower.encoder);
            tower.options.adapter.iter_mut().for_each(resolve);
        }
        config.evaluation.iter_mut().for_each(|evaluation| resolve(&mut evaluation.data));
        config.stage.iter_mut().flat_map(|stage| &mut stage.data).for_each(resolve);
        Ok(config)
    }

    /// Checks every stage and the constraints between fields.
    ///
    /// # Errors
    /// Returns [`care_core::ErrorKind::Config`] with the field, its value and the allowed values.
    pub fn check(self) -> Result<CheckedTrainConfig> {
        if self.stage.is_empty() {
            return Err(Error::setting("stage", "empty", "at least one [[stage]] table"));
        }
        if self.keep_checkpoints == 0 {
            return Err(Error::setting("keep_checkpoints", 0, "at least 1"));
        }
        if let Some(evaluation) = &self.evaluation {
            for (field, value) in [("every", evaluation.every), ("patience", evaluation.patience.unwrap_or(1))] {
                if value == 0 {
                    return Err(Error::setting(&format!("evaluation.{field}"), value, "at least 1"));
                }
            }
        }
        if let (false, Some(cache)) = (self.cache_teacher, &self.cache) {
            return Err(Error::setting("cache", cache.display(), "only with cache_teacher = true"));
        }
        let stages = self
            .stage
            .iter()
            .enumerate()
            .map(|(index, stage)| {
                let has_data = match stage.data.is_empty() {
                    true => Err(Error::setting("data", "empty", "at least one file")),
                    false => Ok(()),
                };
                let checked = has_data.and_then(|()| stage.clone().check());
                checked.map_err(|e| Error::new(e.kind(), format!("stage {}: {e}", index + 1)))
            })
            .collect::<Result<_>>()?;
        match &self.model {
            ModelConfig { pair: Some(_), query: None, document: None }
            | ModelConfig { pair: None, query: Some(_), document: Some(_) } => {}
            _ => return Err(Error::setting("model", "ambiguous", "either `pair`, or both `query` and `document`")),
        }
        Ok(CheckedTrainConfig { config: self, stages })
    }
}

/// A configuration that has passed [`TrainConfig::check`].
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedTrainConfig {
    config: TrainConfig,
    stages: Vec<CheckedStage>,
}

impl CheckedTrainConfig {
    /// The stages, in order.
    pub fn stages(&self) -> &[CheckedStage] {
        &self.stages
    }

    /// Folder of the teacher cache, if it is enabled.
    pub(crate) fn teacher_cache(&self) -> Option<PathBuf> {
        let folder = || self.config.cache.clone().unwrap_or_else(|| self.config.output.join("teacher-cache"));
        self.config.cache_teacher.then(folder)
    }
}

impl std::ops::Deref for CheckedTrainConfig {
    type Target = TrainConfig;

    fn deref(&self) -> &TrainConfig {
        &self.config
    }
}
