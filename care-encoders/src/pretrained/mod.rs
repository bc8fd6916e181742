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
pub(crate) use checkpoint::Checkpoint;
pub use folder::load_encoder;
pub(crate) use folder::{CONFIG, MANIFEST, read_encoder, read_json, require_folder};
pub(crate) use layout::read as read_layout;
pub use layout::{load_tower, network_folder};
pub use lora_config::LoraConfig;
pub use options::EncoderOptions;
pub(crate) use pair::{check_target, save_pair};
pub use random::{network_with_head, random_encoder};
pub use sentence_transformers::save_tower;
pub(crate) use sentence_transformers::{MODULES, ModuleRow, SETTINGS, TRANSFORMER_SETTINGS};
pub(crate) use tokenizer::{TOKENIZER_CONFIG, TokenizerConfig, load_tokenizer};
pub(crate) use weights::fill_from;
