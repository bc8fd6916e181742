//! Getting files and names onto the disk.

use std::fs::{self, File};
use std::io;
use std::path::Path;

pub(super) fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            sync_file(&path)?;
        }
    }
    sync_folder(folder);
    Ok(())
}

/// A handle that only reads will do on Unix, where a file may be read-only, but not on Windows.
pub(super) fn sync_file(path: &Path) -> io::Result<()> {
    let file = if cfg!(unix) { File::open(path) } else { File::options().write(true).open(path) };
    file?.sync_all()
}

/// A rename is on disk when its folder is.
pub(super) fn sync_parent(path: &Path) {
    sync_folder(parent(path));
}

/// The folder that a path is in.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Best effort: a folder that may not be listed, or a file system that does not sync folders, spoils no file in it.
fn sync_folder(folder: &Path) {
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).ok();
    }
}
