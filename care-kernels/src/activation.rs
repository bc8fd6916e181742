//! Activation functions, named as in `config.json`.

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Activation {
    /// `x Φ(x)` with the exact error function.
    #[cfg_attr(feature = "serde", serde(rename = "gelu"))]
    Gelu,
    /// GELU in its tanh approximation.
    #[cfg_attr(feature = "serde", serde(rename = "gelu_new", alias = "gelu_pytorch_tanh"))]
    GeluTanh,
    /// `x σ(x)`.
    #[cfg_attr(feature = "serde", serde(rename = "silu", alias = "swish"))]
    Silu,
    /// `max(x, 0)`.
    #[cfg_attr(feature = "serde", serde(rename = "relu"))]
    Relu,
}
