#![doc = include_str!("../README.md")]

pub mod embedder;
mod embeddings;
mod error;
pub mod files;
pub mod guard;
#[cfg(feature = "hub")]
pub mod hub;
pub mod index;
pub mod jsonl;
pub mod lines;
pub mod manifest;
mod reranker;
pub mod store;
mod text;

pub use embedder::Embedder;
pub use embeddings::Embeddings;
#[doc(hidden)]
pub use error::clip;
pub use error::{Error, ErrorKind, Result};
pub use reranker::Reranker;
pub use text::{Document, Instruction, Query, Role, Text, check_template};

/// The version of ndarray in whose types [`Embeddings`] can be given and taken.
pub use ndarray;
