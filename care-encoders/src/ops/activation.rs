//! Activation functions on tensors.

use burn::tensor::{Tensor, activation};
use care_kernels::Activation;

/// Applies an activation to every element. After a linear layer, [`linear`](super::linear) fuses it instead.
pub(crate) fn activate<const D: usize>(input: Tensor<D>, function: Activation) -> Tensor<D> {
    match function {
        Activation::Gelu => activation::gelu(input),
        Activation::GeluTanh => activation::gelu_approximate(input),
        Activation::Silu => activation::silu(input),
        Activation::Relu => activation::relu(input),
    }
}
