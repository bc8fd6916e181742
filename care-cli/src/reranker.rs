//! Options that specify a reranker.

use anyhow::{Context, Result};
use care_core::Reranker;
use care_encoders::{CrossEncoder, CrossEncoderOptions, DEFAULT_TOKEN_BUDGET, Device, Precision, ScoreActivation};
use clap::Args;
use serde_json::{Value, json};

use crate::model::{ModelArgs, locate, supported};
use crate::stderr::note;

/// Options of every command that can run a reranker.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Reranker")]
pub(crate) struct RerankerArgs {
    /// A reranker: a folder of a cross-encoder (Hugging Face or sentence-transformers) or of Qwen3-Reranker, or ORG/NAME or
    /// ORG/NAME@REVISION on the Hugging Face hub
    #[arg(long, value_name = "DIR|ORG/NAME")]
    reranker: Option<String>,
    /// Maximum length of a pair in tokens, including special tokens; by default as the reranker's folder states
    #[arg(long, value_name = "N", requires = "reranker")]
    reranker_max_length: Option<usize>,
    /// What turns the reranker's logits into scores: identity or sigmoid; by default as the folder states, else sigmoid
    #[arg(long, value_name = "NAME", requires = "reranker")]
    reranker_activation: Option<ScoreActivation>,
    /// Instruction of Qwen3-Reranker; by default that of its model card
    #[arg(long, value_name = "TEXT", requires = "reranker")]
    reranker_instruction: Option<String>,
    /// Dtype of the reranker: f32, bf16, f16 or, on the CPU, int8 or int4; by default that of the device
    #[arg(long, value_name = "PRECISION", requires = "reranker")]
    reranker_precision: Option<Precision>,
}

/// Where and how a reranker runs, for commands without another model.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// Maximum number of tokens per forward pass, including padding
    #[arg(long, value_name = "N", default_value_t = DEFAULT_TOKEN_BUDGET)]
    pub(crate) batch_tokens: usize,
    /// Device: cpu, wgpu or cuda:0
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Device,
    /// Allow f16 for a decoder with more than a billion weights, where it may overflow
    #[arg(long)]
    pub(crate) force_f16: bool,
    /// Compute a model whose config.json names unknown custom code (`auto_map`) as transformers computes its
    /// `model_type`, instead of refusing it
    #[arg(long)]
    pub(crate) ignore_custom_code: bool,
}

impl From<&ModelArgs> for RunArgs {
    fn from(model: &ModelArgs) -> Self {
        Self {
            batch_tokens: model.batch_tokens,
            device: model.device,
            force_f16: model.force_f16,
            ignore_custom_code: model.ignore_custom_code,
        }
    }
}

/// A loaded reranker.
pub(crate) struct Loaded {
    pub(crate) reranker: CrossEncoder,
    /// For reports and manifests.
    pub(crate) settings: Value,
}

impl RerankerArgs {
    /// Whether a reranker is set.
    pub(crate) fn is_set(&self) -> bool {
        self.reranker.is_some()
    }

    /// Loads the reranker, if one is set, and says what it computes.
    pub(crate) fn open(&self, run: &RunArgs) -> Result<Option<Loaded>> {
        let Some(name) = &self.reranker else { return Ok(None) };
        note!("loading {name}");
        let precision = self.reranker_precision.unwrap_or(run.device.default_precision());
        let mut options = CrossEncoderOptions::default()
            .with_force_f16(run.force_f16)
            .with_ignore_custom_code(run.ignore_custom_code);
        options.activation = self.reranker_activation;
        options.max_length = self.reranker_max_length;
        options.instruction = self.reranker_instruction.clone();
        options.precision = self.reranker_precision.or_else(|| (precision != Precision::F32).then_some(precision));
        let device = supported(run.device, precision)?;
        let located = locate(name)?;
        let reranker = CrossEncoder::open(&located.folder, &options, &device)
            .with_context(|| format!("cannot load the reranker {name}"))?
            .with_token_budget(run.batch_tokens)?;
        note!("{}", reranker.summary());
        for remark in reranker.remarks() {
            note!("reranker: note: {remark}");
        }
        let summary = reranker.summary();
        let settings = json!({
            "model": located.source["model"],
            "commit": located.source["commit"],
            "weights": reranker.fingerprint()?,
            "head": summary.head,
            "activation": summary.activation.value,
            "max_length": summary.max_length.value,
            "instruction": summary.instruction.as_ref().map(|instruction| &instruction.value),
            "precision": summary.precision.value,
        });
        Ok(Some(Loaded { reranker, settings }))
    }
}
