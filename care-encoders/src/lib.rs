#![doc = include_str!("../README.md")]

mod asymmetric;
mod bert;
mod decoder;
mod layers;
mod pretrained;
mod registry;

pub use asymmetric::{AsymmetricEncoder, DEFAULT_TOKEN_BUDGET};
pub use bert::{Bert, BertConfig};
pub use decoder::{Decoder, DecoderConfig};
pub use layers::Activation;
pub use pretrained::{EncoderOptions, load_encoder, load_tower, network_with_head, open_tower, random_encoder};
pub use registry::{AnyEncoder, EncoderConfig};
