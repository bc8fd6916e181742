//! Embeddings on disk, found again by fingerprint and text.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use safetensors::tensor::{Dtype, Metadata, TensorView};

use crate::embeddings::Embeddings;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{AtomicFile, KEY, Key, key, open_file, sha256_hex, sweep_folder};

/// The version of the shard format, as the metadata key of the fingerprint; shards of another version are not read.
const FORMAT: &str = "care-embeddings-1";
const KEYS: &str = "keys";
const VECTORS: &str = "vectors";
/// Largest header of a shard in bytes: it names two tensors and a fingerprint.
const MAX_HEADER: u64 = 1 << 16;

/// Texts per shard that embedders write, and so the most work that is lost if the process is killed.
pub const SHARD: usize = 512;

/// The stored vectors of one tower.
///
/// The folder has one subfolder per fingerprint, which contains append-only shards. A shard is a safetensors file with
/// `keys` (the first 16 bytes of each text's SHA-256) and `vectors`; it is named by its own SHA-256 and moved into
/// place when it is complete. So truncated or modified shards are detected, processes can write concurrently, and a
/// process that is killed loses only the shard it was writing.
///
/// The index of keys is kept in memory; vectors are read on demand. A shard is hashed when it is first read from, and
/// again if its length or modification time changed since, so opening a large store is quick and no vector of a modified
/// shard is returned.
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
    /// Further places of texts that several shards have.
    doubles: Vec<(Key, Place)>,
    /// Not yet taken by the caller.
    refused: Vec<PathBuf>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    /// Number of vectors.
    rows: usize,
    /// Byte offset of the first vector.
    start: u64,
    /// The state of the file in which its content was verified.
    verified: Option<Seal>,
}

impl Shard {
    /// Whether the file, opened, is named by its content and its vectors are finite.
    fn verify(&mut self, file: &mut File, dim: usize) -> io::Result<bool> {
        let seal = Seal::of(file)?;
        if self.verified == Some(seal) {
            return Ok(true);
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let is_named = self.path.file_stem().and_then(|name| name.to_str()) == Some(sha256_hex(&content).as_str());
        let vectors = content.get(self.start as usize..).and_then(|rest| rest.get(..4 * dim * self.rows));
        let is_finite = |value: &[u8; 4]| f32::from_le_bytes(*value).is_finite();
        let intact = is_named && vectors.is_some_and(|bytes| bytes.as_chunks().0.iter().all(is_finite));
        self.verified = intact.then_some(seal);
        Ok(intact)
    }
}

/// Where the tensors of a shard are: number of rows, and byte offsets behind the header.
struct Layout {
    rows: usize,
    keys: u64,
    vectors: u64,
}

/// What changes when a file is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seal {
    length: u64,
    /// `None` on a file system that does not know.
    modified: Option<SystemTime>,
}

impl Seal {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { length: metadata.len(), modified: metadata.modified().ok() })
    }
}

#[derive(Debug, Clone, Copy)]
struct Place {
    shard: usize,
    row: usize,
}

