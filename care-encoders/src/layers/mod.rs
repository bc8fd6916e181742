//! Blocks that several networks share, each written once. The linear layer is `care_core::layers::Linear`.

mod activation;
mod attention;
mod embedding;
mod mask;
mod mlp;
mod norm;
mod rope;

pub use activation::Activation;
pub(crate) use attention::{attend, split_heads};
pub(crate) use embedding::Embedding;
pub(crate) use mask::AttentionMask;
pub(crate) use mlp::{GatedMlp, Mlp};
pub(crate) use norm::{LayerNorm, RmsNorm};
pub(crate) use rope::RotaryTable;
