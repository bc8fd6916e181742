//! Every command, and every bad input with its message and exit status.

#![allow(clippy::unwrap_used, missing_docs)]

#[cfg(unix)]
mod cache;
mod clean;
mod dedup;
mod embed;
mod encode;
mod eval;
mod export;
mod index;
#[cfg(unix)]
mod killed;
mod label;
mod metrics;
#[cfg(unix)]
mod mine;
mod models;
mod report;
mod rerank;
mod search;
#[cfg(unix)]
mod serve;
#[path = "../../../care-stores/tests/stub/mod.rs"]
mod stub;
mod train;

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use ndarray::Array2;

/// A working folder.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Runs `care` here; returns exit status, stdout and stderr. A `~` in the line is a space within an argument.
    fn care(&self, line: &str) -> (i32, String, String) {
        self.care_with(line, "")
    }

    fn care_with(&self, line: &str, input: &str) -> (i32, String, String) {
        let arguments = line.split_whitespace().map(|part| part.replace('~', " "));
        let output = Command::cargo_bin("care")
            .unwrap()
            .current_dir(self.0.path())
            .args(arguments)
            .write_stdin(input)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), messages(&text(output.stderr)))
    }

    /// Runs `care` and expects its work to fail.
    fn fails(&self, line: &str, message: &str) {
        let (status, stdout, stderr) = self.care(line);
        assert_eq!(
            (status, stderr.trim_end(), stdout.as_str()),
            (1, format!("error: {message}").as_str(), ""),
            "{line}"
        );
    }

    /// Runs `care` and expects its command line to be rejected.
    fn refuses(&self, line: &str, message: &str) {
        let (status, stdout, stderr) = self.care(line);
        assert_eq!((status, stdout.as_str()), (2, ""), "{line}: {stderr}");
        assert!(stderr.contains(message), "{line}: {stderr}");
    }
}

/// What is written to stderr except the lines that say what is being done, what the towers compute and that nothing is
/// embedded yet.
fn messages(stderr: &str) -> String {
    let signs = ["reading ", "loading ", "ready: ", "query tower: ", "document tower: "];
    let is_summary = |line: &str| signs.iter().any(|sign| line.starts_with(sign));
    let is_begin = |line: &str| {
        let (_, count) = line.trim_end().rsplit_once(": 0/").unwrap_or_default();
        count.split_once(' ').is_some_and(|(total, unit)| {
            total.parse::<usize>().is_ok() && ["texts", "documents", "pairs"].contains(&unit)
        })
    };
    stderr.split_inclusive('\n').filter(|line| !is_summary(line) && !is_begin(line)).collect()
}

/// The folder of a tiny checkpoint.
fn tiny(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../care-encoders/tests/data").join(name).display().to_string()
}

/// Copies a tiny checkpoint to a new folder.
fn copy_tiny(name: &str, folder: &Path) {
    fs::create_dir(folder).unwrap();
    for entry in fs::read_dir(tiny(name)).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
}

fn read_npy(path: &Path) -> Array2<f32> {
    ndarray_npy::read_npy(path).unwrap()
}

const TEXTS: &str = "高血压患者能吃党参吗？\n\n头痛发烧三天\n";
