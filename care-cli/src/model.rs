//! Options that specify the model, how it reads texts and where it runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use care_core::embedder::StoredEmbedder;
use care_core::files::is_hub_name;
use care_core::hub::{Hub, RepoId};
use care_core::store::EmbeddingStore;
use care_core::{Embedder, Text};
use care_encoders::head::Pooling;
use care_encoders::{
    AnyEncoder, AsymmetricEncoder, DEFAULT_TOKEN_BUDGET, Device, EncoderOptions, Precision, Tower, tower_fingerprint,
};
use clap::Args;
use serde_json::{Value, json};

use crate::families::warn_without_instruction;
use crate::progress::download_bar;
use crate::stderr::note;

/// The name of the pair in this program, given in place of a model.
const MINI: &str = "mini";

/// The name of the baseline, given in place of a model.
pub(crate) const BM25: &str = "bm25";

/// Options of every command that runs a model.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// A folder in any supported layout (saved pair, sentence-transformers, published CARE, PEFT adapter, Hugging Face;
    /// a single encoder serves both roles), a model on the Hugging Face hub: ORG/NAME or ORG/NAME@REVISION, or mini, the
    /// pretrained pair for Chinese medical text in this program
    #[arg(long, value_name = "DIR|ORG/NAME|mini")]
    model: String,
    #[arg(long, help = format!(
        "Pooling of hidden states: {}, or several joined by +; by default as saved, else mean, or last-token for networks \
         with a causal mask",
        Pooling::names().join(", ")
    ))]
    pooling: Option<Pooling>,
    /// Keep only the first N dimensions
    #[arg(long, value_name = "N")]
    dim: Option<usize>,
    /// Maximum text length in tokens, including special tokens; by default as saved, else 512
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Special token that ends every text, where the tokenizer adds none; empty: there is none. By default as
    /// tokenizer_config.json specifies
    #[arg(long, value_name = "TOKEN")]
    terminal_token: Option<String>,
    /// Maximum number of tokens per forward pass, including padding
    #[arg(long, value_name = "N", default_value_t = DEFAULT_TOKEN_BUDGET)]
    pub(crate) batch_tokens: usize,
    /// Normalise vectors to length 1, whatever the model specifies
    #[arg(long, conflicts_with = "no_normalize")]
    normalize: bool,
    /// Do not normalise vectors
    #[arg(long)]
    no_normalize: bool,
    /// Device: cpu, wgpu or cuda:0
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Device,
    /// Dtype of weights: f32, bf16, f16 or, on the CPU, int8 or int4 (4 bits, a scale for 32 inputs); by default bf16 on CUDA, else f32, or on
    /// the CPU int8 for weights that are stored so
    #[arg(long)]
    precision: Option<Precision>,
    /// Allow f16 for a decoder with more than a billion weights, where it may overflow
    #[arg(long)]
    pub(crate) force_f16: bool,
    /// Compute a model whose config.json names unknown custom code (`auto_map`) as transformers computes its
    /// `model_type`, instead of refusing it
    #[arg(long)]
    pub(crate) ignore_custom_code: bool,
}

/// A model in a local folder.
pub(crate) struct Located {
    pub(crate) folder: PathBuf,
    /// The model for reports: as given on the command line, with the commit if it is from the hub.
    pub(crate) source: Value,
}

/// Options of one tower only.
#[derive(Default)]
pub(crate) struct Own<'a> {
    pub(crate) pooling: Option<Pooling>,
    pub(crate) dim: Option<usize>,
    pub(crate) max_length: Option<usize>,
    pub(crate) precision: Option<Precision>,
    pub(crate) instruction: Option<&'a String>,
    pub(crate) adapter: Option<&'a PathBuf>,
    pub(crate) layers: Option<&'a Vec<usize>>,
}

impl ModelArgs {
    /// The options of one tower: its own, else those of both.
    pub(crate) fn options(&self, own: Own<'_>) -> EncoderOptions {
        let mut options =
            EncoderOptions::default().with_force_f16(self.force_f16).with_ignore_custom_code(self.ignore_custom_code);
        options.precision = own.precision.or(self.precision);
        let of_device = self.device.default_precision();
        if options.precision.is_none() && of_device != Precision::F32 {
            options.precision = Some(of_device);
        }
        options.pooling = own.pooling.or(self.pooling);
        options.dim = own.dim.or(self.dim);
        options.max_length = own.max_length.or(self.max_length);
        options.terminal_token = self.terminal_token.clone();
        options.instruction = own.instruction.cloned();
        options.layers = own.layers.cloned();
        options.normalize = if self.normalize { Some(true) } else { self.no_normalize.then_some(false) };
        options.adapter = own.adapter.cloned();
        options
    }

    /// The model as given on the command line.
    pub(crate) fn name(&self) -> &str {
        &self.model
    }

    /// Whether the baseline is meant. Results may be in a folder that is named after it.
    pub(crate) fn is_bm25(&self) -> bool {
        let files = ["care.json", "modules.json", "config.json", "adapter_config.json"];
        self.model == BM25 && !files.iter().any(|name| Path::new(BM25).join(name).exists())
    }

