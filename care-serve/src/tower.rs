//! What the server needs of a model: towers as traits, so that this crate compiles no tensor framework.

use std::sync::Arc;

use care_core::index::DocumentTower;
use care_core::{Document, Embeddings, Query, Reranker, Result, Text};

/// The token ids of one text as its tower reads it, instruction and special tokens included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Token ids; at least one.
    pub ids: Vec<u32>,
    /// Token types, of a tower that reads title and text as two segments.
    pub types: Option<Vec<u32>>,
}

/// The end of a text that is cut off if it has too many tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The beginning.
    Left,
    /// The end.
    Right,
}

/// What a tower computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Identifies all that determines the vectors, the instruction apart.
    pub fingerprint: String,
    /// Template of the instruction; empty if there is none.
    pub instruction: String,
    /// Dimensions of a vector.
    pub dim: usize,
    /// Whether every vector has length 1.
    pub unit_length: bool,
    /// Length limit of a text in tokens.
    pub max_length: usize,
    /// Token ids are below this number.
    pub vocab_size: usize,
    /// Special tokens, which belong to no text.
    pub special_tokens: Vec<u32>,
    /// Dtype of the weights, e.g. `f32`.
    pub dtype: String,
    /// How hidden states become one vector, e.g. `mean`.
    pub pooling: String,
    /// Where it computes, e.g. `cpu`.
    pub device: String,
    /// Architecture, e.g. `bert`.
    pub architecture: String,
}

/// One tower of a pair. Its methods are called from threads of the server, never from those of its sockets.
pub trait ServedTower<T: Text>: Send + Sync + 'static {
    /// What the tower computes.
    fn about(&self) -> &About;

    /// The first `limit` tokens of each text, special tokens included; with [`Side::Left`] the last ones. `None`: as the
    /// tower was trained.
    ///
    /// # Errors
    /// If a text cannot be tokenized.
    fn tokenize(&self, texts: &[T], limit: usize, side: Option<Side>) -> Result<Vec<Tokens>>;

    /// The vectors of tokenized texts, one row each, in order.
    ///
    /// # Errors
    /// If a vector is not finite.
    fn embed(&self, tokens: &[Tokens]) -> Result<Embeddings>;

    /// The text of a token, if there is one with this id.
    fn token(&self, id: u32) -> Option<String>;
}

/// A pair of towers, as it is served.
#[derive(Clone)]
pub struct Pair {
    /// The name that clients know the pair by. Its towers are `NAME/query` and `NAME/document`.
    pub name: String,
    /// The tower of queries.
    pub query: Arc<dyn ServedTower<Query>>,
    /// The tower of documents.
    pub document: Arc<dyn ServedTower<Document>>,
    /// What `/rerank` scores by; `None`: the similarity of the pair's vectors.
    pub reranker: Option<Arc<dyn Reranker>>,
}

impl Pair {
    /// The document tower as an index knows it.
    pub fn document_tower(&self) -> DocumentTower {
        let about = self.document.about();
        DocumentTower::new(&about.fingerprint).with_instruction(&about.instruction)
    }
}
