//! An embedder that keeps its vectors on disk and computes none twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Embedder;
use crate::embeddings::Embeddings;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{Key, key};
use crate::store::{EmbeddingStore, SHARD};
use crate::text::{Document, Query, Role};

/// Texts of a call that are computed; fewer than so many do not make a file of their own.
const FEW: usize = 16;
/// So many of the few are written together, unless the embedder is dropped before.
const WAITING: usize = 256;

/// An embedder whose vectors are kept in a folder, where the next evaluation, search or process finds them: see
/// [`EmbeddingStore`].
///
/// A vector is found again if the [fingerprint](Embedder::fingerprint) of its role and the text's key are the same. So
/// any change of weights, pooling, dimensions, length limit or dtype recomputes the vectors, and two models share what
/// they have in common, for example an untouched document tower. Stored vectors are bit-identical to those first
/// computed.
///
/// Vectors are computed and written without holding a lock: callers never wait for each other's texts. If a call computes
/// fewer than 16 texts, their vectors are in memory until there are 256, so that single queries do not write a file each; a
/// process that is killed loses these. [`StoredEmbedder::flush`] writes them, and so does dropping the embedder.
///
/// ```
/// use care_core::embedder::StoredEmbedder;
/// # use care_core::{Document, Embedder, Embeddings, Query, Result, Role};
/// # struct Model;
/// # impl Embedder for Model {
/// #     fn embedding_dim(&self) -> usize { 2 }
/// #     fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> { Ok(Embeddings::zeros(queries.len(), 2)) }
/// #     fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> { Ok(Embeddings::zeros(documents.len(), 2)) }
/// #     fn fingerprint(&self, _: Role) -> Result<Option<String>> { Ok(Some("a-tower".into())) }
/// # }
/// # let folder = std::env::temp_dir().join(format!("care-stored-{}", std::process::id()));
/// let model = StoredEmbedder::open(Model, &folder)?;
/// model.embed_queries(&["头痛".into()])?;
/// model.flush()?;
/// # drop(model);
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), care_core::Error>(())
/// ```
#[derive(Debug)]
pub struct StoredEmbedder<E> {
    embedder: E,
    /// The same vectors if both roles have one fingerprint.
    query: Arc<Kept>,
    document: Arc<Kept>,
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
            let store = EmbeddingStore::open(folder.as_ref(), fingerprint, embedder.embedding_dim())?;
            let (waiting, writing) = (Mutex::default(), Mutex::default());
            Ok::<_, Error>(Arc::new(Kept { store: Mutex::new(store), waiting, writing }))
        };
        let query = open(&of_queries)?;
        let document = if of_documents == of_queries { query.clone() } else { open(&of_documents)? };
        Ok(Self { embedder, query, document })
    }

    /// The embedder that computes what is missing.
    pub fn embedder(&self) -> &E {
        &self.embedder
    }

    /// Writes the vectors that are in memory.
    ///
    /// # Errors
    /// If they cannot be written; they are still in memory then.
    pub fn flush(&self) -> Result<()> {
        self.query.flush()?;
        self.document.flush()
    }

    /// Files of the folder that were found to be damaged or foreign since the last call: on opening, or when one was first
    /// read from. The vectors of their texts are recomputed.
    pub fn take_refused(&self) -> Vec<PathBuf> {
        let mut paths = lock(&self.query.store).take_refused();
        paths.extend(lock(&self.document.store).take_refused());
        paths
    }
}

/// The vectors of a tower: on disk, and those that are not there yet.
#[derive(Debug)]
struct Kept {
    store: Mutex<EmbeddingStore>,
    /// In the order of the keys, so that equal vectors become equal files.
    waiting: Mutex<BTreeMap<Key, Vec<f32>>>,
    /// Held while a shard is written.
    writing: Mutex<()>,
}

