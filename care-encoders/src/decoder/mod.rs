//! Qwen2, Qwen3, Llama and Mistral: pre-norm decoders with rotary position embeddings and grouped key/value heads.

mod config;
mod family;
mod model;
mod weights;
mod window;

pub use config::DecoderConfig;
pub use family::DecoderFamily;
pub use model::Decoder;
pub(crate) use weights::WEIGHTS;
pub use window::LayerType;
