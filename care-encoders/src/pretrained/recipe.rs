//! The layout-independent description of a folder's towers, and how they are loaded from it.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use care_core::{Error, ErrorKind, Instruction, Result, Role, Text};
use serde_json::Value;

use super::adapter_config::{self, AdapterConfig};
use super::checkpoint::{Checkpoint, SINGLE};
use super::folder::{CONFIG, read_encoder};
use super::options::EncoderOptions;
use super::tokenizer::{TOKENIZER_CONFIG, TokenizerConfig, load_tokenizer};
use super::weights::fill_from;
use crate::encoder::Encoder;
use crate::head::{HeadConfig, LinearProjection, Pooling, ProjectionConfig, TruncationOrder};
use crate::layers::{PROJECTION, Prepack};
use crate::network::Network;
use crate::registry::{AnyEncoder, Architecture, EncoderConfig};
use crate::summary::{Source, Sources};
use crate::tokenize::Tokenizer;
use crate::tower::{DocumentTower, QueryTower, Tower};

/// Default length limit of texts in tokens, the paper's.
const DEFAULT_MAX_LENGTH: usize = 512;

/// Where a tower's parts are, and the settings that join them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recipe {
    /// The Hugging Face folder of network and tokenizer.
    pub(crate) transformer: PathBuf,
    /// The folders of the projection's weights, if the head has one; several are multiplied into one.
    pub(crate) dense: Vec<(PathBuf, ProjectionConfig)>,
    /// A PEFT adapter of the network.
    pub(crate) adapter: Option<PathBuf>,
    /// The head; `None` for sentence-transformers' default.
    pub(crate) head: Option<HeadConfig>,
    /// A similarity other than cosine and dot product that the folder states, with the file that states it.
    pub(crate) other_similarity: Option<(PathBuf, String)>,
    /// Length limit of a text in tokens.
    pub(crate) max_length: Option<usize>,
    /// Whether texts are turned into lower case, whether or not the tokenizer does.
    pub(crate) lower_case: bool,
    /// Template or prefix.
    pub(crate) instruction: String,
    /// The special token that ends every text, if the folder specifies it.
    pub(crate) terminal_token: Option<Option<u32>>,
    /// Where the folder states all this.
    pub(crate) sources: Sources,
}

impl Recipe {
    /// A Hugging Face folder and nothing else. Its vectors are those of sentence-transformers' default head.
    pub(crate) fn bare(transformer: &Path) -> Self {
        Self {
            transformer: transformer.to_owned(),
            dense: Vec::new(),
            adapter: None,
            head: None,
            other_similarity: None,
            max_length: None,
            lower_case: false,
            instruction: String::new(),
            terminal_token: None,
            sources: Sources {
                pooling: Source::SentenceTransformers,
                normalize: Source::SentenceTransformers,
                dim: Source::Network,
                ..Sources::all(Source::Default)
            },
        }
    }

    /// The configuration of the network.
    ///
    /// # Errors
    /// As [`EncoderConfig::from_file`].
    fn config(&self, ignore_custom_code: bool) -> Result<EncoderConfig> {
        Ok(Architecture::read(&self.transformer.join(CONFIG), ignore_custom_code)?.0)
    }

    /// Loads the network, merges its adapter, and packs the weights for inference if it is on the CPU.
    ///
    /// # Errors
    /// As [`load_encoder`](super::load_encoder).
    fn load_encoder(&self, options: &EncoderOptions, device: &Device) -> Result<AnyEncoder> {
        read_encoder(&self.transformer, self.adapter(options).map(PathBuf::as_path), options, device, true)
    }

    fn adapter<'a>(&'a self, options: &'a EncoderOptions) -> Option<&'a PathBuf> {
        options.adapter.as_ref().or(self.adapter.as_ref())
    }

