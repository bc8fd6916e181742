//! Vector search: the [`Index`] trait, the exact [`FlatIndex`] in memory, and the exact [`DiskIndex`] with ids, texts,
//! metadata and filters.

mod disk;
mod flat;
mod products;
mod top_k;

pub use disk::{
    Addition, Approximation, Changes, Codes, Condition, DiskIndex, DiskIndexOptions, DocumentTower, FieldInfo, Filter,
    GraphOptions, IndexWriter, Loss, LossSample, Record, Scalar, SearchOptions,
};
pub use flat::{FlatIndex, VectorFormat};
pub use top_k::Hit;

use crate::embeddings::Embeddings;
use crate::error::Result;

/// A collection of document vectors that can be searched; similarity is the dot product.
///
/// Object-safe, so that an evaluation or a server accepts [`FlatIndex`] and external indexes alike.
pub trait Index: Send + Sync {
    /// Number of documents.
    fn len(&self) -> usize;

    /// Whether the index has no documents.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends document vectors; their rows continue those already in the index.
    ///
    /// # Errors
    /// If they do not have the index's dimensions.
    fn add(&mut self, documents: &Embeddings) -> Result<()>;

    /// The `k` best documents of each query, best first; fewer if the index is smaller.
    ///
    /// # Errors
    /// If queries and documents differ in dimensions.
    fn search(&self, queries: &Embeddings, k: usize) -> Result<Vec<Vec<Hit>>>;
}
