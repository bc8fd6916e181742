//! Layer norm and RMS norm with their weights.

use burn::module::{Module, Param};
use burn::tensor::{Device, FloatDType, Tensor};

use super::parameter::parameter;
use crate::ops::{layer_norm, rms_norm};

/// `(x - mean) / sqrt(var + eps) * weight + bias` over the last axis; the bias is optional.
#[derive(Module, Debug)]
pub(crate) struct LayerNorm {
    weight: Param<Tensor<1>>,
    bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn new(size: usize, eps: f64, device: &Device) -> Self {
        Self { weight: parameter([size], device), bias: Some(parameter([size], device)), eps }
    }

    /// With or without a bias.
    pub(crate) fn with_bias(self, bias: bool) -> Self {
        Self { bias: self.bias.filter(|_| bias), ..self }
    }

    fn parameters(&self) -> (Tensor<1>, Tensor<1>) {
        let weight = self.weight.val();
        let bias = self.bias.as_ref().map_or_else(|| weight.zeros_like(), Param::val);
        (weight, bias)
    }

    pub(crate) fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let (weight, bias) = self.parameters();
        layer_norm(input, None, weight, bias, self.eps)
    }

    /// The norm of a sum.
    pub(crate) fn forward_sum(&self, input: Tensor<3>, added: Tensor<3>) -> Tensor<3> {
        let (weight, bias) = self.parameters();
        layer_norm(input, Some(added), weight, bias, self.eps)
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
