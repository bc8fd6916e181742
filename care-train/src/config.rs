//! The settings of a stage and of a run: read unchecked, then checked.

use std::path::{Path, PathBuf};

use care_core::{Device, Error, Result};
use care_encoders::EncoderOptions;
use serde::{Deserialize, Serialize};

use crate::schedule::Schedule;
use crate::stage::StageKind;

/// A training run as its TOML file says it.
///
/// ```
/// let config: care_train::TrainConfig = r#"
///     output = "runs/first"
///     [model]
///     pair = "models/untrained"
///     [[stage]]
///     kind = "query-alignment"
///     data = ["align.jsonl"]
///     [[stage]]
///     kind = "joint-finetuning"
///     data = ["train.jsonl"]
///     group_size = 4
///     temperature = 0.02
/// "#.parse()?;
/// assert_eq!(config.stage[0].temperature, 0.1);
/// # Ok::<(), care_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Folder for checkpoints, the log and the trained pair (`<output>/model`).
    pub output: PathBuf,
    /// Decides batches, negatives and dropout. Default 42.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// `cpu`, `wgpu` or `cuda:0`. Default `cpu`.
    #[serde(default)]
    pub device: Device,
    /// Steps between checkpoints; 0 writes one at the end of each stage only. Default 200.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: usize,
    /// Checkpoints that are kept, at least 1. Default 2.
    #[serde(default = "default_keep_checkpoints")]
    pub keep_checkpoints: usize,
    /// The towers to start from.
    pub model: ModelConfig,
    /// The stages, in order.
    #[serde(default)]
    pub stage: Vec<StageConfig>,
}

/// The towers to start from: a saved pair, or one encoder folder a tower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

/// One encoder folder and how it becomes a tower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TowerConfig {
    /// A Hugging Face folder.
    pub encoder: PathBuf,
    /// Pooling, width, length and instruction; all optional.
    #[serde(default)]
    pub options: EncoderOptions,
}

/// One stage. Fields that are left out have the defaults given here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageConfig {
    /// What is trained and against what.
    pub kind: StageKind,
    /// FlagEmbedding JSONL files, each a source of its own.
    #[serde(default)]
    pub data: Vec<PathBuf>,
    /// Passes over the data, at least 1. Default 1.
    #[serde(default = "one")]
    pub epochs: usize,
    /// Queries in a step, at least 1. Default 32.
    #[serde(default = "default_batch_size")]
    pub batch_size: usize,
    /// 1 positive and `group_size - 1` hard negatives a query. Default 1: in-batch negatives only.
    #[serde(default = "one")]
    pub group_size: usize,
    /// What similarities are divided by, above 0. Default 0.1; stage 2 of the paper uses 0.02.
    #[serde(default = "default_temperature")]
    pub temperature: f64,
    /// Weight of InfoNCE, at least 0. Default 1.
    #[serde(default = "one_f64")]
    pub info_nce_weight: f64,
    /// Weight of the MSE to the teacher in `query-alignment`, at least 0. Default 1; other kinds have
    /// no teacher and refuse another value than the default.
    #[serde(default = "one_f64")]
    pub mse_weight: f64,
    /// Largest learning rate, above 0. Default 1e-4.
    #[serde(default = "default_learning_rate")]
    pub learning_rate: f64,
    /// Share of the steps over which the learning rate rises to its largest, from 0 to 1. Default 0.05.
    #[serde(default = "default_warmup")]
    pub warmup_ratio: f64,
    /// How the learning rate falls after warmup: `linear`, `cosine` or `constant`. Default `linear`.
    #[serde(default)]
    pub schedule: Schedule,
    /// AdamW's weight decay, at least 0; biases and norms have none. Default 0.05.
    #[serde(default = "default_weight_decay")]
    pub weight_decay: f64,
    /// Gradients longer than this, over all trained weights together, are scaled down to it; above 0.
    /// Default 1.
    #[serde(default = "one_f64")]
    pub max_grad_norm: f64,
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
fn one() -> usize {
    1
}
fn one_f64() -> f64 {
    1.0
}
fn default_batch_size() -> usize {
    32
}
fn default_temperature() -> f64 {
    0.1
}
fn default_learning_rate() -> f64 {
    1e-4
}
fn default_warmup() -> f64 {
    0.05
}
fn default_weight_decay() -> f64 {
    0.05
}

