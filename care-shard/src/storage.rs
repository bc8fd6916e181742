//! Objects below a place of a file system or of an object store, read and written one call after the other.

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use care_core::{Error, ErrorKind, Result};
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::registry::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use object_store::{Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, parse_url};
use tokio::runtime::{Builder, Runtime};
use url::Url;

/// The stores of a process: the local file system, object stores by URL, each opened once.
///
/// Credentials and endpoints of object stores are read from environment variables such as `AWS_ACCESS_KEY_ID`,
/// `AWS_ENDPOINT_URL`, `GOOGLE_SERVICE_ACCOUNT` and `AZURE_STORAGE_ACCOUNT_NAME`, as object_store names them. Calls block,
/// so they must not come from a thread that drives an async runtime.
#[derive(Debug, Clone)]
pub struct Stores {
    registry: Arc<DefaultObjectStoreRegistry>,
    runtime: Arc<Runtime>,
}

/// A place in a store: one object, or the objects whose names are below it.
#[derive(Debug, Clone)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    base: Path,
    url: Url,
    runtime: Arc<Runtime>,
}

/// What is known of an object without reading it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The part of the name below the place.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// Seconds since 1970 by the store's clock; no finer, since stores round differently.
    pub(crate) modified: i64,
}

impl Stores {
    /// The local file system, and every object store whose feature is compiled in.
    ///
    /// # Errors
    /// If the system has no threads left.
    pub fn new() -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|e| Error::io("start a thread for", "the object store", e))?;
        let stores = Self { registry: Arc::default(), runtime: Arc::new(runtime) };
        // A name is on disk when its content is.
        stores.register("file:///", Arc::new(LocalFileSystem::new().with_fsync(true)))?;
        Ok(stores)
    }

    /// Uses `store` for all places whose URL begins with `url`.
    ///
    /// # Errors
    /// If `url` is none.
    pub fn register(&self, url: &str, store: Arc<dyn ObjectStore>) -> Result<()> {
        let parsed = Url::parse(url).map_err(|e| Error::format(url, format!("not a URL: {e}")).with_source(e))?;
        self.registry.register(parsed, store);
        Ok(())
    }

    /// Opens a place: a local path, or a URL such as `s3://bucket/folder`.
    ///
    /// # Errors
    /// If the URL is not understood, its feature is not compiled in, or the store's settings are incomplete.
    pub fn open(&self, place: &str) -> Result<Storage> {
        let url = url_of(place)?;
        let (store, base) = self.registry.resolve(&url).map_err(|unknown| {
            // The registry keeps the reason to itself.
            let reason = parse_url(&url).err().unwrap_or(unknown);
            let problem = format!("cannot open {place}: {reason}");
            Error::new(ErrorKind::Config, problem).with_source(reason)
        })?;
        // The registry leaves the path as it is in the URL.
        let base = Path::from_url_path(base.as_ref())
            .map_err(|e| Error::format(place, format!("not the name of an object: {e}")).with_source(e))?;
        Ok(Storage { store, base, url, runtime: self.runtime.clone() })
    }
}

/// The URL of a place. A local path becomes absolute.
fn url_of(place: &str) -> Result<Url> {
    if place.contains("://") {
        return Url::parse(place).map_err(|e| Error::format(place, format!("not a URL: {e}")).with_source(e));
    }
    let absolute = std::path::absolute(place).map_err(|e| Error::io("locate", place, e))?;
    Url::from_file_path(absolute).map_err(|()| Error::format(place, "not a path"))
}

impl Storage {
    /// The URL of the place.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The URL of an object below the place, for messages.
    pub(crate) fn url_of(&self, name: &str) -> String {
        match name {
            "" => self.url().to_owned(),
            _ => format!("{}/{name}", self.url().trim_end_matches('/')),
        }
    }

    /// The place of an object that was found below this one.
    pub(crate) fn below(&self, name: &str) -> Result<Self> {
        let mut url = self.url.clone();
        match url.path_segments_mut() {
            // A name is no part of a URL yet: `#`, `?` and `%` in it are escaped.
            Ok(mut segments) => {
                segments.pop_if_empty().extend(name.split('/'));
            }
            Err(()) => return Err(Error::format(self.url(), "a URL below which there are no others")),
        }
        Ok(Self { base: self.path(name)?, url, ..self.clone() })
    }

    fn path(&self, name: &str) -> Result<Path> {
        let path = Path::parse(format!("{}/{name}", self.base).trim_matches('/'));
        path.map_err(|e| Error::format(self.url_of(name), format!("not the name of an object: {e}")).with_source(e))
    }

    fn failed(&self, what: &str, name: &str, error: StoreError) -> Error {
        Error::io(what, self.url_of(name), io::Error::other(error))
    }

