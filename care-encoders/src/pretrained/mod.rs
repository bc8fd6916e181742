//! Loading, initialising and saving networks and towers.

mod adapter;
mod adapter_config;
mod checkpoint;
mod folder;
mod layout;
mod lora_config;
mod options;
mod pair;
mod random;
mod recipe;
mod sentence_transformers;
mod tokenizer;
mod weights;

pub use adapter_config::read_lora_config;
pub use folder::load_encoder;
pub use layout::load_tower;
pub(crate) use layout::read as read_layout;
pub use lora_config::LoraConfig;
pub use options::EncoderOptions;
pub(crate) use pair::{check_target, save_pair};
pub use random::{network_with_head, random_encoder};
pub use sentence_transformers::save_tower;
