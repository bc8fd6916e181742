//! Qwen2, Qwen3, Llama, Mistral and Gemma 3: pre-norm decoders with rotary position embeddings and grouped key/value
//! heads.

mod config;
mod family;
mod gemma;
mod model;
mod weights;
mod window;

pub use config::DecoderConfig;
pub use family::DecoderFamily;
pub use model::Decoder;
pub(crate) use weights::{GEMMA3, WEIGHTS};
