//! The settings of a stage: read unchecked, then checked.

use std::path::PathBuf;

use care_core::{Error, ErrorKind, Result, Role};
use care_encoders::LoraConfig;
use serde::{Deserialize, Serialize};

use super::loss::require_positive;
use super::{LossConfig, LossKind};
use crate::schedule::Schedule;
use crate::stage::StageKind;

/// Settings under a name, as the paper's code has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Stage 1 of the published training: 2 epochs of 320, InfoNCE at 0.1 and MSE.
    #[serde(rename = "reference-stage1")]
    ReferenceStage1,
    /// Stage 2: 1 epoch of 168 queries with 7 hard negatives, InfoNCE at 0.02, low-rank additions to the
    /// document tower.
    #[serde(rename = "reference-stage2")]
    ReferenceStage2,
}

impl Preset {
    /// The settings as TOML, as they would stand in a `[[stage]]` table.
    pub fn toml(self) -> &'static str {
        match self {
            Preset::ReferenceStage1 => include_str!("presets/reference-stage1.toml"),
            Preset::ReferenceStage2 => include_str!("presets/reference-stage2.toml"),
        }
    }
}

/// Which weights of a tower learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainMode {
    /// All of them. They must be f32.
    Full,
    /// Low-rank additions to linear layers; the weights under them stay, in any number format.
    Lora,
    /// None.
    Frozen,
}

/// How one tower is trained in a stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TowerTraining {
    /// `full`, `lora` or `frozen`. Default: `full` for a tower that the stage trains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<TrainMode>,
    /// The tower's own largest learning rate, above 0. Default: the stage's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Probability of dropping a hidden component, from 0 to below 1; not for decoders, which have none. Default:
    /// the encoder's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Whether the token table stays as it is under `full`. It holds most weights of a small multilingual
    /// network and few of its rows occur in a batch. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub freeze_token_table: bool,
    /// The low-rank additions of `lora`. Default: rank 32, alpha 64, dropout 0.1, every linear layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
}

impl TowerTraining {
    /// Whether nothing is said about how the tower learns.
    fn is_bare(&self) -> bool {
        Self { train: None, ..self.clone() } == Self::default()
    }
}

