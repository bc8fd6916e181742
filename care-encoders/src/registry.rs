//! The supported architectures, one row per `model_type`, and the encoder of any of them.

use std::path::Path;

use burn::module::{Module, ParamId};
use burn::tensor::{Device, Tensor};
use care_core::files::read_file;
use care_core::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::auto_map;
use crate::batch::{PaddingSide, TokenBatch};
use crate::decoder::{self, Decoder, DecoderConfig};
use crate::encoder::Encoder;
use crate::layers::{Embedding, Linear, Lora, Parts, WeightTable};
use crate::modern_bert::{self, ModernBert, ModernBertConfig};
use crate::post_norm::{self, BertConfig, GteConfig, PostNorm, PostNormConfig};
use crate::settings::{Settings, parse};

/// One `model_type`: how its configuration is read, and the names of its weights.
pub(crate) struct Architecture {
    model_type: &'static str,
    /// The class of transformers that reads checkpoints of this `model_type`.
    class: &'static str,
    parse: fn(Value) -> Result<EncoderConfig>,
    pub(crate) weights: &'static WeightTable,
}

/// Every supported `model_type`. `new` is only read; it is written as `gte`.
static ARCHITECTURES: &[Architecture] = &[
    Architecture { model_type: "bert", class: "BertModel", parse: parse_bert, weights: &post_norm::BERT },
    Architecture {
        model_type: "distilbert",
        class: "DistilBertModel",
        parse: parse_bert,
        weights: &post_norm::DISTILBERT,
    },
    Architecture { model_type: "ernie", class: "ErnieModel", parse: parse_bert, weights: &post_norm::BERT },
    Architecture { model_type: "roberta", class: "RobertaModel", parse: parse_bert, weights: &post_norm::ROBERTA },
    Architecture {
        model_type: "xlm-roberta",
        class: "XLMRobertaModel",
        parse: parse_bert,
        weights: &post_norm::ROBERTA,
    },
    Architecture { model_type: "mpnet", class: "MPNetModel", parse: parse_bert, weights: &post_norm::MPNET },
    Architecture {
        model_type: "gte",
        class: "GteModel",
        parse: |config| parse(config, GteConfig::normalize).map(EncoderConfig::Gte),
        weights: &post_norm::GTE,
    },
    Architecture {
        model_type: "new",
        class: "NewModel",
        parse: |config| parse(config, GteConfig::normalize_new).map(EncoderConfig::Gte),
        weights: &post_norm::GTE,
    },
    Architecture {
        model_type: "modernbert",
        class: "ModernBertModel",
        parse: |config| parse(config, ModernBertConfig::normalize).map(EncoderConfig::ModernBert),
        weights: &modern_bert::WEIGHTS,
    },
    Architecture { model_type: "qwen2", class: "Qwen2Model", parse: parse_decoder, weights: &decoder::WEIGHTS },
    Architecture { model_type: "qwen3", class: "Qwen3Model", parse: parse_decoder, weights: &decoder::WEIGHTS },
    Architecture { model_type: "llama", class: "LlamaModel", parse: parse_decoder, weights: &decoder::WEIGHTS },
    Architecture { model_type: "mistral", class: "MistralModel", parse: parse_decoder, weights: &decoder::WEIGHTS },
    Architecture { model_type: "eurobert", class: "EuroBertModel", parse: parse_decoder, weights: &decoder::WEIGHTS },
    Architecture {
        model_type: "gemma3_text",
        class: "Gemma3TextModel",
        parse: parse_decoder,
        weights: &decoder::GEMMA3,
    },
];

fn parse_bert(config: Value) -> Result<EncoderConfig> {
    parse(config, BertConfig::normalize).map(EncoderConfig::Bert)
}

fn parse_decoder(config: Value) -> Result<EncoderConfig> {
    parse(config, DecoderConfig::normalize).map(EncoderConfig::Decoder)
}

