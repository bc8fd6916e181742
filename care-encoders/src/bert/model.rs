//! The BERT network.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Tensor};
use care_core::layers::Linear;
use care_core::{Encoder, TokenBatch};

use super::BertConfig;
use crate::layers::{AttentionMask, Embedding, LayerNorm, Mlp, attend, split_heads};

/// BERT without a pooler.
///
/// # Reference
/// Devlin et al. 2019, arXiv 1810.04805; Hugging Face's `BertModel`.
/// DIFFERENCE: positions follow the mask, so left-padded batches give the same vectors as
/// right-padded ones. In training, hidden states are dropped out but attention weights are not.
#[derive(Module, Debug)]
pub struct Bert {
    embeddings: Embeddings,
    layers: Vec<Layer>,
    #[module(skip)]
    config: BertConfig,
}

#[derive(Module, Debug)]
struct Embeddings {
    word: Embedding,
    position: Embedding,
    token_type: Option<Embedding>,
    norm: LayerNorm,
    dropout: Dropout,
}

#[derive(Module, Debug)]
struct Layer {
    attention: SelfAttention,
    attention_norm: LayerNorm,
    mlp: Mlp,
    mlp_norm: LayerNorm,
    dropout: Dropout,
}

#[derive(Module, Debug)]
struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    #[module(skip)]
    heads: usize,
}

impl Bert {
    /// A network whose weights are zero until a checkpoint or a seed fills them.
    pub(crate) fn new(config: &BertConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let norm = || LayerNorm::new(width, config.layer_norm_eps, device);
        let linear = || Linear::new(width, width, true, device);
        let dropout = || DropoutConfig::new(config.hidden_dropout_prob).init();
        let layer = |_| Layer {
            attention: SelfAttention {
                query: linear(),
                key: linear(),
                value: linear(),
                output: linear(),
                heads: config.num_attention_heads,
            },
            attention_norm: norm(),
            mlp: Mlp::new(width, config.intermediate_size, config.hidden_act, device),
            mlp_norm: norm(),
            dropout: dropout(),
        };
        Self {
            embeddings: Embeddings {
                word: Embedding::new(config.vocab_size, width, device),
                position: Embedding::new(config.max_position_embeddings, width, device),
                token_type: (config.type_vocab_size > 0).then(|| Embedding::new(config.type_vocab_size, width, device)),
                norm: norm(),
                dropout: dropout(),
            },
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            config: config.clone(),
        }
    }

    /// The configuration the network was built from.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }
}

impl Embeddings {
    fn forward(&self, batch: &TokenBatch, device: &Device) -> Tensor<3> {
        let mut sum = self.word.forward(batch.input_ids(device)) + self.position.forward(batch.position_ids(device));
        if let Some(types) = &self.token_type {
            sum = sum + types.first_row();
        }
        self.dropout.forward(self.norm.forward(sum))
    }
}

impl Layer {
    fn forward(&self, input: Tensor<3>, mask: &AttentionMask) -> Tensor<3> {
        let attended = self.dropout.forward(self.attention.forward(input.clone(), mask));
        let middle = self.attention_norm.forward(input + attended);
        let fed = self.dropout.forward(self.mlp.forward(middle.clone()));
        self.mlp_norm.forward(middle + fed)
    }
}

impl SelfAttention {
    fn forward(&self, input: Tensor<3>, mask: &AttentionMask) -> Tensor<3> {
        let heads = |linear: &Linear| split_heads(linear.forward(input.clone()), self.heads);
        self.output.forward(attend(heads(&self.query), heads(&self.key), heads(&self.value), mask))
    }
}

impl Encoder for Bert {
    fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn max_positions(&self) -> usize {
        self.config.max_position_embeddings
    }

    fn forward(&self, batch: &TokenBatch) -> Tensor<3> {
        let device = self.embeddings.word.device();
        let mask = AttentionMask::new(batch, false, &device);
        let embedded = self.embeddings.forward(batch, &device);
        self.layers.iter().fold(embedded, |states, layer| layer.forward(states, &mask))
    }
}
