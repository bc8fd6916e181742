//! Layer norm and RMS norm with their weights.

use burn::module::{Module, Param};
use burn::tensor::{Device, FloatDType, Tensor};

use super::parameter::parameter;
use crate::ops::{layer_norm, rms_norm};

/// `(x - mean) / sqrt(var + eps) * weight + bias` over the last axis.
#[derive(Module, Debug)]
pub(crate) struct LayerNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn new(size: usize, eps: f64, device: &Device) -> Self {
        Self { weight: parameter([size], device), bias: parameter([size], device), eps }
    }

    pub(crate) fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        layer_norm(input, None, self.weight.val(), self.bias.val(), self.eps)
    }

    /// The norm of a sum.
    pub(crate) fn forward_sum(&self, input: Tensor<3>, added: Tensor<3>) -> Tensor<3> {
        layer_norm(input, Some(added), self.weight.val(), self.bias.val(), self.eps)
    }
}

/// `x / sqrt(mean(x²) + eps) * weight` over the last axis, or over each head in it; with `1 + weight` for the norms of
/// Gemma.
#[derive(Module, Debug)]
pub(crate) struct RmsNorm {
    weight: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
    #[module(skip)]
    around_one: bool,
}

impl RmsNorm {
    pub(crate) fn new(size: usize, eps: f64, device: &Device) -> Self {
        Self { weight: parameter([size], device), eps, around_one: false }
    }

    /// A norm whose weights are added to 1, in f32.
    pub(crate) fn around_one(size: usize, eps: f64, device: &Device) -> Self {
        Self { around_one: true, ..Self::new(size, eps, device) }
    }

    /// # Shapes
    /// `[rows, seq, n * size]`, unchanged: `n` is 1, or the number of heads.
    pub(crate) fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let weight = self.weight.val();
        let weight = if self.around_one { weight.cast(FloatDType::F32) + 1.0 } else { weight };
        rms_norm(input, weight, self.eps)
    }
}