impl Architecture {
    /// The row of a `config.json`.
    ///
    /// # Errors
    /// If its `model_type` is not in the table.
    fn of(json: &Value) -> Result<&'static Self> {
        let model_type = json.get("model_type").and_then(Value::as_str).unwrap_or_default();
        Self::named(model_type).ok_or_else(|| {
            let known: Vec<&str> = ARCHITECTURES.iter().map(|row| row.model_type).collect();
            Error::setting("model_type", format!("{model_type:?}"), &known.join(", "))
        })
    }

    fn named(model_type: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|row| row.model_type == model_type)
    }

    /// Reads a `config.json`: the configuration and its architecture. With `ignore_custom_code`, `auto_map` is not looked
    /// at.
    ///
    /// # Errors
    /// As [`EncoderConfig::from_file`].
    pub(crate) fn read(path: &Path, ignore_custom_code: bool) -> Result<(EncoderConfig, &'static Self)> {
        let bytes = read_file(path)?;
        let mut json: Value = serde_json::from_slice(&bytes).map_err(|e| Error::format(path, &e).with_source(e))?;
        let row = Self::of(&json).map_err(|e| e.in_file(path))?;
        if !ignore_custom_code {
            auto_map::resolve(&mut json).map_err(|e| e.in_file(path))?;
        }
        Ok(((row.parse)(json).map_err(|e| e.in_file(path))?, row))
    }
}

/// The configuration of any architecture of the registry.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum EncoderConfig {
    /// `model_type: bert`, `distilbert`, `ernie`, `roberta`, `xlm-roberta` or `mpnet`.
    Bert(BertConfig),
    /// `model_type: gte` or `new`.
    Gte(GteConfig),
    /// `model_type: modernbert`.
    ModernBert(ModernBertConfig),
    /// `model_type: qwen2`, `qwen3`, `llama`, `mistral`, `eurobert` or `gemma3_text`.
    Decoder(DecoderConfig),
}

impl EncoderConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// If the file is missing, its `model_type` is not supported, its `auto_map` names unknown code, or a field has the
    /// wrong type or an invalid value.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Architecture::read(path.as_ref(), false)?.0)
    }

    /// Reads an already parsed `config.json`.
    ///
    /// # Errors
    /// As [`EncoderConfig::from_file`].
    pub fn from_json(mut json: Value) -> Result<Self> {
        let row = Architecture::of(&json)?;
        auto_map::resolve(&mut json)?;
        (row.parse)(json)
    }

    /// The `config.json` of this configuration.
    pub fn to_json(&self) -> Value {
        // Configurations contain only numbers and names, so serialisation cannot fail.
        let mut fields = self.settings().to_json().unwrap_or_default();
        fields["model_type"] = self.settings().model_type().into();
        fields["architectures"] = self.architecture().map(|row| row.class).into_iter().collect::<Vec<_>>().into();
        fields
    }

    /// Length of the longest text, in tokens, that the network has positions for.
    pub fn max_positions(&self) -> usize {
        self.settings().max_positions()
    }

    /// The configuration behind its trait.
    pub(crate) fn settings(&self) -> &dyn Settings {
        match self {
            EncoderConfig::Bert(config) => config,
            EncoderConfig::Gte(config) => config,
            EncoderConfig::ModernBert(config) => config,
            EncoderConfig::Decoder(config) => config,
        }
    }

    /// The network, with zero weights.
    pub(crate) fn build(&self, device: &Device) -> AnyEncoder {
        let post_norm = |config| AnyEncoder::PostNorm(PostNorm::new(config, device));
        match self {
            EncoderConfig::Bert(config) => post_norm(PostNormConfig::Bert(config.clone())),
            EncoderConfig::Gte(config) => post_norm(PostNormConfig::Gte(config.clone())),
            EncoderConfig::ModernBert(config) => AnyEncoder::ModernBert(ModernBert::new(config, device)),
            EncoderConfig::Decoder(config) => AnyEncoder::Decoder(Decoder::new(config, device)),
        }
    }

    /// The row under which this configuration is written.
    pub(crate) fn architecture(&self) -> Option<&'static Architecture> {
        Architecture::named(self.settings().model_type())
    }
}

