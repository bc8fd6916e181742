//! The network of Qwen2, Qwen3, Llama, Mistral, EuroBERT and Gemma 3.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::config::DecoderConfig;
use super::family::DecoderFamily;
use crate::batch::TokenBatch;
use crate::encoder::Encoder;
use crate::layers::{
    AttentionShape, Embedding, GatedBias, GatedMlp, Linear, Parts, RmsNorm, RotaryAngles, SelfAttention, layer_linears,
    pick_layers,
};
use crate::ops::{AttentionMask, Kept, RotaryTable};

/// A Qwen2, Qwen3, Llama, Mistral or Gemma 3 decoder, or EuroBERT, without its language-model head.
///
/// # Reference
/// Qwen2 (arXiv 2407.10671), Qwen3 (arXiv 2505.09388), Llama (arXiv 2407.21783), Mistral (arXiv 2310.06825), EuroBERT
/// (arXiv 2503.05500) and Gemma 3 (arXiv 2503.19786); Hugging Face's `Qwen2Model`, `Qwen3Model`, `LlamaModel`,
/// `MistralModel`, `EuroBertModel` and `Gemma3TextModel`.
/// Qwen3 and Gemma 3 normalise queries and keys over the head dimension before the rotation.
#[derive(Module, Debug)]
pub struct Decoder {
    tokens: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    #[module(skip)]
    angles: RotaryAngles,
    /// Those of layers with a window, if they differ.
    #[module(skip)]
    sliding_angles: RotaryAngles,
    #[module(skip)]
    config: DecoderConfig,
}

#[derive(Module, Debug)]
struct Layer {
    attention_norm: RmsNorm,
    attention: SelfAttention,
    /// The norm of what attention returns, for Gemma 3.
    attended_norm: Option<RmsNorm>,
    mlp_norm: RmsNorm,
    mlp: GatedMlp,
    /// The norm of what the feed-forward block returns, for Gemma 3.
    fed_norm: Option<RmsNorm>,
    #[module(skip)]
    slides: bool,
}

impl Decoder {
    /// A network whose weights are zero until they are loaded or initialised.
    pub(crate) fn new(config: &DecoderConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let gemma = config.model_type == DecoderFamily::Gemma3;
        let norm = |width| match gemma {
            true => RmsNorm::around_one(width, config.rms_norm_eps, device),
            false => RmsNorm::new(width, config.rms_norm_eps, device),
        };
        let shape = AttentionShape {
            width,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            input_bias: config.attention_input_bias(),
            output_bias: config.attention_output_bias(),
        };
        let attention = || SelfAttention::new(shape, device).with_scale(config.attention_scale());
        let attention = || match config.norms_heads() {
            true => attention().with_head_norms(|| norm(config.head_dim)),
            false => attention(),
        };
        let bias = GatedBias { inner: config.mlp_bias, down: config.mlp_bias };
        let layer = |number| Layer {
            attention_norm: norm(width),
            attention: attention(),
            attended_norm: gemma.then(|| norm(width)),
            mlp_norm: norm(width),
            mlp: GatedMlp::new(width, config.intermediate_size, bias, config.hidden_act, device),
            fed_norm: gemma.then(|| norm(width)),
            slides: config.slides(number),
        };
        let mut decoder = Self {
            tokens: Embedding::new(config.vocab_size, width, device),
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            norm: norm(width),
            angles: RotaryAngles::default(),
            sliding_angles: RotaryAngles::default(),
            config: config.clone(),
        };
        // In trained decoders, a few components of the states, and of what the gates return, grow to hundreds of times the
        // others.
        decoder.for_each_linear(&mut Linear::group_inputs);
        decoder
    }

    /// The configuration the network was built from.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn embed(&self, batch: &TokenBatch) -> Tensor<3> {
        let embedded = self.tokens.forward(batch.input_ids(&self.tokens.device()));
        self.config.embedding_scale().into_iter().fold(embedded, scaled)
    }

    /// The positions and the mask of layers with a window, or of those without.
    fn reach<'a>(&self, slides: bool, batch: &'a TokenBatch) -> (RotaryTable, AttentionMask<'a>) {
        let DecoderConfig { head_dim, rope_parameters, sliding_rope_parameters, .. } = &self.config;
        let mask = AttentionMask::new(batch, self.config.is_causal);
        let rotary = match sliding_rope_parameters {
            Some(own) if slides => self.sliding_angles.table(batch.seq_len(), *head_dim, own),
            _ => self.angles.table(batch.seq_len(), *head_dim, rope_parameters),
        };
        (rotary, mask.within(self.config.reach().filter(|_| slides)))
    }

    fn states(&self, batch: &TokenBatch, kept: Kept<'_>) -> Tensor<3> {
        let [full, sliding] = [false, true].map(|slides| self.reach(slides, batch));
        let states = self.layers.iter().enumerate().fold(self.embed(batch), |states, (number, layer)| {
            let (rotary, mask) = if layer.slides { &sliding } else { &full };
            layer.forward(states, rotary, mask, kept.in_layer(number, self.layers.len()))
        });
        self.norm.forward(states)
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

    fn vocabulary(&mut self) -> (&mut usize, &mut Option<u32>) {
        (&mut self.config.vocab_size, &mut self.config.pad_token_id)
    }
}

impl Layer {
    /// # Shapes
    /// `[rows, seq, width]` to as many states as are kept.
    fn forward(&self, input: Tensor<3>, rotary: &RotaryTable, mask: &AttentionMask<'_>, kept: Kept<'_>) -> Tensor<3> {
        let after = |norm: &Option<RmsNorm>, states| norm.iter().fold(states, |states, norm| norm.forward(states));
        let normed = self.attention_norm.forward(input.clone());
        let attended = self.attention.forward(normed, Some(rotary), mask, kept);
        let middle = kept.of(input) + after(&self.attended_norm, attended);
        let fed = self.mlp.forward(self.mlp_norm.forward(middle.clone()));
        middle + after(&self.fed_norm, fed)
    }
}

/// States times a factor, which is rounded to their dtype first: Gemma was trained so.
fn scaled(states: Tensor<3>, factor: f64) -> Tensor<3> {
    let factor = Tensor::<3>::from_data([[[factor as f32]]], (&states.device(), states.dtype()));
    states * factor
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
        self.tokens.is_on_kernels()
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
        let layer = &self.layers[step - 1];
        let (rotary, mask) = self.reach(layer.slides, batch);
        let states = layer.forward(states, &rotary, &mask, Kept::All);
        if step == self.layers.len() { self.norm.forward(states) } else { states }
    }
}
