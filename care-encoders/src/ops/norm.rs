//! Layer norm and RMS norm, computed in f32 whatever the input's dtype.

use burn::tensor::{FloatDType, Tensor};

use super::Host;
use crate::schedule::kernel_threads;

/// `(x - mean) / sqrt(var + eps) * weight + bias` over the last axis, where `x` is the input, plus `added` if given.
///
/// # Shapes
/// `input` and `added [rows, seq, size]`, `weight` and `bias [size]`; returns the shape of the input.
pub(crate) fn layer_norm(
    input: Tensor<3>,
    added: Option<Tensor<3>>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    eps: f64,
) -> Tensor<3> {
    let (weight, bias) = (weight.cast(FloatDType::F32), bias.cast(FloatDType::F32));
    let added_host = added.as_ref().and_then(Host::of);
    if let (Some(mut rows), Some(weight), Some(bias)) = (Host::of(&input), Host::of(&weight), Host::of(&bias))
        && added_host.is_some() == added.is_some()
    {
        // Dropped first, so that the kernel works in place unless the input is in use elsewhere.
        drop((input, added));
        let added = added_host.as_ref().map(Host::values);
        let eps = eps as f32;
        care_kernels::layer_norm(rows.values_mut(), added, weight.values(), bias.values(), eps, kernel_threads());
        added_host.into_iter().for_each(Host::recycle);
        return rows.into_tensor();
    }
    #[cfg(feature = "cpu")]
    if let Some(normed) = super::training::layer_norm(&input, added.as_ref(), &weight, &bias, eps) {
        return normed;
    }
    let input = added.into_iter().fold(input, |input, added| input + added);
    let dtype = input.dtype();
    burn::tensor::module::layer_norm(input.cast(FloatDType::F32), weight, Some(bias), eps).cast(dtype)
}

/// `x / sqrt(mean(x²) + eps) * weight` over each `size` consecutive elements of the last axis: all of it, or each head
/// in it.
///
/// # Shapes
/// `input [rows, seq, n * size]`, `weight [size]`; returns the shape and dtype of the input. The weight is applied in its
/// own dtype.
pub(crate) fn rms_norm(input: Tensor<3>, weight: Tensor<1>, eps: f64) -> Tensor<3> {
    if let Some(mut rows) = Host::of(&input) {
        drop(input);
        let weight = weight.cast(FloatDType::F32);
        let weight = Host::of(&weight).expect("a norm's weight is on the device of its input");
        care_kernels::rms_norm(rows.values_mut(), weight.values(), eps as f32, kernel_threads());
        return rows.into_tensor();
    }
    #[cfg(feature = "cpu")]
    if let Some(normed) = super::training::rms_norm(&input, &weight, eps) {
        return normed;
    }
    let (dims, dtype) = (input.dims(), input.dtype());
    let [size] = weight.dims();
    let input = input.reshape([dims[0], dims[1], dims[2] / size, size]).cast(FloatDType::F32);
    let scale = (input.clone().square().mean_dim(3) + eps).sqrt();
    let normed = (input / scale).cast(weight.dtype()) * weight.unsqueeze();
    normed.cast(dtype).reshape(dims)
}
