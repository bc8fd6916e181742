//! The Qwen3 network.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use care_core::layers::Linear;
use care_core::{Encoder, TokenBatch};

use super::DecoderConfig;
use crate::layers::{AttentionMask, Embedding, GatedMlp, RmsNorm, RotaryTable, attend, split_heads};

/// A Qwen3 decoder without its language-model head.
///
/// # Reference
/// Qwen3 technical report, arXiv 2505.09388; Hugging Face's `Qwen3Model`: RMS norm over the head
/// dimension of queries and keys before the rotation.
#[derive(Module, Debug)]
pub struct Decoder {
    tokens: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    #[module(skip)]
    config: DecoderConfig,
}

#[derive(Module, Debug)]
struct Layer {
    attention_norm: RmsNorm,
    attention: SelfAttention,
    mlp_norm: RmsNorm,
    mlp: GatedMlp,
}

#[derive(Module, Debug)]
struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    query_norm: RmsNorm,
    key_norm: RmsNorm,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    kv_heads: usize,
}

impl Decoder {
    /// A network whose weights are zero until a checkpoint or a seed fills them.
    pub(crate) fn new(config: &DecoderConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let norm = |width| RmsNorm::new(width, config.rms_norm_eps, device);
        let linear = |inputs, outputs| Linear::new(inputs, outputs, config.attention_bias, device);
        let query_width = config.num_attention_heads * config.head_dim;
        let key_width = config.num_key_value_heads * config.head_dim;
        let layer = |_| Layer {
            attention_norm: norm(width),
            attention: SelfAttention {
                query: linear(width, query_width),
                key: linear(width, key_width),
                value: linear(width, key_width),
                output: linear(query_width, width),
                query_norm: norm(config.head_dim),
                key_norm: norm(config.head_dim),
                heads: config.num_attention_heads,
                kv_heads: config.num_key_value_heads,
            },
            mlp_norm: norm(width),
            mlp: GatedMlp::new(width, config.intermediate_size, config.hidden_act, device),
        };
        Self {
            tokens: Embedding::new(config.vocab_size, width, device),
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            norm: norm(width),
            config: config.clone(),
        }
    }

    /// The configuration the network was built from.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }
}

impl Layer {
    fn forward(&self, input: Tensor<3>, rotary: &RotaryTable, mask: &AttentionMask) -> Tensor<3> {
        let attended = self.attention.forward(self.attention_norm.forward(input.clone()), rotary, mask);
        let middle = input + attended;
        let fed = self.mlp.forward(self.mlp_norm.forward(middle.clone()));
        middle + fed
    }
}

impl SelfAttention {
    fn forward(&self, input: Tensor<3>, rotary: &RotaryTable, mask: &AttentionMask) -> Tensor<3> {
        let query = split_heads(self.query.forward(input.clone()), self.heads);
        let key = split_heads(self.key.forward(input.clone()), self.kv_heads);
        let value = split_heads(self.value.forward(input), self.kv_heads);
        let query = rotary.rotate(self.query_norm.forward(query));
        let key = rotary.rotate(self.key_norm.forward(key));
        self.output.forward(attend(query, key, value, mask))
    }
}

impl Encoder for Decoder {
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
        let device = self.tokens.device();
        let mask = AttentionMask::new(batch, true, &device);
        let rotary = RotaryTable::new(batch.seq_len(), self.config.head_dim, self.config.rope_theta, &device);
        let embedded = self.tokens.forward(batch.input_ids(&device));
        let states = self.layers.iter().fold(embedded, |states, layer| layer.forward(states, &rotary, &mask));
        self.norm.forward(states)
    }
}