    /// Whether two towers run the same network, so that its weights need to be in memory only once.
    fn shares_encoder(&self, options: &EncoderOptions, other: &Self, other_options: &EncoderOptions) -> bool {
        self.transformer == other.transformer
            && self.adapter(options) == other.adapter(other_options)
            && options.precision == other_options.precision
            && options.floats == other_options.floats
            && options.force_f16 == other_options.force_f16
            && options.ignore_custom_code == other_options.ignore_custom_code
            && options.layers == other_options.layers
    }

    /// Whether two towers have the same tokenizer and length limit.
    fn shares_tokenizer(&self, options: &EncoderOptions, other: &Self, other_options: &EncoderOptions) -> bool {
        self.transformer == other.transformer
            && self.max_length == other.max_length
            && self.lower_case == other.lower_case
            && options.max_length == other_options.max_length
            && options.terminal_token == other_options.terminal_token
    }

    /// The tokenizer of the network.
    ///
    /// # Errors
    /// If it is missing or broken, or an option is out of range.
    fn tokenizer(&self, options: &EncoderOptions) -> Result<Tokenizer> {
        let config = self.config(options.ignore_custom_code)?;
        let max_length = match options.max_length {
            Some(length) => length,
            None => self.default_length()?.min(config.max_positions()),
        };
        let tokenizer = load_tokenizer(&self.transformer, &config, max_length, options.terminal_token.as_deref())?;
        if self.lower_case { tokenizer.with_lower_case() } else { Ok(tokenizer) }
    }

    /// The length limit without an option.
    fn default_length(&self) -> Result<usize> {
        let bare = || {
            let announced = TokenizerConfig::read(&self.transformer)?.model_max_length()?;
            Ok(announced.unwrap_or(DEFAULT_MAX_LENGTH).min(DEFAULT_MAX_LENGTH))
        };
        self.max_length.map_or_else(bare, Ok)
    }

    /// Loads network and tokenizer concurrently and joins them into a tower.
    ///
    /// # Errors
    /// As [`Recipe::load_encoder`], and if the tokenizer or the projection does not fit, or an option is out of range.
    pub(crate) fn load<T: Text>(&self, options: &EncoderOptions, device: &Device) -> Result<Tower<T, AnyEncoder>> {
        let (encoder, tokenizer) = rayon::join(|| self.load_encoder(options, device), || self.tokenizer(options));
        self.tower(encoder?, tokenizer?, options, device)
    }

    /// Joins a loaded network and tokenizer into a tower. Options that are set override the folder's settings.
    fn tower<T: Text>(
        &self,
        encoder: AnyEncoder,
        tokenizer: Tokenizer,
        options: &EncoderOptions,
        device: &Device,
    ) -> Result<Tower<T, AnyEncoder>> {
        if let (Some((path, name)), None) = (&self.other_similarity, options.normalize) {
            let problem = format!(
                "`similarity_fn_name` is {name:?}, allowed: cosine, dot; vectors are compared by dot product; \
                 decide on their length by `normalize` (--normalize or --no-normalize)"
            );
            return Err(Error::format(path, problem));
        }
        let saved = match &self.head {
            Some(head) => head.clone(),
            None => HeadConfig::new(default_pooling(&encoder.config())),
        };
        let head = HeadConfig {
            pooling: options.pooling.unwrap_or(saved.pooling),
            projection: saved.projection,
            dim: options.dim.or(saved.dim),
            truncation: options.truncation.unwrap_or(saved.truncation),
            normalize: options.normalize.unwrap_or(saved.normalize),
        };
        let mut network = Network::new(encoder, head, device)?;
        let hidden_size = network.hidden_size();
        if let Some(projection) = self.projection(hidden_size, device)? {
            network = network.try_map_projection(|_| Ok(projection))?;
        }
        let instruction = match &options.instruction {
            Some(template) => Instruction::new(template)?,
            None => Instruction::stored(&self.instruction)?,
        };
        let tower = Tower::new(tokenizer, network.prepacked(Prepack::F32), instruction)?;
        if options.terminal_token.is_none() {
            self.check_terminal_token(&tower)?;
        }
        let sources = self.sources(&tower, options)?;
        Ok(tower.with_sources(sources))
    }

