//! The network of ModernBERT.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::config::ModernBertConfig;
use crate::batch::TokenBatch;
use crate::encoder::Encoder;
use crate::layers::{
    Activation, Dropout, Embedding, LayerNorm, LayerType, Linear, Parts, RotaryAngles, layer_linears, pick_layers,
};
use crate::ops::{AttentionHeads, AttentionMask, Kept, RotaryTable, attention, gate, rotate};

/// A ModernBERT encoder, without its heads.
///
/// # Reference
/// Warner et al. 2024, arXiv 2412.13663; Hugging Face's `ModernBertModel`.
/// DIFFERENCE: in training, dropout applies to the output of attention but not to attention weights.
#[derive(Module, Debug)]
pub struct ModernBert {
    tokens: Embedding,
    tokens_norm: LayerNorm,
    dropout: Dropout,
    layers: Vec<Layer>,
    norm: LayerNorm,
    #[module(skip)]
    full_angles: RotaryAngles,
    #[module(skip)]
    sliding_angles: RotaryAngles,
    #[module(skip)]
    config: ModernBertConfig,
}

/// Attention and a feed-forward block, each with a norm before it and a residual connection.
#[derive(Module, Debug)]
struct Layer {
    /// The first layer has none: its input is normalised already.
    attention_norm: Option<LayerNorm>,
    attention: Attention,
    mlp_norm: LayerNorm,
    mlp: Mlp,
    #[module(skip)]
    kind: LayerType,
}

/// Self-attention with one projection to queries, keys and values, in this order.
#[derive(Module, Debug)]
struct Attention {
    qkv: Linear,
    output: Linear,
    dropout: Dropout,
    #[module(skip)]
    heads: AttentionHeads,
}

/// `output(act(gate(x)) * up(x))` with one projection to gate and up, in this order.
#[derive(Module, Debug)]
struct Mlp {
    input: Linear,
    output: Linear,
    dropout: Dropout,
    #[module(skip)]
    activation: Activation,
}

/// The positions and the mask of a type of layer.
struct Reach<'a> {
    rotary: RotaryTable,
    mask: AttentionMask<'a>,
}

impl ModernBert {
    /// A network whose weights are zero until they are loaded or initialised.
    pub(crate) fn new(config: &ModernBertConfig, device: &Device) -> Self {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let norm = || LayerNorm::new(width, config.norm_eps, device).with_bias(config.norm_bias);
        let (heads, head_dim) = (config.num_attention_heads, config.head_dim());
        let layer = |(number, &kind): (usize, &LayerType)| Layer {
            attention_norm: (number > 0).then(norm),
            attention: Attention {
                qkv: Linear::new(width, 3 * width, config.attention_bias, device),
                output: Linear::new(width, width, config.attention_bias, device),
                dropout: Dropout::new(config.attention_dropout),
                heads: AttentionHeads { heads, kv_heads: heads, head_dim, scale: None },
            },
            mlp_norm: norm(),
            mlp: Mlp {
                input: Linear::new(width, 2 * inner, config.mlp_bias, device),
                output: Linear::new(inner, width, config.mlp_bias, device),
                dropout: Dropout::new(config.mlp_dropout),
                activation: config.hidden_activation,
            },
            kind,
        };
        Self {
            tokens: Embedding::new(config.vocab_size, width, device),
            tokens_norm: norm(),
            dropout: Dropout::new(config.embedding_dropout),
            layers: config.layer_types.iter().enumerate().map(layer).collect(),
            norm: norm(),
            full_angles: RotaryAngles::default(),
            sliding_angles: RotaryAngles::default(),
            config: config.clone(),
        }
    }

    /// The configuration the network was built from.
    pub fn config(&self) -> &ModernBertConfig {
        &self.config
    }

    fn embed(&self, batch: &TokenBatch) -> Tensor<3> {
        let embedded = self.tokens_norm.forward(self.tokens.forward(batch.input_ids(&self.device())));
        self.dropout.forward(embedded)
    }

