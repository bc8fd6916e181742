#![doc = include_str!("../README.md")]

use std::io;
use std::path::{Path, PathBuf};

use include_dir::{Dir, File, include_dir};

static MODEL: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/model");

/// SHA-256 of the files, in hexadecimal: of each one's path below the folder, a zero byte, its content and its length as eight
/// bytes, little-endian, in the order of the paths.
pub const SHA256: &str = include_str!("../model.sha256").trim_ascii_end();

/// The pair as a folder, which `care-encoders` and the program `care` load as any other.
///
/// The first call on a machine writes it to the user's cache folder, or where there is none to that for temporary files, under
/// a name with its hash: `care/care-mini-zh-HASH`. Later calls, also of other programs, find it there and compare the lengths
/// of its files.
///
/// # Errors
/// If the folder can be written in neither place.
pub fn folder() -> io::Result<PathBuf> {
    let places = dirs::cache_dir().into_iter().chain([std::env::temp_dir()]);
    let mut failure = io::Error::other("there is no place for files");
    for place in places {
        match folder_in(&place.join("care")) {
            Ok(folder) => return Ok(folder),
            Err(e) => failure = e,
        }
    }
    Err(failure)
}

/// [`folder`] in a place of one's own.
///
/// # Errors
/// If the place cannot be written.
pub fn folder_in(place: &Path) -> io::Result<PathBuf> {
    let folder = place.join(format!("care-mini-zh-{}", &SHA256[..16]));
    if is_complete(&folder) {
        return Ok(folder);
    }
    std::fs::create_dir_all(place)?;
    let new = tempfile::Builder::new().prefix(".care-mini-zh-").tempdir_in(place)?;
    MODEL.extract(new.path())?;
    // What is there is damaged, or another process has just written it.
    if folder.exists() && !is_complete(&folder) {
        std::fs::remove_dir_all(&folder)?;
    }
    match std::fs::rename(new.path(), &folder) {
        Err(e) if !is_complete(&folder) => Err(e),
        _ => Ok(folder),
    }
}

/// Whether a folder has all files with their lengths.
fn is_complete(folder: &Path) -> bool {
    let is_there = |file: &File<'_>| {
        std::fs::metadata(folder.join(file.path())).is_ok_and(|found| found.len() == file.contents().len() as u64)
    };
    files().iter().all(|file| is_there(file))
}

/// The files in the order of their paths.
fn files() -> Vec<&'static File<'static>> {
    fn below(dir: &'static Dir<'static>, files: &mut Vec<&'static File<'static>>) {
        files.extend(dir.files());
        dir.dirs().for_each(|dir| below(dir, files));
    }
    let mut files = Vec::new();
    below(&MODEL, &mut files);
    files.sort_by_key(|file| file.path());
    files
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_hash_is_that_of_the_files_and_they_are_small_enough() {
        let (mut digest, mut query, mut total) = (Sha256::new(), 0, 0);
        for file in files() {
            let (path, content) = (file.path().to_str().expect("UTF-8"), file.contents());
            digest.update(path.replace('\\', "/"));
            digest.update([0]);
            digest.update(content);
            digest.update((content.len() as u64).to_le_bytes());
            total += content.len();
            query += if path.starts_with("query_") { content.len() } else { 0 };
        }
        let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, SHA256);
        assert!(query <= 12_000_000 && total <= 24_000_000, "{query} of {total} bytes");
    }

    #[test]
    fn a_damaged_folder_is_written_anew_and_a_whole_one_kept() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = folder_in(place.path()).expect("written");
        let file = folder.join("care.json");
        let before = fs::metadata(&file).and_then(|file| file.modified()).expect("a time");
        assert_eq!(folder_in(place.path()).expect("found"), folder);
        assert_eq!(fs::metadata(&file).and_then(|file| file.modified()).expect("a time"), before);
        fs::write(&file, "{").expect("written");
        assert_eq!(folder_in(place.path()).expect("written anew"), folder);
        assert_ne!(fs::read(&file).expect("read"), b"{");
        let left: Vec<_> = fs::read_dir(place.path()).expect("listed").collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error() {
        let place = tempfile::NamedTempFile::new().expect("a file");
        folder_in(place.path()).expect_err("a file is no folder");
    }
}