impl EmbeddingStore {
    /// Opens the vectors of one fingerprint in a store. Of each shard only the header and the keys are read.
    ///
    /// A shard that is cut off or belongs to another tower is skipped: [`EmbeddingStore::take_refused`] lists it, and its
    /// texts count as missing. So is, when it is first read from, one whose content does not match its name, or in which
    /// a vector is not finite. What killed processes left of shards is removed.
    ///
    /// # Errors
    /// If the folder cannot be read or created, or a shard cannot be read.
    pub fn open(folder: impl AsRef<Path>, fingerprint: &str, dim: usize) -> Result<Self> {
        let folder = folder.as_ref().join(fingerprint);
        fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, e))?;
        sweep_folder(&folder);
        let entries = fs::read_dir(&folder).map_err(|e| Error::io("read", &folder, e))?;
        let is_shard = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "safetensors");
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_shard).collect();
        paths.sort();
        let fingerprint = fingerprint.to_owned();
        let (shards, places, doubles, refused) = (Vec::new(), HashMap::new(), Vec::new(), Vec::new());
        let mut store = Self { folder, fingerprint, dim, shards, places, doubles, refused };
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

    /// Number of texts with a vector, those of shards that were not read from yet included.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether no text has a vector.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Files that were found to be damaged or foreign, or to hold a vector that is not finite, since the last call. Their
    /// texts count as missing.
    pub fn take_refused(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.refused)
    }

    /// Whether a text has a vector; its shard may prove damaged when it is read from.
    pub fn contains(&self, text: &str) -> bool {
        self.places.contains_key(&key(text))
    }

    /// The vectors of texts, one row each, in order.
    ///
    /// # Errors
    /// If a text has no vector, or a shard cannot be read or is damaged; the texts of a damaged one count as missing from
    /// then on. [`EmbeddingStore::missing`] finds such shards beforehand.
    pub fn get<S: AsRef<str>>(&mut self, texts: &[S]) -> Result<Embeddings> {
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
            let shard = of_shard[0].0;
            let Some(mut file) = self.open_verified(shard)? else {
                let problem = "the shard is damaged or was modified; repeat the command to compute its vectors again";
                return Err(Error::format(&self.shards[shard].path, problem));
            };
            let Shard { path, start, .. } = &self.shards[shard];
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
    /// If `embed` fails or returns a vector that is not finite, the shard cannot be written, or one cannot be read.
    pub fn fill<S: AsRef<str>>(
        &mut self,
        texts: &[S],
        embed: &mut dyn FnMut(&[&str]) -> Result<Embeddings>,
    ) -> Result<usize> {
        let missing = self.missing(texts)?;
        if missing.is_empty() {
            return Ok(0);
        }
        let lacking: Vec<&str> = missing.iter().map(|&place| texts[place].as_ref()).collect();
        let vectors = embed(&lacking)?;
        self.insert(&lacking, &vectors)?;
        Ok(missing.len())
    }

    /// Positions of the texts without a vector, one per distinct text, ordered by the texts' keys. The shards of the
    /// others are verified.
    ///
    /// # Errors
    /// If a shard cannot be read.
    pub fn missing<S: AsRef<str>>(&mut self, texts: &[S]) -> Result<Vec<usize>> {
        let keys: Vec<Key> = texts.iter().map(|text| key(text.as_ref())).collect();
        // A text of a damaged shard may be in another one.
        let mut damaged = true;
        while damaged {
            damaged = false;
            let shards: BTreeSet<usize> = keys.iter().filter_map(|key| Some(self.places.get(key)?.shard)).collect();
            for shard in shards {
                damaged |= self.open_verified(shard)?.is_none();
            }
        }
        let mut missing = BTreeMap::new();
        for (place, key) in keys.into_iter().enumerate() {
            if !self.places.contains_key(&key) {
                missing.entry(key).or_insert(place);
            }
        }
        Ok(missing.into_values().collect())
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
        let path = self.tower().write(keys, vectors)?;
        self.take(&path)
    }

    /// Adds a shard that was just written to the index.
    pub(crate) fn take(&mut self, path: &Path) -> Result<()> {
        if self.add(path)? { Ok(()) } else { Err(Error::format(path, "the shard changed while it was written")) }
    }

    /// What a shard is written with, while others read the store.
    pub(crate) fn tower(&self) -> StoredTower {
        StoredTower { folder: self.folder.clone(), fingerprint: self.fingerprint.clone(), dim: self.dim }
    }
}

/// The tower whose vectors a store has.
pub(crate) struct StoredTower {
    folder: PathBuf,
    fingerprint: String,
    dim: usize,
}

impl StoredTower {
    /// Refuses another number of vectors, or other ones.
    pub(crate) fn check(&self, keys: &[Key], vectors: &Embeddings) -> Result<()> {
        if (vectors.len(), vectors.dim()) != (keys.len(), self.dim) {
            let (rows, dim) = (vectors.len(), vectors.dim());
            let message = format!("got {rows} vectors of {dim} dimensions, expected {} of {}", keys.len(), self.dim);
            return Err(Error::new(ErrorKind::Dimension, message));
        }
        if let Some(row) = vectors.first_not_finite() {
            let message = format!("{}: vector {row} of the texts to be stored is not finite", self.folder.display());
            return Err(Error::new(ErrorKind::NonFinite, message));
        }
        Ok(())
    }

    /// Writes a shard; returns its path.
    pub(crate) fn write(&self, keys: &[Key], vectors: &Embeddings) -> Result<PathBuf> {
        self.check(keys, vectors)?;
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
        Ok(path)
    }
}

impl EmbeddingStore {
    /// Adds a shard to the index by its header and its keys; returns false if it is cut off or not of this tower.
    fn add(&mut self, path: &Path) -> Result<bool> {
        let read = self.read_keys(&mut open_file(path)?).map_err(|e| Error::io("read", path, e))?;
        let Some((keys, start)) = read else { return Ok(false) };
        let shard = self.shards.len();
        self.shards.push(Shard { path: path.to_owned(), rows: keys.len(), start, verified: None });
        for (row, key) in keys.into_iter().enumerate() {
            let place = Place { shard, row };
            match self.places.entry(key) {
                Entry::Occupied(_) => self.doubles.push((key, place)),
                Entry::Vacant(free) => {
                    free.insert(place);
                }
            }
        }
        Ok(true)
    }

