#![doc = include_str!("../README.md")]

mod asymmetric;
mod bert;
mod decoder;
mod fingerprint;
mod gte;
mod layers;
mod pretrained;
mod registry;
mod settings;
mod stored;

pub use asymmetric::{AsymmetricEncoder, DEFAULT_TOKEN_BUDGET};
pub use bert::{Bert, BertConfig, BertFamily};
pub use decoder::{Decoder, DecoderConfig, DecoderFamily};
pub use fingerprint::tower_fingerprint;
pub use gte::{Gte, GteConfig};
pub use layers::{Activation, RopeParameters, RopeScaling};
pub use pretrained::{
    EncoderOptions, LoraConfig, load_encoder, load_tower, network_with_head, random_encoder, read_lora_config,
    save_tower,
};
pub use registry::{AnyEncoder, EncoderConfig};
pub use stored::StoredEncoder;
