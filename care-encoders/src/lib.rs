#![doc = include_str!("../README.md")]

mod asymmetric;
mod auto_map;
pub mod batch;
mod card;
mod cross_encoder;
mod decoder;
mod device;
mod encoder;
mod fingerprint;
pub mod head;
pub mod layers;
mod modern_bert;
mod network;
mod ops;
mod passes;
mod post_norm;
mod pretrained;
mod registry;
mod schedule;
mod settings;
mod summary;
pub mod tokenize;
mod tower;
mod vocabulary;

pub use asymmetric::{AsymmetricEncoder, DEFAULT_TOKEN_BUDGET};
pub use cross_encoder::{CrossEncoder, CrossEncoderOptions, CrossEncoderSummary, ScoreActivation};
pub use decoder::Decoder;
pub use device::{Device, Precision};
pub use encoder::Encoder;
pub use fingerprint::tower_fingerprint;
pub use modern_bert::ModernBert;
pub use network::Network;
pub use passes::EmbedProgress;
pub use post_norm::PostNorm;
pub use pretrained::{EncoderOptions, load_encoder, load_tower, network_with_head, random_encoder, save_tower};
pub use registry::AnyEncoder;
pub use summary::{Setting, Source, TowerSummary};
pub use tower::{DocumentTower, QueryTower, Tower};

/// The version of burn whose tensors and devices this crate's API uses.
pub use burn;

/// Network configurations, with the field names of Hugging Face's `config.json`.
pub mod config {
    pub use crate::decoder::{DecoderConfig, DecoderFamily};
    pub use crate::layers::{Activation, LayerType, RopeParameters, RopeScaling};
    pub use crate::modern_bert::{ModernBertConfig, ModernBertRope};
    pub use crate::post_norm::{BertConfig, BertFamily, GteConfig};
    pub use crate::registry::EncoderConfig;
}

/// Settings of LoRA adapters. [`AnyEncoder`] reads, trains, writes and merges them.
pub mod lora {
    pub use crate::pretrained::{LoraConfig, read_lora_config};
}

/// For `care-train` only: not part of the public API and not covered by semantic versioning.
#[doc(hidden)]
pub mod internals {
    pub use crate::fingerprint::network_fingerprint;
    pub use crate::layers::ParameterPath;
    #[cfg(feature = "cpu")]
    pub use crate::ops::without_training_kernels;
    pub use crate::ops::{Host, StepMemory, with_dropout_seed};
    pub use crate::pretrained::network_folder;
    pub use crate::schedule::{Schedule, even_cuts, on_pool_thread};
}