    fn reach<'a>(&self, kind: LayerType, batch: &'a TokenBatch) -> Reach<'a> {
        let rope = &self.config.rope_parameters;
        let (angles, rope) = match kind {
            LayerType::FullAttention => (&self.full_angles, &rope.full_attention),
            LayerType::SlidingAttention => (&self.sliding_angles, &rope.sliding_attention),
        };
        Reach {
            rotary: angles.table(batch.seq_len(), self.config.head_dim(), rope),
            mask: AttentionMask::new(batch, false).within(self.config.reach(kind)),
        }
    }

    fn states(&self, batch: &TokenBatch, kept: Kept<'_>) -> Tensor<3> {
        let full = self.reach(LayerType::FullAttention, batch);
        let sliding = self.reach(LayerType::SlidingAttention, batch);
        let states = self.layers.iter().enumerate().fold(self.embed(batch), |states, (number, layer)| {
            let reach = match layer.kind {
                LayerType::FullAttention => &full,
                LayerType::SlidingAttention => &sliding,
            };
            layer.forward(states, reach, kept.in_layer(number, self.layers.len()))
        });
        self.norm.forward(states)
    }
}

impl Layer {
    fn linears(&mut self) -> impl Iterator<Item = (&'static str, &mut Linear)> {
        let (attention, mlp) = (&mut self.attention, &mut self.mlp);
        [
            ("attention.qkv", &mut attention.qkv),
            ("attention.output", &mut attention.output),
            ("mlp.input", &mut mlp.input),
            ("mlp.output", &mut mlp.output),
        ]
        .into_iter()
    }

    /// # Shapes
    /// `[rows, seq, width]` to as many states as are kept.
    fn forward(&self, input: Tensor<3>, reach: &Reach<'_>, kept: Kept<'_>) -> Tensor<3> {
        let normed = self.attention_norm.iter().fold(input.clone(), |input, norm| norm.forward(input));
        let middle = kept.of(input) + self.attention.forward(normed, reach, kept);
        let fed = self.mlp.forward(self.mlp_norm.forward(middle.clone()));
        middle + fed
    }
}

impl Attention {
    fn forward(&self, input: Tensor<3>, reach: &Reach<'_>, kept: Kept<'_>) -> Tensor<3> {
        let [query, key, value] = split(self.qkv.forward(input));
        let place = |states| rotate(states, &reach.rotary, reach.mask.spans());
        let attended = attention(place(query), place(key), value, self.heads, &reach.mask);
        self.dropout.forward(self.output.forward(kept.of(attended)))
    }
}

impl Mlp {
    fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let [gates, up] = split(self.input.forward(input));
        self.output.forward(self.dropout.forward(gate(gates, up, self.activation)))
    }
}

/// The equal parts of the last axis.
fn split<const N: usize>(states: Tensor<3>) -> [Tensor<3>; N] {
    let size = states.dims()[2] / N;
    std::array::from_fn(|part| states.clone().narrow(2, part * size, size))
}

impl Parts for ModernBert {
    fn linears(&mut self) -> Vec<(String, &mut Linear)> {
        layer_linears(&mut self.layers, Layer::linears)
    }

    fn keep_layers(&mut self, keep: &[usize]) {
        pick_layers(&mut self.layers, &mut self.config.num_hidden_layers, keep);
        self.config.layer_types = self.layers.iter().map(|layer| layer.kind).collect();
    }

    fn dropout(&self) -> Option<f64> {
        let layer = self
            .layers
            .first()
            .map_or(0.0, |layer| layer.attention.dropout.probability().max(layer.mlp.dropout.probability()));
        Some(layer.max(self.dropout.probability()))
    }

    fn set_dropout(&mut self, probability: Option<f64>) {
        let dropout = |own: f64| Dropout::new(probability.unwrap_or(own));
        self.dropout = dropout(self.config.embedding_dropout);
        for layer in &mut self.layers {
            layer.attention.dropout = dropout(self.config.attention_dropout);
            layer.mlp.dropout = dropout(self.config.mlp_dropout);
        }
    }

    fn token_table(&mut self) -> &mut Embedding {
        &mut self.tokens
    }

    fn vocabulary(&mut self) -> (&mut usize, &mut Option<u32>) {
        (&mut self.config.vocab_size, &mut self.config.pad_token_id)
    }
}

impl Encoder for ModernBert {
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
        let states = layer.forward(states, &self.reach(layer.kind, batch), Kept::All);
        if step == self.layers.len() { self.norm.forward(states) } else { states }
    }
}