    /// Where the settings of a tower with these options come from.
    fn sources<T: Text>(&self, tower: &Tower<T, AnyEncoder>, options: &EncoderOptions) -> Result<Sources> {
        let source = |set: bool, saved: &Source| if set { Source::Option } else { saved.clone() };
        // The positions may allow less than the folder or the default does.
        let limit = self.default_length()?;
        let of_tokenizer = Source::File(TOKENIZER_CONFIG.to_owned());
        let limited = match self.max_length {
            _ if tower.tokenizer().max_length() < limit => &Source::Network,
            None if limit < DEFAULT_MAX_LENGTH => &of_tokenizer,
            _ => &self.sources.max_length,
        };
        // Which is not that of sentence-transformers for every causal network.
        let pooling = match (&self.head, tower.network().head().pooling) {
            (None, Pooling::LastToken) => &Source::Default,
            _ => &self.sources.pooling,
        };
        Ok(Sources {
            pooling: source(options.pooling.is_some(), pooling),
            normalize: source(options.normalize.is_some(), &self.sources.normalize),
            dim: source(options.dim.is_some(), &self.sources.dim),
            max_length: source(options.max_length.is_some(), limited),
            instruction: source(options.instruction.is_some(), &self.sources.instruction),
            precision: match (options.precision, tower.network().encoder().is_quantized()) {
                (None, true) => Source::File(SINGLE.to_owned()),
                (precision, _) => source(precision.is_some(), &self.sources.precision),
            },
        })
    }

    /// The projection of the head, if it has one.
    fn projection(&self, hidden_size: usize, device: &Device) -> Result<Option<LinearProjection>> {
        let mut whole: Option<LinearProjection> = None;
        for (folder, config) in &self.dense {
            let inputs = whole.as_ref().map_or(hidden_size, LinearProjection::outputs);
            let empty = LinearProjection::new(inputs, config, device);
            let read = |checkpoint: Checkpoint| fill_from(&checkpoint, &PROJECTION, Default::default(), empty);
            let next = Checkpoint::open(folder).and_then(read).map_err(|e| advise(folder, e))?;
            whole = Some(match whole {
                Some(first) => next.after(first),
                None => next,
            });
        }
        Ok(whole)
    }

    /// Checks that texts end as they did when the tower was saved; or, if the folder does not specify how, that
    /// last-token pooling reads a special token and not the last word.
    fn check_terminal_token<T: Text>(&self, tower: &Tower<T, AnyEncoder>) -> Result<()> {
        let (folder, role) = (self.transformer.display(), T::ROLE.as_str());
        let found = tower.tokenizer().terminal_token();
        let problem = match self.terminal_token {
            Some(saved) if saved != found => {
                format!("the {role} tower was saved with terminal token {saved:?} but its tokenizer adds {found:?}")
            }
            None if found.is_none() && tower.network().head().pooling == Pooling::LastToken => format!(
                "last-token pooling of the {role} tower needs a special token that ends every text, and the tokenizer \
                 adds none; set `add_eos_token` and `eos_token` in tokenizer_config.json, or the option \
                 `terminal_token` (empty if the model was trained without), or another pooling"
            ),
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Tokenizer, format!("{folder}: {problem}")))
    }
}

/// The two towers of one folder.
#[derive(Debug, Clone)]
pub(crate) struct PairRecipe {
    pub(crate) query: Recipe,
    pub(crate) document: Recipe,
    /// Origin of the weights; null if unknown.
    pub(crate) provenance: Value,
}

