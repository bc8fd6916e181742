//! Atomic writes of files and folders, and small file utilities.
//!
//! Content is written under a temporary name in the same folder, synced to disk, and renamed. A crash leaves the old
//! content or the new, never half of it.

mod model;
mod partial;
mod sync;

pub use model::model_files;
#[cfg(feature = "hub")]
pub(crate) use model::{VOCABULARIES, is_model_file, list_files, split};
pub use partial::{AtomicFile, PartialFolder, former_content, sweep_folder};

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use self::sync::{sync_file, sync_parent};
use crate::error::{Error, ErrorKind, Result};

/// Largest file that [`read_file`] reads: 512 MB, ten times the largest tokenizer.
const LARGEST_TEXT: u64 = 512 << 20;
/// The beginning of a git-lfs pointer, which has fewer than 1024 bytes.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// The file in a locked folder that carries the lock.
const LOCK: &str = ".lock";
/// Bytes of a file in memory while it is hashed.
const HASHED_AT_ONCE: usize = 1 << 20;
/// Bytes of a [`Key`].
pub(crate) const KEY: usize = 16;
/// What files know a text or an id by: the first 128 bits of its SHA-256.
pub(crate) type Key = [u8; KEY];

/// Writes a file whole or not at all, replacing an older one.
///
/// # Errors
/// If it cannot be written; the older file then stays.
pub fn write_atomic(path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
    let path = path.as_ref();
    let mut file = AtomicFile::create(path)?;
    file.write_all(content.as_ref()).map_err(|e| write_failed(path, e))?;
    file.commit().map(drop)
}

/// Gives a file that is complete its final name: synced before and after, so that the name never precedes the content.
///
/// # Errors
/// If the file cannot be synced or renamed.
pub fn rename_file(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    rename(from.as_ref(), to.as_ref()).map_err(|e| Error::io("rename", from.as_ref(), e))
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    sync_file(from)?;
    fs::rename(from, to)?;
    sync_parent(to);
    Ok(())
}

/// An exclusive lock of a folder, held until it is dropped or its process ends, in whatever way.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// Locks a folder, which must exist, against other callers of this function, in this process and in others.
///
/// The lock is that of the operating system on the file `.lock` in the folder, which names the holder and stays behind;
/// the file alone locks nothing. On a file system without locks, nothing is locked.
///
/// # Errors
/// If the folder is locked already (the message names the holder), or the file cannot be written.
pub fn lock_folder(folder: impl AsRef<Path>) -> Result<FolderLock> {
    let folder = folder.as_ref();
    let path = folder.join(LOCK);
    let failed = |e| Error::io("lock", &path, e);
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).ok().filter(|holder| !holder.is_empty());
            let holder = holder.map_or_else(|| "another process".to_owned(), |holder| holder.trim().to_owned());
            return Err(Error::new(ErrorKind::Io, format!("{} is in use by {holder}", folder.display())));
        }
        Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "process {} on {}", std::process::id(), host_name()).map_err(failed)?;
    Ok(FolderLock { _file: file })
}

/// The name of this machine, as far as it can be found without a dependency.
fn host_name() -> String {
    let of_linux = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = of_linux.or_else(|| std::env::var("COMPUTERNAME").ok()).or_else(|| std::env::var("HOSTNAME").ok());
    name.map_or_else(|| "an unnamed host".to_owned(), |name| name.trim().to_owned())
}

/// `.NAME.SUFFIX` beside a file or folder.
pub fn sibling(path: impl AsRef<Path>, suffix: &str) -> PathBuf {
    let path = path.as_ref();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{suffix}"))
}

/// Removes a folder and its content; succeeds if it does not exist.
///
/// # Errors
/// If a file or folder cannot be removed.
pub fn remove_folder(folder: impl AsRef<Path>) -> Result<()> {
    let folder = folder.as_ref();
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", folder, e)),
        _ => Ok(()),
    }
}

fn write_failed(path: &Path, cause: io::Error) -> Error {
    Error::io("write", path, cause)
}

/// Opens a file for reading.
///
/// # Errors
/// If it cannot be opened, is a folder, a pipe or a device, or is a git-lfs pointer, which a clone without git-lfs has
/// in place of a large file.
pub fn open_file(path: impl AsRef<Path>) -> Result<File> {
    open_to("open", path.as_ref())
}

/// Opens an input, which may be a pipe.
///
/// # Errors
/// If it cannot be opened or is a git-lfs pointer.
pub fn open_input(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => open_file(path),
        _ => File::open(path).map_err(|e| Error::io("open", path, e)),
    }
}

/// Reads bytes from an offset. On Windows the file's cursor is behind them afterwards, elsewhere it stays where it was.
///
/// # Errors
/// If the file has fewer bytes or cannot be read.
pub fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    read_at(file, bytes, offset)
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                bytes = &mut bytes[read..];
                offset += read as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// [`open_file`] with the purpose that its errors name.
fn open_to(purpose: &str, path: &Path) -> Result<File> {
    let failed = |e| Error::io(purpose, path, e);
    // Before it is opened, since opening a pipe waits for its other end.
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(Error::format(path, "not a regular file"));
    }
    let mut file = File::open(path).map_err(failed)?;
    if (POINTER.len() as u64..1024).contains(&metadata.len()) {
        let mut start = [0; POINTER.len()];
        let read = file.read_exact(&mut start).and_then(|()| file.seek(SeekFrom::Start(0)));
        read.map_err(failed)?;
        if start == POINTER {
            return Err(Error::format(path, "a git-lfs pointer, not the file itself; fetch it with `git lfs pull`"));
        }
    }
    Ok(file)
}

