//! The one type that every linear weight of every network goes through.

use burn::module::{Module, Param};
use burn::tensor::module::linear;
use burn::tensor::{Device, FloatDType, Tensor};

use super::{Lora, parameter};

/// `x W + b`, with `W` kept as `[in, out]`, and a low-rank addition if the layer has one.
///
/// Checkpoints store `[out, in]`; reading and writing them transposes. Since no network multiplies
/// by a weight in any other way, a faster kernel for a device goes in here and nowhere else.
#[derive(Module, Debug)]
pub struct Linear {
    weight: Param<Tensor<2>>,
    bias: Option<Param<Tensor<1>>>,
    lora: Option<Lora>,
}

impl Linear {
    /// A layer whose weights are zero until they are filled.
    pub fn new(inputs: usize, outputs: usize, bias: bool, device: &Device) -> Self {
        let bias = bias.then(|| parameter([outputs], device));
        Self { weight: parameter([inputs, outputs], device), bias, lora: None }
    }

    /// The widths of input and output.
    pub fn widths(&self) -> [usize; 2] {
        self.weight.lazy_shape().dims()
    }

    /// Where the weight lives.
    pub fn device(&self) -> Device {
        self.weight.lazy_device()
    }

    /// The layer with its first outputs only, low-rank addition merged.
    ///
    /// # Panics
    /// When it has fewer.
    #[must_use]
    pub fn first_outputs(mut self, outputs: usize) -> Self {
        self.merge_lora();
        let weight = Param::from_tensor(self.weight.val().narrow(1, 0, outputs));
        let bias = self.bias.map(|bias| Param::from_tensor(bias.val().narrow(0, 0, outputs)));
        Self { weight, bias, lora: None }
    }

    /// The low-rank addition, if there is one.
    pub fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }

    /// Adds a low-rank addition, in place of the one before.
    pub fn set_lora(&mut self, lora: Lora) {
        self.lora = Some(lora);
    }

    /// Makes the low-rank addition, if there is one, a part of the weight.
    pub fn merge_lora(&mut self) {
        if let Some(lora) = self.lora.take() {
            let weight = self.weight.val();
            let dtype = weight.dtype();
            let merged = weight.cast(FloatDType::F32) + lora.delta();
            self.weight = Param::from_tensor(merged.cast(dtype));
        }
    }

    /// Applies the layer to the last axis.
    ///
    /// # Shapes
    /// `[.., in]` to `[.., out]`.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let bias = self.bias.as_ref().map(|bias| bias.val());
        match &self.lora {
            None => linear(input, self.weight.val(), bias),
            Some(lora) => linear(input.clone(), self.weight.val(), bias) + lora.forward(input),
        }
    }
}