/// One stage. Fields that are left out have the defaults given here, or those of `preset`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageConfig {
    /// Settings to start from: `reference-stage1` or `reference-stage2`. Default: those given here, for a small
    /// machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// What is trained and against what.
    pub kind: StageKind,
    /// FlagEmbedding JSONL files, each a source of its own; a folder stands for its `.jsonl` files.
    #[serde(default)]
    pub data: Vec<PathBuf>,
    /// Passes over the data, at least 1. Default 1.
    #[serde(default = "one")]
    pub epochs: usize,
    /// The stage ends after this many steps, if it is not at its end before; at least 1. The learning rate falls
    /// over the steps that are made. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
    /// Queries in a batch, at least 1: more give each query more in-batch negatives. Default 32.
    #[serde(default = "default_batch_size")]
    pub batch_size: usize,
    /// 1 positive and `group_size - 1` hard negatives a query, at least 1. Default 1: in-batch negatives only.
    #[serde(default = "one")]
    pub group_size: usize,
    /// Batches in a step, at least 1; their gradients are averaged. Unlike a larger batch they share no
    /// negatives. Default 1.
    #[serde(default = "one")]
    pub accumulation: usize,
    /// GradCache: texts that go through a tower at once, at least 1. The gradients are those of the whole
    /// batch, the memory that of so many texts, and each text is encoded twice. Default: whole batches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_cache: Option<usize>,
    /// The losses, added up with their weights; none, where the stage is given its own. Default: InfoNCE at
    /// temperature 0.02; in `query-alignment` InfoNCE at 0.1 and `embedding-mse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Vec<LossConfig>>,
    /// How a row with a `prompt` is read, such as `"Instruct: {prompt}\nQuery:{text}"`. Default: `prompt` is not
    /// used, every query has the tower's own instruction. Not for `query-alignment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_template: Option<String>,
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
    /// The query tower.
    #[serde(default)]
    pub query: TowerTraining,
    /// The document tower; in symmetric stages the network that encodes both.
    #[serde(default)]
    pub document: TowerTraining,
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
            preset: None,
            kind,
            data: Vec::new(),
            epochs: 1,
            max_steps: None,
            batch_size: default_batch_size(),
            group_size: 1,
            accumulation: 1,
            grad_cache: None,
            loss: None,
            prompt_template: None,
            learning_rate: default_learning_rate(),
            warmup_ratio: default_warmup(),
            schedule: Schedule::default(),
            weight_decay: default_weight_decay(),
            max_grad_norm: 1.0,
            query: TowerTraining::default(),
            document: TowerTraining::default(),
        }
    }

    /// Checks ranges and rules between fields.
    ///
    /// # Errors
    /// [`care_core::ErrorKind::Config`] with the field, its value and what is allowed.
    pub fn check(mut self) -> Result<CheckedStage> {
        for (field, value) in [
            ("epochs", self.epochs),
            ("max_steps", self.max_steps.unwrap_or(1)),
            ("batch_size", self.batch_size),
            ("group_size", self.group_size),
            ("accumulation", self.accumulation),
            ("grad_cache", self.grad_cache.unwrap_or(1)),
        ] {
            if value == 0 {
                return Err(Error::setting(field, value, "at least 1"));
            }
        }
        require_positive("learning_rate", self.learning_rate)?;
        require_positive("max_grad_norm", self.max_grad_norm)?;
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return Err(Error::setting("weight_decay", self.weight_decay, "at least 0"));
        }
        if !(0.0..=1.0).contains(&self.warmup_ratio) {
            return Err(Error::setting("warmup_ratio", self.warmup_ratio, "0 to 1"));
        }
        let losses = self.check_losses()?;
        self.check_prompt_template()?;
        let query = self.mode(Role::Query)?;
        let document = self.mode(Role::Document)?;
        if self.kind == StageKind::JointFinetuning && (query, document) == (TrainMode::Frozen, TrainMode::Frozen) {
            return Err(Error::setting(
                "document.train",
                "\"frozen\"",
                "full or lora, since the query tower is frozen",
            ));
        }
        self.loss = Some(losses.clone());
        Ok(CheckedStage { config: self, losses, query, document })
    }

    fn check_losses(&self) -> Result<Vec<LossConfig>> {
        let losses = self.loss.clone().unwrap_or_else(|| match self.kind {
            StageKind::QueryAlignment => vec![LossConfig::info_nce(0.1), LossConfig::new(LossKind::EmbeddingMse)],
            _ => vec![LossConfig::new(LossKind::InfoNce)],
        });
        for (index, loss) in losses.iter().enumerate() {
            if loss.kind == LossKind::Distillation && self.group_size == 1 {
                return Err(Error::setting("group_size", 1, "at least 2 with the loss distillation"));
            }
            loss.check().map_err(|e| Error::new(e.kind(), format!("loss[{index}]: {e}")))?;
            let allowed = match self.kind {
                StageKind::QueryAlignment if loss.kind == LossKind::Distillation => "info-nce, embedding-mse, cosine",
                StageKind::QueryAlignment => continue,
                _ if loss.needs_alignment() => "info-nce, distillation",
                _ => continue,
            };
            let kind = serde_json::to_string(&loss.kind).unwrap_or_default();
            let allowed = format!("{allowed} in {} stages", self.kind.as_str());
            return Err(Error::setting(&format!("loss[{index}].kind"), kind, &allowed));
        }
        Ok(losses)
    }

    fn check_prompt_template(&self) -> Result<()> {
        let Some(template) = &self.prompt_template else { return Ok(()) };
        let once = |part: &str| template.matches(part).count() == 1;
        let allowed = match self.kind {
            StageKind::QueryAlignment => "not set in query-alignment stages, whose texts have no task",
            _ if !(once("{prompt}") && once("{text}")) => "a text with {prompt} once and {text} once",
            _ => return Ok(()),
        };
        Err(Error::setting("prompt_template", format!("{template:?}"), allowed))
    }

    /// What of a tower learns, after the settings that would have no effect are refused.
    fn mode(&self, role: Role) -> Result<TrainMode> {
        let (name, tower) = match role {
            Role::Query => ("query", &self.query),
            Role::Document => ("document", &self.document),
        };
        let field = |field: &str| format!("{name}.{field}");
        if !self.kind.trains(role) {
            let stage = self.kind.as_str();
            return match tower {
                TowerTraining { train: None | Some(TrainMode::Frozen), .. } if tower.is_bare() => Ok(TrainMode::Frozen),
                _ => {
                    let message =
                        format!("`{name}` is set, but {stage} stages do not train the {name} tower by itself");
                    Err(Error::new(ErrorKind::Config, message))
                }
            };
        }
        let mode = tower.train.unwrap_or(TrainMode::Full);
        let only_one = self.kind != StageKind::JointFinetuning;
        if mode == TrainMode::Frozen && only_one {
            let allowed = format!("full or lora in {} stages", self.kind.as_str());
            return Err(Error::setting(&field("train"), "\"frozen\"", &allowed));
        }
        if let Some(rate) = tower.learning_rate {
            require_positive(&field("learning_rate"), rate)?;
            if mode == TrainMode::Frozen {
                return Err(Error::setting(&field("learning_rate"), rate, "not set for a frozen tower"));
            }
        }
        if let Some(dropout) = tower.dropout {
            if !(0.0..1.0).contains(&dropout) {
                return Err(Error::setting(&field("dropout"), dropout, "0 to below 1"));
            }
            if mode == TrainMode::Frozen {
                return Err(Error::setting(&field("dropout"), dropout, "not set for a frozen tower"));
            }
        }
        if tower.freeze_token_table && mode != TrainMode::Full {
            return Err(Error::setting(&field("freeze_token_table"), true, "only set with train = \"full\""));
        }
        if let Some(lora) = &tower.lora {
            if mode != TrainMode::Lora {
                return Err(Error::setting(&field("lora"), "set", "only set with train = \"lora\""));
            }
            lora.check().map_err(|e| Error::new(e.kind(), format!("{}: {e}", field("lora"))))?;
        }
        Ok(mode)
    }
}

/// A stage whose settings are within their ranges.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedStage {
    config: StageConfig,
    losses: Vec<LossConfig>,
    query: TrainMode,
    document: TrainMode,
}

impl CheckedStage {
    /// Which weights of a tower learn.
    pub fn mode(&self, role: Role) -> TrainMode {
        match role {
            Role::Query => self.query,
            Role::Document => self.document,
        }
    }

    /// The losses that the settings name.
    pub fn losses(&self) -> &[LossConfig] {
        &self.losses
    }

    /// Whether the tower of a role is another one after the stage.
    pub(crate) fn changes(&self, role: Role) -> bool {
        self.config.kind == StageKind::Symmetric || self.mode(role) != TrainMode::Frozen
    }

    /// The largest learning rate of a tower.
    pub fn learning_rate(&self, role: Role) -> f64 {
        self.tower(role).learning_rate.unwrap_or(self.config.learning_rate)
    }

    /// How a tower is trained.
    pub fn tower(&self, role: Role) -> &TowerTraining {
        match role {
            Role::Query => &self.config.query,
            Role::Document => &self.config.document,
        }
    }
}

impl std::ops::Deref for CheckedStage {
    type Target = StageConfig;

    fn deref(&self) -> &StageConfig {
        &self.config
    }
}
