//! A learned linear map from hidden width to embedding width.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::layers::Linear;

/// A learned projection, sentence-transformers' `Dense` without an activation.
#[derive(Module, Debug)]
pub struct LinearProjection {
    linear: Linear,
}

impl LinearProjection {
    /// A projection whose weights are zero until they are filled.
    pub fn new(hidden_size: usize, outputs: usize, device: &Device) -> Self {
        Self { linear: Linear::new(hidden_size, outputs, true, device) }
    }

    /// # Shapes
    /// `[batch, hidden]` to `[batch, outputs]`.
    pub fn forward(&self, pooled: Tensor<2>) -> Tensor<2> {
        self.linear.forward(pooled)
    }
}
