//! A trainable linear projection of pooled vectors.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::layers::{Linear, Prepack};

/// The settings of a projection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ProjectionConfig {
    /// Output dimensions, >= 1.
    pub outputs: usize,
    /// Whether a bias is added. Default true.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Activation after the linear map. Default none.
    #[serde(default)]
    pub activation: ProjectionActivation,
}

fn yes() -> bool {
    true
}

impl ProjectionConfig {
    /// A projection to `outputs` dimensions, with a bias and without an activation.
    pub fn new(outputs: usize) -> Self {
        Self { outputs, bias: true, activation: ProjectionActivation::Identity }
    }

    /// Sets [`ProjectionConfig::bias`].
    #[must_use]
    pub fn with_bias(self, bias: bool) -> Self {
        Self { bias, ..self }
    }

    /// Sets [`ProjectionConfig::activation`].
    #[must_use]
    pub fn with_activation(self, activation: ProjectionActivation) -> Self {
        Self { activation, ..self }
    }
}

/// The activation after a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProjectionActivation {
    /// No activation.
    #[default]
    Identity,
    /// Hyperbolic tangent.
    Tanh,
}

/// A trainable projection; sentence-transformers' `Dense`.
#[derive(Module, Debug)]
pub struct LinearProjection {
    linear: Linear,
    #[module(skip)]
    activation: ProjectionActivation,
}

impl LinearProjection {
    /// A projection whose weights are zero until they are filled.
    pub fn new(hidden_size: usize, config: &ProjectionConfig, device: &Device) -> Self {
        let linear = Linear::new(hidden_size, config.outputs, config.bias, device);
        Self { linear, activation: config.activation }
    }

    /// Keeps only the first `outputs` outputs.
    ///
    /// # Panics
    /// Panics if it has fewer.
    #[must_use]
    pub fn first_outputs(self, outputs: usize) -> Self {
        Self { linear: self.linear.first_outputs(outputs), ..self }
    }

    /// One projection that computes what `first`, which must have no activation, and then this one do.
    #[must_use]
    pub(crate) fn after(self, first: Self) -> Self {
        Self { linear: self.linear.after(first.linear), ..self }
    }

    /// Output dimensions.
    pub(crate) fn outputs(&self) -> usize {
        self.linear.dims()[1]
    }

    /// The linear layer.
    pub(crate) fn linear(&self) -> &Linear {
        &self.linear
    }

    /// Packs the weight for inference on the CPU: see [`Linear::prepack`].
    #[must_use]
    pub fn prepacked(mut self) -> Self {
        self.linear.prepack(Prepack::F32);
        self
    }

    /// The projection with its weight unpacked, for any device and for training: see [`Linear::unpacked`].
    #[must_use]
    pub fn unpacked(self) -> Self {
        Self { linear: self.linear.unpacked(), ..self }
    }

    /// A copy with its weight unpacked: see [`Linear::unpacked_copy`].
    #[must_use]
    pub fn unpacked_copy(&self) -> Self {
        Self { linear: self.linear.unpacked_copy(), activation: self.activation }
    }

    /// Applies the projection.
    ///
    /// # Shapes
    /// `[batch, hidden]` to `[batch, outputs]`.
    pub fn forward(&self, pooled: Tensor<2>) -> Tensor<2> {
        let projected = self.linear.forward(pooled);
        match self.activation {
            ProjectionActivation::Identity => projected,
            ProjectionActivation::Tanh => projected.tanh(),
        }
    }
}
