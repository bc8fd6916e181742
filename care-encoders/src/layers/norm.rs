//! Layer norm and RMS norm, computed in f32 whatever the weights' number format.

use burn::module::{Module, Param};
use burn::tensor::module::layer_norm;
use burn::tensor::{Device, FloatDType, Tensor};
use care_core::kernels;
use care_core::layers::{Host, parameter};

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
        self.norm(input, None)
    }

    /// The norm of a sum.
    pub(crate) fn forward_sum(&self, input: Tensor<3>, added: Tensor<3>) -> Tensor<3> {
        self.norm(input, Some(added))
    }

    fn norm(&self, input: Tensor<3>, added: Option<Tensor<3>>) -> Tensor<3> {
        let wide = |weight: &Param<Tensor<1>>| weight.val().cast(FloatDType::F32);
        let (weight, bias) = (wide(&self.weight), wide(&self.bias));
        let added_host = added.as_ref().and_then(Host::of);
        if let (Some(mut rows), Some(weight), Some(bias)) = (Host::of(&input), Host::of(&weight), Host::of(&bias))
            && added_host.is_some() == added.is_some()
        {
            // The numbers are changed in place unless the input is wanted elsewhere.
            drop((input, added));
            let added = added_host.as_ref().map(Host::values);
            kernels::layer_norm(rows.values_mut(), added, weight.values(), bias.values(), self.eps as f32);
            added_host.into_iter().for_each(Host::recycle);
            return rows.into_tensor();
        }
        let input = added.into_iter().fold(input, |input, added| input + added);
        let dtype = input.dtype();
        layer_norm(input.cast(FloatDType::F32), weight, Some(bias), self.eps).cast(dtype)
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
        if let Some(mut rows) = Host::of(&input) {
            drop(input);
            self.in_place(&mut rows);
            return rows.into_tensor();
        }
        let dtype = input.dtype();
        let input = input.cast(FloatDType::F32);
        let scale = (input.clone().square().mean_dim(D - 1) + self.eps).sqrt();
        let normed = (input / scale).cast(dtype);
        normed * self.weight.val().unsqueeze()
    }

    /// [`RmsNorm::forward`] of as many rows as the numbers make.
    pub(crate) fn in_place(&self, rows: &mut Host) {
        let weight = self.weight.val().cast(FloatDType::F32);
        let weight = Host::of(&weight).expect("a norm's weight is where its input is");
        kernels::rms_norm(rows.values_mut(), weight.values(), self.eps as f32);
    }
}
