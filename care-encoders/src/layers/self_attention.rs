//! Multi-head self-attention with its projections, as every network here has it.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use care_core::kernels::{self, AttentionHeads};
use care_core::layers::{Host, Linear};

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
    #[module(skip)]
    head_dim: usize,
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
            head_dim,
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
    /// `[rows, seq, width]`, unchanged.
    pub(crate) fn forward(
        &self,
        input: Tensor<3>,
        rotary: Option<&RotaryTable>,
        mask: &AttentionMask<'_>,
    ) -> Tensor<3> {
        let [query, key, value] =
            Linear::forward_all([(&self.query, None), (&self.key, None), (&self.value, None)], input);
        let attended = match (Host::of(&query), Host::of(&key), Host::of(&value)) {
            (Some(queries), Some(keys), Some(values)) => {
                let shape = query.dims();
                drop((query, key, value));
                Host::tensor(self.attend_on_host(queries, keys, values, rotary, mask), shape)
            }
            _ => {
                let place = |states: Tensor<3>, heads: usize, norm: &Option<RmsNorm>| {
                    let states = norm.iter().fold(split_heads(states, heads), |states, norm| norm.forward(states));
                    rotary.into_iter().fold(states, |states, rotary| rotary.rotate(states))
                };
                let query = place(query, self.heads, &self.query_norm);
                let key = place(key, self.kv_heads, &self.key_norm);
                attend(query, key, split_heads(value, self.kv_heads), mask)
            }
        };
        self.output.forward(attended)
    }

    /// The same on the CPU's kernels, without splitting heads apart.
    fn attend_on_host(
        &self,
        mut query: Host,
        mut key: Host,
        value: Host,
        rotary: Option<&RotaryTable>,
        mask: &AttentionMask<'_>,
    ) -> Vec<f32> {
        for (states, norm, heads) in
            [(&mut query, &self.query_norm, self.heads), (&mut key, &self.key_norm, self.kv_heads)]
        {
            norm.iter().for_each(|norm| norm.in_place(states));
            rotary.into_iter().for_each(|rotary| rotary.rotate_in_place(states.values_mut(), heads, mask.spans()));
        }
        let shape = AttentionHeads {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            causal: mask.is_causal(),
        };
        let attended = kernels::attend(query.values(), key.values(), value.values(), mask.spans(), shape);
        [query, key, value].into_iter().for_each(Host::recycle);
        attended
    }
}
