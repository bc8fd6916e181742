//! What everything after the towers (index, benchmark, command line) needs of a model.

use crate::{Document, Embeddings, Query, Result};

/// A model that gives queries and documents vectors in one space.
///
/// Object-safe: an evaluation takes `&dyn Embedder` and sees no tensor. Similarity is the dot
/// product.
///
/// ```
/// use care_core::{Document, Embedder, Embeddings, Query, Result};
///
/// /// Counts characters: enough for a test.
/// struct Length;
/// impl Embedder for Length {
///     fn embedding_dim(&self) -> usize { 1 }
///     fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
///         Ok(Embeddings::zeros(queries.len(), 1))
///     }
///     fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
///         Ok(Embeddings::zeros(documents.len(), 1))
///     }
/// }
/// let embedder: Box<dyn Embedder> = Box::new(Length);
/// assert_eq!(embedder.embed_queries(&["头痛".into()])?.len(), 1);
/// # Ok::<(), care_core::Error>(())
/// ```
pub trait Embedder: Send + Sync {
    /// Components of a vector.
    fn embedding_dim(&self) -> usize;

    /// One row a query, in order.
    ///
    /// # Errors
    /// When a text cannot be tokenized or its vector is not finite.
    fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings>;

    /// One row a document, in order.
    ///
    /// # Errors
    /// When a text cannot be tokenized or its vector is not finite.
    fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings>;
}
