//! Files and folders that get their name when they are complete, and the removal of what a killed process left of them.
//!
//! While it is written, the content of `NAME` is in `.NAME.PID-N.partial`, and what it replaces is in `.NAME.PID-N.old`.
//! Each writer has names of its own and holds a lock of the operating system on them: what nobody locks was left behind.
//! Where the system cannot lock a file or folder (folders on Windows, some network file systems), nothing is removed.

use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::sync::{parent, sync_parent, sync_tree};
use super::{remove_folder, write_failed};
use crate::error::{Error, ErrorKind, Result};

const PARTIAL: &str = "partial";
const OLD: &str = "old";
/// Bytes of a name that a temporary name keeps.
const LONGEST_NAME: usize = 200;
/// How long a folder waits for another process that puts one in the same place.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at whether the other process is done.
const PAUSE: Duration = Duration::from_millis(2);

/// Who writes what is under a temporary name.
enum Owner {
    /// Nobody, until this handle locked it.
    Us(File),
    /// Somebody who has locked it, or has moved or removed it.
    Another,
    /// It cannot be locked.
    Unknown,
}

/// Locks what is under a name, if nobody has.
fn claim(path: &Path) -> Owner {
    // Network file systems lock only files that are open for writing, and no folder is.
    match File::options().write(true).open(path).or_else(|_| File::open(path)) {
        Ok(file) => match is_ours(&file, path) {
            Some(true) => Owner::Us(file),
            Some(false) => Owner::Another,
            None => Owner::Unknown,
        },
        Err(_) if path.exists() => Owner::Unknown,
        Err(_) => Owner::Another,
    }
}

/// Whether a file could be locked and still has its name; `None` if it cannot be locked.
fn is_ours(file: &File, path: &Path) -> Option<bool> {
    match file.try_lock() {
        Ok(()) => Some(has_name(file, path)),
        Err(TryLockError::WouldBlock) => Some(false),
        Err(TryLockError::Error(_)) => None,
    }
}

#[cfg(unix)]
fn has_name(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |about: fs::Metadata| (about.dev(), about.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(open), Ok(named)) if place(open.clone()) == place(named.clone()))
}

#[cfg(not(unix))]
fn has_name(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// The name of a file or folder, with room for what is added in file systems that allow 255 bytes.
fn short_name(path: &Path) -> String {
    let mut name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.truncate(name.floor_char_boundary(LONGEST_NAME));
    name
}

/// `.NAME.PID-N.SUFFIX` beside a path, with another `N` each time.
fn temporary(path: &Path, suffix: &str) -> PathBuf {
    static CREATED: AtomicUsize = AtomicUsize::new(0);
    let number = CREATED.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".{}.{}-{number}.{suffix}", short_name(path), std::process::id()))
}

/// The `NAME` of `.NAME.PID-N.SUFFIX`.
fn name_behind<'a>(temporary: &'a str, suffix: &str) -> Option<&'a str> {
    let (name, process) = temporary.strip_prefix('.')?.strip_suffix(suffix)?.strip_suffix('.')?.rsplit_once('.')?;
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    process.split_once('-').is_some_and(|(id, number)| is_number(id) && is_number(number)).then_some(name)
}

