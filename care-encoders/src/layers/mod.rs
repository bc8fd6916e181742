//! Building blocks that several networks share, in terms of `crate::ops`.

mod dropout;
mod embedding;
mod int8_rows;
mod layer_type;
mod linear;
mod lora;
mod mlp;
mod norm;
mod parameter;
mod parts;
mod rope;
mod self_attention;
mod weight_table;

pub use crate::ops::Prepack;
pub use care_kernels::Activation;
pub(crate) use dropout::Dropout;
pub(crate) use embedding::Embedding;
pub(crate) use int8_rows::{dequantize_rows, quantize_rows, with_int8_tables};
pub use layer_type::LayerType;
pub use linear::Linear;
pub use lora::Lora;
pub(crate) use mlp::{GatedBias, GatedMlp, Mlp};
pub(crate) use norm::{LayerNorm, RmsNorm};
#[doc(hidden)]
pub use parameter::ParameterPath;
pub use parameter::parameter;
pub(crate) use parts::{Parts, layer_linears, pick_layers};
pub(crate) use rope::RotaryAngles;
pub use rope::{RopeParameters, RopeScaling};
pub(crate) use self_attention::{AttentionShape, SelfAttention};
pub(crate) use weight_table::{Fused, PROJECTION, WeightTable};
