//! An embedder that keeps its vectors on disk and computes none twice.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Embedder;
use crate::embeddings::Embeddings;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{EmbeddingStore, SHARD};
use crate::text::{Document, Query, Role};

/// An embedder whose vectors are kept in a folder, where the next evaluation, search or process finds them: see
/// [`EmbeddingStore`].
///
/// A vector is found again if the [fingerprint](Embedder::fingerprint) of its role and the text's key are the same. So
/// any change of weights, pooling, dimensions, length limit or dtype recomputes the vectors, and two models share what
/// they have in common, for example an untouched document tower. Stored vectors are bit-identical to those first
/// computed.
///
/// Vectors are computed without holding a lock: callers never wait for each other's texts.
#[derive(Debug)]
pub struct StoredEmbedder<E> {
    embedder: E,
    /// The same store if both roles have one fingerprint.
    query: Arc<Mutex<EmbeddingStore>>,
    document: Arc<Mutex<EmbeddingStore>>,
}

impl<E: Embedder> StoredEmbedder<E> {
    /// Opens the stores of both roles in a folder, which is created if it does not exist.
    ///
    /// # Errors
    /// If the embedder has no fingerprint, or the folder cannot be read or created.
    pub fn open(embedder: E, folder: impl AsRef<Path>) -> Result<Self> {
        let fingerprint = |role: Role| {
            embedder.fingerprint(role)?.ok_or_else(|| {
                let message =
                    format!("the model has no fingerprint for {} vectors, so they cannot be stored", role.as_str());
                Error::new(ErrorKind::Config, message)
            })
        };
        let (of_queries, of_documents) = (fingerprint(Role::Query)?, fingerprint(Role::Document)?);
        let open = |fingerprint: &str| {
            EmbeddingStore::open(folder.as_ref(), fingerprint, embedder.embedding_dim()).map(Mutex::new).map(Arc::new)
        };
        let query = open(&of_queries)?;
        let document = if of_documents == of_queries { query.clone() } else { open(&of_documents)? };
        Ok(Self { embedder, query, document })
    }

    /// The embedder that computes what is missing.
    pub fn embedder(&self) -> &E {
        &self.embedder
    }

    /// Files of the folder that were found to be damaged or foreign since the last call: on opening, or when one was first
    /// read from. The vectors of their texts are recomputed.
    pub fn take_refused(&self) -> Vec<PathBuf> {
        let mut paths = lock(&self.query).take_refused();
        paths.extend(lock(&self.document).take_refused());
        paths
    }
}

/// Reads the vectors of texts by their keys; `embed` computes the missing ones.
fn stored<T: Clone>(
    store: &Mutex<EmbeddingStore>,
    texts: &[T],
    key: impl Fn(&T) -> String,
    embed: impl Fn(&[T]) -> Result<Embeddings>,
) -> Result<Embeddings> {
    let mut embeddings = Embeddings::zeros(0, lock(store).dim());
    for shard in texts.chunks(SHARD) {
        let keys: Vec<String> = shard.iter().map(&key).collect();
        let missing = lock(store).missing(&keys)?;
        if !missing.is_empty() {
            let lacking: Vec<T> = missing.iter().map(|&place| shard[place].clone()).collect();
            let vectors = embed(&lacking)?;
            let keys: Vec<&str> = missing.iter().map(|&place| keys[place].as_str()).collect();
            lock(store).insert(&keys, &vectors)?;
        }
        embeddings.append(&lock(store).get(&keys)?)?;
    }
    Ok(embeddings)
}

impl<E: Embedder> Embedder for StoredEmbedder<E> {
    fn embedding_dim(&self) -> usize {
        self.embedder.embedding_dim()
    }

    fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
        let key = |query: &Query| self.embedder.query_key(query);
        stored(&self.query, queries, key, |queries| self.embedder.embed_queries(queries))
    }

    fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
        let key = |document: &Document| self.embedder.document_key(document);
        stored(&self.document, documents, key, |documents| self.embedder.embed_documents(documents))
    }

    fn fingerprint(&self, role: Role) -> Result<Option<String>> {
        self.embedder.fingerprint(role)
    }

    fn query_key(&self, query: &Query) -> String {
        self.embedder.query_key(query)
    }

    fn document_key(&self, document: &Document) -> String {
        self.embedder.document_key(document)
    }
}

fn lock(store: &Mutex<EmbeddingStore>) -> MutexGuard<'_, EmbeddingStore> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::text::Text;

    /// Embeds a text as its length, and counts the texts it embeds.
    struct Length {
        fingerprint: Option<&'static str>,
        computed: AtomicUsize,
    }

    impl Length {
        fn new(fingerprint: Option<&'static str>) -> Self {
            Self { fingerprint, computed: AtomicUsize::new(0) }
        }

        fn embed<T: Text>(&self, texts: &[T]) -> Result<Embeddings> {
            self.computed.fetch_add(texts.len(), Ordering::Relaxed);
            Embeddings::from_rows(1, texts.iter().map(|text| [text.content().len() as f32]))
        }
    }

    impl Embedder for Length {
        fn embedding_dim(&self) -> usize {
            1
        }

        fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
            self.embed(queries)
        }

        fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
            self.embed(documents)
        }

        fn fingerprint(&self, _role: Role) -> Result<Option<String>> {
            Ok(self.fingerprint.map(str::to_owned))
        }
    }

    #[test]
    fn no_vector_is_computed_twice_in_either_role_or_process() {
        let folder = tempfile::tempdir().expect("a folder");
        let texts: Vec<String> = (0..1300).map(|n| "x".repeat(n % 600 + 1)).collect();
        let queries: Vec<Query> = texts.iter().cloned().map(Query::from).collect();
        let documents: Vec<Document> = texts.iter().cloned().map(Document::from).collect();
        for expected in [600, 0] {
            let model = StoredEmbedder::open(Length::new(Some("one")), folder.path()).expect("opened");
            let embedded = model.embed_queries(&queries).expect("embedded");
            assert!((0..1300).all(|row| embedded.row(row)[0] == texts[row].len() as f32));
            assert_eq!(model.embed_documents(&documents).expect("embedded"), embedded);
            assert_eq!(model.embedder().computed.load(Ordering::Relaxed), expected);
        }
    }

    #[test]
    fn an_embedder_without_a_fingerprint_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = StoredEmbedder::open(Length::new(None), folder.path()).err().expect("refused");
        assert_eq!(error.to_string(), "the model has no fingerprint for query vectors, so they cannot be stored");
    }

    #[test]
    fn callers_on_the_pool_of_threads_do_not_wait_for_each_other() {
        use rayon::prelude::*;
        let folder = tempfile::tempdir().expect("a folder");
        let model = StoredEmbedder::open(Length::new(Some("one")), folder.path()).expect("opened");
        let lengths: Vec<f32> = (1..200usize)
            .into_par_iter()
            .map(|n| model.embed_queries(&["y".repeat(n).into()]).expect("embedded").row(0)[0])
            .collect();
        assert_eq!(lengths, (1..200).map(|n| n as f32).collect::<Vec<_>>());
    }
}
