//! The LoRA adapter of a linear layer.

use burn::module::{Module, Param};
use burn::tensor::{Device, FloatDType, Tensor};

use super::dropout::Dropout;
use super::parameter::parameter;
use crate::ops::{Affine, linear};

/// `scale * B(A(dropout(x)))`, added to the output of a [`Linear`](super::Linear).
///
/// The activations are multiplied by A and B in turn, so nothing as large as the weight is materialised. Computed in
/// f32 whatever the layer's dtype.
///
/// # Reference
/// Hu et al. 2021, arXiv 2106.09685; PEFT's `lora.Linear`, dropout included. The matrices are stored transposed: `a` is
/// `[in, rank]`, `b` is `[rank, out]`.
#[derive(Module, Debug)]
pub struct Lora {
    a: Param<Tensor<2>>,
    b: Param<Tensor<2>>,
    dropout: Dropout,
    #[module(skip)]
    scale: f64,
}

impl Lora {
    /// An adapter without effect: both matrices are zero until they are loaded or initialised.
    pub fn new(inputs: usize, outputs: usize, rank: usize, scale: f64, dropout: f64, device: &Device) -> Self {
        let (a, b) = (parameter([inputs, rank], device), parameter([rank, outputs], device));
        Self { a, b, dropout: Dropout::new(dropout), scale }
    }

    /// Sets the two matrices.
    ///
    /// # Shapes
    /// `a [in, rank]`, `b [rank, out]`, both f32.
    #[must_use]
    pub fn with_weights(self, a: Tensor<2>, b: Tensor<2>) -> Self {
        Self { a: Param::from_tensor(a), b: Param::from_tensor(b), ..self }
    }

    /// The two matrices, `[in, rank]` and `[rank, out]`, f32.
    pub fn weights(&self) -> (Tensor<2>, Tensor<2>) {
        let wide = |weight: &Param<Tensor<2>>| weight.val().cast(FloatDType::F32);
        (wide(&self.a), wide(&self.b))
    }

    /// The adapter as an update of the layer's weight, `[in, out]`, f32.
    pub fn delta(&self) -> Tensor<2> {
        let (a, b) = self.weights();
        a.matmul(b).mul_scalar(self.scale)
    }

    /// Rank of the adapter.
    pub fn rank(&self) -> usize {
        self.a.lazy_shape().dims::<2>()[1]
    }

    /// Whether dropout is applied to inputs in training.
    pub fn has_dropout(&self) -> bool {
        self.dropout.probability() > 0.0
    }

    /// Factor by which the adapter's output is multiplied.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// # Shapes
    /// `[.., in]` to `[.., out]`, in the input's dtype.
    pub(super) fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let dtype = input.dtype();
        let input = self.dropout.forward(input.cast(FloatDType::F32));
        let [low] = linear(input, [Affine::of_weight(&self.a)]);
        // Scaled where there are few numbers.
        let [added] = linear(low.mul_scalar(self.scale), [Affine::of_weight(&self.b)]);
        added.cast(dtype)
    }
}
