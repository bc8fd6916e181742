//! The configuration of a run: TOML is parsed into an unchecked struct, which is then checked.

mod loss;
mod overrides;
mod stage;
mod suggest;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use care_core::{Error, ErrorKind, Result, Role};
use care_encoders::{Device, EncoderOptions};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use loss::{LossConfig, LossKind};
use overrides::Override;
pub(crate) use stage::MOST_STEPS;
pub use stage::{CheckedStage, Preset, StageConfig, TowerTraining, TrainMode};
use suggest::with_suggestion;

use crate::stage::StageKind;

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
    #[serde(skip)]
    origin: Origin,
}

/// Where the paths of a configuration come from.
#[derive(Debug, Clone, Default, PartialEq)]
struct Origin {
    /// The folder of the file.
    base: PathBuf,
    /// Folders of models from the Hugging Face hub, each with the model's name and commit.
    hub: BTreeMap<PathBuf, String>,
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

impl ModelConfig {
    /// The folders of models and adapters, with the names of their fields.
    fn paths_mut(&mut self) -> impl Iterator<Item = (String, &mut PathBuf)> {
        let mut paths: Vec<(String, &mut PathBuf)> =
            self.pair.iter_mut().map(|path| ("model.pair".to_owned(), path)).collect();
        for (role, tower) in [("query", &mut self.query), ("document", &mut self.document)] {
            let Some(tower) = tower else { continue };
            paths.push((format!("model.{role}.encoder"), &mut tower.encoder));
            let adapter = tower.options.adapter.iter_mut();
            paths.extend(adapter.map(|path| (format!("model.{role}.options.adapter"), path)));
        }
        paths.into_iter()
    }

    /// Refuses a `precision` of a tower that one of the stages cannot use.
    fn check_precisions(&self, stages: &[CheckedStage]) -> Result<()> {
        for (role, tower) in [(Role::Query, &self.query), (Role::Document, &self.document)] {
            let Some(precision) = tower.as_ref().and_then(|tower| tower.options.precision) else { continue };
            for (stage, number) in stages.iter().zip(1..) {
                let checked = stage.check_precision(role, precision);
                checked.map_err(|e| {
                    Error::new(e.kind(), format!("stage {number}: model.{}.options: {e}", role.as_str()))
                })?;
            }
        }
        Ok(())
    }
}

/// An encoder folder, and the options that make it a tower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TowerConfig {
    /// A folder in any supported layout, e.g. Hugging Face, sentence-transformers or a saved pair; or a model of the
    /// Hugging Face hub, see [`TrainConfig::locate_models`].
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

/// As many as the names of checkpoints have digits for.
const MOST_STAGES: usize = 9999;

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
        parse(text, &[])
    }
}

