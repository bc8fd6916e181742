//! Parity with transformers on tiny checkpoints; `tests/data/make_reference.py` made the values.
//! The differences it prints are the table of `docs/parity.md`.

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use care_core::{
    Device, Document, Embedder, HeadConfig, Instruction, Network, PaddingSide, Pooling, TokenBatch, Tokenizer, Tower,
};
use care_encoders::{AnyEncoder, AsymmetricEncoder, EncoderOptions, load_encoder, load_tower};
use serde_json::Value;

const TOLERANCE: f32 = 1e-5;
const POOLINGS: [(&str, Pooling); 3] = [("cls", Pooling::Cls), ("mean", Pooling::Mean), ("last", Pooling::LastToken)];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(folder("golden.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[name].clone()
}

fn ids(case: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(case["ids"].clone()).unwrap()
}

fn vectors(value: &Value) -> Vec<Vec<f32>> {
    serde_json::from_value(value.clone()).unwrap()
}

fn network(name: &str, pooling: Pooling, normalize: bool) -> Network<AnyEncoder> {
    let device = Device::Cpu.open().unwrap();
    let head = HeadConfig { normalize, ..HeadConfig::new(pooling) };
    Network::new(load_encoder(&folder(name), &device).unwrap(), head, &device).unwrap()
}

fn forward(network: &Network<AnyEncoder>, texts: &[Vec<u32>], pad: u32, side: PaddingSide) -> Vec<Vec<f32>> {
    let data = network.forward(&TokenBatch::pad(texts, pad, side)).into_data();
    data.as_slice::<f32>().unwrap().chunks(network.embedding_dim()).map(<[f32]>::to_vec).collect()
}

fn difference(left: &[Vec<f32>], right: &[Vec<f32>]) -> f32 {
    assert_eq!(left.len(), right.len());
    let pairs = left.iter().flatten().zip(right.iter().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn check(name: &str, pad: u32) {
    let golden = golden(name);
    for case in ["ids", "text"] {
        let expected = &golden[case];
        let texts = ids(expected);
        for (key, pooling) in POOLINGS {
            for (suffix, normalize) in [("", true), ("_raw", false)] {
                let network = network(name, pooling, normalize);
                let alone: Vec<Vec<f32>> = texts
                    .iter()
                    .flat_map(|text| forward(&network, std::slice::from_ref(text), pad, PaddingSide::Right))
                    .collect();
                let unpadded = vectors(&expected["unpadded"][format!("{key}{suffix}")]);
                let off = difference(&alone, &unpadded);
                eprintln!("{name:8} {case:5} {key:5} {} unpadded {off:.1e}", if normalize { "unit" } else { "raw " });
                assert!(off <= TOLERANCE, "{name} {case} {key}{suffix} unpadded: {off}");
                for (padding, side) in [("right", PaddingSide::Right), ("left", PaddingSide::Left)] {
                    let together = forward(&network, &texts, pad, side);
                    let off = difference(&together, &alone);
                    assert!(off <= TOLERANCE, "{name} {case} {key}{suffix} {padding} against one by one: {off}");
                    // BERT has no golden left-padded values: it must still equal the unpadded ones, above.
                    if normalize && !expected[padding].is_null() {
                        let off = difference(&together, &vectors(&expected[padding][key]));
                        eprintln!("{name:8} {case:5} {key:5} unit {padding:8} {off:.1e}");
                        assert!(off <= TOLERANCE, "{name} {case} {key} {padding}: {off}");
                    }
                }
            }
        }
    }
}

#[test]
fn bert_equals_transformers() {
    check("bert", 0);
}

#[test]
fn qwen3_equals_transformers() {
    // The padding token is the terminal token, so a mask taken from ids would show here.
    check("qwen3", 317);
}

#[test]
fn texts_get_the_same_ids_and_vectors_through_the_tower() {
    let device = Device::Cpu.open().unwrap();
    for (name, key) in [("bert", "cls"), ("qwen3", "last")] {
        let golden = golden(name);
        let texts: Vec<Document> = golden["text"]["texts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|text| Document::new(text.as_str().unwrap()))
            .collect();
        let options = EncoderOptions { max_length: Some(48), ..Default::default() };
        let tower = load_tower::<Document>(&folder(name), &options, &device).unwrap();
        assert_eq!(tower.tokenize(&texts).unwrap(), ids(&golden["text"]), "{name}");
        let expected = vectors(&golden["text"]["unpadded"][key]);
        // Whatever the buckets, vectors and their order stay the same.
        for budget in [1, 60, 4096] {
            let embedded = tower.embed(&texts, budget).unwrap();
            let rows: Vec<Vec<f32>> = (0..texts.len()).map(|row| embedded.row(row).to_vec()).collect();
            let off = difference(&rows, &expected);
            assert!(off <= TOLERANCE, "{name} with a budget of {budget}: {off}");
        }
    }
}

#[test]
fn a_saved_pair_loads_with_equal_vectors() {
    let device = Device::Cpu.open().unwrap();
    let query = load_tower(
        &folder("bert"),
        &EncoderOptions {
            max_length: Some(40),
            instruction: Some("问：".into()),
            pooling: Some(Pooling::Mean),
            ..Default::default()
        },
        &device,
    )
    .unwrap();
    let document = load_tower(
        &folder("qwen3"),
        &EncoderOptions { max_length: Some(100), dim: Some(64), ..Default::default() },
        &device,
    )
    .unwrap();
    let pair = AsymmetricEncoder::new(query, document).unwrap();
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("pair");
    pair.save(&target).unwrap();
    // Saving over it again replaces it whole and leaves nothing beside it.
    pair.save(&target).unwrap();
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
    let again = AsymmetricEncoder::load(&target, &device).unwrap();
    let texts = ["高血压患者能吃党参吗？", "", "  \n", "🤒"];
    assert_eq!(
        pair.embed_queries(&texts.map(Into::into)).unwrap(),
        again.embed_queries(&texts.map(Into::into)).unwrap()
    );
    assert_eq!(
        pair.embed_documents(&texts.map(Into::into)).unwrap(),
        again.embed_documents(&texts.map(Into::into)).unwrap()
    );
}

#[test]
fn a_learned_projection_survives_saving() {
    let device = Device::Cpu.open().unwrap();
    let head = HeadConfig { projection: Some(24), ..HeadConfig::new(Pooling::Cls) };
    let tower = |name: &str, pad| {
        let encoder = load_encoder(&folder(name), &device).unwrap();
        let network = care_encoders::network_with_head(encoder, head.clone(), 7, &device).unwrap();
        let tokenizer = Tokenizer::from_file(&folder(name).join("tokenizer.json"), pad, 32).unwrap();
        (tokenizer, network)
    };
    let (tokenizer, network) = tower("bert", 0);
    let query = Tower::new(tokenizer, network, Instruction::default()).unwrap();
    let (tokenizer, network) = tower("qwen3", 317);
    let document = Tower::new(tokenizer, network, Instruction::default()).unwrap();
    let pair = AsymmetricEncoder::new(query, document).unwrap();
    let place = tempfile::tempdir().unwrap();
    pair.save(&place.path().join("pair")).unwrap();
    let again = AsymmetricEncoder::load(&place.path().join("pair"), &device).unwrap();
    let texts = ["头痛".into(), "发烧三天".into()];
    let vectors = pair.embed_queries(&texts).unwrap();
    assert_eq!(vectors.dim(), 24);
    assert!(vectors.row(0).iter().any(|&component| component != 0.0));
    assert_eq!(vectors, again.embed_queries(&texts).unwrap());
}

#[test]
fn half_precision_stays_close_to_full() {
    let device = Device::Cpu.open().unwrap();
    let options = EncoderOptions { max_length: Some(40), ..Default::default() };
    for name in ["bert", "qwen3"] {
        let pair = AsymmetricEncoder::open(&folder(name), &options, &options, &device).unwrap();
        let texts = ["高血压患者能吃党参吗？".into(), "发烧三天".into()];
        let full = pair.embed_queries(&texts).unwrap();
        for precision in [care_core::Precision::Bf16, care_core::Precision::F16] {
            let half = pair.clone().with_precision(precision).embed_queries(&texts).unwrap();
            for row in 0..texts.len() {
                let cosine = full.cosine(row, &half, row);
                assert!(cosine > 0.999, "{name} {precision:?}: {cosine}");
            }
        }
    }
}
