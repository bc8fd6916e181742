//! De-duplication.

mod subspace;
mod vectors;

pub use vectors::{GrowingIndex, VectorMatch};