impl Kept {
    /// Reads the vectors of texts by their keys; `embed` computes the missing ones.
    fn vectors<T: Clone>(
        &self,
        texts: &[T],
        key_of: impl Fn(&T) -> String,
        embed: impl Fn(&[T]) -> Result<Embeddings>,
    ) -> Result<Embeddings> {
        let mut embeddings = Embeddings::zeros(0, lock(&self.store).dim());
        for texts in texts.chunks(SHARD) {
            let keys: Vec<String> = texts.iter().map(&key_of).collect();
            let mut missing = lock(&self.store).missing(&keys)?;
            if !missing.is_empty() {
                let waiting = lock(&self.waiting);
                missing.retain(|&place| !waiting.contains_key(&key(&keys[place])));
            }
            if !missing.is_empty() {
                let lacking: Vec<T> = missing.iter().map(|&place| texts[place].clone()).collect();
                let keys: Vec<Key> = missing.iter().map(|&place| key(&keys[place])).collect();
                let vectors = embed(&lacking)?;
                if keys.len() < FEW { self.keep(&keys, &vectors)? } else { self.write(&keys, &vectors)? }
            }
            embeddings.append(&self.read(&keys)?)?;
        }
        Ok(embeddings)
    }

    /// The vectors of texts that all have one.
    fn read(&self, keys: &[String]) -> Result<Embeddings> {
        // First those in memory: what leaves it meanwhile is on disk.
        let waiting: Vec<Option<Vec<f32>>> = {
            let waiting = lock(&self.waiting);
            keys.iter().map(|text| waiting.get(&key(text)).cloned()).collect()
        };
        let on_disk: Vec<&String> =
            keys.iter().zip(&waiting).filter(|(_, held)| held.is_none()).map(|(k, _)| k).collect();
        let mut store = lock(&self.store);
        let stored = store.get(&on_disk)?;
        let mut embeddings = Embeddings::zeros(keys.len(), store.dim());
        drop(store);
        let mut next = 0;
        for (row, held) in waiting.iter().enumerate() {
            match held {
                Some(vector) => embeddings.set(row, vector),
                None => {
                    embeddings.set(row, stored.row(next).as_slice().unwrap_or_default());
                    next += 1;
                }
            }
        }
        Ok(embeddings)
    }

    /// Takes new vectors, and writes all that wait if there are enough and nobody else is writing.
    fn keep(&self, keys: &[Key], vectors: &Embeddings) -> Result<()> {
        lock(&self.store).tower().check(keys, vectors)?;
        let rows = keys.iter().zip(vectors.as_array().rows());
        let enough = {
            let mut waiting = lock(&self.waiting);
            waiting.extend(rows.map(|(key, row)| (*key, row.to_vec())));
            waiting.len() >= WAITING
        };
        match self.writing.try_lock() {
            Ok(writing) if enough => self.write_waiting(&writing),
            _ => Ok(()),
        }
    }

    fn flush(&self) -> Result<()> {
        self.write_waiting(&lock(&self.writing))
    }

    fn write_waiting(&self, _writing: &MutexGuard<'_, ()>) -> Result<()> {
        let (keys, vectors): (Vec<Key>, Vec<Vec<f32>>) =
            lock(&self.waiting).iter().map(|(key, vector)| (*key, vector.clone())).unzip();
        if keys.is_empty() {
            return Ok(());
        }
        let dim = lock(&self.store).dim();
        self.write(&keys, &Embeddings::from_rows(dim, &vectors)?)?;
        lock(&self.waiting).retain(|key, _| keys.binary_search(key).is_err());
        Ok(())
    }

    /// Writes a shard; meanwhile others read.
    fn write(&self, keys: &[Key], vectors: &Embeddings) -> Result<()> {
        let tower = lock(&self.store).tower();
        let path = tower.write(keys, vectors)?;
        lock(&self.store).take(&path)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // What cannot be written is computed again.
        self.flush().ok();
    }
}

impl<E: Embedder> Embedder for StoredEmbedder<E> {
    fn embedding_dim(&self) -> usize {
        self.embedder.embedding_dim()
    }

    fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
        let key = |query: &Query| self.embedder.query_key(query);
        self.query.vectors(queries, key, |queries| self.embedder.embed_queries(queries))
    }

    fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
        let key = |document: &Document| self.embedder.document_key(document);
        self.document.vectors(documents, key, |documents| self.embedder.embed_documents(documents))
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn files(folder: &Path) -> usize {
        std::fs::read_dir(folder.join("one")).expect("a folder").count()
    }

    #[test]
    fn single_queries_do_not_write_a_file_each() {
        let folder = tempfile::tempdir().expect("a folder");
        let model = StoredEmbedder::open(Length::new(Some("one")), folder.path()).expect("opened");
        let ask = |n: usize| model.embed_queries(&["y".repeat(n).into()]).expect("embedded").row(0)[0];
        for n in 1..=300 {
            assert_eq!(ask(n), n as f32);
        }
        assert_eq!(files(folder.path()), 1, "256 of them");
        // From the file and from memory.
        assert_eq!((ask(256), ask(257)), (256.0, 257.0));
        assert_eq!(model.embedder().computed.load(Ordering::Relaxed), 300);
        model.flush().expect("written");
        model.flush().expect("nothing to write");
        assert_eq!((files(folder.path()), ask(257)), (2, 257.0));
        ask(301);
        drop(model);
        assert_eq!(files(folder.path()), 3);
        let again = StoredEmbedder::open(Length::new(Some("one")), folder.path()).expect("opened");
        let texts: Vec<Query> = (1..=301).map(|n| "y".repeat(n).into()).collect();
        let vectors = again.embed_queries(&texts).expect("embedded");
        assert!((0..301).all(|row| vectors.row(row)[0] == row as f32 + 1.0));
        assert_eq!(again.embedder().computed.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn vectors_that_cannot_be_written_stay_in_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let model = StoredEmbedder::open(Length::new(Some("one")), folder.path()).expect("opened");
        let ask = |n: usize| Ok::<_, Error>(model.embed_queries(&["y".repeat(n).into()])?.row(0)[0]);
        std::fs::remove_dir_all(folder.path().join("one")).expect("removed");
        for n in 1..256 {
            assert_eq!(ask(n).expect("in memory"), n as f32);
        }
        let error = ask(256).expect_err("the folder is gone");
        assert_eq!((error.kind(), ask(7).expect("in memory")), (ErrorKind::Io, 7.0));
        std::fs::create_dir(folder.path().join("one")).expect("created");
        model.flush().expect("written");
        assert_eq!((files(folder.path()), ask(256).expect("stored")), (1, 256.0));
        assert_eq!(model.embedder().computed.load(Ordering::Relaxed), 256);
    }

    /// Embeds a text when the other end says so.
    struct Told(Length, Mutex<std::sync::mpsc::Receiver<()>>);

    impl Embedder for Told {
        fn embedding_dim(&self) -> usize {
            1
        }

        fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
            self.1.lock().expect("not poisoned").recv().expect("told");
            self.0.embed(queries)
        }

        fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
            self.0.embed(documents)
        }

        fn fingerprint(&self, role: Role) -> Result<Option<String>> {
            self.0.fingerprint(role)
        }
    }

    #[test]
    fn hits_do_not_wait_for_misses() {
        let folder = tempfile::tempdir().expect("a folder");
        let (tell, told) = std::sync::mpsc::channel();
        let model = StoredEmbedder::open(Told(Length::new(Some("one")), Mutex::new(told)), folder.path());
        let model = model.expect("opened");
        tell.send(()).expect("sent");
        model.embed_queries(&["known".into()]).expect("embedded");
        std::thread::scope(|scope| {
            let miss = scope.spawn(|| model.embed_queries(&["new".into()]).expect("embedded").row(0)[0]);
            // While that one waits.
            assert_eq!(model.embed_queries(&["known".into()]).expect("a hit").row(0)[0], 5.0);
            tell.send(()).expect("sent");
            assert_eq!(miss.join().expect("done"), 3.0);
        });
    }
}
