//! Fused tensor operations, which choose between the CPU's kernels and burn.
//!
//! Layers are written in terms of these operations. An operation requests the [`Host`] of its tensors: if all of them
//! are f32 host tensors without autograd, a function of [`care_kernels`] computes on their slices; if they are f32 host
//! tensors of a graph, an operation of `training` does, which brings its own backward pass; otherwise burn's operations
//! do, on any device. The choice is made only here, so layers need no change when a kernel is added.

mod activation;
mod angles;
mod attention;
mod distance_bias;
mod dropout;
mod gate;
mod host;
mod linear;
mod mask;
mod norm;
mod pool;
mod rope;
#[cfg(feature = "cpu")]
mod training;

pub(crate) use activation::activate;
pub(crate) use angles::Angles;
pub(crate) use attention::{AttentionHeads, attention};
pub(crate) use distance_bias::DistanceBias;
pub(crate) use dropout::dropout;
pub use dropout::with_dropout_seed;
pub(crate) use gate::gate;
pub use host::{Host, StepMemory};
pub use linear::Prepack;
pub(crate) use linear::{Affine, Prepacked, feed_forward, linear};
pub(crate) use mask::AttentionMask;
pub(crate) use norm::{layer_norm, rms_norm};
pub(crate) use pool::{Kept, sum_spans, take_positions};
pub(crate) use rope::{RotaryTable, rotate};
#[cfg(feature = "cpu")]
pub use training::without_training_kernels;
#[cfg(feature = "cpu")]
pub(crate) use training::{TrainingWeight, is_on_training_kernels};
