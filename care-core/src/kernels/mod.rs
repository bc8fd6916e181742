//! What the CPU computes in inference, over plain slices: matrix products with weights that are laid out once, attention
//! of texts that stand one after another, norms, rotations.
//!
//! Every function is written once and compiled for each [`InstructionSet`]; which of them runs is decided when the
//! process starts. Work is divided among the threads of rayon's pool, unless it is too small for that or they are busy
//! with other passes. Nothing here knows burn: [`crate::layers`] does, and calls these functions where a tensor is on the
//! CPU and no gradient is wanted.

mod attention;
mod instructions;
mod int8;
mod math;
mod matmul;
mod multiply;
mod pointwise;
mod threads;

pub use attention::{AttentionHeads, attend};
pub use instructions::InstructionSet;
pub use int8::Int8Matrix;
pub use matmul::F32Matrix;
pub use multiply::{Epilogue, PackedWeight, Product, multiply};
pub use pointwise::{gate, layer_norm, rms_norm, rotate};
pub(crate) use threads::on_this_thread;

#[cfg(test)]
mod testing;
