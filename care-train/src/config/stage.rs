//! The configuration of a stage: parsed unchecked, then checked.

use std::path::PathBuf;

use care_core::{Document, Error, ErrorKind, Instruction, Result, Role, check_template};
use care_encoders::Precision;
use care_encoders::lora::LoraConfig;
use serde::{Deserialize, Serialize};

use super::loss::require_positive;
use super::{LossConfig, LossKind};
use crate::schedule::Schedule;
use crate::stage::StageKind;

/// Steps of a stage: as many as the names of checkpoints have digits for.
pub(crate) const MOST_STEPS: usize = 99_999_999;
const MOST_EPOCHS: usize = 100_000;
/// Documents of a batch.
const MOST_TEXTS: usize = 1 << 20;
/// Tokens of a batch.
const MOST_TOKENS: usize = 1 << 30;
const MOST_OF_GROUP: usize = 4096;

/// Named settings, taken from the paper's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Preset {
    /// Stage 1 of the published training: 2 epochs, batch size 320, InfoNCE at temperature 0.1 and MSE.
    #[serde(rename = "reference-stage1")]
    ReferenceStage1,
    /// Stage 2: 1 epoch, batch size 168 with 7 hard negatives per query, InfoNCE at temperature 0.02, a LoRA adapter
    /// on the document tower.
    #[serde(rename = "reference-stage2")]
    ReferenceStage2,
}

impl Preset {
    /// The settings as TOML, in the form of a `[[stage]]` table.
    pub fn toml(self) -> &'static str {
        match self {
            Preset::ReferenceStage1 => include_str!("presets/reference-stage1.toml"),
            Preset::ReferenceStage2 => include_str!("presets/reference-stage2.toml"),
        }
    }
}

/// Which weights of a tower are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainMode {
    /// All weights, which must be f32.
    Full,
    /// A LoRA adapter on linear layers; the base weights are frozen and may be f32, bf16 or f16.
    Lora,
    /// No weights.
    Frozen,
}

/// How one tower is trained in a stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TowerTraining {
    /// `full`, `lora` or `frozen`. Default: `full` for a tower that the stage trains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<TrainMode>,
    /// Peak learning rate of this tower, > 0. Default: the stage's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Dropout probability of hidden states, `[0, 1)`; not for decoders, which have no dropout. Default: the encoder's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Whether the token embedding table is frozen under `full`. It holds most weights of a small multilingual
    /// network, and few of its rows occur in a batch. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub freeze_token_table: bool,
    /// The LoRA adapter under `lora`. Default: rank 32, alpha 64, dropout 0.1, every linear layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
}

impl TowerTraining {
    /// Whether every field except `train` has its default.
    fn is_bare(&self) -> bool {
        Self { train: None, ..self.clone() } == Self::default()
    }
}

