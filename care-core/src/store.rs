//! Embeddings on disk, found again by fingerprint and text.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};

use crate::embeddings::Embeddings;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{AtomicFile, open_file, sha256_hex, sweep_folder};

/// The version of the shard format, as the metadata key of the fingerprint; shards of another version are not read.
const FORMAT: &str = "care-embeddings-1";
const KEYS: &str = "keys";
const VECTORS: &str = "vectors";
/// Bytes of a text's key, the first 128 bits of its SHA-256.
const KEY: usize = 16;

type Key = [u8; KEY];

/// The stored vectors of one tower.
///
/// The folder has one subfolder per fingerprint, which contains append-only shards. A shard is a safetensors file with
/// `keys` (the first 16 bytes of each text's SHA-256) and `vectors`; it is named by its own SHA-256 and moved into
/// place when it is complete. So truncated or modified shards are detected, processes can write concurrently, and a
/// process that is killed loses only the shard it was writing.
///
/// The index of keys is kept in memory; vectors are read on demand.
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("care-store-{}", std::process::id()));
/// use care_core::Embeddings;
/// use care_core::store::EmbeddingStore;
/// let mut store = EmbeddingStore::open(&folder, "a-tower", 2)?;
/// let mut embed = |texts: &[&str]| Ok(Embeddings::zeros(texts.len(), 2));
/// assert_eq!(store.fill(&["头痛", "发烧"], &mut embed)?, 2);
/// assert_eq!(store.fill(&["发烧", "咳嗽"], &mut embed)?, 1);
/// assert_eq!(store.get(&["咳嗽", "头痛"])?.len(), 2);
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), care_core::Error>(())
/// ```
#[derive(Debug)]
pub struct EmbeddingStore {
    folder: PathBuf,
    fingerprint: String,
    dim: usize,
    shards: Vec<Shard>,
    places: HashMap<Key, Place>,
    refused: Vec<PathBuf>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    /// Byte offset of the first vector.
    start: u64,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    shard: usize,
    row: usize,
}