    /// The dtype; by default that of the device.
    pub(crate) fn precision(&self) -> Precision {
        self.precision.unwrap_or(self.device.default_precision())
    }

    /// Opens the device.
    pub(crate) fn device(&self) -> Result<burn::tensor::Device> {
        self.device_for(self.precision())
    }

    fn device_for(&self, precision: Precision) -> Result<burn::tensor::Device> {
        supported(self.device, precision)
    }

    /// Locates the model.
    pub(crate) fn locate(&self) -> Result<Located> {
        locate(&self.model)
    }
}

/// Opens a device that computes in a dtype.
pub(crate) fn supported(device: Device, precision: Precision) -> Result<burn::tensor::Device> {
    let opened = device.open()?;
    if !opened.supports_dtype(precision.dtype()) {
        bail!("device `{device}` does not support {}", precision.as_str());
    }
    Ok(opened)
}

/// The folder of the pair in this program.
fn mini() -> Result<PathBuf> {
    #[cfg(feature = "mini")]
    return care_mini_zh::folder().context("cannot write the files of care-mini-zh");
    #[cfg(not(feature = "mini"))]
    bail!("this program is built without care-mini-zh: build it with the feature `mini`");
}

/// Whether a model is written by its name: that of the hub, or of the pair in this program.
pub(crate) fn is_name(model: &str) -> bool {
    model == MINI || is_hub_name(model)
}

/// Locates a model. A local folder is never looked up on the hub.
pub(crate) fn locate(model: &str) -> Result<Located> {
    let folder = Path::new(model);
    if model == MINI && !folder.exists() {
        return Ok(Located { folder: mini()?, source: json!({ "model": "care-mini-zh" }) });
    }
    if !folder.exists() && !is_name(model) {
        bail!("{model}: no such model folder; a model is a folder, ORG/NAME on the Hugging Face hub, or {MINI}");
    }
    if folder.exists() {
        return Ok(Located { folder: folder.to_owned(), source: json!({ "model": model }) });
    }
    let found = || {
        let id: RepoId = model.parse()?;
        let mut bar = None;
        Hub::from_env()?.model(&id, &mut |download| download_bar(&mut bar, &download))
    };
    let snapshot =
        found().with_context(|| format!("there is no folder {model}, and it cannot be loaded from the hub"))?;
    Ok(Located { folder: snapshot.folder, source: json!({ "model": model, "commit": snapshot.commit }) })
}

/// Options of every command that runs both towers.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct PairArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Instruction for queries: a template with `{text}`, or a prefix; by default as saved
    #[arg(long, value_name = "TEXT")]
    query_instruction: Option<String>,
    /// Instruction for documents: a template with `{text}`, or a prefix; by default as saved. `{title}\n{text}` with a
    /// line break joins title and text by it, `{title}{sep}{text}` makes them a pair of segments (MedCPT, DPR)
    #[arg(long, value_name = "TEXT")]
    document_instruction: Option<String>,
    /// PEFT adapter for the query tower
    #[arg(long, value_name = "DIR")]
    query_adapter: Option<PathBuf>,
    /// PEFT adapter for the document tower
    #[arg(long, value_name = "DIR")]
    document_adapter: Option<PathBuf>,
    /// Layers of the query tower to keep, by index from 0, e.g. 0,4,8,11; by default all
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    query_layers: Option<Vec<usize>>,
    /// Layers of the document tower to keep; by default all
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    document_layers: Option<Vec<usize>>,
    /// A separate model for the document tower
    #[arg(long, value_name = "DIR|ORG/NAME")]
    document_model: Option<String>,
    /// Pooling of the query tower; by default that of --pooling
    #[arg(long, value_name = "POOLING")]
    query_pooling: Option<Pooling>,
    /// Pooling of the document tower; by default that of --pooling
    #[arg(long, value_name = "POOLING")]
    document_pooling: Option<Pooling>,
    /// Dimensions of the query tower's vectors to keep; by default those of --dim
    #[arg(long, value_name = "N")]
    query_dim: Option<usize>,
    /// Dimensions of the document tower's vectors to keep; by default those of --dim
    #[arg(long, value_name = "N")]
    document_dim: Option<usize>,
    /// Maximum length of a query in tokens; by default that of --max-length
    #[arg(long, value_name = "N")]
    query_max_length: Option<usize>,
    /// Maximum length of a document in tokens; by default that of --max-length
    #[arg(long, value_name = "N")]
    document_max_length: Option<usize>,
    /// Dtype of the query tower, e.g. int8 while documents stay in f32; by default that of --precision
    #[arg(long, value_name = "PRECISION")]
    query_precision: Option<Precision>,
    /// Dtype of the document tower; by default that of --precision
    #[arg(long, value_name = "PRECISION")]
    document_precision: Option<Precision>,
}

/// The options that set the instructions of the two towers.
const QUERY: &str = "--query-instruction";
const DOCUMENT: &str = "--document-instruction";

