//! The options that say which model, how it reads texts and where it runs.

use std::path::PathBuf;

use anyhow::{Result, bail};
use care_core::{Device, Pooling, Precision};
use care_encoders::{AsymmetricEncoder, DEFAULT_TOKEN_BUDGET, EncoderOptions};
use clap::Args;

/// Options of every command that runs a model.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelArgs {
    /// A saved pair, or a single encoder folder that then serves both roles
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Which hidden states make a vector: cls, mean or last-token; by default as saved, else by architecture
    #[arg(long)]
    pooling: Option<Pooling>,
    /// Keep only the first N components
    #[arg(long, value_name = "N")]
    dim: Option<usize>,
    /// Longest text in tokens, special tokens included; by default as saved, else 512
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Tokens in one forward pass at most, padding included
    #[arg(long, value_name = "N", default_value_t = DEFAULT_TOKEN_BUDGET)]
    pub(crate) batch_tokens: usize,
    /// Leave vectors at their length
    #[arg(long)]
    no_normalize: bool,
    /// cpu, wgpu or cuda:0
    #[arg(long, default_value = "cpu")]
    device: Device,
    /// Number format of weights and activations: f32, bf16 or f16
    #[arg(long, default_value = "f32")]
    pub(crate) precision: Precision,
}

impl ModelArgs {
    /// How one role's tower reads texts.
    pub(crate) fn options(&self, instruction: Option<&String>) -> EncoderOptions {
        EncoderOptions {
            pooling: self.pooling,
            dim: self.dim,
            truncation: None,
            max_length: self.max_length,
            instruction: instruction.cloned(),
            normalize: self.no_normalize.then_some(false),
        }
    }

    /// The device, opened.
    pub(crate) fn device(&self) -> Result<burn::tensor::Device> {
        let device = self.device.open()?;
        if !device.supports_dtype(self.precision.dtype()) {
            bail!("device `{}` does not compute in {}", self.device, self.precision.as_str());
        }
        Ok(device)
    }
}

/// Instructions of both roles.
#[derive(Debug, Clone, Args)]
pub(crate) struct InstructionArgs {
    /// Template with `{text}`, or prefix, for queries; by default as saved
    #[arg(long, value_name = "TEXT")]
    query_instruction: Option<String>,
    /// Template with `{text}`, or prefix, for documents; by default as saved
    #[arg(long, value_name = "TEXT")]
    document_instruction: Option<String>,
}

/// Loads both towers.
pub(crate) fn open(model: &ModelArgs, instructions: &InstructionArgs) -> Result<AsymmetricEncoder> {
    let query = model.options(instructions.query_instruction.as_ref());
    let document = model.options(instructions.document_instruction.as_ref());
    let pair = AsymmetricEncoder::open(&model.model, &query, &document, &model.device()?)?;
    Ok(pair.with_precision(model.precision).with_token_budget(model.batch_tokens)?)
}
