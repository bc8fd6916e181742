//! The network of the BERT family.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use care_core::layers::Linear;
use care_core::{Encoder, TokenBatch};

use super::BertConfig;
use crate::layers::{
    AttentionMask, Embedding, Mlp, Parts, PostNormBlock, PostNormShape, TextEmbeddings, layer_linears,
    layouts_of_parts, pick_layers,
};
use crate::settings::Settings;

/// BERT, RoBERTa or XLM-RoBERTa without a pooler.
///
/// # Reference
/// Devlin et al. 2019, arXiv 1810.04805; Liu et al. 2019, arXiv 1907.11692; Hugging Face's `BertModel`,
/// `RobertaModel` and `XLMRobertaModel`.
/// DIFFERENCE: positions follow the mask, so left-padded batches give the same vectors as
/// right-padded ones, and in RoBERTa a padding token inside a text has a position like any other. In
/// training, hidden states are dropped out but attention weights are not.
#[derive(Module, Debug)]
pub struct Bert {
    embeddings: TextEmbeddings,
    layers: Vec<PostNormBlock<Mlp>>,
    #[module(skip)]
    config: BertConfig,
}

impl Bert {
    /// A network whose weights are zero until a checkpoint or a seed fills them.
    pub(crate) fn new(config: &BertConfig, device: &Device) -> Self {
        let shape = PostNormShape {
            vocab: config.vocab_size,
            width: config.hidden_size,
            positions: config.max_position_embeddings,
            types: config.type_vocab_size,
            heads: config.num_attention_heads,
            eps: config.layer_norm_eps,
            dropout: config.hidden_dropout_prob,
        };
        let mlp = || Mlp::new(config.hidden_size, config.intermediate_size, config.hidden_act, device);
        Self {
            embeddings: TextEmbeddings::new(&shape, device),
            layers: (0..config.num_hidden_layers).map(|_| PostNormBlock::new(&shape, mlp(), device)).collect(),
            config: config.clone(),
        }
    }

    /// The configuration the network was built from.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }
}

impl Parts for Bert {
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

impl Encoder for Bert {
    fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn max_positions(&self) -> usize {
        self.config.max_positions()
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
        let embedded = self.embeddings.forward(batch, self.config.first_position());
        self.layers.iter().fold(embedded, |states, layer| layer.forward(states, None, &mask))
    }
}
