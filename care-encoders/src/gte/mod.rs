//! GTE: bidirectional, post-norm, rotary positions, gated feed-forward blocks.

mod config;
mod model;
mod weights;

pub use config::GteConfig;
pub use model::Gte;
pub(crate) use weights::WEIGHTS;