/// An encoder of any architecture of the registry.
#[allow(clippy::large_enum_variant, reason = "one per tower; weights are behind pointers")]
#[derive(Module, Debug)]
#[non_exhaustive]
pub enum AnyEncoder {
    /// BERT, DistilBERT, ERNIE, RoBERTa, XLM-RoBERTa, MPNet or GTE.
    PostNorm(PostNorm),
    /// ModernBERT.
    ModernBert(ModernBert),
    /// Qwen2, Qwen3, Llama, Mistral, EuroBERT or Gemma 3.
    Decoder(Decoder),
}

/// Evaluates the same expression for either network.
macro_rules! with_network {
    ($encoder:expr, $model:ident => $body:expr) => {
        match $encoder {
            AnyEncoder::PostNorm($model) => $body,
            AnyEncoder::ModernBert($model) => $body,
            AnyEncoder::Decoder($model) => $body,
        }
    };
}

impl AnyEncoder {
    /// The configuration the network was built from.
    pub fn config(&self) -> EncoderConfig {
        match self {
            AnyEncoder::PostNorm(model) => match model.config().clone() {
                PostNormConfig::Bert(config) => EncoderConfig::Bert(config),
                PostNormConfig::Gte(config) => EncoderConfig::Gte(config),
            },
            AnyEncoder::ModernBert(model) => EncoderConfig::ModernBert(model.config().clone()),
            AnyEncoder::Decoder(model) => EncoderConfig::Decoder(model.config().clone()),
        }
    }
}

impl AnyEncoder {
    /// Keeps only the layers with these indices, from 0, e.g. to cut a small query tower from a large network.
    ///
    /// # Errors
    /// If `keep` is empty, not ascending, or contains an index that is out of range, or if it lacks the first layer of a
    /// ModernBERT, the only one without a norm before its attention.
    pub fn with_layers(mut self, keep: &[usize]) -> Result<Self> {
        let config = self.config();
        let settings = config.settings();
        let layers = settings.common().num_hidden_layers;
        let ascending = keep.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || keep.last().is_none_or(|&last| last >= layers) {
            let allowed = format!("at least one index below {layers}, ascending");
            return Err(Error::setting("layers", format!("{keep:?}"), &allowed));
        }
        if settings.needs_first_layer() && keep[0] != 0 {
            let allowed = format!("lists that begin with 0, which {} networks need", settings.model_type());
            return Err(Error::setting("layers", format!("{keep:?}"), &allowed));
        }
        self.keep_layers(keep);
        Ok(self)
    }

    /// Sets the dropout probability of hidden states in training, `[0, 1)`; `None` restores that of the configuration.
    ///
    /// # Errors
    /// If the probability is out of range, or the architecture has no dropout, as is the case for decoders.
    pub fn with_dropout(mut self, probability: Option<f64>) -> Result<Self> {
        if let Some(probability) = probability {
            if !(0.0..1.0).contains(&probability) {
                return Err(Error::setting("dropout", probability, "0 to below 1"));
            }
            if self.dropout().is_none() {
                let allowed = format!("unset, {} networks have no dropout", self.config().settings().model_type());
                return Err(Error::setting("dropout", probability, &allowed));
            }
        }
        self.set_dropout(probability);
        Ok(self)
    }

    /// Whether dropout is applied in training, by the network or by its LoRA adapters.
    pub fn has_dropout(&self) -> bool {
        let adapters = || self.clone().linears().iter().any(|(_, linear)| linear.lora().is_some_and(Lora::has_dropout));
        self.dropout().is_some_and(|probability| probability > 0.0) || adapters()
    }

