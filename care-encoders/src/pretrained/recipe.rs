//! What a folder says about one tower, whatever its layout.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use care_core::layers::Packing;
use care_core::{
    DocumentTower, Encoder, Error, ErrorKind, HeadConfig, Instruction, Network, Pooling, Precision, QueryTower, Result,
    Role, Text, Tokenizer, Tower, TruncationOrder,
};
use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::folder::{CONFIG, load_encoder, load_tokenizer};
use super::table::PROJECTION;
use super::weights::fill_from;
use crate::{AnyEncoder, EncoderConfig, EncoderOptions};

/// Texts are cut here when nothing else is said: the paper's limit.
const DEFAULT_MAX_LENGTH: usize = 512;

/// Where a tower's parts are, and how they make a tower.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recipe {
    /// The Hugging Face folder of network and tokenizer.
    pub(crate) transformer: PathBuf,
    /// The folder of the learned projection's weights, if the head has one.
    pub(crate) dense: Option<PathBuf>,
    /// A PEFT adapter of the network.
    pub(crate) adapter: Option<PathBuf>,
    /// The head; that of the architecture without one.
    pub(crate) head: Option<HeadConfig>,
    /// The longest text in tokens.
    pub(crate) max_length: Option<usize>,
    /// Template or prefix.
    pub(crate) instruction: String,
    /// The special token that ends every text, where it was noted.
    pub(crate) terminal_token: Option<Option<u32>>,
}

impl Recipe {
    /// A Hugging Face folder and nothing else.
    pub(crate) fn bare(transformer: &Path) -> Self {
        Self {
            transformer: transformer.to_owned(),
            dense: None,
            adapter: None,
            head: None,
            max_length: None,
            instruction: String::new(),
            terminal_token: None,
        }
    }

    /// The configuration of the network.
    ///
    /// # Errors
    /// As [`EncoderConfig::from_file`].
    pub(crate) fn config(&self) -> Result<EncoderConfig> {
        EncoderConfig::from_file(&self.transformer.join(CONFIG))
    }

    /// Loads the network, with its adapter merged, for inference: on the CPU its weights are laid out for that.
    ///
    /// # Errors
    /// As [`load_encoder`], and when the adapter does not fit, or int8 is asked for elsewhere than on the CPU.
    fn load_encoder(&self, options: &EncoderOptions, device: &Device) -> Result<AnyEncoder> {
        let encoder = load_encoder(&self.transformer, options, device)?;
        let encoder = match self.adapter(options) {
            Some(adapter) => encoder.with_adapter(adapter)?.merge_lora(),
            None => encoder,
        };
        let encoder = match &options.layers {
            Some(keep) => encoder.with_layers(keep)?,
            None => encoder,
        };
        let packing = match options.precision {
            Some(Precision::Int8) if !encoder.packs_texts() => {
                return Err(Error::setting("precision", "int8", "on the CPU; bf16, f16 or f32 elsewhere"));
            }
            Some(Precision::Int8) => Packing::Int8,
            _ => Packing::F32,
        };
        Ok(encoder.packed(packing))
    }

    fn adapter<'a>(&'a self, options: &'a EncoderOptions) -> Option<&'a PathBuf> {
        options.adapter.as_ref().or(self.adapter.as_ref())
    }

    /// Whether two towers run the same network, so that its weights need to be in memory only once.
    fn shares_encoder(&self, options: &EncoderOptions, other: &Self, other_options: &EncoderOptions) -> bool {
        self.transformer == other.transformer
            && self.adapter(options) == other.adapter(other_options)
            && options.precision == other_options.precision
            && options.layers == other_options.layers
    }

    /// Whether two towers read texts with the same tokenizer.
    fn shares_tokenizer(&self, options: &EncoderOptions, other: &Self, other_options: &EncoderOptions) -> bool {
        self.transformer == other.transformer
            && self.max_length == other.max_length
            && options.max_length == other_options.max_length
    }