impl StageConfig {
    /// A stage with the default settings.
    pub fn new(kind: StageKind) -> Self {
        Self {
            kind,
            data: Vec::new(),
            epochs: 1,
            batch_size: default_batch_size(),
            group_size: 1,
            temperature: default_temperature(),
            info_nce_weight: 1.0,
            mse_weight: 1.0,
            learning_rate: default_learning_rate(),
            warmup_ratio: default_warmup(),
            schedule: Schedule::default(),
            weight_decay: default_weight_decay(),
            max_grad_norm: 1.0,
        }
    }

    /// Checks ranges and rules between fields.
    ///
    /// # Errors
    /// [`care_core::ErrorKind::Config`] with the field, its value and what is allowed.
    pub fn check(self) -> Result<CheckedStage> {
        for (field, value) in
            [("epochs", self.epochs), ("batch_size", self.batch_size), ("group_size", self.group_size)]
        {
            if value == 0 {
                return Err(Error::setting(field, value, "at least 1"));
            }
        }
        for (field, value) in [
            ("temperature", self.temperature),
            ("learning_rate", self.learning_rate),
            ("max_grad_norm", self.max_grad_norm),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::setting(field, value, "above 0"));
            }
        }
        for (field, value) in [
            ("info_nce_weight", self.info_nce_weight),
            ("mse_weight", self.mse_weight),
            ("weight_decay", self.weight_decay),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::setting(field, value, "at least 0"));
            }
        }
        if !(0.0..=1.0).contains(&self.warmup_ratio) {
            return Err(Error::setting("warmup_ratio", self.warmup_ratio, "0 to 1"));
        }
        if self.kind == StageKind::QueryAlignment {
            if self.info_nce_weight == 0.0 && self.mse_weight == 0.0 {
                return Err(Error::setting("mse_weight", self.mse_weight, "above 0 when info_nce_weight is 0"));
            }
        } else {
            if self.mse_weight != 1.0 {
                return Err(Error::setting("mse_weight", self.mse_weight, "only set in query-alignment stages"));
            }
            if self.info_nce_weight == 0.0 {
                return Err(Error::setting(
                    "info_nce_weight",
                    self.info_nce_weight,
                    "above 0: it is this stage's loss",
                ));
            }
        }
        Ok(CheckedStage(self))
    }
}

/// A stage whose settings are within their ranges.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedStage(StageConfig);

impl std::ops::Deref for CheckedStage {
    type Target = StageConfig;

    fn deref(&self) -> &StageConfig {
        &self.0
    }
}

impl std::str::FromStr for TrainConfig {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| Error::new(care_core::ErrorKind::Config, e.to_string().trim_end().to_owned()))
    }
}

