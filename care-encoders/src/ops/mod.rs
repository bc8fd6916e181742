//! Fused operations, one function each, which alone choose between the CPU's kernels and burn's operations.
//!
//! Layers say the mathematics once, in terms of these. An operation asks for the [`Host`] of its tensors: if all of them are
//! f32 tensors of this process's memory without autograd, a function of [`care_kernels`] computes on their slices; if not,
//! burn's operations do, on any device and with gradients. A kernel that has a backward pass goes in here too: the choice
//! is made where the operation is, and no layer changes.

mod activation;
mod attention;
mod gate;
mod host;
mod linear;
mod mask;
mod norm;
mod rope;

pub(crate) use activation::activate;
pub(crate) use attention::{AttentionHeads, attention};
pub(crate) use gate::gate;
pub(crate) use host::Host;
pub use linear::Prepack;
pub(crate) use linear::{Affine, Prepacked, linear};
pub(crate) use mask::AttentionMask;
pub(crate) use norm::{layer_norm, rms_norm};
pub(crate) use rope::{Angles, RotaryTable, rotate};