    /// Freezes the token embedding table, which holds most of the weights of a small multilingual network.
    #[must_use]
    pub fn with_frozen_token_table(mut self) -> Self {
        self.token_table().freeze();
        self
    }

    /// The token embedding table's identity among the parameters, if the table is trained.
    pub fn trained_token_table(&self) -> Option<ParamId> {
        self.clone().token_table().trained_id()
    }

    /// The network with only these rows of its token embedding table, for batches whose ids are indices into `rows`: see
    /// [`TokenBatch::renumbered`]. The gradient of the table then has no row for a token that does not occur.
    #[must_use]
    pub fn with_token_rows(mut self, rows: &[u32]) -> Self {
        self.token_table().keep_rows(rows);
        self
    }

    /// The network for a vocabulary of only the tokens with these ids, which then count from 0.
    ///
    /// # Errors
    /// If the first position of a text, which RoBERTa's networks number by the padding token, would move.
    pub(crate) fn with_vocabulary(mut self, kept: &[u32]) -> Result<Self> {
        let positions = self.max_positions();
        let (size, pad) = self.vocabulary();
        *size = kept.len();
        if let Some(pad) = pad {
            // A padding token that the tokenizer does not know is never looked up.
            *pad = kept.binary_search(pad).unwrap_or_default() as u32;
        }
        if self.max_positions() != positions {
            let message =
                "cannot prune the vocabulary: the padding token numbers the positions, and its id would change";
            return Err(Error::new(ErrorKind::Tokenizer, message));
        }
        self.token_table().keep_rows(kept);
        Ok(self)
    }

    /// Packs the weights for the forward and backward passes of one training step: see [`Linear::pack_for_step`].
    #[must_use]
    pub fn packed_for_step(mut self) -> Self {
        self.for_each_linear(&mut Linear::pack_for_step);
        self
    }
}

impl Parts for AnyEncoder {
    fn linears(&mut self) -> Vec<(String, &mut Linear)> {
        with_network!(self, model => model.linears())
    }

    fn keep_layers(&mut self, keep: &[usize]) {
        with_network!(self, model => model.keep_layers(keep));
    }

    fn dropout(&self) -> Option<f64> {
        with_network!(self, model => model.dropout())
    }

    fn set_dropout(&mut self, probability: Option<f64>) {
        with_network!(self, model => model.set_dropout(probability));
    }

    fn token_table(&mut self) -> &mut Embedding {
        with_network!(self, model => model.token_table())
    }

    fn vocabulary(&mut self) -> (&mut usize, &mut Option<u32>) {
        with_network!(self, model => model.vocabulary())
    }
}

impl Encoder for AnyEncoder {
    fn hidden_size(&self) -> usize {
        with_network!(self, model => model.hidden_size())
    }

    fn vocab_size(&self) -> usize {
        with_network!(self, model => model.vocab_size())
    }

    fn max_positions(&self) -> usize {
        with_network!(self, model => model.max_positions())
    }

    fn padding_side(&self) -> PaddingSide {
        with_network!(self, model => model.padding_side())
    }

    fn device(&self) -> Device {
        with_network!(self, model => model.device())
    }

    fn prefers_varlen(&self) -> bool {
        with_network!(self, model => model.prefers_varlen())
    }

    fn for_each_linear(&mut self, visit: &mut dyn FnMut(&mut Linear)) {
        with_network!(self, model => model.for_each_linear(visit));
    }

    fn forward(&self, batch: &TokenBatch) -> Tensor<3> {
        with_network!(self, model => model.forward(batch))
    }

    fn forward_at(&self, batch: &TokenBatch, positions: &[usize]) -> Tensor<2> {
        with_network!(self, model => model.forward_at(batch, positions))
    }

    fn forward_steps(&self) -> usize {
        with_network!(self, model => model.forward_steps())
    }

    fn forward_step(&self, step: usize, states: Option<Tensor<3>>, batch: &TokenBatch) -> Tensor<3> {
        with_network!(self, model => model.forward_step(step, states, batch))
    }
}