    /// The keys of a shard and the byte offset of its vectors; `None` if it is cut off or not of this tower.
    fn read_keys(&self, file: &mut File) -> io::Result<Option<(Vec<Key>, u64)>> {
        let Some(rest) = file.metadata()?.len().checked_sub(8) else { return Ok(None) };
        let mut size = [0; 8];
        file.read_exact(&mut size)?;
        let header = u64::from_le_bytes(size);
        if header > MAX_HEADER.min(rest) {
            return Ok(None);
        }
        let mut json = vec![0; header as usize];
        file.read_exact(&mut json)?;
        let Some(layout) = self.layout(&json, rest - header) else { return Ok(None) };
        let mut keys = vec![[0; KEY]; layout.rows];
        file.seek(SeekFrom::Start(8 + header + layout.keys))?;
        file.read_exact(keys.as_flattened_mut())?;
        Ok(Some((keys, 8 + header + layout.vectors)))
    }

    /// What a shard's header states; `None` if that is not `data` bytes of this tower.
    fn layout(&self, json: &[u8], data: u64) -> Option<Layout> {
        let about: Metadata = serde_json::from_slice(json).ok()?;
        let (keys, vectors) = (about.info(KEYS)?, about.info(VECTORS)?);
        let rows = keys.shape.first().copied()?;
        let fits = *about.metadata().as_ref()?.get(FORMAT)? == self.fingerprint
            && about.data_len() as u64 == data
            && (keys.dtype == Dtype::U8 && keys.shape == [rows, KEY])
            && (vectors.dtype == Dtype::F32 && vectors.shape == [rows, self.dim]);
        let (keys, vectors) = (keys.data_offsets.0 as u64, vectors.data_offsets.0 as u64);
        fits.then_some(Layout { rows, keys, vectors })
    }

