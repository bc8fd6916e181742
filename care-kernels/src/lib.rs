#![doc = include_str!("../README.md")]

mod activation;
mod attention;
mod f32_matrix;
mod instructions;
mod int8_matrix;
mod math;
mod matmul;
mod pointwise;
#[cfg(test)]
mod testing;

pub use activation::Activation;
pub use attention::{AttentionHeads, attention};
pub use f32_matrix::F32Matrix;
pub use instructions::{InstructionSet, UnsupportedInstructionSet};
pub use int8_matrix::Int8Matrix;
pub use matmul::{Matmul, PackedWeight, matmul};
pub use pointwise::{gate, layer_norm, rms_norm, rotate};