impl EmbeddingStore {
    /// Opens the vectors of one fingerprint in a store, and verifies every shard.
    ///
    /// A shard whose content does not match its name, that belongs to another tower, or in which a vector is not finite is
    /// skipped: [`EmbeddingStore::refused`] lists it, and its texts count as missing. What killed processes left of shards
    /// is removed.
    ///
    /// # Errors
    /// If the folder cannot be read or created.
    pub fn open(folder: impl AsRef<Path>, fingerprint: &str, dim: usize) -> Result<Self> {
        let folder = folder.as_ref().join(fingerprint);
        fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, e))?;
        sweep_folder(&folder);
        let entries = fs::read_dir(&folder).map_err(|e| Error::io("read", &folder, e))?;
        let is_shard = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "safetensors");
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_shard).collect();
        paths.sort();
        let fingerprint = fingerprint.to_owned();
        let (shards, places, refused) = (Vec::new(), HashMap::new(), Vec::new());
        let mut store = Self { folder, fingerprint, dim, shards, places, refused };
        for path in paths {
            if !store.add(&path)? {
                store.refused.push(path);
            }
        }
        Ok(store)
    }

    /// Dimensions of a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of texts with a vector.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether no text has a vector.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Files that were skipped when the folder was opened, because they were damaged or foreign or hold a vector that is not
    /// finite.
    pub fn refused(&self) -> &[PathBuf] {
        &self.refused
    }

    /// Whether a text has a vector.
    pub fn contains(&self, text: &str) -> bool {
        self.places.contains_key(&key(text))
    }

    /// The vectors of texts, one row each, in order.
    ///
    /// # Errors
    /// If a text has no vector, or a shard cannot be read.
    pub fn get<S: AsRef<str>>(&self, texts: &[S]) -> Result<Embeddings> {
        let mut wanted = Vec::with_capacity(texts.len());
        for (row, text) in texts.iter().enumerate() {
            let place = self.places.get(&key(text.as_ref())).ok_or_else(|| {
                let folder = self.folder.display();
                Error::new(ErrorKind::Io, format!("{folder}: requested text {row} has no stored vector"))
            })?;
            wanted.push((place.shard, place.row, row));
        }
        wanted.sort_unstable();
        let mut vectors = Embeddings::zeros(texts.len(), self.dim);
        let mut bytes = vec![0; 4 * self.dim];
        // Opens one file at a time: a large store has more shards than a process may have open.
        for of_shard in wanted.chunk_by(|left, right| left.0 == right.0) {
            let Shard { path, start } = &self.shards[of_shard[0].0];
            let mut file = File::open(path).map_err(|e| Error::io("open", path, e))?;
            for &(_, place, row) in of_shard {
                file.seek(SeekFrom::Start(start + (place * bytes.len()) as u64))
                    .and_then(|_| file.read_exact(&mut bytes))
                    .map_err(|e| Error::io("read", path, e))?;
                let values = bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value));
                vectors.set(row, &values.collect::<Vec<f32>>());
            }
        }
        Ok(vectors)
    }

    /// Computes the missing vectors of texts and writes them as one shard. Returns how many were missing.
    ///
    /// Long lists are best filled in parts: a part that is complete cannot be lost.
    ///
    /// # Errors
    /// If `embed` fails or returns a vector that is not finite, or the shard cannot be written.
    pub fn fill<S: AsRef<str>>(
        &mut self,
        texts: &[S],
        embed: &mut dyn FnMut(&[&str]) -> Result<Embeddings>,
    ) -> Result<usize> {
        let missing = self.missing(texts);
        if missing.is_empty() {
            return Ok(0);
        }
        let lacking: Vec<&str> = missing.iter().map(|&place| texts[place].as_ref()).collect();
        let vectors = embed(&lacking)?;
        self.insert(&lacking, &vectors)?;
        Ok(missing.len())
    }

    /// Positions of the texts without a vector, one per distinct text, ordered by the texts' keys.
    pub fn missing<S: AsRef<str>>(&self, texts: &[S]) -> Vec<usize> {
        let mut missing = BTreeMap::new();
        for (place, text) in texts.iter().enumerate() {
            let key = key(text.as_ref());
            if !self.places.contains_key(&key) {
                missing.entry(key).or_insert(place);
            }
        }
        missing.into_values().collect()
    }

    /// Writes the vectors of texts as one shard.
    ///
    /// # Errors
    /// If there is not one vector of the store's dimensions per text, one is not finite, or the shard cannot be written.
    pub fn insert<S: AsRef<str>>(&mut self, texts: &[S], vectors: &Embeddings) -> Result<()> {
        let keys: Vec<Key> = texts.iter().map(|text| key(text.as_ref())).collect();
        self.append(&keys, vectors)
    }

    /// Writes a shard and adds it to the index.
    fn append(&mut self, keys: &[Key], vectors: &Embeddings) -> Result<()> {
        if (vectors.len(), vectors.dim()) != (keys.len(), self.dim) {
            let (rows, dim) = (vectors.len(), vectors.dim());
            let message = format!("got {rows} vectors of {dim} dimensions, expected {} of {}", keys.len(), self.dim);
            return Err(Error::new(ErrorKind::Dimension, message));
        }
        if let Some(row) = (0..vectors.len()).find(|row| vectors.row(*row).iter().any(|value| !value.is_finite())) {
            let message = format!("{}: vector {row} of the texts to be stored is not finite", self.folder.display());
            return Err(Error::new(ErrorKind::NonFinite, message));
        }
        let bytes: Vec<u8> = vectors.as_array().iter().flat_map(|value| value.to_le_bytes()).collect();
        let failed = |e: safetensors::SafeTensorError| {
            Error::new(ErrorKind::Io, format!("cannot write a shard into {}", self.folder.display())).with_source(e)
        };
        let views = [
            (KEYS, TensorView::new(Dtype::U8, vec![keys.len(), KEY], keys.as_flattened()).map_err(failed)?),
            (VECTORS, TensorView::new(Dtype::F32, vec![keys.len(), self.dim], &bytes).map_err(failed)?),
        ];
        // A single entry: the order of several is not fixed, and equal vectors must produce equal files.
        let about = [(FORMAT.to_owned(), self.fingerprint.clone())].into_iter().collect();
        let content = safetensors::serialize(views, Some(about)).map_err(failed)?;
        let path = self.folder.join(format!("{}.safetensors", sha256_hex(&content)));
        let mut file = AtomicFile::beside(&path)?;
        file.write_all(&content).map_err(|e| Error::io("write", &path, e))?;
        file.commit()?;
        if self.add(&path)? { Ok(()) } else { Err(Error::format(&path, "the shard changed while it was written")) }
    }

    /// Adds a shard to the index; returns false if its content does not match its name or tower.
    fn add(&mut self, path: &Path) -> Result<bool> {
        let mut content = Vec::new();
        open_file(path)?.read_to_end(&mut content).map_err(|e| Error::io("read", path, e))?;
        if path.file_stem().and_then(|name| name.to_str()) != Some(sha256_hex(&content).as_str()) {
            return Ok(false);
        }
        let Some((keys, start)) = self.read_shard(&content) else { return Ok(false) };
        for (row, key) in keys.into_iter().enumerate() {
            self.places.entry(key).or_insert(Place { shard: self.shards.len(), row });
        }
        self.shards.push(Shard { path: path.to_owned(), start });
        Ok(true)
    }

    /// The keys of a shard and the byte offset of its vectors; `None` if it is not a shard of this tower.
    fn read_shard(&self, content: &[u8]) -> Option<(Vec<Key>, u64)> {
        let (header, about) = SafeTensors::read_metadata(content).ok()?;
        if *about.metadata().as_ref()?.get(FORMAT)? != self.fingerprint {
            return None;
        }
        let file = SafeTensors::deserialize(content).ok()?;
        let (keys, vectors) = (file.tensor(KEYS).ok()?, file.tensor(VECTORS).ok()?);
        let rows = keys.shape().first().copied()?;
        let fits = keys.dtype() == Dtype::U8
            && keys.shape() == [rows, KEY]
            && vectors.dtype() == Dtype::F32
            && vectors.shape() == [rows, self.dim]
            && vectors.data().as_chunks().0.iter().all(|value| f32::from_le_bytes(*value).is_finite());
        let start = 8 + header + about.info(VECTORS)?.data_offsets.0;
        fits.then(|| (keys.data().as_chunks::<KEY>().0.to_vec(), start as u64))
    }
}

