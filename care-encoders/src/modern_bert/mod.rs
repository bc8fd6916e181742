//! ModernBERT: a pre-norm bidirectional encoder with rotary positions, most of whose layers attend locally.

mod config;
mod model;
mod weights;

pub use config::{ModernBertConfig, ModernBertRope};
pub use model::ModernBert;
pub(crate) use weights::WEIGHTS;
