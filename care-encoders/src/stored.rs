//! A pair of towers that computes no vector twice.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use care_core::{Document, Embedder, EmbeddingStore, Embeddings, Query, Result, Text, Tower};

use crate::{AnyEncoder, AsymmetricEncoder, tower_fingerprint};

/// Texts of a shard: what a kill costs at most.
const SHARD: usize = 512;

/// A pair of towers whose vectors are kept in a folder, where the next evaluation, search or process finds
/// them: see [`EmbeddingStore`].
///
/// A vector is found again when [`tower_fingerprint`] and the text with its instruction are the same. So a
/// changed weight, pooling, width, length limit or number format finds nothing, and what two pairs have in
/// common, such as an untouched document tower, they share. Vectors that are found are, to the last bit, what
/// was computed when they were stored; the rounding of that is all that batch and device decide.
#[derive(Debug)]
pub struct StoredEncoder {
    pair: AsymmetricEncoder,
    /// One store where the two towers are one.
    query: Arc<Mutex<EmbeddingStore>>,
    document: Arc<Mutex<EmbeddingStore>>,
}

impl StoredEncoder {
    /// Opens the stores of both towers in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// When the folder cannot be read or made.
    pub fn open(pair: AsymmetricEncoder, folder: &Path) -> Result<Self> {
        let dim = pair.embedding_dim();
        let open = |fingerprint: &str| Ok(Arc::new(Mutex::new(EmbeddingStore::open(folder, fingerprint, dim)?)));
        let (of_query, of_document) = (tower_fingerprint(pair.query())?, tower_fingerprint(pair.document())?);
        let query = open(&of_query)?;
        let document = if of_document == of_query { query.clone() } else { open(&of_document)? };
        Ok(Self { pair, query, document })
    }

    /// The towers.
    pub fn pair(&self) -> &AsymmetricEncoder {
        &self.pair
    }

    /// Files of the folder that were torn, changed or foreign when it was opened; their texts are computed anew.
    pub fn refused(&self) -> Vec<PathBuf> {
        let of = |store: &Mutex<EmbeddingStore>| lock(store).refused().to_vec();
        let mut paths = of(&self.query);
        if !Arc::ptr_eq(&self.query, &self.document) {
            paths.extend(of(&self.document));
        }
        paths
    }

    fn embed<T: Text>(
        &self,
        tower: &Tower<T, AnyEncoder>,
        store: &Mutex<EmbeddingStore>,
        texts: &[T],
    ) -> Result<Embeddings> {
        let prepared = tower.prepare(texts);
        let mut embeddings = Embeddings::zeros(0, tower.embedding_dim());
        for lot in prepared.chunks(SHARD) {
            embeddings.append(&tower.embed_stored(lot, &mut lock(store), self.pair.token_budget())?)?;
        }
        Ok(embeddings)
    }
}

impl Embedder for StoredEncoder {
    fn embedding_dim(&self) -> usize {
        self.pair.embedding_dim()
    }

    fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
        self.embed(self.pair.query(), &self.query, queries)
    }

    fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
        self.embed(self.pair.document(), &self.document, documents)
    }
}

fn lock(store: &Mutex<EmbeddingStore>) -> std::sync::MutexGuard<'_, EmbeddingStore> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}
