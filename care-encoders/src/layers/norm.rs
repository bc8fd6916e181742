//! Layer norm and RMS norm with their weights.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

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

/// `x / sqrt(mean(x²) + eps) * weight` over the last axis, or over each head in it.
#[derive(Module, Debug)]
pub(crate) struct RmsNorm {
    weight: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl RmsNorm {
    pub(crate) fn new(size: usize, eps: f64, device: &Device) -> Self {
        Self { weight: parameter([size], device), eps }
    }

    /// # Shapes
    /// `[rows, seq, n * size]`, unchanged: `n` is 1, or the number of heads.
    pub(crate) fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        rms_norm(input, self.weight.val(), self.eps)
    }
}
