//! Qwen2, Qwen3 and Llama: pre-norm decoders with rotary position embeddings and grouped key/value heads.

mod config;
mod model;
mod weights;

pub use config::{DecoderConfig, DecoderFamily};
pub use model::Decoder;
pub(crate) use weights::WEIGHTS;