    /// Opens a shard and verifies it, unless that was done since it was last written to. `None` if it is damaged: it is
    /// refused, and those of its texts that no other shard has are missing from then on.
    fn open_verified(&mut self, at: usize) -> Result<Option<File>> {
        let shard = &mut self.shards[at];
        let mut file = open_file(&shard.path)?;
        match shard.verify(&mut file, self.dim) {
            Ok(true) => Ok(Some(file)),
            Ok(false) => {
                self.refused.push(shard.path.clone());
                self.places.retain(|_, place| place.shard != at);
                self.doubles.retain(|(_, place)| place.shard != at);
                for (key, place) in &self.doubles {
                    self.places.entry(*key).or_insert(*place);
                }
                Ok(None)
            }
            Err(e) => Err(Error::io("read", &shard.path, e)),
        }
    }
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
        let mut store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
        assert_eq!((store.len(), store.take_refused().len()), (7, 0));
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
        assert_eq!((store.take_refused().len(), store.shards.len()), (2, 2));
        assert!(!store.contains("foreign"));
        let intact = store.shards[1].rows;
        assert_eq!(fill(&mut store, &TEXTS), 7 - intact);
        assert_eq!(store.take_refused(), paths[..1]);
        assert_eq!(store.get(&TEXTS).expect("read"), embed(&TEXTS).expect("made"));
    }

    /// Flips a byte of a file, `from_end` bytes before its end, and moves its modification time.
    fn flip(path: &Path, from_end: usize) {
        let mut bytes = fs::read(path).expect("read");
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        fs::write(path, &bytes).expect("written");
        touch(path);
    }

    fn touch(path: &Path) {
        let file = File::options().append(true).open(path).expect("opened");
        let later = file.metadata().and_then(|metadata| metadata.modified()).expect("a time");
        file.set_modified(later + std::time::Duration::from_secs(5)).expect("set");
    }

    /// The texts of a shard, in its order.
    fn texts_of(store: &EmbeddingStore, shard: usize) -> Vec<&'static str> {
        let row =
            |text: &&str| store.places.get(&key(text)).filter(|place| place.shard == shard).map(|place| place.row);
        let mut texts: Vec<&str> = TEXTS[..7].iter().copied().filter(|text| row(text).is_some()).collect();
        texts.sort_by_key(row);
        texts
    }

    #[test]
    fn a_flipped_byte_is_named_at_the_first_read_from_its_shard() {
        for (region, from_end) in [("the last key", 1), ("the last vector", 3 * KEY + 1)] {
            let place = tempfile::tempdir().expect("a folder");
            let mut store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
            fill(&mut store, &TEXTS);
            let damaged = store.shards.iter().position(|shard| shard.rows == 3).expect("two have three");
            let path = store.shards[damaged].path.clone();
            flip(&path, from_end);
            // Only what is read: of a shard in which nothing but vectors changed, opening sees nothing.
            let mut store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
            assert_eq!((store.take_refused().len(), store.len()), (0, 7), "{region}");
            let damaged = store.shards.iter().position(|shard| shard.path == path).expect("opened");
            for other in (0..3).filter(|other| *other != damaged) {
                let texts = texts_of(&store, other);
                assert_eq!(store.get(&texts).expect("intact"), embed(&texts).expect("made"), "{region}");
            }
            let first = texts_of(&store, damaged)[0];
            let error = store.get(&[first]).expect_err("damaged");
            assert!(
                error.path() == Some(path.as_path()) && error.to_string().contains("the shard is damaged"),
                "{error}"
            );
            assert_eq!((store.take_refused(), store.contains(first)), (vec![path.clone()], false), "{region}");
            assert_eq!(fill(&mut store, &TEXTS), 3, "{region}");
            assert_eq!(store.get(&TEXTS).expect("read"), embed(&TEXTS).expect("made"), "{region}");
            let mut store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
            assert_eq!((fill(&mut store, &TEXTS), store.take_refused().len()), (0, 0), "{region}");
        }
    }

    #[test]
    fn a_shard_that_is_never_read_from_is_never_read() {
        let place = tempfile::tempdir().expect("a folder");
        let mut store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
        fill(&mut store, &TEXTS);
        for shard in &store.shards {
            flip(&shard.path, shard.rows * KEY + 1);
        }
        let mut store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
        assert_eq!((store.len(), store.take_refused().len()), (7, 0));
        assert_eq!(store.missing(&["never"]).expect("nothing to verify"), [0]);
        assert!(store.take_refused().is_empty());
        // The damaged shards of some texts are those of their neighbours too.
        let first = texts_of(&store, 0);
        assert_eq!(store.missing(&first[..1]).expect("read"), [0]);
        assert_eq!((store.len(), store.take_refused().len()), (7 - first.len(), 1));
    }

    #[test]
    fn a_text_of_a_damaged_shard_is_found_in_another() {
        for flipped in 0..2 {
            let place = tempfile::tempdir().expect("a folder");
            let mut writers = [(); 2].map(|()| EmbeddingStore::open(place.path(), "tower", 2).expect("opened"));
            for (writer, texts) in writers.iter_mut().zip([["a", "bb"], ["bb", "ccc"]]) {
                writer.fill(&texts, &mut |texts| embed(texts)).expect("filled");
            }
            let path = shards(&place.path().join("tower")).swap_remove(flipped);
            flip(&path, 2 * KEY + 1);
            let mut store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
            assert_eq!(store.missing(&["a", "bb", "ccc"]).expect("read").len(), 1, "{flipped}");
            assert_eq!(store.take_refused(), [path]);
            assert_eq!(store.get(&["bb"]).expect("read"), embed(&["bb"]).expect("made"));
        }
    }

    #[test]
    fn a_shard_that_changed_since_it_was_verified_is_verified_again() {
        let place = tempfile::tempdir().expect("a folder");
        let mut store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
        fill(&mut store, &TEXTS);
        assert!(store.get(&TEXTS).is_ok());
        let paths: Vec<PathBuf> = store.shards.iter().map(|shard| shard.path.clone()).collect();
        touch(&paths[0]);
        assert!(store.get(&TEXTS).is_ok() && store.take_refused().is_empty());
        flip(&paths[1], store.shards[1].rows * KEY + 1);
        assert_eq!(store.get(&TEXTS).expect_err("modified").path(), Some(paths[1].as_path()));
        let torn = fs::read(&paths[2]).expect("read");
        fs::write(&paths[2], &torn[..torn.len() - 1]).expect("written");
        assert_eq!(fill(&mut store, &TEXTS), store.shards[1].rows + store.shards[2].rows);
        assert_eq!(store.take_refused(), paths[1..]);
        assert_eq!(store.get(&TEXTS).expect("read"), embed(&TEXTS).expect("made"));
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
        fill(&mut store, &TEXTS);
        assert_eq!(store.take_refused().len(), 2);
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
        let mut store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
        assert_eq!((store.take_refused().len(), shards(&folder).len()), (0, 2));
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
        let mut store = EmbeddingStore::open(place.path(), "tower", 2).expect("opened");
        assert_eq!((store.len(), store.take_refused().len()), (60, 0));
    }
}