impl PairArgs {
    /// The options of a model on a command line of its own.
    pub(crate) fn alone<'a>(line: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            pair: PairArgs,
        }
        Ok(<Alone as clap::Parser>::try_parse_from(["care"].into_iter().chain(line))?.pair)
    }

    /// The options of the query tower and of the document tower.
    pub(crate) fn options(&self) -> [EncoderOptions; 2] {
        let query = self.model.options(Own {
            pooling: self.query_pooling,
            dim: self.query_dim,
            max_length: self.query_max_length,
            precision: self.query_precision,
            instruction: self.query_instruction.as_ref(),
            adapter: self.query_adapter.as_ref(),
            layers: self.query_layers.as_ref(),
        });
        let document = self.model.options(Own {
            pooling: self.document_pooling,
            dim: self.document_dim,
            max_length: self.document_max_length,
            precision: self.document_precision,
            instruction: self.document_instruction.as_ref(),
            adapter: self.document_adapter.as_ref(),
            layers: self.document_layers.as_ref(),
        });
        [query, document]
    }

    /// Loads both towers, and says what they compute; also returns their source for reports.
    pub(crate) fn open(&self) -> Result<(AsymmetricEncoder, Value)> {
        note!("loading {}", self.model.name());
        let (pair, source) = self.open_silently()?;
        say(pair.query());
        say(pair.document());
        Ok((pair, source))
    }

    /// [`PairArgs::open`] without a word but warnings.
    pub(crate) fn open_silently(&self) -> Result<(AsymmetricEncoder, Value)> {
        let [query_options, document_options] = self.options();
        for precision in [self.query_precision, self.document_precision] {
            self.model.device_for(precision.unwrap_or(self.model.precision()))?;
        }
        let (query, device) = (self.model.locate()?, self.model.device()?);
        let (pair, source) = match &self.document_model {
            None => {
                let pair = AsymmetricEncoder::open(&query.folder, &query_options, &document_options, &device)?;
                let towers = [(QUERY, pair.query().summary()), (DOCUMENT, pair.document().summary())];
                warn_without_instruction(self.model.name(), &query.folder, &towers);
                (pair, query.source)
            }
            Some(model) => {
                let document = locate(model)?;
                let pair = AsymmetricEncoder::open_two(
                    &query.folder,
                    &document.folder,
                    &query_options,
                    &document_options,
                    &device,
                )?;
                warn_without_instruction(self.model.name(), &query.folder, &[(QUERY, pair.query().summary())]);
                warn_without_instruction(model, &document.folder, &[(DOCUMENT, pair.document().summary())]);
                (pair, json!({ "query": query.source, "document": document.source }))
            }
        };
        Ok((pair.with_token_budget(self.model.batch_tokens)?, source))
    }
}

/// Says in a line what a tower computes, and in one more each what is special about its tokenizer.
pub(crate) fn say<T: Text>(tower: &Tower<T, AnyEncoder>) {
    note!("{}", tower.summary());
    for remark in tower.tokenizer().remarks() {
        note!("{} tower: note: {remark}", T::ROLE.as_str());
    }
}

/// The vector cache.
#[derive(Debug, Clone, Args)]
pub(crate) struct CacheArgs {
    /// Folder that caches vectors: vectors computed by any run with the same tower are reused, and an interrupted run
    /// resumes
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

impl CacheArgs {
    /// Whether a folder is set.
    pub(crate) fn is_set(&self) -> bool {
        self.cache.is_some()
    }

    /// The pair, with the vector cache if a folder is set.
    pub(crate) fn model(&self, pair: AsymmetricEncoder) -> Result<Model> {
        let Some(folder) = &self.cache else { return Ok(Model::Plain(Box::new(pair))) };
        let model = Model::Stored(Box::new(StoredEmbedder::open(pair, folder)?));
        model.warn();
        Ok(model)
    }

    /// The cached vectors of one tower, if a folder is set.
    pub(crate) fn store<T: Text>(&self, tower: &Tower<T, AnyEncoder>) -> Result<Option<EmbeddingStore>> {
        let open = |folder: &PathBuf| EmbeddingStore::open(folder, &tower_fingerprint(tower)?, tower.embedding_dim());
        Ok(self.cache.as_ref().map(open).transpose()?)
    }
}

/// A pair, with or without the vector cache.
pub(crate) enum Model {
    Plain(Box<AsymmetricEncoder>),
    Stored(Box<StoredEmbedder<AsymmetricEncoder>>),
}

impl Model {
    pub(crate) fn embedder(&self) -> &dyn Embedder {
        match self {
            Model::Plain(pair) => pair.as_ref(),
            Model::Stored(stored) => stored.as_ref(),
        }
    }

    /// Names the files of the cache that were found to be unusable since the last call.
    pub(crate) fn warn(&self) {
        if let Model::Stored(stored) = self {
            warn_of(stored.take_refused());
        }
    }
}

/// Names files of a vector cache that are not used.
pub(crate) fn warn_of(refused: Vec<PathBuf>) {
    for path in refused {
        note!("warning: ignoring {}, which is incomplete, modified or foreign", path.display());
    }
}
