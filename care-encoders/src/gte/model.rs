//! The GTE network.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use care_core::layers::Linear;
use care_core::{Encoder, TokenBatch};

use super::GteConfig;
use crate::layers::{
    AttentionMask, Embedding, GatedBias, GatedMlp, Parts, PostNormBlock, PostNormShape, RotaryAngles, TextEmbeddings,
    layer_linears, layouts_of_parts, pick_layers,
};

/// GTE without a pooler: the query tower of the paper.
///
/// # Reference
/// Zhang et al. 2024, arXiv 2407.19669; Hugging Face's `GteModel`, and `NewModel` of the authors'
/// `new-impl`. DIFFERENCE: in training, hidden states are dropped out but attention weights are not.
#[derive(Module, Debug)]
pub struct Gte {
    embeddings: TextEmbeddings,
    layers: Vec<PostNormBlock<GatedMlp>>,
    #[module(skip)]
    angles: RotaryAngles,
    #[module(skip)]
    config: GteConfig,
}

impl Gte {
    /// A network whose weights are zero until a checkpoint or a seed fills them.
    pub(crate) fn new(config: &GteConfig, device: &Device) -> Self {
        let shape = PostNormShape {
            vocab: config.vocab_size,
            width: config.hidden_size,
            positions: 0,
            types: config.type_vocab_size,
            heads: config.num_attention_heads,
            eps: config.layer_norm_eps,
            dropout: config.hidden_dropout_prob,
        };
        let bias = GatedBias { inner: false, down: true };
        let mlp = || GatedMlp::new(config.hidden_size, config.intermediate_size, bias, config.hidden_act, device);
        Self {
            embeddings: TextEmbeddings::new(&shape, device),
            layers: (0..config.num_hidden_layers).map(|_| PostNormBlock::new(&shape, mlp(), device)).collect(),
            angles: RotaryAngles::default(),
            config: config.clone(),
        }
    }

    /// The configuration the network was built from.
    pub fn config(&self) -> &GteConfig {
        &self.config
    }
}

impl Parts for Gte {
    fn linears(&mut self) -> Vec<(String, &mut Linear)> {
        layer_linears(&mut self.layers, PostNormBlock::linears)
    }

    fn keep_layers(&mut self, keep: &[usize]) {
        pick_layers(&mut self.layers, &mut self.config.num_hidden_layers, keep);
    }

    fn dropout(&self) -> Option<f64> {
        Some(self.embeddings.dropout())
    }

    fn set_dropout(&mut self, probability: Option<f64>) {
        let probability = probability.unwrap_or(self.config.hidden_dropout_prob);
        self.embeddings.set_dropout(probability);
        self.layers.iter_mut().for_each(|layer| layer.set_dropout(probability));
    }

    fn token_table(&mut self) -> &mut Embedding {
        self.embeddings.words()
    }
}

impl Encoder for Gte {
    fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn max_positions(&self) -> usize {
        self.config.max_position_embeddings
    }

    fn device(&self) -> Device {
        self.embeddings.device()
    }

    fn packs_texts(&self) -> bool {
        self.embeddings.is_on_host()
    }

    layouts_of_parts!();

    fn forward(&self, batch: &TokenBatch) -> Tensor<3> {
        let mask = AttentionMask::new(batch, false);
        let rotary = self.angles.table(batch.seq_len(), self.config.head_dim(), &self.config.rope_parameters);
        let embedded = self.embeddings.forward(batch, 0);
        self.layers.iter().fold(embedded, |states, layer| layer.forward(states, Some(&rotary), &mask))
    }
}