/// One stage. Omitted fields take the value from `preset`, or else the default given here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StageConfig {
    /// Settings to start from: `reference-stage1` or `reference-stage2`. Default: none; the
    /// defaults given here suit a small machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Which towers are trained, and how.
    pub kind: StageKind,
    /// FlagEmbedding JSONL files, each a separate source; a folder stands for its `.jsonl` files.
    #[serde(default)]
    pub data: Vec<PathBuf>,
    /// Passes over the data, `1..=100000`. Default 1.
    #[serde(default = "one")]
    pub epochs: usize,
    /// Upper limit on the stage's steps, `1..=99999999`. The learning-rate schedule ends there too. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
    /// Queries per batch at most, `1..=1048576`. Larger batches give each query more in-batch negatives. Default 32.
    #[serde(default = "default_batch_size")]
    pub batch_size: usize,
    /// Tokens per batch at most, `1..=1073741824`: those of queries and documents as the trained towers read them. Batches
    /// are then of nearly equal length: each has its share of long and of short rows. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_batch_tokens: Option<usize>,
    /// Documents per query, `1..=4096`: 1 positive and `group_size - 1` hard negatives. Default 1: in-batch negatives only.
    #[serde(default = "one")]
    pub group_size: usize,
    /// Whether rows that share a query or a positive are put into different batches. If false, such positives are in
    /// one batch, where they are not used as negatives. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_duplicates: bool,
    /// Batches per step, `1..=1048576`; their gradients are averaged. Unlike one larger batch, they share no negatives.
    /// Default 1.
    #[serde(default = "one")]
    pub accumulation: usize,
    /// GradCache: texts per forward pass of a tower, `1..=1048576`. Gradients are those of the whole batch, memory is that of
    /// this many texts, and each text is encoded twice. Default: whole batches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_cache: Option<usize>,
    /// Gradient checkpointing: only the states between a tower's layers are kept for the backward pass, which repeats each
    /// layer's forward pass. Less memory, and about a third more time; the gradients are the same. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gradient_checkpointing: bool,
    /// The losses, whose weighted sum is minimised; may be empty if custom losses are added from code. Default: InfoNCE
    /// at temperature 0.02; in `query-alignment`, InfoNCE at 0.1 and `embedding-mse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Vec<LossConfig>>,
    /// Template for rows with a `prompt`, e.g. `"Instruct: {prompt}\nQuery:{text}"`; not for `query-alignment`.
    /// Default: `prompt` is ignored and every query gets the tower's instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_template: Option<String>,
    /// Instruction with which the frozen document tower reads the texts of a `query-alignment` stage: a template with
    /// `{text}`, or a prefix. Only for these stages, and not saved with the pair. Default: the document tower's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_instruction: Option<String>,
    /// Peak learning rate, > 0. Default 1e-4.
    #[serde(default = "default_learning_rate")]
    pub learning_rate: f64,
    /// Fraction of the steps over which the learning rate rises to its peak, `0..=1`. Default 0.05.
    #[serde(default = "default_warmup")]
    pub warmup_ratio: f64,
    /// Learning-rate decay after warmup: `linear`, `cosine` or `constant`. Default `linear`.
    #[serde(default)]
    pub schedule: Schedule,
    /// AdamW weight decay, >= 0; biases and norms are not decayed. Default 0.05.
    #[serde(default = "default_weight_decay")]
    pub weight_decay: f64,
    /// Gradient clipping: maximum gradient norm over all trained weights together, > 0. Default 1.
    #[serde(default = "one_f64")]
    pub max_grad_norm: f64,
    /// How the query tower is trained.
    #[serde(default)]
    pub query: TowerTraining,
    /// How the document tower is trained; in symmetric stages, the one network that encodes queries and documents.
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
    /// These settings after a change.
    ///
    /// ```
    /// use care_train::{StageConfig, StageKind};
    ///
    /// let stage = StageConfig::new(StageKind::QueryAlignment).with(|stage| stage.epochs = 2);
    /// assert_eq!(stage.epochs, 2);
    /// ```
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// A stage of this kind with default settings.
    pub fn new(kind: StageKind) -> Self {
        Self {
            preset: None,
            kind,
            data: Vec::new(),
            epochs: 1,
            max_steps: None,
            batch_size: default_batch_size(),
            max_batch_tokens: None,
            group_size: 1,
            no_duplicates: false,
            accumulation: 1,
            grad_cache: None,
            gradient_checkpointing: false,
            loss: None,
            prompt_template: None,
            teacher_instruction: None,
            learning_rate: default_learning_rate(),
            warmup_ratio: default_warmup(),
            schedule: Schedule::default(),
            weight_decay: default_weight_decay(),
            max_grad_norm: 1.0,
            query: TowerTraining::default(),
            document: TowerTraining::default(),
        }
    }

    /// Checks ranges and the constraints between fields.
    ///
    /// # Errors
    /// Returns [`care_core::ErrorKind::Config`] with the field, its value and the allowed values.
    pub fn check(mut self) -> Result<CheckedStage> {
        for (field, value, most) in [
            ("epochs", self.epochs, MOST_EPOCHS),
            ("max_steps", self.max_steps.unwrap_or(1), MOST_STEPS),
            ("batch_size", self.batch_size, MOST_TEXTS),
            ("max_batch_tokens", self.max_batch_tokens.unwrap_or(1), MOST_TOKENS),
            ("group_size", self.group_size, MOST_OF_GROUP),
            ("accumulation", self.accumulation, MOST_TEXTS),
            ("grad_cache", self.grad_cache.unwrap_or(1), MOST_TEXTS),
        ] {
            if !(1..=most).contains(&value) {
                return Err(Error::setting(field, value, &format!("1..={most}")));
            }
        }
        if self.batch_size * self.group_size > MOST_TEXTS {
            let most = MOST_TEXTS / self.batch_size;
            let allowed = format!("1..={most} with a batch_size of {}", self.batch_size);
            return Err(Error::setting("group_size", self.group_size, &allowed));
        }
        require_positive("learning_rate", self.learning_rate)?;
        require_positive("max_grad_norm", self.max_grad_norm)?;
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return Err(Error::setting("weight_decay", self.weight_decay, "at least 0"));
        }
        if !(0.0..=1.0).contains(&self.warmup_ratio) {
            return Err(Error::setting("warmup_ratio", self.warmup_ratio, "0..=1"));
        }
        let losses = self.check_losses()?;
        self.check_prompt_template()?;
        let teacher_instruction = self.check_teacher_instruction()?;
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
        Ok(CheckedStage { config: self, losses, teacher_instruction, query, document })
    }

    fn check_losses(&self) -> Result<Vec<LossConfig>> {
        let losses = self.loss.clone().unwrap_or_else(|| match self.kind {
            StageKind::QueryAlignment => vec![LossConfig::info_nce(0.1), LossConfig::new(LossKind::EmbeddingMse)],
            _ => vec![LossConfig::new(LossKind::InfoNce)],
        });
        for (index, loss) in losses.iter().enumerate() {
            if loss.kind == LossKind::Distillation && self.group_size == 1 {
                return Err(Error::setting("group_size", 1, "at least 2 with the distillation loss"));
            }
            loss.check().map_err(|e| Error::new(e.kind(), format!("loss[{index}]: {e}")))?;
            let allowed = match self.kind {
                StageKind::QueryAlignment if loss.kind == LossKind::Distillation => {
                    "info-nce, embedding-mse, embedding-kl, cosine"
                }
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
            StageKind::QueryAlignment => "unset in query-alignment stages, whose texts have no task",
            _ if !(once("{prompt}") && once("{text}")) => "a text with exactly one {prompt} and one {text}",
            _ => return check_template("`prompt_template`", template, &["{prompt}", "{text}"]),
        };
        Err(Error::setting("prompt_template", format!("{template:?}"), allowed))
    }

    fn check_teacher_instruction(&self) -> Result<Option<Instruction<Document>>> {
        let Some(template) = &self.teacher_instruction else { return Ok(None) };
        let allowed = match (self.kind, Instruction::new(template)) {
            (StageKind::QueryAlignment, Ok(instruction)) => return Ok(Some(instruction)),
            (StageKind::QueryAlignment, Err(_)) => "a text with at most one {text}",
            _ => "only in query-alignment stages",
        };
        Err(Error::setting("teacher_instruction", format!("{template:?}"), allowed))
    }

    /// Which weights of a tower are trained. Refuses settings that would have no effect.
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
                        format!("`{name}` is set, but {stage} stages do not train the {name} tower separately");
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
                return Err(Error::setting(&field("learning_rate"), rate, "unset for a frozen tower"));
            }
        }
        if let Some(dropout) = tower.dropout {
            if !(0.0..1.0).contains(&dropout) {
                return Err(Error::setting(&field("dropout"), dropout, "[0, 1)"));
            }
            if mode == TrainMode::Frozen {
                return Err(Error::setting(&field("dropout"), dropout, "unset for a frozen tower"));
            }
        }
        if tower.freeze_token_table && mode != TrainMode::Full {
            return Err(Error::setting(&field("freeze_token_table"), true, "only with train = \"full\""));
        }
        if let Some(lora) = &tower.lora {
            if mode != TrainMode::Lora {
                return Err(Error::setting(&field("lora"), "set", "only with train = \"lora\""));
            }
            lora.check().map_err(|e| Error::new(e.kind(), format!("{}: {e}", field("lora"))))?;
        }
        Ok(mode)
    }
}