    /// The tokenizer of the network.
    ///
    /// # Errors
    /// When it is missing or broken, or an option is out of range.
    fn tokenizer(&self, options: &EncoderOptions) -> Result<Tokenizer> {
        let config = self.config()?;
        let saved_length = self.max_length.unwrap_or(DEFAULT_MAX_LENGTH).min(config.max_positions());
        load_tokenizer(&self.transformer, &config, options.max_length.unwrap_or(saved_length))
    }

    /// Loads network and tokenizer, at the same time, and makes a tower of them.
    ///
    /// # Errors
    /// As [`Recipe::load_encoder`], and when the tokenizer or the projection does not fit, or an option is out of range.
    pub(crate) fn load<T: Text>(&self, options: &EncoderOptions, device: &Device) -> Result<Tower<T, AnyEncoder>> {
        let (encoder, tokenizer) = rayon::join(|| self.load_encoder(options, device), || self.tokenizer(options));
        self.tower(encoder?, tokenizer?, options, device)
    }

    /// The tower of a network whose weights are loaded. Options that are set replace what the folder says.
    fn tower<T: Text>(
        &self,
        encoder: AnyEncoder,
        tokenizer: Tokenizer,
        options: &EncoderOptions,
        device: &Device,
    ) -> Result<Tower<T, AnyEncoder>> {
        let saved = self.head.clone().unwrap_or_else(|| HeadConfig::new(encoder.config().default_pooling()));
        let head = HeadConfig {
            pooling: options.pooling.unwrap_or(saved.pooling),
            projection: saved.projection,
            dim: options.dim.or(saved.dim),
            truncation: options.truncation.unwrap_or(saved.truncation),
            normalize: options.normalize.unwrap_or(saved.normalize),
        };
        let mut network = Network::new(encoder, head, device)?;
        if let Some(dense) = &self.dense {
            let checkpoint = Checkpoint::open(dense)?;
            network = network
                .try_map_projection(|projection| fill_from(&checkpoint, &PROJECTION, Default::default(), projection))?;
        }
        let instruction = Instruction::new(options.instruction.as_ref().unwrap_or(&self.instruction))?;
        let tower = Tower::new(tokenizer, network.packed(Packing::F32), instruction)?;
        self.check_terminal_token(&tower)?;
        Ok(tower)
    }

    fn check_terminal_token<T: Text>(&self, tower: &Tower<T, AnyEncoder>) -> Result<()> {
        let found = tower.tokenizer().terminal_token();
        match self.terminal_token {
            Some(saved) if saved != found => {
                let (folder, role) = (self.transformer.display(), T::ROLE.as_str());
                Err(Error::new(
                    ErrorKind::Tokenizer,
                    format!(
                        "{folder}: the {role} tower was saved with terminal token {saved:?} but its tokenizer adds {found:?}"
                    ),
                ))
            }
            _ => Ok(()),
        }
    }
}

/// The two towers of one folder.
#[derive(Debug, Clone)]
pub(crate) struct PairRecipe {
    pub(crate) query: Recipe,
    pub(crate) document: Recipe,
    /// Where the weights come from; null where nothing was noted.
    pub(crate) provenance: Value,
}

impl PairRecipe {
    /// Loads both towers. What they share is in memory once.
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

    /// Two towers of whose weights nothing was noted.
    pub(crate) fn new(query: Recipe, document: Recipe) -> Self {
        Self { query, document, provenance: Value::Null }
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

    /// Two encoders as the published CARE code uses them: CLS for queries, the last token for documents,
    /// vectors normalised and then cut to the query tower's width.
    ///
    /// # Errors
    /// When one of the two folders has no readable configuration.
    pub(crate) fn published(mut query: Recipe, mut document: Recipe) -> Result<Self> {
        let narrow = query.config()?.settings().common().hidden_size;
        let wide = document.config()?.settings().common().hidden_size;
        let head = |pooling| {
            let truncation = TruncationOrder::NormalizeThenTruncate;
            HeadConfig { truncation, dim: (wide > narrow).then_some(narrow), ..HeadConfig::new(pooling) }
        };
        query.head = Some(head(Pooling::Cls));
        document.head = Some(head(Pooling::LastToken));
        Ok(Self::new(query, document))
    }
}
