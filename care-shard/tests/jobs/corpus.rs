//! A corpus of short rows of random lengths in two files.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use care_core::{Document, Embedder};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) const ROWS: usize = 1000;

/// Ids and documents in order.
pub(crate) fn documents() -> Vec<(String, Document)> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut document = |number: usize| {
        let text: String = (0..random.random_range(0..60)).map(|_| random.random_range('一'..'龥')).collect();
        let title = if number.is_multiple_of(3) { "标题" } else { "" };
        (format!("d{number}"), Document::with_title(title, text))
    };
    (0..ROWS).map(&mut document).collect()
}

/// Writes the documents to two files of a folder.
pub(crate) fn write(folder: &Path) {
    let documents = documents();
    for (name, part) in [("a.jsonl", &documents[..700]), ("b.jsonl", &documents[700..])] {
        let mut rows = String::new();
        for (id, document) in part {
            let row = serde_json::json!({ "_id": id, "title": document.title(), "text": document.text(), "n": 1 });
            writeln!(rows, "{row}").unwrap();
        }
        fs::write(folder.join(name), rows).unwrap();
    }
}

/// Ids and vectors as the embedder gives them.
pub(crate) fn expected(embedder: &dyn Embedder) -> Vec<(String, Vec<f32>)> {
    let vector = |document| embedder.embed_documents(&[document]).unwrap().row(0).to_vec();
    documents().into_iter().map(|(id, document)| (id, vector(document))).collect()
}
