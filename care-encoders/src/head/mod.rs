//! From hidden states to an embedding: pooling, an optional projection, truncation, normalisation.

mod config;
mod normalize;
mod pooling;
mod projection;
mod truncate;

pub use config::HeadConfig;
pub use normalize::l2_normalize;
pub use pooling::{Concat, Pooling};
pub use projection::{LinearProjection, ProjectionActivation, ProjectionConfig};
pub use truncate::TruncationOrder;
pub(crate) use truncate::normalize_and_truncate;
