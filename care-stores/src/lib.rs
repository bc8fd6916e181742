#![doc = include_str!("../README.md")]

mod store;

mod push;

#[cfg(feature = "parquet")]
pub mod parquet;
#[cfg(feature = "pgvector")]
pub mod pgvector;
#[cfg(feature = "qdrant")]
pub mod qdrant;

pub use push::{PushOptions, PushReport, Verification, push, verify};
pub use store::{Found, StoreSearch, StoredRow, VectorStore, check_rows, digest};
