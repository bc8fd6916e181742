//! The one type that every linear weight of every network goes through.

use burn::module::{Module, Param};
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor};

use super::parameter;

/// `x W + b`, with `W` kept as `[in, out]`.
///
/// Checkpoints store `[out, in]`; reading and writing them transposes. Since no network multiplies
/// by a weight in any other way, a faster kernel for a device goes in here and nowhere else.
#[derive(Module, Debug)]
pub struct Linear {
    weight: Param<Tensor<2>>,
    bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// A layer whose weights are zero until they are filled.
    pub fn new(inputs: usize, outputs: usize, bias: bool, device: &Device) -> Self {
        Self { weight: parameter([inputs, outputs], device), bias: bias.then(|| parameter([outputs], device)) }
    }

    /// Applies the layer to the last axis.
    ///
    /// # Shapes
    /// `[.., in]` to `[.., out]`.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        linear(input, self.weight.val(), self.bias.as_ref().map(|bias| bias.val()))
    }
}
