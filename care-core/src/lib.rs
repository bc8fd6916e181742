#![doc = include_str!("../README.md")]

mod batch;
mod device;
mod embedder;
mod embeddings;
mod encoder;
mod error;
#[cfg(feature = "hub")]
mod hub;
mod index;
mod jsonl;
pub mod kernels;
pub mod layers;
mod normalize;
mod parallel;
mod pooling;
mod projection;
mod queue;
mod store;
mod text;
mod tokenize;
mod tower;

pub use batch::{PaddingSide, TokenBatch, length_buckets};
pub use device::{Device, Precision};
pub use embedder::Embedder;
pub use embeddings::Embeddings;
pub use encoder::Encoder;
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "hub")]
pub use hub::{Download, Hub, HubConfig, RepoId, RepoKind, Snapshot};
pub use index::{FlatIndex, Hit, VectorFormat};
pub use jsonl::{for_each_jsonl, read_jsonl};
pub use normalize::l2_normalize;
pub use parallel::{is_cpu, passes_at_once, run_pieces};
pub use pooling::Pooling;
pub use projection::{LinearProjection, ProjectionActivation, ProjectionConfig, TruncationOrder};
pub use queue::{QueryQueue, QueueOptions};
pub use store::EmbeddingStore;
pub use text::{Document, Instruction, Query, Role, Text};
pub use tokenize::{Tokenizer, TokenizerStyle, character_tokenizer};
pub use tower::{DocumentTower, EmbedProgress, HeadConfig, Network, QueryTower, Tower};
