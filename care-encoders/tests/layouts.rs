//! Loads the same weights from the forms of published checkpoints: shards, prefixes, unused heads, bf16.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use care_core::{Embeddings, Query};

use care_encoders::{Device, EncoderOptions, load_encoder, load_tower};
use half::bf16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::json;

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/qwen3")
}

fn read() -> Tensors {
    let bytes = fs::read(tiny().join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |view: &TensorView<'_>| {
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>()
    };
    file.tensors().into_iter().map(|(name, view)| (name, (view.shape().to_vec(), values(&view)))).collect()
}

fn write(path: &Path, tensors: &Tensors, dtype: Dtype) {
    let bytes: Vec<Vec<u8>> = tensors
        .values()
        .map(|(_, values)| match dtype {
            Dtype::BF16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        })
        .collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, (shape, _)), bytes)| (name, TensorView::new(dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// A folder with the tiny model's configuration and tokenizer, and the weights that `make` writes.
fn folder(make: impl FnOnce(&Path, Tensors)) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(tiny().join(file), place.path().join(file)).unwrap();
    }
    make(place.path(), read());
    place
}

fn embed(folder: &Path) -> Embeddings {
    let tower = load_tower::<Query>(folder, &EncoderOptions::default(), &Device::Cpu.open().unwrap()).unwrap();
    tower.embed(&["高血压患者能吃党参吗？".into(), "你好".into()], 4096).unwrap()
}

fn refusal(folder: &Path) -> String {
    let error = load_encoder(folder, &EncoderOptions::default(), &Device::Cpu.open().unwrap()).unwrap_err().to_string();
    error.replace(&folder.display().to_string(), "M")
}

/// Two shards and their index.
fn shards(folder: &Path, tensors: Tensors) {
    let mut halves = [Tensors::new(), Tensors::new()];
    let mut map = serde_json::Map::new();
    for (index, (name, tensor)) in tensors.into_iter().enumerate() {
        map.insert(name.clone(), json!(format!("model-0000{}-of-00002.safetensors", index % 2 + 1)));
        halves[index % 2].insert(name, tensor);
    }
    for (index, half) in halves.iter().enumerate() {
        write(&folder.join(format!("model-0000{}-of-00002.safetensors", index + 1)), half, Dtype::F32);
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

#[test]
fn shards_equal_one_file() {
    let place = folder(shards);
    assert_eq!(embed(place.path()), embed(&tiny()));
}

#[test]
fn a_causal_language_model_loads_without_its_head() {
    let place = folder(|folder, tensors| {
        let mut named: Tensors = tensors.into_iter().map(|(name, tensor)| (format!("model.{name}"), tensor)).collect();
        named.insert("lm_head.weight".into(), (vec![320, 64], vec![0.5; 320 * 64]));
        write(&folder.join("model.safetensors"), &named, Dtype::F32);
    });
    assert_eq!(embed(place.path()), embed(&tiny()));
}

#[test]
fn bf16_weights_are_read() {
    let place = folder(|folder, tensors| write(&folder.join("model.safetensors"), &tensors, Dtype::BF16));
    let (half, full) = (embed(place.path()), embed(&tiny()));
    assert_ne!(half, full);
    for row in 0..full.len() {
        assert!(full.cosine(row, &half, row) > 0.999);
    }
}

#[test]
fn shards_that_do_not_fit_their_index_are_refused() {
    let place = folder(shards);
    let second = place.path().join("model-00002-of-00002.safetensors");
    let (bytes, index) = (fs::read(&second).unwrap(), place.path().join("model.safetensors.index.json"));
    fs::remove_file(&second).unwrap();
    assert_eq!(refusal(place.path()), "cannot open M/model-00002-of-00002.safetensors");
    fs::write(&second, &bytes).unwrap();
    let text = fs::read_to_string(&index).unwrap().replace("\"norm.weight\"", "\"norm.other\"");
    fs::write(&index, text).unwrap();
    let message = refusal(place.path());
    assert!(message.starts_with("M/model.safetensors.index.json: tensor `norm.other` is not in model-"), "{message}");
}
