//! From a pooled hidden state to an embedding: an optional learned projection, then the width.

mod linear;
mod truncate;

pub use linear::{LinearProjection, ProjectionActivation, ProjectionConfig};
pub use truncate::TruncationOrder;
pub(crate) use truncate::normalize_and_truncate;
