//! [`QdrantOptions`]: where a collection is.

use care_core::index::VectorFormat;

/// Where a collection is.
#[derive(Clone)]
#[non_exhaustive]
pub struct QdrantOptions {
    /// Address of the server: `http://localhost:6333`.
    pub url: String,
    /// Name of the collection.
    pub collection: String,
    /// Key of the server, if it wants one.
    pub api_key: Option<String>,
    /// The dtype of the vectors of a collection that is created; by default f32.
    pub vectors: VectorFormat,
}

impl QdrantOptions {
    /// A collection of a server without a key, in f32.
    pub fn new(url: impl Into<String>, collection: impl Into<String>) -> Self {
        Self { url: url.into(), collection: collection.into(), api_key: None, vectors: VectorFormat::F32 }
    }

    /// Sets [`QdrantOptions::api_key`].
    #[must_use]
    pub fn with_api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// Sets [`QdrantOptions::vectors`].
    #[must_use]
    pub fn with_vectors(mut self, vectors: VectorFormat) -> Self {
        self.vectors = vectors;
        self
    }
}
