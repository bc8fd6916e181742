//! The network of BERT, DistilBERT, ERNIE, RoBERTa, XLM-RoBERTa, MPNet and GTE.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::bert::BertConfig;
use super::block::{Block, FeedForward, Shape, TextEmbeddings};
use super::buckets::{BUCKETS, bucket};
use super::gte::GteConfig;
use crate::batch::TokenBatch;
use crate::encoder::Encoder;
use crate::layers::{
    Embedding, GatedBias, GatedMlp, Linear, Mlp, Parts, RopeParameters, RotaryAngles, layer_linears, pick_layers,
};
use crate::ops::{AttentionMask, DistanceBias, Kept, RotaryTable};
use crate::settings::Settings;

/// A bidirectional encoder with a norm after each residual sum: BERT, DistilBERT, ERNIE, RoBERTa, XLM-RoBERTa,
/// MPNet or GTE, without a pooler.
///
/// The families differ in their position embeddings and in their feed-forward blocks, as the configuration specifies.
///
/// # Reference
/// Devlin et al. 2019, arXiv 1810.04805; Sanh et al. 2019, arXiv 1910.01108; Liu et al. 2019, arXiv 1907.11692; Song
/// et al. 2020, arXiv 2004.09297; Sun et al. 2021, arXiv 2107.02137; Zhang et al. 2024, arXiv 2407.19669; Hugging Face's
/// `BertModel`, `DistilBertModel`, `ErnieModel`, `RobertaModel`, `XLMRobertaModel`, `MPNetModel` and `GteModel`, and the
/// `NewModel` of GTE's authors.
/// DIFFERENCE: learned positions follow the mask, so left-padded batches have the same vectors as right-padded ones,
/// and in RoBERTa a padding token inside a text has a position like any other. In training, dropout applies to hidden
/// states but not to attention weights, and in DistilBERT after attention too.
#[derive(Module, Debug)]
pub struct PostNorm {
    embeddings: TextEmbeddings,
    /// MPNet's bias of attention scores, `[buckets, heads]`.
    distance_bias: Option<Embedding>,
    layers: Vec<Block>,
    #[module(skip)]
    angles: RotaryAngles,
    #[module(skip)]
    config: PostNormConfig,
}

/// The configuration of a [`PostNorm`] network, by family.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PostNormConfig {
    /// Learned positions, plain feed-forward blocks.
    Bert(BertConfig),
    /// Rotary positions, gated feed-forward blocks.
    Gte(GteConfig),
}

/// The kind of position embeddings.
enum Positions<'a> {
    /// Rows of a table, from row `first` on.
    Learned { first: usize },
    /// Rotations of queries and keys.
    Rotary { head_dim: usize, settings: &'a RopeParameters },
}

impl PostNormConfig {
    pub(crate) fn settings(&self) -> &dyn Settings {
        match self {
            PostNormConfig::Bert(config) => config,
            PostNormConfig::Gte(config) => config,
        }
    }

    fn positions(&self) -> Positions<'_> {
        match self {
            PostNormConfig::Bert(config) => Positions::Learned { first: config.first_position() },
            PostNormConfig::Gte(config) => {
                Positions::Rotary { head_dim: config.head_dim(), settings: &config.rope_parameters }
            }
        }
    }

    fn has_distance_bias(&self) -> bool {
        matches!(self, PostNormConfig::Bert(config) if config.has_distance_bias())
    }

    fn shape(&self) -> Shape {
        let common = self.settings().common();
        let (positions, types, tasks, eps, dropout) = match self {
            PostNormConfig::Bert(config) => (
                config.max_position_embeddings,
                config.type_vocab_size,
                config.task_type_vocab_size,
                config.layer_norm_eps,
                config.hidden_dropout_prob,
            ),
            PostNormConfig::Gte(config) => {
                (0, config.type_vocab_size, 0, config.layer_norm_eps, config.hidden_dropout_prob)
            }
        };
        let (vocab, width, heads) = (common.vocab_size, common.hidden_size, common.num_attention_heads);
        Shape { vocab, width, positions, types, tasks, heads, eps, dropout }
    }

    fn feed_forward(&self, device: &Device) -> FeedForward {
        let common = self.settings().common();
        let (width, inner) = (common.hidden_size, common.intermediate_size);
        match self {
            PostNormConfig::Bert(config) => FeedForward::Plain(Mlp::new(width, inner, config.hidden_act, device)),
            PostNormConfig::Gte(config) => {
                let bias = GatedBias { inner: false, down: true };
                FeedForward::Gated(GatedMlp::new(width, inner, bias, config.hidden_act, device))
            }
        }
    }

    fn layer_count(&mut self) -> &mut usize {
        match self {
            PostNormConfig::Bert(config) => &mut config.num_hidden_layers,
            PostNormConfig::Gte(config) => &mut config.num_hidden_layers,
        }
    }
}

