//! The network of Qwen2, Qwen3, Llama and Mistral.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::config::DecoderConfig;
use crate::batch::TokenBatch;
use crate::encoder::Encoder;
use crate::layers::{
    AttentionShape, Embedding, GatedBias, GatedMlp, Linear, Parts, RmsNorm, RotaryAngles, SelfAttention, layer_linears,
    pick_layers,
};
use crate::ops::{AttentionMask, RotaryTable};

/// A Qwen2, Qwen3, Llama or Mistral decoder without its language-model head.
///
/// # Reference
/// Qwen2 (arXiv 2407.10671), Qwen3 (arXiv 2505.09388), Llama (arXiv 2407.21783) and Mistral (arXiv 2310.06825); Hugging
/// Face's `Qwen2Model`, `Qwen3Model`, `LlamaModel` and `MistralModel`. Qwen3 normalises queries and keys over the head dimension before the
/// rotation.
#[derive(Module, Debug)]
pub struct Decoder {
    tokens: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    #[module(skip)]
    angles: RotaryAngles,
    #[module(skip)]
    config: DecoderConfig,
}

#[derive(Module, Debug)]
struct Layer {
    attention_norm: RmsNorm,
    attention: SelfAttention,
    mlp_norm: RmsNorm,
    mlp: GatedMlp,
    #[module(skip)]
    slides: bool,
}

impl Decoder {
    /// A network whose weights are zero until they are loaded or initialised.
    pub(crate) fn new(config: &DecoderConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let norm = |width| RmsNorm::new(width, config.rms_norm_eps, device);
        let shape = AttentionShape {
            width,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            input_bias: config.attention_input_bias(),
            output_bias: config.attention_output_bias(),
        };
        let attention = || match config.norms_heads() {
            true => SelfAttention::new(shape, device).with_head_norms(|| norm(config.head_dim)),
            false => SelfAttention::new(shape, device),
        };
        let bias = GatedBias { inner: config.mlp_bias, down: config.mlp_bias };
        let layer = |number| Layer {
            attention_norm: norm(width),
            attention: attention(),
            mlp_norm: norm(width),
            mlp: GatedMlp::new(width, config.intermediate_size, bias, config.hidden_act, device),
            slides: config.slides(number),
        };
        Self {
            tokens: Embedding::new(config.vocab_size, width, device),
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            norm: norm(width),
            angles: RotaryAngles::default(),
            config: config.clone(),
        }
    }

    /// The configuration the network was built from.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }
}

impl Parts for Decoder {
    fn linears(&mut self) -> Vec<(String, &mut Linear)> {
        layer_linears(&mut self.layers, |layer| layer.attention.linears().into_iter().chain(layer.mlp.linears()))
    }

    fn keep_layers(&mut self, keep: &[usize]) {
        pick_layers(&mut self.layers, &mut self.config.num_hidden_layers, keep);
        self.config.keep_layers(keep);
    }

    fn dropout(&self) -> Option<f64> {
        None
    }

    fn set_dropout(&mut self, _probability: Option<f64>) {}

    fn token_table(&mut self) -> &mut Embedding {
        &mut self.tokens
    }
}

impl Layer {
    fn forward(&self, input: Tensor<3>, rotary: &RotaryTable, mask: &AttentionMask<'_>) -> Tensor<3> {
        let attended = self.attention.forward(self.attention_norm.forward(input.clone()), Some(rotary), mask);
        let middle = input + attended;
        let fed = self.mlp.forward(self.mlp_norm.forward(middle.clone()));
        middle + fed
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

    fn device(&self) -> Device {
        self.tokens.device()
    }

    fn prefers_varlen(&self) -> bool {
        self.tokens.is_on_host()
    }

    fn for_each_linear(&mut self, visit: &mut dyn FnMut(&mut Linear)) {
        self.linears().into_iter().for_each(|(_, linear)| visit(linear));
    }

    fn forward(&self, batch: &TokenBatch) -> Tensor<3> {
        let device = self.tokens.device();
        let mask = |reach| AttentionMask::new(batch, self.config.is_causal).within(reach);
        let (full, sliding) = (mask(None), mask(self.config.reach()));
        let rotary = self.angles.table(batch.seq_len(), self.config.head_dim, &self.config.rope_parameters);
        let embedded = self.tokens.forward(batch.input_ids(&device));
        let states = self.layers.iter().fold(embedded, |states, layer| {
            let mask = if layer.slides { &sliding } else { &full };
            layer.forward(states, &rotary, mask)
        });
        self.norm.forward(states)
    }
}
