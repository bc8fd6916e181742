//! Multi-head self-attention with its projections.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::linear::Linear;
use super::norm::RmsNorm;
use crate::ops::{AttentionHeads, AttentionMask, Kept, RotaryTable, attention, rotate};

/// Projections to query, key and value heads, attention, and the output projection.
#[derive(Module, Debug)]
pub(crate) struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    query_norm: Option<RmsNorm>,
    key_norm: Option<RmsNorm>,
    #[module(skip)]
    heads: AttentionHeads,
}

/// The sizes of a [`SelfAttention`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionShape {
    /// Dimensions of a hidden state.
    pub(crate) width: usize,
    /// Query heads.
    pub(crate) heads: usize,
    /// Key and value heads.
    pub(crate) kv_heads: usize,
    /// Dimensions per head.
    pub(crate) head_dim: usize,
    /// Whether queries, keys and values have a bias.
    pub(crate) input_bias: bool,
    /// Whether the output has a bias.
    pub(crate) output_bias: bool,
}

impl AttentionShape {
    /// As many key/value heads as query heads, `width / heads` dimensions each, with biases everywhere.
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
            heads: AttentionHeads { heads, kv_heads, head_dim, scale: None },
        }
    }

    /// Adds norms over the heads of queries and keys, applied before the rotation.
    pub(crate) fn with_head_norms(self, norm: impl Fn() -> RmsNorm) -> Self {
        Self { query_norm: Some(norm()), key_norm: Some(norm()), ..self }
    }

    /// Sets the factor of the scores; `None` for `1/sqrt(head_dim)`.
    pub(crate) fn with_scale(self, scale: Option<f64>) -> Self {
        Self { heads: AttentionHeads { scale, ..self.heads }, ..self }
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
    /// `[rows, seq, width]` to as many states as are kept.
    pub(crate) fn forward(
        &self,
        input: Tensor<3>,
        rotary: Option<&RotaryTable>,
        mask: &AttentionMask<'_>,
        kept: Kept<'_>,
    ) -> Tensor<3> {
        let [query, key, value] =
            Linear::forward_all([(&self.query, None), (&self.key, None), (&self.value, None)], input);
        let place = |states: Tensor<3>, norm: &Option<RmsNorm>| {
            let states = norm.iter().fold(states, |states, norm| norm.forward(states));
            rotary.into_iter().fold(states, |states, table| rotate(states, table, mask.spans()))
        };
        let (query, key) = (place(query, &self.query_norm), place(key, &self.key_norm));
        self.output.forward(kept.of(attention(query, key, value, self.heads, mask)))
    }
}
