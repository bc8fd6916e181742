//! Layer norm and RMS norm, computed in f32 whatever the weights' number format.

use burn::module::{Module, Param};
use burn::tensor::module::layer_norm;
use burn::tensor::{Device, FloatDType, Tensor};
use care_core::layers::parameter;

/// `(x - mean) / sqrt(var + eps) * weight + bias` over the last axis.
#[derive(Module, Debug)]
pub(crate) struct LayerNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn new(width: usize, eps: f64, device: &Device) -> Self {
        Self { weight: parameter([width], device), bias: parameter([width], device), eps }
    }

    pub(crate) fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let dtype = input.dtype();
        let wide = |weight: &Param<Tensor<1>>| weight.val().cast(FloatDType::F32);
        let input = input.cast(FloatDType::F32);
        layer_norm(input, wide(&self.weight), Some(wide(&self.bias)), self.eps).cast(dtype)
    }
}

/// `x / sqrt(mean(x²) + eps) * weight` over the last axis.
#[derive(Module, Debug)]
pub(crate) struct RmsNorm {
    weight: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl RmsNorm {
    pub(crate) fn new(width: usize, eps: f64, device: &Device) -> Self {
        Self { weight: parameter([width], device), eps }
    }

    pub(crate) fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let dtype = input.dtype();
        let input = input.cast(FloatDType::F32);
        let scale = (input.clone().square().mean_dim(D - 1) + self.eps).sqrt();
        let normed = (input / scale).cast(dtype);
        normed * self.weight.val().unsqueeze()
    }
}
