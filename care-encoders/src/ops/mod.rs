//! Fused tensor operations, which choose between the CPU's kernels and burn.
//!
//! Layers are written in terms of these operations. An operation requests the [`Host`] of its tensors: if all of them
//! are f32 host tensors without autograd, a function of [`care_kernels`] computes on their slices; otherwise burn's
//! operations do, on any device and with gradients. The choice is made only here, so layers need no change when a
//! kernel is added.

mod activation;
mod attention;
mod distance_bias;
mod gate;
mod host;
mod linear;
mod mask;
mod norm;
mod rope;

pub(crate) use activation::activate;
pub(crate) use attention::{AttentionHeads, attention};
pub(crate) use distance_bias::DistanceBias;
pub(crate) use gate::gate;
pub(crate) use host::Host;
pub use linear::Prepack;
pub(crate) use linear::{Affine, Prepacked, linear};
pub(crate) use mask::AttentionMask;
pub(crate) use norm::{layer_norm, rms_norm};
pub(crate) use rope::{Angles, RotaryTable, rotate};
