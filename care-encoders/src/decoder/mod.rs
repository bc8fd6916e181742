//! Qwen3: a pre-norm decoder with rotary positions and grouped key/value heads.

mod config;
mod model;
mod weights;

pub use config::DecoderConfig;
pub use model::Decoder;
pub(crate) use weights::WEIGHTS;