    /// The content of an object, if it exists.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let path = self.path(name)?;
        let read = async { self.store.get(&path).await?.bytes().await };
        self.optional(name, self.runtime.block_on(read))
    }

    /// Part of the content of an object.
    pub(crate) fn range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let read = self.runtime.block_on(self.store.get_range(&self.path(name)?, range.clone()));
        let bytes = read.map_err(|e| self.failed("read", name, e))?;
        match bytes.len() as u64 == range.end - range.start {
            true => Ok(bytes),
            false => Err(Error::format(self.url_of(name), "the object is shorter than it was")),
        }
    }

    /// What is known of an object, if it exists.
    pub(crate) fn head(&self, name: &str) -> Result<Option<Found>> {
        let found = self.runtime.block_on(self.store.head(&self.path(name)?));
        Ok(self.optional(name, found)?.map(|meta| found_of(name.to_owned(), &meta)))
    }

    fn optional<T>(&self, name: &str, result: object_store::Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed("read", name, e)),
        }
    }

    /// Writes an object, or replaces it.
    pub(crate) fn put(&self, name: &str, content: Vec<u8>) -> Result<()> {
        let written = self.runtime.block_on(self.store.put(&self.path(name)?, content.into()));
        written.map(drop).map_err(|e| self.failed("write", name, e))
    }

    /// Writes an object unless there is one of this name. Returns whether its content is `content`, which must differ from
    /// what any other writer would write: then the answer is right even if that of an earlier attempt was lost.
    pub(crate) fn create(&self, name: &str, content: Vec<u8>) -> Result<bool> {
        let payload = content.clone().into();
        let written = self.runtime.block_on(self.store.put_opts(&self.path(name)?, payload, PutMode::Create.into()));
        match written {
            Ok(_) => Ok(true),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                Ok(self.get(name)?.is_some_and(|there| there == content))
            }
            Err(e) => Err(self.failed("create", name, e)),
        }
    }

    /// Removes an object; one that does not exist is no error.
    pub(crate) fn delete(&self, name: &str) -> Result<()> {
        match self.runtime.block_on(self.store.delete(&self.path(name)?)) {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.failed("remove", name, e)),
        }
    }

    /// The objects below a folder, by name; in those, the folder is left out.
    pub(crate) fn list(&self, folder: &str) -> Result<Vec<Found>> {
        let path = self.path(folder)?;
        let listed = self.store.list(Some(&path)).try_collect::<Vec<ObjectMeta>>();
        let listed = self.runtime.block_on(listed).map_err(|e| self.failed("list", folder, e))?;
        let name = |meta: &ObjectMeta| {
            let parts: Vec<String> = meta.location.prefix_match(&path)?.map(|part| part.as_ref().to_owned()).collect();
            Some(parts.join("/"))
        };
        let mut found: Vec<Found> = listed.iter().filter_map(|meta| Some(found_of(name(meta)?, meta))).collect();
        found.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(found)
    }
}

fn found_of(name: String, meta: &ObjectMeta) -> Found {
    Found { name, bytes: meta.size, modified: meta.last_modified.timestamp() }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn each(check: impl Fn(&Stores, &Storage)) {
        let (folder, stores) = (tempfile::tempdir().expect("a folder"), Stores::new().expect("threads"));
        stores.register("mem://test/", Arc::new(InMemory::new())).expect("a URL");
        for place in [folder.path().join("新 %41/job").to_str().expect("UTF-8"), "mem://test/job"] {
            check(&stores, &stores.open(place).expect("opened"));
        }
    }

    #[test]
    fn an_object_is_created_once() {
        each(|_, storage| {
            assert!(storage.get("a/b").expect("read").is_none() && storage.head("a").expect("read").is_none());
            assert!(storage.create("a/b", b"one".to_vec()).expect("created"));
            assert!(!storage.create("a/b", b"two".to_vec()).expect("kept"));
            // As if the first answer had been lost.
            assert!(storage.create("a/b", b"one".to_vec()).expect("its own"));
            assert_eq!(storage.get("a/b").expect("read").as_deref(), Some(&b"one"[..]));
            storage.put("a/c", b"three".to_vec()).expect("written");
            storage.put("a/b", b"four".to_vec()).expect("replaced");
            let listed: Vec<(String, u64)> =
                storage.list("a").expect("listed").into_iter().map(|found| (found.name, found.bytes)).collect();
            assert_eq!(listed, [("b".to_owned(), 4), ("c".to_owned(), 5)]);
            assert_eq!(storage.range("a/c", 1..3).expect("read"), "hr");
            assert!(storage.range("a/c", 1..9).is_err());
            storage.delete("a/b").expect("removed");
            storage.delete("a/b").expect("not there");
            assert_eq!(storage.below("a/c").expect("a URL").get("").expect("read").as_deref(), Some(&b"three"[..]));
        });
    }

    #[test]
    fn a_name_may_have_characters_with_a_meaning_in_urls() {
        each(|stores, storage| {
            for name in ["a#b.jsonl", "a?b.jsonl", "a%41b.jsonl", "c d/%.jsonl"] {
                storage.put(name, name.as_bytes().to_vec()).expect("written");
            }
            let listed = storage.list("").expect("listed");
            assert_eq!(listed.len(), 4);
            for Found { name, .. } in listed {
                let below = storage.below(&name).expect("a place");
                // As a worker opens it.
                let opened = stores.open(below.url()).expect("opened");
                for place in [&below, &opened] {
                    assert_eq!(place.get("").expect("read").as_deref(), Some(name.as_bytes()), "{}", below.url());
                }
            }
        });
    }

    #[test]
    fn unknown_places_are_refused() {
        let stores = Stores::new().expect("threads");
        for place in ["ftp://host/a", "http://"] {
            assert!(stores.open(place).is_err(), "{place}");
        }
        #[cfg(not(feature = "s3"))]
        {
            let error = stores.open("s3://bucket/a").expect_err("not compiled in").to_string();
            assert!(error.starts_with("cannot open s3://bucket/a: ") && error.contains("not enabled"), "{error}");
        }
        assert!(stores.open("relative").expect("a path").url().starts_with("file:///"));
    }
}