/// The files and folders with a temporary name of this suffix; of one `NAME`, if it is given.
fn temporaries(folder: &Path, name: Option<&str>, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_wanted = |entry: &fs::DirEntry| {
        let behind = entry.file_name().to_str().and_then(|entry| name_behind(entry, suffix)).map(str::to_owned);
        behind.is_some_and(|behind| name.is_none_or(|name| name == behind))
            && entry.file_type().is_ok_and(|kind| kind.is_file() || kind.is_dir())
    };
    let mut found: Vec<PathBuf> = entries.filter(is_wanted).map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// Removes those that nobody writes any more. Best effort: what cannot be removed does no harm.
fn sweep(paths: Vec<PathBuf>) {
    for path in paths {
        if let Owner::Us(_lock) = claim(&path) {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.ok();
        }
    }
}

/// Removes what killed processes left in a folder of the files and folders that they wrote there with [`AtomicFile`] and
/// [`PartialFolder`]. What a living process writes stays, and so does everything of another name.
pub fn sweep_folder(folder: impl AsRef<Path>) {
    sweep(temporaries(folder.as_ref(), None, PARTIAL));
}

/// Where the content of a folder is that is missing because the process that replaced it was killed before the new
/// content had its name.
pub fn former_content(folder: impl AsRef<Path>) -> Option<PathBuf> {
    let folder = folder.as_ref();
    let old = || temporaries(parent(folder), Some(&short_name(folder)), OLD).pop();
    if folder.exists() { None } else { old() }
}

/// A file that gets its name only when it is complete.
///
/// Dropping it without [`AtomicFile::commit`] removes what was written.
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("care-atomic-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// use std::io::Write;
/// use care_core::files::AtomicFile;
///
/// let path = folder.join("scores.txt");
/// let mut file = AtomicFile::create(&path)?;
/// writeln!(file, "0.98").unwrap();
/// assert!(!path.exists());
/// file.commit()?;
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "0.98\n");
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), care_core::Error>(())
/// ```
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    partial: PathBuf,
    path: PathBuf,
}

impl AtomicFile {
    /// Opens a new file beside `path`, whose folder must exist, and removes what killed processes left of earlier ones.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        sweep(temporaries(parent(path), Some(&short_name(path)), PARTIAL));
        Self::beside(path)
    }

    /// [`AtomicFile::create`] without a look at the folder, which may be long.
    pub(crate) fn beside(path: &Path) -> Result<Self> {
        loop {
            // Processes in containers may share a number, so a name that is taken is left to its owner.
            let partial = temporary(path, PARTIAL);
            match File::create_new(&partial) {
                // Another process may have taken it for a rest before it was locked.
                Ok(file) if is_ours(&file, &partial) == Some(false) => {}
                Ok(file) => return Ok(Self { file, partial, path: path.to_owned() }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(write_failed(path, e)),
            }
        }
    }

    /// Syncs the content to disk and gives the file its name, replacing an older file. The returned handle still writes
    /// to it.
    ///
    /// # Errors
    /// If the content cannot be written; the older file then stays.
    pub fn commit(self) -> Result<File> {
        let failed = |e| write_failed(&self.path, e);
        let file = self.file.try_clone().map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&self.partial, &self.path).map_err(failed)?;
        sync_parent(&self.path);
        // Where it could not be locked, there is nothing to unlock.
        file.unlock().ok();
        Ok(file)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        // After a commit the file no longer exists.
        fs::remove_file(&self.partial).ok();
    }
}

/// A folder that gets its name only when it is complete.
///
/// Processes that write the same folder do not disturb each other: the last one that commits wins, and nothing is
/// mixed. Dropping it without a commit removes what was written.
///
/// ```
/// # let outer = std::env::temp_dir().join(format!("care-partial-{}", std::process::id()));
/// use care_core::files::PartialFolder;
///
/// let folder = outer.join("pair");
/// let partial = PartialFolder::create(&folder)?;
/// std::fs::write(partial.path().join("care.json"), "{}").unwrap();
/// assert!(!folder.exists());
/// partial.commit()?;
/// assert!(folder.join("care.json").exists());
/// # std::fs::remove_dir_all(&outer).unwrap();
/// # Ok::<(), care_core::Error>(())
/// ```
#[derive(Debug)]
pub struct PartialFolder {
    path: PathBuf,
    target: PathBuf,
    /// Locks the folder under any name.
    _lock: Option<File>,
}