/// A stage that has passed [`StageConfig::check`].
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedStage {
    config: StageConfig,
    losses: Vec<LossConfig>,
    teacher_instruction: Option<Instruction<Document>>,
    query: TrainMode,
    document: TrainMode,
}

impl CheckedStage {
    /// Which weights of a tower are trained.
    pub fn mode(&self, role: Role) -> TrainMode {
        match role {
            Role::Query => self.query,
            Role::Document => self.document,
        }
    }

    /// Refuses weights of a form in which this stage cannot use a tower: small optimizer steps are lost in 16 bits, no
    /// gradient goes through quantized weights, and 4 bits cannot be saved.
    pub(crate) fn check_precision(&self, role: Role, precision: Precision) -> Result<()> {
        let tower = role.as_str();
        // In a symmetric stage, both are one network.
        let mode = if self.kind == StageKind::Symmetric { self.document } else { self.mode(role) };
        let allowed = match (mode, precision) {
            (_, Precision::F32)
            | (TrainMode::Lora | TrainMode::Frozen, Precision::Bf16 | Precision::F16)
            | (TrainMode::Frozen, Precision::Int8) => return Ok(()),
            (TrainMode::Full, _) => format!("f32, since this stage trains the {tower} tower"),
            (TrainMode::Lora, _) => {
                format!("f32, bf16 or f16, since this stage trains an adapter of the {tower} tower")
            }
            (TrainMode::Frozen, _) => format!("f32, bf16, f16 or int8, since the {tower} tower is saved"),
        };
        Err(Error::setting("precision", format!("{:?}", precision.as_str()), &allowed))
    }

    /// The configured losses.
    pub fn losses(&self) -> &[LossConfig] {
        &self.losses
    }

    /// The stage with batches of a number of rows only.
    pub(crate) fn without_token_budget(&self) -> Self {
        let config = StageConfig { max_batch_tokens: None, ..self.config.clone() };
        Self { config, ..self.clone() }
    }

    /// The instruction with which the document tower reads the texts of an alignment, if not its own.
    pub(crate) fn teacher_instruction(&self) -> Option<&Instruction<Document>> {
        self.teacher_instruction.as_ref()
    }

    /// Whether the stage changes the tower of a role.
    pub(crate) fn changes(&self, role: Role) -> bool {
        self.config.kind == StageKind::Symmetric || self.mode(role) != TrainMode::Frozen
    }

    /// The peak learning rate of a tower.
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
