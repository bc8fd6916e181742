//! The options that say which model, how it reads texts and where it runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use care_core::{Device, Embedder, Hub, Pooling, Precision, RepoId};
use care_encoders::{AsymmetricEncoder, DEFAULT_TOKEN_BUDGET, EncoderOptions, StoredEncoder};
use clap::Args;
use serde_json::{Value, json};

use crate::progress::download_bar;

/// Options of every command that runs a model.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelArgs {
    /// A folder in any layout (saved pair, sentence-transformers, published CARE, PEFT adapter, Hugging Face;
    /// a single encoder serves both roles), or a model of the Hugging Face hub: ORG/NAME, ORG/NAME@REVISION
    #[arg(long, value_name = "DIR|ORG/NAME")]
    model: String,
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
    /// Scale vectors to length 1, whatever the model says
    #[arg(long, conflicts_with = "no_normalize")]
    normalize: bool,
    /// Leave vectors at their length
    #[arg(long)]
    no_normalize: bool,
    /// cpu, wgpu or cuda:0
    #[arg(long, default_value = "cpu")]
    device: Device,
    /// Number format of weights and activations: f32, bf16, f16 or, on the CPU, int8; by default bf16 on CUDA, else f32
    #[arg(long)]
    precision: Option<Precision>,
    /// Take f16 for a decoder of more than a billion weights, where it may overflow
    #[arg(long)]
    force_f16: bool,
}

/// A model that lies on this machine.
pub(crate) struct Located {
    pub(crate) folder: PathBuf,
    /// Which model this is, for reports: as it was given, and the commit of a hub's repository.
    pub(crate) source: Value,
}

impl ModelArgs {
    /// How one role's tower reads texts.
    pub(crate) fn options(
        &self,
        instruction: Option<&String>,
        adapter: Option<&PathBuf>,
        layers: Option<&Vec<usize>>,
    ) -> EncoderOptions {
        EncoderOptions {
            pooling: self.pooling,
            dim: self.dim,
            truncation: None,
            max_length: self.max_length,
            instruction: instruction.cloned(),
            layers: layers.cloned(),
            normalize: if self.normalize { Some(true) } else { self.no_normalize.then_some(false) },
            precision: Some(self.precision()),
            force_f16: self.force_f16,
            adapter: adapter.cloned(),
        }
    }

    /// The model as it was given.
    pub(crate) fn name(&self) -> &str {
        &self.model
    }

    /// The number format, which the device decides if nothing is said.
    pub(crate) fn precision(&self) -> Precision {
        self.precision.unwrap_or(self.device.default_precision())
    }

    /// The device, opened.
    pub(crate) fn device(&self) -> Result<burn::tensor::Device> {
        self.device_for(self.precision())
    }

    fn device_for(&self, precision: Precision) -> Result<burn::tensor::Device> {
        let device = self.device.open()?;
        if !device.supports_dtype(precision.dtype()) {
            bail!("device `{}` does not compute in {}", self.device, precision.as_str());
        }
        Ok(device)
    }

    /// The folder of the model.
    pub(crate) fn locate(&self) -> Result<Located> {
        locate(&self.model)
    }
}

/// The folder of a model. What is on this machine is never looked for elsewhere.
pub(crate) fn locate(model: &str) -> Result<Located> {
    let folder = Path::new(model);
    if folder.exists() || !model.contains('/') || model.starts_with(['.', '/', '~']) {
        return Ok(Located { folder: folder.to_owned(), source: json!({ "model": model }) });
    }
    let found = || {
        let id: RepoId = model.parse()?;
        let mut bar = None;
        Hub::from_env()?.model(&id, &mut |download| download_bar(&mut bar, &download))
    };
    let snapshot =
        found().with_context(|| format!("there is no folder {model}, and as a hub's model it has failed"))?;
    Ok(Located { folder: snapshot.folder, source: json!({ "model": model, "commit": snapshot.commit }) })
}

/// Options of every command that runs both towers.
#[derive(Debug, Clone, Args)]
pub(crate) struct PairArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Template with `{text}`, or prefix, for queries; by default as saved
    #[arg(long, value_name = "TEXT")]
    query_instruction: Option<String>,
    /// Template with `{text}`, or prefix, for documents; by default as saved
    #[arg(long, value_name = "TEXT")]
    document_instruction: Option<String>,
    /// PEFT adapter of the query tower
    #[arg(long, value_name = "DIR")]
    query_adapter: Option<PathBuf>,
    /// PEFT adapter of the document tower
    #[arg(long, value_name = "DIR")]
    document_adapter: Option<PathBuf>,
    /// Layers of the query tower that are kept, by number from 0, such as 0,4,8,11; by default all
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    query_layers: Option<Vec<usize>>,
    /// Layers of the document tower that are kept
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    document_layers: Option<Vec<usize>>,
    /// Number format of the query tower, such as int8 where documents stay in f32; by default that of --precision
    #[arg(long, value_name = "PRECISION")]
    query_precision: Option<Precision>,
}

impl PairArgs {
    /// How the query tower and the document tower read texts.
    pub(crate) fn options(&self) -> [EncoderOptions; 2] {
        let query = self.model.options(
            self.query_instruction.as_ref(),
            self.query_adapter.as_ref(),
            self.query_layers.as_ref(),
        );
        let document = self.model.options(
            self.document_instruction.as_ref(),
            self.document_adapter.as_ref(),
            self.document_layers.as_ref(),
        );
        [EncoderOptions { precision: Some(self.query_precision()), ..query }, document]
    }

    /// The number format of the query tower.
    pub(crate) fn query_precision(&self) -> Precision {
        self.query_precision.unwrap_or(self.model.precision())
    }

    /// Loads both towers; says where they came from.
    pub(crate) fn open(&self) -> Result<(AsymmetricEncoder, Value)> {
        let [query, document] = self.options();
        let located = self.model.locate()?;
        self.model.device_for(self.query_precision())?;
        let pair = AsymmetricEncoder::open(&located.folder, &query, &document, &self.model.device()?)?;
        Ok((pair.with_token_budget(self.model.batch_tokens)?, located.source))
    }
}

/// Where vectors are kept.
#[derive(Debug, Clone, Args)]
pub(crate) struct CacheArgs {
    /// Folder that keeps vectors: what any run has computed with the same tower is not computed again, and a run
    /// that was broken off goes on
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

impl CacheArgs {
    /// The pair, with its vectors from the folder if there is one.
    pub(crate) fn embedder(&self, pair: AsymmetricEncoder) -> Result<Box<dyn Embedder>> {
        let Some(folder) = &self.cache else { return Ok(Box::new(pair)) };
        let stored = StoredEncoder::open(pair, folder)?;
        for path in stored.refused() {
            eprintln!("warning: {} is not used: it is torn, changed or foreign", path.display());
        }
        Ok(Box::new(stored))
    }
}
