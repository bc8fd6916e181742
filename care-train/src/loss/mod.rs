//! The losses: one file each.

mod embedding_mse;
mod info_nce;

pub use embedding_mse::embedding_mse;
pub use info_nce::info_nce;
