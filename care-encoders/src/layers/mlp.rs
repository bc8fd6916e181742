//! Feed-forward blocks: plain and gated.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use care_kernels::Activation;

use super::linear::Linear;
use crate::ops::gate;

/// `down(act(up(x)))`, as in BERT.
#[derive(Module, Debug)]
pub(crate) struct Mlp {
    up: Linear,
    down: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    pub(crate) fn new(width: usize, inner: usize, activation: Activation, device: &Device) -> Self {
        Self { up: Linear::new(width, inner, true, device), down: Linear::new(inner, width, true, device), activation }
    }
}

impl Mlp {
    /// # Shapes
    /// `[rows, seq, size]`, unchanged.
    pub(crate) fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        Linear::feed_forward(&self.up, self.activation, &self.down, input)
    }

    /// The linear layers with their module paths in a block.
    pub(crate) fn linears(&mut self) -> Vec<(&'static str, &mut Linear)> {
        vec![("mlp.up", &mut self.up), ("mlp.down", &mut self.down)]
    }
}

/// `down(act(gate(x)) * up(x))`, as in Qwen, Llama and GTE.
#[derive(Module, Debug)]
pub(crate) struct GatedMlp {
    gate: Linear,
    up: Linear,
    down: Linear,
    #[module(skip)]
    activation: Activation,
}

/// Which layers of a [`GatedMlp`] have a bias.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GatedBias {
    /// `gate` and `up`.
    pub(crate) inner: bool,
    /// `down`.
    pub(crate) down: bool,
}

impl GatedMlp {
    pub(crate) fn new(width: usize, inner: usize, bias: GatedBias, activation: Activation, device: &Device) -> Self {
        let into = || Linear::new(width, inner, bias.inner, device);
        Self { gate: into(), up: into(), down: Linear::new(inner, width, bias.down, device), activation }
    }
}

impl GatedMlp {
    /// # Shapes
    /// `[rows, seq, size]`, unchanged.
    pub(crate) fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let [gates, up] = Linear::forward_all([(&self.gate, None), (&self.up, None)], input);
        self.down.forward(gate(gates, up, self.activation))
    }

    /// The linear layers with their module paths in a block.
    pub(crate) fn linears(&mut self) -> Vec<(&'static str, &mut Linear)> {
        vec![("mlp.gate", &mut self.gate), ("mlp.up", &mut self.up), ("mlp.down", &mut self.down)]
    }
}
