//! Verifies a file against the length and hash that the hub announced.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files::hex;

/// Bytes read at a time.
const CHUNK: usize = 1 << 16;

/// A difference from what the hub announced.
pub(super) struct Mismatch {
    pub(super) expected: String,
    pub(super) found: String,
}

/// Compares a file's length and hash with what the hub announced.
///
/// An etag of 64 hexadecimal digits is the content's SHA-256 (large files), one of 40 digits the SHA-1 of git's blob.
/// Any other, which only mirrors send, is not checked.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn compare(path: &Path, etag: &str, size: u64) -> Result<Option<Mismatch>> {
    let cannot_read = |e| Error::io("read", path, e);
    let mut file = File::open(path).map_err(cannot_read)?;
    let length = file.metadata().map_err(cannot_read)?.len();
    if length != size {
        return Ok(Some(Mismatch { expected: format!("{size} bytes"), found: format!("{length}") }));
    }
    let etag = etag.trim_start_matches("W/");
    let (algorithm, found) = match etag.len() {
        _ if !etag.bytes().all(|b| b.is_ascii_hexdigit()) => return Ok(None),
        64 => ("SHA-256", hash(Sha256::new(), &mut file).map_err(cannot_read)?),
        40 => {
            let header = Sha1::new().chain_update(format!("blob {length}\0"));
            ("git blob", hash(header, &mut file).map_err(cannot_read)?)
        }
        _ => return Ok(None),
    };
    let same = found.eq_ignore_ascii_case(etag);
    Ok((!same).then(|| Mismatch { expected: format!("{algorithm} {etag}"), found }))
}

fn hash<D: Digest>(mut digest: D, file: &mut File) -> std::io::Result<String> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex(digest.finalize())),
            read => digest.update(&chunk[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_a_sha_256_or_a_git_blob() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        std::fs::write(&path, "abc").expect("written");
        let differs = |etag: &str, size| {
            compare(&path, etag, size).expect("read").map(|mismatch| (mismatch.expected, mismatch.found))
        };
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let blob = "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f"; // `printf abc | git hash-object --stdin`
        assert_eq!(differs(sha256, 3), None);
        assert_eq!(differs(blob, 3), None);
        assert_eq!(differs(&format!("W/{blob}"), 3), None);
        assert_eq!(differs("a-mirrors-own", 3), None);
        assert_eq!(differs(sha256, 4), Some(("4 bytes".into(), "3".into())));
        let zeros = "0".repeat(40);
        assert_eq!(differs(&zeros, 3), Some((format!("git blob {zeros}"), blob.into())));
    }
}
