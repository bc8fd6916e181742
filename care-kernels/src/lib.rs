#![doc = include_str!("../README.md")]

mod activation;
mod adamw;
mod adamw_rows;
mod attention;
mod attention_backward;
mod columns;
mod f32_matrix;
mod gradient;
mod half;
mod half_matrix;
mod instructions;
mod int4_matrix;
mod int8_matrix;
mod kernel;
mod math;
mod matmul;
mod norm_backward;
mod pointwise;
mod scores;
mod scratch;
#[cfg(test)]
mod testing;
#[cfg(target_arch = "x86_64")]
mod vnni;

pub use activation::Activation;
pub use adamw::{AdamW, adamw, square_sum};
pub use adamw_rows::adamw_rows;
pub use attention::{AttentionHeads, attention, attention_with_log_sum_exp};
pub use attention_backward::{AttentionGradients, attention_backward};
pub use f32_matrix::F32Matrix;
pub use gradient::weight_gradient;
pub use half_matrix::{Half, HalfMatrix};
pub use instructions::{InstructionSet, UnsupportedInstructionSet};
pub use int4_matrix::Int4Matrix;
pub use int8_matrix::Int8Matrix;
pub use matmul::{Matmul, PackedWeight, matmul};
pub use norm_backward::{layer_norm_backward, rms_norm_backward};
pub use pointwise::{add_assign, dropout, gate, gate_backward, layer_norm, multiply, rms_norm, rotate};
pub use scores::{byte_products, differing_bits, dot_products};