impl PartialFolder {
    /// Makes an empty folder beside `target`, and the folder that both are in. Removes what killed processes left of
    /// earlier ones.
    ///
    /// # Errors
    /// If the folder cannot be created.
    pub fn create(target: impl AsRef<Path>) -> Result<Self> {
        let target = target.as_ref();
        let outer = parent(target);
        fs::create_dir_all(outer).map_err(|e| Error::io("create", outer, e))?;
        sweep(temporaries(outer, Some(&short_name(target)), PARTIAL));
        loop {
            let path = temporary(target, PARTIAL);
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(Error::io("create", &path, e)),
            }
            let lock = match claim(&path) {
                Owner::Us(lock) => Some(lock),
                Owner::Unknown => None,
                // Another process has taken it for a rest before it was locked.
                Owner::Another => continue,
            };
            return Ok(Self { path, target: target.to_owned(), _lock: lock });
        }
    }

    /// Where the files are written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the content to disk and gives the folder its name, replacing an older folder.
    ///
    /// An older folder is moved to `.NAME.PID-N.old` and removed once the new one has its name, so that a crash in
    /// between loses neither: see [`former_content`].
    ///
    /// # Errors
    /// If a file cannot be synced, or a folder cannot be renamed or removed; what had the name before then has it still,
    /// or the message says where it is.
    pub fn commit(self) -> Result<()> {
        sync_tree(&self.path).map_err(|e| write_failed(&self.path, e))?;
        let limit = Instant::now() + PATIENCE;
        while !self.moved()? && !self.replaced()? {
            if Instant::now() > limit {
                let message = format!("{} is in use by another process", self.target.display());
                return Err(Error::new(ErrorKind::Io, message));
            }
            thread::sleep(PAUSE);
        }
        sync_parent(&self.target);
        sweep(temporaries(parent(&self.target), Some(&short_name(&self.target)), OLD));
        Ok(())
    }

    /// [`PartialFolder::commit`] that replaces nothing but an empty folder: returns false if there is another one, and
    /// leaves it.
    ///
    /// # Errors
    /// If a file cannot be synced or the folder cannot be renamed.
    pub fn commit_new(self) -> Result<bool> {
        sync_tree(&self.path).map_err(|e| write_failed(&self.path, e))?;
        let moved = self.moved()?;
        sync_parent(&self.target);
        Ok(moved)
    }

    /// Gives the folder its name, unless it is taken.
    fn moved(&self) -> Result<bool> {
        match fs::rename(&self.path, &self.target) {
            Ok(()) => Ok(true),
            Err(e) if is_taken(&e, &self.target) => Ok(false),
            Err(e) => Err(Error::io("rename", &self.path, e)),
        }
    }

    /// Moves the folder that has the name aside, takes the name and removes that folder. Returns false if another process
    /// came in between.
    fn replaced(&self) -> Result<bool> {
        // Held until the end, so that nobody takes the folder under its new name for a rest.
        let lock = claim(&self.target);
        if matches!(lock, Owner::Another) {
            return Ok(false);
        }
        let old = temporary(&self.target, OLD);
        match fs::rename(&self.target, &old) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::io("rename", &self.target, e)),
        }
        let moved = self.moved().map_err(|error| match fs::rename(&old, &self.target) {
            Err(e) if !is_taken(&e, &self.target) => {
                let message =
                    format!("{error}; the former content of {} is in {}", self.target.display(), old.display());
                Error::new(ErrorKind::Io, message).with_source(error)
            }
            _ => error,
        })?;
        remove_folder(&old)?;
        Ok(moved)
    }
}

impl Drop for PartialFolder {
    fn drop(&mut self) {
        // After a commit the folder no longer exists under this name.
        fs::remove_dir_all(&self.path).ok();
    }
}

/// Whether a folder could not be renamed because another one has the name.
fn is_taken(error: &io::Error, target: &Path) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
        || (cfg!(windows) && target.is_dir())
}

#[cfg(test)]
mod tests {
    use super::super::tests::names;
    use super::*;

