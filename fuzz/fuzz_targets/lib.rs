//! What the fuzz targets share: a temporary folder for the life of the process, and files in it.

use std::fs;
use std::path::{Path, PathBuf};

/// A folder whose files the target overwrites in every run.
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// An empty folder.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// A copy of a fixture of care-encoders.
    pub fn of_fixture(name: &str) -> Self {
        let folder = Self::new();
        for entry in fs::read_dir(fixture(name)).expect("a fixture of care-encoders") {
            let entry = entry.expect("an entry of the fixture");
            fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("a copy of the fixture");
        }
        folder
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, content).expect("a file in the temporary folder");
        path
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

/// The folder of a fixture of care-encoders.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../care-encoders/tests/data").join(name)
}

/// Leaves a panic that our code turns into an error to that code: libFuzzer's hook would end the process.
pub fn allow_guarded_panics() {
    let end = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !care_core::guard::is_guarded() {
            end(panic);
        }
    }));
}
