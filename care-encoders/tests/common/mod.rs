//! Helpers of the integration tests: fixtures and distances between vectors.

#![allow(dead_code, clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use care_core::Embeddings;

use care_encoders::Device;
use serde_json::{Value, json};

/// A fixture, below `tests/data` or, if the tests were built elsewhere, below `CARE_TEST_DATA`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    std::env::var_os("CARE_TEST_DATA").map_or(here, PathBuf::from).join(name)
}

/// A copy of a fixture that tests may modify.
pub(crate) fn copy(name: &str) -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("model");
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    (place, folder)
}

pub(crate) fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

pub(crate) fn cpu() -> burn::tensor::Device {
    Device::Cpu.open().unwrap()
}

pub(crate) fn rows(embeddings: &Embeddings) -> Vec<Vec<f32>> {
    (0..embeddings.len()).map(|row| embeddings.row(row).to_vec()).collect()
}

/// The largest absolute difference of two sets of vectors.
pub(crate) fn difference(left: &[Vec<f32>], right: &[Vec<f32>]) -> f32 {
    assert_eq!(left.len(), right.len());
    let pairs = left.iter().zip(right).flat_map(|(a, b)| {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b)
    });
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The smallest cosine of corresponding vectors.
pub(crate) fn cosine(left: &[Vec<f32>], right: &[Vec<f32>]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let one = |(a, b): (&Vec<f32>, &Vec<f32>)| (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()) as f32;
    left.iter().zip(right).map(one).fold(1.0, f32::min)
}

/// A `modules.json` of sentence-transformers' own modules, each with its folder.
pub(crate) fn modules(rows: &[(&str, &str)]) -> String {
    let rows = rows.iter().enumerate().map(|(idx, (class, path))| {
        let class = format!("sentence_transformers.models.{class}");
        json!({"idx": idx, "name": idx.to_string(), "path": path, "type": class})
    });
    Value::from(rows.collect::<Vec<_>>()).to_string()
}

/// Writes the `config.json` of a module.
pub(crate) fn write_module(folder: &Path, name: &str, config: &Value) {
    fs::create_dir_all(folder.join(name)).unwrap();
    fs::write(folder.join(name).join("config.json"), config.to_string()).unwrap();
}