    #[test]
    fn a_file_appears_whole_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.json");
        for content in ["one", "two"] {
            let mut file = AtomicFile::create(&path).expect("created");
            file.write_all(content.as_bytes()).expect("written");
            file.commit().expect("renamed");
        }
        let mut dropped = AtomicFile::create(&path).expect("created");
        dropped.write_all(b"half").expect("written");
        drop(dropped);
        assert_eq!((fs::read_to_string(&path).expect("read").as_str(), names(folder.path()).len()), ("two", 1));
        let mut file = AtomicFile::create(&path).expect("created");
        file.write_all(b"three").expect("written");
        file.commit().expect("renamed").write_all(b" and more").expect("the handle still writes");
        assert_eq!(fs::read_to_string(&path).expect("read"), "three and more");
        let error = AtomicFile::create(folder.path().join("no/such/file")).expect_err("no folder");
        assert!(error.to_string().starts_with("cannot write ") && error.path().is_some(), "{error}");
        assert_eq!(names(folder.path()), ["a.json"]);
    }

    #[test]
    fn a_folder_is_replaced_whole() {
        let outer = tempfile::tempdir().expect("a folder");
        let target = outer.path().join("new/pair");
        for content in ["one", "two"] {
            let partial = PartialFolder::create(&target).expect("made");
            fs::create_dir_all(partial.path().join("inner")).expect("made");
            fs::write(partial.path().join("inner/file"), content).expect("written");
            partial.commit().expect("replaced");
            assert_eq!(fs::read_to_string(target.join("inner/file")).expect("read"), content);
            assert_eq!(names(&outer.path().join("new")), ["pair"]);
        }
        let partial = PartialFolder::create(&target).expect("made");
        assert!(!partial.commit_new().expect("not replaced"));
        let partial = PartialFolder::create(&target).expect("made");
        fs::remove_dir(partial.path()).expect("removed");
        let path = partial.path().to_owned();
        assert_eq!(partial.commit().expect_err("nothing to put there").path(), Some(path.as_path()));
        drop(PartialFolder::create(&target).expect("made"));
        assert_eq!((names(&target), names(&outer.path().join("new"))), (vec!["inner".into()], vec!["pair".into()]));
    }

    #[test]
    fn what_was_left_behind_is_removed_and_nothing_else() {
        let outer = tempfile::tempdir().expect("a folder");
        let path = |name: &str| outer.path().join(name);
        let foreign = [".pair.old", ".pair.partial", ".pair.1-x.partial", ".other.1-2.partial", ".a.json.partial"];
        for name in foreign.into_iter().chain([".pair.1-2.partial", ".pair.77-0.old"]) {
            fs::create_dir(path(name)).expect("made");
            fs::write(path(name).join("file"), "mine").expect("written");
        }
        fs::write(path(".a.json.12-34.partial"), "half").expect("written");
        let living =
            (AtomicFile::create(path("a.json")).expect("made"), PartialFolder::create(path("pair")).expect("made"));
        let left = |name: &str| names(outer.path()).iter().any(|left| left == name);
        assert!(!left(".pair.1-2.partial") && !left(".a.json.12-34.partial"));
        // Until there is a new one.
        assert_eq!(former_content(path("pair")), Some(path(".pair.77-0.old")));
        assert_eq!(former_content(path("pai")), None);
        drop((AtomicFile::create(path("a.json")), PartialFolder::create(path("pair")).expect("made")));
        living.0.commit().expect("nobody has removed it");
        living.1.commit().expect("nobody has removed it");
        assert_eq!(former_content(path("pair")), None);
        let mut expected: Vec<&str> = foreign.into_iter().chain(["a.json", "pair"]).collect();
        expected.sort_unstable();
        assert_eq!(names(outer.path()), expected);
        sweep_folder(outer.path());
        assert!(!left(".other.1-2.partial") && left(".pair.partial"));
    }

    #[test]
    fn writers_of_one_folder_do_not_mix() {
        let outer = tempfile::tempdir().expect("a folder");
        let target = outer.path().join("pair");
        let write = |writer: usize| {
            for round in 0..50 {
                let partial = PartialFolder::create(&target).expect("made");
                for file in ["a", "b", "c"] {
                    fs::write(partial.path().join(file), format!("{writer} {round}")).expect("written");
                }
                partial.commit().expect("committed");
            }
        };
        thread::scope(|scope| (0..4).for_each(|writer| drop(scope.spawn(move || write(writer)))));
        let read = |file: &str| fs::read_to_string(target.join(file)).expect("read");
        assert!(read("a").ends_with(" 49") && read("b") == read("a") && read("c") == read("a"));
        assert_eq!((names(outer.path()), names(&target).len()), (vec!["pair".to_owned()], 3));
    }
}