/// Parses a file's text with the overrides in it.
fn parse(text: &str, overrides: &[Override]) -> Result<TrainConfig> {
    let refuse = |e: toml::de::Error| Error::new(ErrorKind::Config, with_suggestion(&e.to_string()));
    let mut table: Table = toml::from_str(text).map_err(refuse)?;
    overrides.iter().try_for_each(|one| one.apply(&mut table))?;
    for stage in table.get_mut("stage").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(stage) = stage.as_table_mut() {
            apply_preset(stage).map_err(refuse)?;
        }
    }
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|e| {
        let path: Vec<String> = e.path().iter().map(|segment| segment.to_string()).collect();
        let path: Vec<String> = path.iter().map(|part| part.trim_matches(['[', ']']).to_owned()).collect();
        let e = e.into_inner();
        // The table has no positions. Parsing the text again finds them, unless the error comes from elsewhere.
        let placed = toml::from_str::<TrainConfig>(text).err().filter(|placed| placed.message() == e.message());
        match (placed, overrides.iter().rfind(|one| one.concerns(&path))) {
            (Some(placed), _) => refuse(placed),
            (None, Some(set)) => set.refuse(&with_suggestion(e.message())),
            (None, None) => refuse(e),
        }
    })
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
        Self::from_file_with(path, &[] as &[&str])
    }

    /// Reads a TOML file with other values for some of its keys. Each of `settings` is `KEY=VALUE`: a path of names,
    /// positions in lists counted from 0, and a TOML value, e.g. `stage.0.learning_rate=1e-4`. What is no TOML value is a
    /// text. The result is that of a file in which these values are written.
    ///
    /// # Errors
    /// As [`TrainConfig::from_file`]; also if a setting has no such form, its path leads to no place of the file, or its
    /// key is given twice. The message names the setting.
    pub fn from_file_with(path: impl AsRef<Path>, settings: &[impl AsRef<str>]) -> Result<Self> {
        let path = path.as_ref();
        let overrides = overrides::read(settings)?;
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        let mut config = parse(&text, &overrides).map_err(|e: Error| e.in_file(path))?;
        config.check_paths().map_err(|e| e.in_file(path))?;
        let base = path.parent().unwrap_or(Path::new(""));
        config.paths_mut().for_each(|(_, file)| *file = base.join(&*file));
        config.origin.base = base.to_owned();
        Ok(config)
    }

    /// Every path, with the name of its field.
    fn paths_mut(&mut self) -> impl Iterator<Item = (String, &mut PathBuf)> {
        let named = |name: &'static str| move |path| (name.to_owned(), path);
        let mut paths = vec![("output".to_owned(), &mut self.output)];
        paths.extend(self.cache.iter_mut().map(named("cache")));
        paths.extend(self.evaluation.iter_mut().map(|evaluation| ("evaluation.data".to_owned(), &mut evaluation.data)));
        for (stage, number) in self.stage.iter_mut().zip(1..) {
            paths.extend(stage.data.iter_mut().map(|path| (format!("stage {number} data"), path)));
        }
        paths.into_iter().chain(self.model.paths_mut())
    }

    /// Refuses empty paths, each of which would mean the folder of the file.
    fn check_paths(&self) -> Result<()> {
        for (field, path) in self.clone().paths_mut() {
            if path.to_str().is_some_and(|path| path.trim().is_empty()) {
                return Err(Error::setting(&field, format!("{:?}", path.display().to_string()), "a path"));
            }
        }
        Ok(())
    }

    /// Replaces models that are written by name, such as `ORG/NAME@REVISION` of the Hugging Face hub, by local folders, and
    /// returns how many there are. `find` returns the folder of such a model, and its name with the commit; `None` for
    /// what is no model's name. A folder that exists is never looked up.
    ///
    /// # Errors
    /// If `find` fails.
    pub fn locate_models<E>(
        &mut self,
        mut find: impl FnMut(&str) -> std::result::Result<Option<(PathBuf, String)>, E>,
    ) -> std::result::Result<usize, E> {
        let mut found = 0;
        for (_, path) in self.model.paths_mut() {
            let written = path.strip_prefix(&self.origin.base).unwrap_or(path).to_str().unwrap_or_default().to_owned();
            if path.exists() {
                continue;
            }
            let Some((folder, name)) = find(&written)? else { continue };
            self.origin.hub.insert(folder.clone(), name);
            *path = folder;
            found += 1;
        }
        Ok(found)
    }

    /// The names of the models from the hub, with their commits.
    pub(crate) fn hub_models(&self) -> impl Iterator<Item = &str> {
        self.origin.hub.values().map(String::as_str)
    }

    /// The hub's name of a folder's model, without the commit.
    pub(crate) fn hub_name(&self, folder: &Path) -> Option<&str> {
        self.origin.hub.get(folder).map(|name| name.split_once('@').map_or(name.as_str(), |(name, _)| name))
    }

    /// The hub's name of a folder's model, with the commit.
    pub(crate) fn hub_commit(&self, folder: &Path) -> Option<&str> {
        self.origin.hub.get(folder).map(String::as_str).filter(|name| name.contains('@'))
    }

    /// A path as others may see it: as the file writes it, but without the folders of an absolute one; a model of the
    /// hub by its name.
    pub(crate) fn public_path(&self, path: &Path) -> String {
        if let Some(name) = self.origin.hub.get(path) {
            return name.clone();
        }
        let path = path.strip_prefix(&self.origin.base).unwrap_or(path);
        match path.file_name() {
            Some(name) if path.is_absolute() => name.to_string_lossy().into_owned(),
            _ => path.display().to_string(),
        }
    }

    /// The configuration with [`TrainConfig::public_path`] in the place of every path.
    pub(crate) fn public(&self) -> Self {
        let mut config = self.clone();
        config.paths_mut().for_each(|(_, path)| *path = self.public_path(path).into());
        config
    }

    /// Checks every stage and the constraints between fields.
    ///
    /// # Errors
    /// Returns [`care_core::ErrorKind::Config`] with the field, its value and the allowed values.
    pub fn check(self) -> Result<CheckedTrainConfig> {
        self.check_paths()?;
        if self.stage.is_empty() {
            return Err(Error::setting("stage", "empty", "at least one [[stage]] table"));
        }
        if self.stage.len() > MOST_STAGES {
            let allowed = format!("at most {MOST_STAGES} [[stage]] tables");
            return Err(Error::setting("stage", format!("a list of {}", self.stage.len()), &allowed));
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
            .collect::<Result<Vec<_>>>()?;
        check_symmetric(&stages)?;
        match &self.model {
            ModelConfig { pair: Some(_), query: None, document: None }
            | ModelConfig { pair: None, query: Some(_), document: Some(_) } => {}
            _ => return Err(Error::setting("model", "ambiguous", "either `pair`, or both `query` and `document`")),
        }
        self.model.check_precisions(&stages)?;
        Ok(CheckedTrainConfig { config: self, stages })
    }
}

/// Refuses a symmetric stage after one that trains the towers apart: it would replace the query tower by the document's.
fn check_symmetric(stages: &[CheckedStage]) -> Result<()> {
    let is_symmetric = |stage: &CheckedStage| stage.kind == StageKind::Symmetric;
    let apart = stages.iter().take_while(|stage| is_symmetric(stage)).count();
    match stages.iter().skip(apart).position(is_symmetric) {
        None => Ok(()),
        Some(after) => {
            let allowed = format!("any other after stage {}, which trains the towers apart", apart + 1);
            let refused = Error::setting("kind", "\"symmetric\"", &allowed);
            Err(Error::new(refused.kind(), format!("stage {}: {refused}", apart + after + 1)))
        }
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