impl TrainConfig {
    /// Reads a TOML file. Relative paths in it are relative to the file.
    ///
    /// # Errors
    /// When the file cannot be read, a field is unknown, or a value has the wrong type; the message
    /// names line and column.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        let mut config: Self = text.parse().map_err(|e| Error::format(path, e))?;
        let base = path.parent().unwrap_or(Path::new(""));
        let resolve = |file: &mut PathBuf| *file = base.join(&*file);
        resolve(&mut config.output);
        config.model.pair.iter_mut().for_each(resolve);
        for tower in [&mut config.model.query, &mut config.model.document].into_iter().flatten() {
            resolve(&mut tower.encoder);
        }
        config.stage.iter_mut().flat_map(|stage| &mut stage.data).for_each(resolve);
        Ok(config)
    }

    /// Checks every stage and the rules between fields.
    ///
    /// # Errors
    /// [`care_core::ErrorKind::Config`] with the field, its value and what is allowed.
    pub fn check(self) -> Result<CheckedTrainConfig> {
        if self.stage.is_empty() {
            return Err(Error::setting("stage", "empty", "at least one [[stage]] table"));
        }
        if self.keep_checkpoints == 0 {
            return Err(Error::setting("keep_checkpoints", 0, "at least 1"));
        }
        let stages = self
            .stage
            .iter()
            .enumerate()
            .map(|(index, stage)| {
                if stage.data.is_empty() {
                    return Err(Error::setting(&format!("stage[{index}].data"), "empty", "at least one file"));
                }
                stage.clone().check().map_err(|e| Error::new(e.kind(), format!("stage[{index}]: {e}")))
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

/// A run whose settings are within their ranges.
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
}

impl std::ops::Deref for CheckedTrainConfig {
    type Target = TrainConfig;

    fn deref(&self) -> &TrainConfig {
        &self.config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut StageConfig)) -> String {
        let mut stage = StageConfig::new(StageKind::JointFinetuning);
        change(&mut stage);
        stage.check().expect_err("out of range").to_string()
    }

    #[test]
    fn every_range_is_guarded() {
        assert_eq!(refusal(|s| s.temperature = 0.0), "`temperature` is 0, allowed: above 0");
        assert_eq!(refusal(|s| s.temperature = f64::NAN), "`temperature` is NaN, allowed: above 0");
        assert_eq!(refusal(|s| s.learning_rate = -1.0), "`learning_rate` is -1, allowed: above 0");
        assert_eq!(refusal(|s| s.max_grad_norm = 0.0), "`max_grad_norm` is 0, allowed: above 0");
        assert_eq!(refusal(|s| s.weight_decay = -0.1), "`weight_decay` is -0.1, allowed: at least 0");
        assert_eq!(refusal(|s| s.warmup_ratio = 1.5), "`warmup_ratio` is 1.5, allowed: 0 to 1");
        assert_eq!(refusal(|s| s.batch_size = 0), "`batch_size` is 0, allowed: at least 1");
        assert_eq!(refusal(|s| s.group_size = 0), "`group_size` is 0, allowed: at least 1");
        assert_eq!(refusal(|s| s.epochs = 0), "`epochs` is 0, allowed: at least 1");
        assert_eq!(refusal(|s| s.mse_weight = 0.5), "`mse_weight` is 0.5, allowed: only set in query-alignment stages");
        assert_eq!(
            refusal(|s| s.info_nce_weight = 0.0),
            "`info_nce_weight` is 0, allowed: above 0: it is this stage's loss"
        );
        let nothing = |s: &mut StageConfig| {
            *s = StageConfig { info_nce_weight: 0.0, mse_weight: 0.0, ..StageConfig::new(StageKind::QueryAlignment) };
        };
        assert_eq!(refusal(nothing), "`mse_weight` is 0, allowed: above 0 when info_nce_weight is 0");
    }

    #[test]
    fn a_file_says_where_it_is_wrong_and_its_paths_are_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("train.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            TrainConfig::from_file(&path)
        };
        let head = "output = \"out\"\n[model]\npair = \"pair\"\n[[stage]]\nkind = \"joint-finetuning\"\n";
        let config = read(&format!("{head}data = [\"a.jsonl\"]\n")).expect("good");
        assert_eq!(config.output, folder.path().join("out"));
        assert_eq!(config.stage[0].data, [folder.path().join("a.jsonl")]);
        assert!(config.check().is_ok());

        let error = read(&format!("{head}temprature = 1.0\n")).expect_err("a misspelt field").to_string();
        assert!(error.contains("line 6") && error.contains("unknown field `temprature`"), "{error}");
        let error = read(&format!("{head}batch_size = \"8\"\n")).expect_err("a string").to_string();
        assert!(error.contains("line 6") && error.contains("invalid type: string \"8\", expected usize"), "{error}");

        let check = |text: &str| read(text).and_then(TrainConfig::check).expect_err("incomplete").to_string();
        assert_eq!(check(head), "`stage[0].data` is empty, allowed: at least one file");
        assert_eq!(
            check("output = \"o\"\n[model]\npair = \"p\"\n"),
            "`stage` is empty, allowed: at least one [[stage]] table"
        );
        assert_eq!(
            check("output = \"o\"\n[model]\n[[stage]]\nkind = \"joint-finetuning\"\ndata = [\"a\"]\n"),
            "`model` is ambiguous, allowed: either `pair`, or both `query` and `document`"
        );
        assert_eq!(
            check(&format!("{head}data = [\"a\"]\ntemperature = 0.0\n")),
            "stage[0]: `temperature` is 0, allowed: above 0"
        );
    }
}
