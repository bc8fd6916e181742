//! Checkpoints in the form of published models load without any option, with the vectors that Python computes; models
//! that are not supported are refused with a reason. `tests/data/make_real.py` makes them.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use care_core::{Document, Embeddings, Query};
use care_encoders::{Device, EncoderOptions, load_tower};
use serde::Deserialize;

/// Largest difference of a dimension of the normalised vectors.
const TOLERANCE: f32 = 1e-5;

/// Models without support, and what the error says.
const REFUSED: [(&str, &str); 5] = [
    ("NV-Embed-v2", "nvembed"),
    ("jina-embeddings-v2-base-zh", "jina-bert-implementation"),
    ("jina-embeddings-v3", "xlm-roberta-flash-implementation"),
    ("jina-embeddings-v5-text-nano", "`model_type` is \"jina_embeddings_v5\""),
    ("voyage-4-nano", "modeling_voyage.VoyageQwen3BidirectionalEmbedModel"),
];

#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    query: Vec<Vec<f32>>,
    document: Vec<Vec<f32>>,
}

fn real() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/real")
}

/// Largest difference between normalised vectors.
fn difference(embeddings: &Embeddings, expected: &[Vec<f32>]) -> f32 {
    assert_eq!((embeddings.len(), embeddings.dim()), (expected.len(), expected[0].len()));
    let rows = (0..embeddings.len()).map(|row| {
        let vector = embeddings.row(row);
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        vector.iter().zip(&expected[row]).map(|(value, wanted)| (value / length - wanted).abs()).fold(0.0, f32::max)
    });
    rows.fold(0.0, f32::max)
}

/// The largest difference of both roles.
fn compare(folder: &Path) -> Result<f32, String> {
    let expected: Expected = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let device = Device::Cpu.open().unwrap();
    let options = EncoderOptions::default();
    let of_queries = || {
        let tower = load_tower::<Query>(folder, &options, &device)?;
        tower.embed(&expected.texts.iter().cloned().map(Query::from).collect::<Vec<_>>(), 4096)
    };
    let of_documents = || {
        let tower = load_tower::<Document>(folder, &options, &device)?;
        tower.embed(&expected.texts.iter().cloned().map(Document::from).collect::<Vec<_>>(), 4096)
    };
    let queries = of_queries().map_err(|error| error.to_string())?;
    let documents = of_documents().map_err(|error| error.to_string())?;
    Ok(difference(&queries, &expected.query).max(difference(&documents, &expected.document)))
}

fn names() -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(real()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn published_forms_give_the_vectors_of_python_without_options() {
    let mut wrong = Vec::new();
    let mut right = 0;
    for name in names().iter().filter(|name| REFUSED.iter().all(|(refused, _)| refused != name)) {
        match compare(&real().join(name)) {
            Ok(difference) if difference <= TOLERANCE => {
                eprintln!("{name}: {difference:.1e}");
                right += 1;
            }
            Ok(difference) => wrong.push(format!("{name}: differs by {difference:.2e}")),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{right} are right, but not:\n{}", wrong.join("\n"));
    assert_eq!(right, 47);
}

#[test]
fn models_without_support_are_refused_by_name() {
    for (name, reason) in REFUSED {
        let folder = real().join(name);
        let error = load_tower::<Query>(&folder, &EncoderOptions::default(), &Device::Cpu.open().unwrap());
        let message = error.err().unwrap_or_else(|| panic!("{name} loads")).to_string();
        assert!(message.contains(reason) && message.contains("config.json"), "{name}: {message}");
    }
}