fn key(text: &str) -> Key {
    let mut key = [0; KEY];
    key.copy_from_slice(&Sha256::digest(text)[..KEY]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors that are determined by the texts.
    fn embed(texts: &[&str]) -> Result<Embeddings> {
        let mut vectors = Embeddings::zeros(texts.len(), 2);
        for (row, text) in texts.iter().enumerate() {
            vectors.set(row, &[text.len() as f32, f32::from(text.as_bytes()[0])]);
        }
        Ok(vectors)
    }

    fn fill(store: &mut EmbeddingStore, texts: &[&str]) -> usize {
        texts.chunks(3).map(|part| store.fill(part, &mut |texts| embed(texts)).expect("filled")).sum()
    }

    fn shards(folder: &Path) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder).expect("read").flatten().map(|e| e.path()).collect();
        paths.sort();
        paths
    }

    const TEXTS: [&str; 8] = ["a", "bb", "ccc", "dddd", "eeeee", "f", "gg", "bb"];

    #[test]
    fn what_was_filled_is_there_for_the_next_process() {
        let place = tempfile::tempdir().expect("a folder");
        let mut store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
        assert_eq!(fill(&mut store, &TEXTS), 7);
        let store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
        assert_eq!((store.len(), store.refused().len()), (7, 0));
        assert_eq!(store.get(&["eeeee", "a", "eeeee"]).expect("read"), embed(&["eeeee", "a", "eeeee"]).expect("made"));
        let error = store.get(&["a", "never"]).expect_err("no vector").to_string();
        assert!(error.ends_with("tower: requested text 1 has no stored vector"), "{error}");
        assert!(EmbeddingStore::open(place.path(), "another", 2).expect("opened").is_empty());
    }

    #[test]
    fn a_torn_changed_or_foreign_shard_is_left_out_and_computed_again() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("tower");
        fill(&mut EmbeddingStore::open(place.path(), "tower", 2).expect("opened"), &TEXTS);
        let paths = shards(&folder);
        assert_eq!(paths.len(), 3);
        let mut bytes = fs::read(&paths[0]).expect("read");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&paths[0], &bytes).expect("written");
        let torn = fs::read(&paths[1]).expect("read");
        fs::write(&paths[1], &torn[..torn.len() / 2]).expect("written");
        fill(&mut EmbeddingStore::open(place.path(), "other", 2).expect("opened"), &["foreign"]);
        let foreign = shards(&place.path().join("other")).remove(0);
        fs::copy(&foreign, folder.join(foreign.file_name().expect("a name"))).expect("copied");

        let mut store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
        assert_eq!(store.refused().len(), 3);
        assert!(store.len() < 5 && !store.contains("foreign"));
        assert_eq!(fill(&mut store, &TEXTS), 7 - store.shards[0].rows(&store));
        assert_eq!(store.get(&TEXTS).expect("read"), embed(&TEXTS).expect("made"));
    }

    impl Shard {
        /// Number of texts whose vectors are in this shard.
        fn rows(&self, store: &EmbeddingStore) -> usize {
            store.places.values().filter(|place| store.shards[place.shard].path == self.path).count()
        }
    }

    #[test]
    fn vectors_that_are_not_finite_are_neither_kept_nor_read() {
        let place = tempfile::tempdir().expect("a folder");
        let mut store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
        for value in [f32::NAN, f32::NEG_INFINITY] {
            let vectors = Embeddings::from_rows(2, [[1.0, 2.0], [0.5, value]]).expect("two rows");
            let error = store.insert(&["a", "b"], &vectors).expect_err("refused");
            assert!(error.kind() == ErrorKind::NonFinite && error.to_string().contains("vector 1 of"), "{error}");
        }
        fill(&mut store, &TEXTS);
        // A right hash does not make right vectors.
        let folder = place.path().join("tower");
        for (shard, value) in store.shards.iter().zip([f32::NAN, f32::INFINITY]) {
            let mut bytes = fs::read(&shard.path).expect("read");
            bytes[shard.start as usize..][..4].copy_from_slice(&value.to_le_bytes());
            fs::remove_file(&shard.path).expect("removed");
            fs::write(folder.join(format!("{}.safetensors", sha256_hex(&bytes))), bytes).expect("written");
        }
        let mut store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
        assert_eq!((store.refused().len(), store.shards.len()), (2, 1));
        fill(&mut store, &TEXTS);
        assert_eq!(store.get(&TEXTS).expect("read"), embed(&TEXTS).expect("made"));
    }

    #[test]
    fn what_a_killed_process_left_of_a_shard_is_removed() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("tower");
        fs::create_dir(&folder).expect("made");
        for name in [".0ab.safetensors.77-0.partial", ".f.safetensors.3-12.partial", ".mine.partial"] {
            fs::write(folder.join(name), "half").expect("written");
        }
        let living = AtomicFile::beside(&folder.join("1.safetensors")).expect("made");
        let store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
        assert_eq!((store.refused().len(), shards(&folder).len()), (0, 2));
        living.commit().expect("nobody has removed it");
    }

    #[test]
    fn two_writers_at_once_keep_each_others_shards() {
        let place = tempfile::tempdir().expect("a folder");
        let texts: Vec<String> = (0..60).map(|n| format!("text {n}")).collect();
        std::thread::scope(|scope| {
            for part in [&texts[..40], &texts[20..]] {
                scope.spawn(|| {
                    let mut store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
                    for texts in part.chunks(5) {
                        store.fill(texts, &mut |texts| embed(texts)).expect("filled");
                    }
                });
            }
        });
        let store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
        assert_eq!((store.len(), store.refused().len()), (60, 0));
    }
}
