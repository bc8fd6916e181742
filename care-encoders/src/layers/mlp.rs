//! The two feed-forward blocks.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use care_core::layers::Linear;

use super::Activation;

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

    pub(crate) fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        self.down.forward(self.activation.forward(self.up.forward(input)))
    }
}

/// `down(act(gate(x)) * up(x))`, as in Qwen and Llama.
#[derive(Module, Debug)]
pub(crate) struct GatedMlp {
    gate: Linear,
    up: Linear,
    down: Linear,
    #[module(skip)]
    activation: Activation,
}

impl GatedMlp {
    pub(crate) fn new(width: usize, inner: usize, activation: Activation, device: &Device) -> Self {
        let linear = |inputs, outputs| Linear::new(inputs, outputs, false, device);
        Self { gate: linear(width, inner), up: linear(width, inner), down: linear(inner, width), activation }
    }

    pub(crate) fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let gate = self.activation.forward(self.gate.forward(input.clone()));
        self.down.forward(gate * self.up.forward(input))
    }
}
