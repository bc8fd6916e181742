//! Activations by the names that `config.json` uses.

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

/// The function between two linear layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// `x Φ(x)` with the exact error function.
    #[serde(rename = "gelu")]
    Gelu,
    /// GELU through its tanh approximation.
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh")]
    GeluTanh,
    /// `x σ(x)`.
    #[serde(rename = "silu", alias = "swish")]
    Silu,
    /// `max(x, 0)`.
    #[serde(rename = "relu")]
    Relu,
}

impl Activation {
    /// Applies the function to every component.
    pub fn forward<const D: usize>(self, input: Tensor<D>) -> Tensor<D> {
        match self {
            Activation::Gelu => activation::gelu(input),
            Activation::GeluTanh => activation::gelu_approximate(input),
            Activation::Silu => activation::silu(input),
            Activation::Relu => activation::relu(input),
        }
    }
}
