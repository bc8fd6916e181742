//! Blocks that several networks share, each written once. The linear layer and its low-rank addition are
//! `care_core::layers::{Linear, Lora}`.

mod attention;
mod embedding;
mod mask;
mod mlp;
mod norm;
mod parts;
mod post_norm;
mod rope;
mod self_attention;

pub(crate) use attention::{attend, split_heads};
pub use care_core::layers::Activation;
pub(crate) use embedding::Embedding;
pub(crate) use mask::AttentionMask;
pub(crate) use mlp::{FeedForward, GatedBias, GatedMlp, Mlp};
pub(crate) use norm::{LayerNorm, RmsNorm};
pub(crate) use parts::{Parts, layer_linears, layouts_of_parts, pick_layers};
pub(crate) use post_norm::{PostNormBlock, PostNormShape, TextEmbeddings};
pub use rope::{RopeParameters, RopeScaling};
pub(crate) use rope::{RotaryAngles, RotaryTable};
pub(crate) use self_attention::{AttentionShape, SelfAttention};