impl PairRecipe {
    /// Loads both towers. A shared network or tokenizer is loaded once.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub(crate) fn load(
        &self,
        query: &EncoderOptions,
        document: &EncoderOptions,
        device: &Device,
    ) -> Result<(QueryTower<AnyEncoder>, DocumentTower<AnyEncoder>)> {
        let first: QueryTower<AnyEncoder> = self.query.load(query, device)?;
        let shared_encoder = self.query.shares_encoder(query, &self.document, document);
        let shared_tokenizer = self.query.shares_tokenizer(query, &self.document, document);
        let (encoder, tokenizer) = rayon::join(
            || match shared_encoder {
                true => Ok(first.network().encoder().clone()),
                false => self.document.load_encoder(document, device),
            },
            || match shared_tokenizer {
                true => Ok(first.tokenizer().clone()),
                false => self.document.tokenizer(document),
            },
        );
        let second = self.document.tower(encoder?, tokenizer?, document, device)?;
        Ok((first, second))
    }

    /// Two towers with weights of unknown origin.
    pub(crate) fn new(query: Recipe, document: Recipe) -> Self {
        Self { query, document, provenance: Value::Null }
    }

    /// The query tower of this folder and the document tower of another.
    pub(crate) fn with_document(self, other: Self) -> Self {
        Self::new(self.query, other.document)
    }

    /// One encoder in both roles.
    pub(crate) fn same(recipe: Recipe) -> Self {
        Self::new(recipe.clone(), recipe)
    }

    /// The recipe of a role.
    pub(crate) fn of<T: Text>(self) -> Recipe {
        match T::ROLE {
            Role::Query => self.query,
            Role::Document => self.document,
        }
    }

    /// Two encoders as in the published CARE code: CLS pooling for queries, last-token pooling for documents, and
    /// vectors that are normalised and then truncated to the query tower's dimensions.
    ///
    /// # Errors
    /// If a folder has no readable configuration.
    pub(crate) fn published(mut query: Recipe, mut document: Recipe) -> Result<Self> {
        // Sizes do not depend on custom code, and it is refused when a tower is loaded.
        let narrow = query.config(true)?.settings().common().hidden_size;
        let wide = document.config(true)?.settings().common().hidden_size;
        let head = |pooling| {
            let truncation = TruncationOrder::NormalizeThenTruncate;
            HeadConfig { truncation, dim: (wide > narrow).then_some(narrow), ..HeadConfig::new(pooling) }
        };
        query.head = Some(head(Pooling::Cls));
        document.head = Some(head(Pooling::LastToken));
        for recipe in [&mut query, &mut document] {
            recipe.sources.pooling = Source::PublishedCare;
            recipe.sources.normalize = Source::PublishedCare;
        }
        if wide > narrow {
            document.sources.dim = Source::PublishedCare;
        }
        Ok(Self::new(query, document))
    }
}

/// Adds how the weights of a Dense module become safetensors, if they are not.
fn advise(folder: &Path, error: Error) -> Error {
    if folder.join(SINGLE).exists() {
        return error;
    }
    let advice = "save the whole model anew in Python with SentenceTransformer(FOLDER).save_pretrained(OTHER)";
    Error::new(error.kind(), format!("{error}; {advice}")).with_source(error)
}

/// The pooling of a Hugging Face folder, which states none.
///
/// # Reference
/// sentence-transformers 6.2 for a folder without `modules.json`: the last token for a causal language model, and else
/// the mean. DIFFERENCE: it tells such a model by the end of `architectures`, and so takes the mean of a `Qwen3Model`,
/// in which only the last token has seen the whole text; here every network with a causal mask counts.
fn default_pooling(config: &EncoderConfig) -> Pooling {
    match config {
        EncoderConfig::Decoder(decoder) if decoder.is_causal => Pooling::LastToken,
        _ => Pooling::Mean,
    }
}

/// The recipe of a Hugging Face folder, or of an adapter folder whose base model is a local folder.
///
/// # Errors
/// If the base model of an adapter is not found.
pub(crate) fn hugging_face(folder: &Path) -> Result<Recipe> {
    if !folder.join(adapter_config::CONFIG).exists() {
        return Ok(Recipe::bare(folder));
    }
    let adapted = |base: &Path| Recipe { adapter: Some(folder.to_owned()), ..Recipe::bare(base) };
    // The base model may be in the same folder.
    if Checkpoint::exists(folder) {
        return Ok(adapted(folder));
    }
    Ok(adapted(&AdapterConfig::from_folder(folder)?.base_folder(folder)?))
}