impl PostNorm {
    /// A network whose weights are zero until they are loaded or initialised.
    pub(crate) fn new(config: PostNormConfig, device: &Device) -> Self {
        let shape = config.shape();
        let layers = config.settings().common().num_hidden_layers;
        Self {
            embeddings: TextEmbeddings::new(&shape, device),
            distance_bias: config.has_distance_bias().then(|| Embedding::new(BUCKETS, shape.heads, device)),
            layers: (0..layers).map(|_| Block::new(&shape, config.feed_forward(device), device)).collect(),
            angles: RotaryAngles::default(),
            config,
        }
    }

    /// The configuration the network was built from.
    pub(crate) fn config(&self) -> &PostNormConfig {
        &self.config
    }

    /// What every layer reads beside its states.
    fn surroundings<'a>(&self, batch: &'a TokenBatch) -> (Option<RotaryTable>, AttentionMask<'a>) {
        let mask = AttentionMask::new(batch, false);
        let mask = self.distance_bias.iter().fold(mask, |mask, table| {
            let lookup = |distances: &[isize]| table.select(distances.iter().map(|&distance| bucket(distance)));
            mask.with_distance_bias(DistanceBias::new(batch.seq_len() - 1, lookup))
        });
        let rotary = match self.config.positions() {
            Positions::Learned { .. } => None,
            Positions::Rotary { head_dim, settings } => Some(self.angles.table(batch.seq_len(), head_dim, settings)),
        };
        (rotary, mask)
    }

    fn embed(&self, batch: &TokenBatch) -> Tensor<3> {
        let first = match self.config.positions() {
            Positions::Learned { first } => first,
            Positions::Rotary { .. } => 0,
        };
        self.embeddings.forward(batch, first)
    }

    fn states(&self, batch: &TokenBatch, kept: Kept<'_>) -> Tensor<3> {
        let (rotary, mask) = self.surroundings(batch);
        self.layers.iter().enumerate().fold(self.embed(batch), |states, (number, layer)| {
            layer.forward(states, rotary.as_ref(), &mask, kept.in_layer(number, self.layers.len()))
        })
    }
}

impl Parts for PostNorm {
    fn linears(&mut self) -> Vec<(String, &mut Linear)> {
        layer_linears(&mut self.layers, Block::linears)
    }

    fn keep_layers(&mut self, keep: &[usize]) {
        pick_layers(&mut self.layers, self.config.layer_count(), keep);
    }

    fn dropout(&self) -> Option<f64> {
        Some(self.embeddings.dropout())
    }

    fn set_dropout(&mut self, probability: Option<f64>) {
        let probability = probability.unwrap_or(self.config.shape().dropout);
        self.embeddings.set_dropout(probability);
        self.layers.iter_mut().for_each(|layer| layer.set_dropout(probability));
    }

    fn token_table(&mut self) -> &mut Embedding {
        self.embeddings.words()
    }

    fn vocabulary(&mut self) -> (&mut usize, &mut Option<u32>) {
        match &mut self.config {
            PostNormConfig::Bert(config) => (&mut config.vocab_size, &mut config.pad_token_id),
            PostNormConfig::Gte(config) => (&mut config.vocab_size, &mut config.pad_token_id),
        }
    }
}

impl Encoder for PostNorm {
    fn hidden_size(&self) -> usize {
        self.config.settings().common().hidden_size
    }

    fn vocab_size(&self) -> usize {
        self.config.settings().common().vocab_size
    }

    fn max_positions(&self) -> usize {
        self.config.settings().max_positions()
    }

    fn device(&self) -> Device {
        self.embeddings.device()
    }

    fn prefers_varlen(&self) -> bool {
        self.embeddings.is_on_kernels()
    }

    fn for_each_linear(&mut self, visit: &mut dyn FnMut(&mut Linear)) {
        self.linears().into_iter().for_each(|(_, linear)| visit(linear));
    }

    fn forward(&self, batch: &TokenBatch) -> Tensor<3> {
        self.states(batch, Kept::All)
    }

    fn forward_at(&self, batch: &TokenBatch, positions: &[usize]) -> Tensor<2> {
        self.states(batch, Kept::At(positions)).squeeze_dim(0)
    }

    fn forward_steps(&self) -> usize {
        1 + self.layers.len()
    }

    fn forward_step(&self, step: usize, states: Option<Tensor<3>>, batch: &TokenBatch) -> Tensor<3> {
        let Some(states) = states else { return self.embed(batch) };
        let (rotary, mask) = self.surroundings(batch);
        self.layers[step - 1].forward(states, rotary.as_ref(), &mask, Kept::All)
    }
}
