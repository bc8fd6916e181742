//! Multi-head self-attention with its projections, as every network here has it.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use care_core::layers::Linear;

use super::{AttentionMask, RmsNorm, RotaryTable, attend, split_heads};

/// Projections into heads, attention, and a projection back.
#[derive(Module, Debug)]
pub(crate) struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    query_norm: Option<RmsNorm>,
    key_norm: Option<RmsNorm>,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    kv_heads: usize,
}

/// The sizes of a [`SelfAttention`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionShape {
    /// Width of a hidden state.
    pub(crate) width: usize,
    /// Query heads.
    pub(crate) heads: usize,
    /// Key and value heads.
    pub(crate) kv_heads: usize,
    /// Components of a head.
    pub(crate) head_dim: usize,
    /// Whether queries, keys and values have a bias.
    pub(crate) input_bias: bool,
    /// Whether the output has a bias.
    pub(crate) output_bias: bool,
}

impl AttentionShape {
    /// As many key/value heads as query heads, which share the width, with biases everywhere.
    pub(crate) fn even(width: usize, heads: usize) -> Self {
        Self { width, heads, kv_heads: heads, head_dim: width / heads, input_bias: true, output_bias: true }
    }
}

impl SelfAttention {
    pub(crate) fn new(shape: AttentionShape, device: &Device) -> Self {
        let AttentionShape { width, heads, kv_heads, head_dim, input_bias, output_bias } = shape;
        let into = |heads| Linear::new(width, heads * head_dim, input_bias, device);
        Self {
            query: into(heads),
            key: into(kv_heads),
            value: into(kv_heads),
            output: Linear::new(heads * head_dim, width, output_bias, device),
            query_norm: None,
            key_norm: None,
            heads,
            kv_heads,
        }
    }

    /// The same with norms over the components of a head, of queries and of keys, before the rotation.
    pub(crate) fn with_head_norms(self, norm: impl Fn() -> RmsNorm) -> Self {
        Self { query_norm: Some(norm()), key_norm: Some(norm()), ..self }
    }

    pub(crate) fn linears(&mut self) -> [(&'static str, &mut Linear); 4] {
        [
            ("attention.query", &mut self.query),
            ("attention.key", &mut self.key),
            ("attention.value", &mut self.value),
            ("attention.output", &mut self.output),
        ]
    }

    /// # Shapes
    /// `[batch, seq, width]`, unchanged.
    pub(crate) fn forward(&self, input: Tensor<3>, rotary: Option<&RotaryTable>, mask: &AttentionMask) -> Tensor<3> {
        let place = |states: Tensor<4>, norm: &Option<RmsNorm>| {
            let states = norm.iter().fold(states, |states, norm| norm.forward(states));
            rotary.into_iter().fold(states, |states, rotary| rotary.rotate(states))
        };
        let query = place(split_heads(self.query.forward(input.clone()), self.heads), &self.query_norm);
        let key = place(split_heads(self.key.forward(input.clone()), self.kv_heads), &self.key_norm);
        let value = split_heads(self.value.forward(input), self.kv_heads);
        self.output.forward(attend(query, key, value, mask))
    }
}