/// Reads a file whole.
///
/// # Errors
/// As [`open_file`], and if it has more than 512 MB.
pub fn read_file(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let failed = |e| Error::io("read", path, e);
    let file = open_to("read", path)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > LARGEST_TEXT {
        return Err(Error::format(path, format!("{length} bytes, allowed: at most {LARGEST_TEXT}")));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(LARGEST_TEXT).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The `.jsonl` and `.jsonl.gz` files of a folder, sorted by path. A path that is not a folder is returned as it is.
///
/// # Errors
/// If the folder cannot be read or holds no such file.
pub fn jsonl_files(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let path = path.as_ref();
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).map_err(|e| Error::io("read the folder", path, e))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.to_string_lossy().trim_end_matches(".gz").ends_with(".jsonl"));
    if files.is_empty() {
        return Err(Error::format(path, "the folder contains no .jsonl files"));
    }
    files.sort();
    Ok(files)
}

/// The SHA-256 of bytes, in hexadecimal.
pub fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    hex(Sha256::digest(bytes))
}

/// The length in bytes and the SHA-256, in hexadecimal, of a file, read block by block.
///
/// # Errors
/// If the file cannot be read.
pub fn sha256_file(path: impl AsRef<Path>) -> Result<(u64, String)> {
    let path = path.as_ref();
    let failed = |e| Error::io("read", path, e);
    let mut file = File::open(path).map_err(failed)?;
    let (mut digest, mut block, mut length) = (Sha256::new(), vec![0; HASHED_AT_ONCE], 0);
    loop {
        match file.read(&mut block).map_err(failed)? {
            0 => return Ok((length, hex(digest.finalize()))),
            read => {
                digest.update(&block[..read]);
                length += read as u64;
            }
        }
    }
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a word that may be a path or a Hugging Face hub repository looks like a repository, `ORG/NAME`.
///
/// A path that exists on this machine takes precedence; callers check that first.
pub fn is_hub_name(word: &str) -> bool {
    word.contains('/') && !word.starts_with(['.', '/', '~'])
}

/// The key of a text or an id.
pub(crate) fn key(text: &str) -> Key {
    let mut key = [0; KEY];
    key.copy_from_slice(&Sha256::digest(text)[..KEY]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_has_one_lock_at_a_time() {
        let outer = tempfile::tempdir().expect("a folder");
        for name in ["one", "two"] {
            let folder = outer.path().join(name);
            assert_eq!(lock_folder(&folder).expect_err("no folder").kind(), ErrorKind::Io);
            fs::create_dir(&folder).expect("made");
            // What a holder that was killed leaves behind.
            fs::write(folder.join(LOCK), "process 1 on a host with a very long name").expect("written");
            let lock = lock_folder(&folder).expect("free");
            let error = lock_folder(&folder).expect_err("taken").to_string();
            let expected = format!("{} is in use by process {} on ", folder.display(), std::process::id());
            assert!(error.starts_with(&expected) && !error.contains("long name"), "{error}");
            drop(lock);
            lock_folder(&folder).expect("free again");
        }
    }

    #[test]
    fn only_files_are_opened_and_pointers_of_git_lfs_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 470641600\n";
        for (name, content) in
            [("pointer", pointer), ("start", &pointer[..30]), ("long", &pointer.repeat(20)), ("empty", "")]
        {
            fs::write(path(name), content).expect("written");
        }
        fs::create_dir(path("folder")).expect("made");
        for (name, problem) in [
            ("pointer", ": a git-lfs pointer, not the file itself; fetch it with `git lfs pull`"),
            ("folder", ": not a regular file"),
            #[cfg(unix)]
            ("/dev/null", ": not a regular file"),
        ] {
            let path = path(name);
            for error in [open_file(&path).expect_err(name), read_file(&path).expect_err(name)] {
                assert_eq!(error.to_string(), format!("{}{problem}", path.display()));
            }
        }
        for name in ["start", "long", "empty"] {
            assert_eq!(read_file(path(name)).expect(name), fs::read(path(name)).expect(name));
        }
        let none = path("none");
        assert_eq!(read_file(&none).expect_err("none").to_string(), format!("cannot read {}", none.display()));
        assert_eq!(open_file(&none).expect_err("none").to_string(), format!("cannot open {}", none.display()));
    }

    #[test]
    fn jsonl_files_are_sorted_and_an_empty_folder_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = jsonl_files(folder.path()).expect_err("none");
        assert!(error.to_string().ends_with(": the folder contains no .jsonl files"), "{error}");
        for name in ["b.jsonl.gz", "a.jsonl", "c.txt"] {
            fs::write(folder.path().join(name), "").expect("written");
        }
        let files = jsonl_files(folder.path()).expect("two");
        assert_eq!(files, ["a.jsonl", "b.jsonl.gz"].map(|name| folder.path().join(name)));
        assert_eq!(jsonl_files("x.txt").expect("a path stands for itself"), [PathBuf::from("x.txt")]);
    }

    #[test]
    fn hashes_and_hub_names() {
        assert_eq!(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hex(key("abc")), sha256_hex("abc")[..2 * KEY]);
        let folder = tempfile::tempdir().expect("a folder");
        let long = vec![7; HASHED_AT_ONCE + 1];
        for content in [&b"abc"[..], &long] {
            fs::write(folder.path().join("file"), content).expect("written");
            let hashed = sha256_file(folder.path().join("file")).expect("read");
            assert_eq!(hashed, (content.len() as u64, sha256_hex(content)));
        }
        assert!(is_hub_name("Qwen/Qwen3-Embedding-0.6B@main"));
        for path in ["model", "./model/x", "../x", "/models/x", "~/x"] {
            assert!(!is_hub_name(path), "{path}");
        }
    }
}
