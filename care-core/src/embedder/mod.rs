//! The [`Embedder`] trait: all that index, benchmark, server and command line need of a model.

mod queue;
mod stored;

pub use queue::{QueryQueue, QueueOptions};
pub use stored::StoredEmbedder;

use crate::embeddings::Embeddings;
use crate::error::Result;
use crate::index::DocumentTower;
use crate::text::{Document, Query, Role, Text};

/// A model that maps queries and documents into one vector space.
///
/// Object-safe: an evaluation takes `&dyn Embedder` and never sees a tensor. Similarity is the dot product.
///
/// ```
/// use care_core::{Document, Embedder, Embeddings, Query, Result, Text};
///
/// /// Embeds a text as its number of characters.
/// struct Length;
///
/// impl Embedder for Length {
///     fn embedding_dim(&self) -> usize {
///         1
///     }
///
///     fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
///         Embeddings::from_rows(1, queries.iter().map(|query| [query.content().chars().count() as f32]))
///     }
///
///     fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
///         Embeddings::from_rows(1, documents.iter().map(|document| [document.content().chars().count() as f32]))
///     }
/// }
///
/// let embedder: Box<dyn Embedder> = Box::new(Length);
/// assert_eq!(embedder.embed_queries(&["头痛".into()])?.row(0)[0], 2.0);
/// # Ok::<(), care_core::Error>(())
/// ```
pub trait Embedder: Send + Sync {
    /// Dimensions of a vector.
    fn embedding_dim(&self) -> usize;

    /// Embeds queries, one row each, in order.
    ///
    /// # Errors
    /// If a text cannot be tokenized or its vector is not finite.
    fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings>;

    /// Embeds documents, one row each, in order.
    ///
    /// # Errors
    /// If a text cannot be tokenized or its vector is not finite.
    fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings>;

    /// Identifies everything that determines the vectors of a role, apart from [`Embedder::query_key`] and
    /// [`Embedder::document_key`]: equal fingerprints and keys mean equal vectors. Default `None`: the model has no
    /// fingerprint, and its vectors cannot be [stored](StoredEmbedder).
    ///
    /// # Errors
    /// If the fingerprint cannot be computed.
    fn fingerprint(&self, role: Role) -> Result<Option<String>> {
        let _ = role;
        Ok(None)
    }

    /// Identifies a query among those of one fingerprint; by default its text. A model whose fingerprint does not cover
    /// its instruction returns the text with the instruction applied.
    fn query_key(&self, query: &Query) -> String {
        query.content().into_owned()
    }

    /// Like [`Embedder::query_key`], for documents.
    fn document_key(&self, document: &Document) -> String {
        document.content().into_owned()
    }
}

/// The document tower of a model for an index: its fingerprint, and its instruction as it applies to a document of placeholders.
/// `None` if the model has no fingerprint.
///
/// # Errors
/// As [`Embedder::fingerprint`].
pub fn document_tower(embedder: &dyn Embedder) -> Result<Option<DocumentTower>> {
    let instruction = embedder.document_key(&Document::with_title("{title}", "{text}"));
    let tower = |fingerprint| DocumentTower::new(fingerprint).with_instruction(instruction);
    Ok(embedder.fingerprint(Role::Document)?.map(tower))
}
