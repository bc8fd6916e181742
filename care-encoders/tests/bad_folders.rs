//! A folder that is not what it should be is refused with a message that says why.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use care_core::{Device, ErrorKind, Query};
use care_encoders::{AsymmetricEncoder, EncoderOptions, load_encoder, load_tower};
use serde_json::{Value, json};

/// A copy of the tiny BERT, to be spoiled.
fn copy() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("model");
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/bert")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    (place, folder)
}

/// Length of a safetensors file's header.
fn header(bytes: &[u8]) -> usize {
    u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}

fn edit_config(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

/// The message of loading `folder`, with its path written as `M`.
fn refusal(folder: &Path) -> (ErrorKind, String) {
    let error = load_encoder(folder, &Device::Cpu.open().unwrap()).unwrap_err();
    (error.kind(), error.to_string().replace(&folder.display().to_string(), "M"))
}

fn tower_refusal(folder: &Path, options: EncoderOptions) -> String {
    let error = load_tower::<Query>(folder, &options, &Device::Cpu.open().unwrap()).unwrap_err();
    error.to_string().replace(&folder.display().to_string(), "M")
}

#[test]
fn missing_files_are_named() {
    let (_place, folder) = copy();
    assert_eq!(refusal(&folder.join("nowhere")), (ErrorKind::Io, "M: no such model folder".into()));
    fs::rename(folder.join("model.safetensors"), folder.join("pytorch_model.bin")).unwrap();
    let message = "M: no model.safetensors and no model.safetensors.index.json; \
                   pytorch_model.bin is not read: convert it with safetensors' convert.py";
    assert_eq!(refusal(&folder), (ErrorKind::Io, message.into()));
    fs::remove_file(folder.join("config.json")).unwrap();
    assert_eq!(refusal(&folder), (ErrorKind::Io, "cannot read M/config.json".into()));
}

#[test]
fn configurations_name_the_field() {
    for (change, message) in [
        (
            (|c| c["model_type"] = json!("t5")) as fn(&mut Value),
            "M/config.json: `model_type` is \"t5\", allowed: bert, qwen3",
        ),
        (
            |c| c["hidden_size"] = json!("64"),
            "M/config.json: field `hidden_size`: invalid type: string \"64\", expected usize",
        ),
        (|c| _ = c.as_object_mut().unwrap().remove("vocab_size"), "M/config.json: missing field `vocab_size`"),
        (
            |c| c["num_attention_heads"] = json!(5),
            "M/config.json: `hidden_size` is 64, allowed: a multiple of num_attention_heads (5)",
        ),
        (
            |c| c["hidden_act"] = json!("mish"),
            "M/config.json: field `hidden_act`: unknown variant `mish`, expected one of `gelu`, `gelu_new`, `gelu_pytorch_tanh`, `silu`, `swish`, `relu`",
        ),
    ] {
        let (_place, folder) = copy();
        edit_config(&folder, change);
        assert_eq!(refusal(&folder).1, message);
    }
    let (_place, folder) = copy();
    fs::write(folder.join("config.json"), "{\"model_type\": ").unwrap();
    assert_eq!(refusal(&folder).1, "M/config.json: EOF while parsing a value at line 1 column 15");
}

#[test]
fn tensors_that_are_missing_surplus_or_of_another_shape_are_listed() {
    let (_place, folder) = copy();
    edit_config(&folder, |c| {
        c["vocab_size"] = json!(150);
        c["num_hidden_layers"] = json!(1);
    });
    let (kind, message) = refusal(&folder);
    assert_eq!(kind, ErrorKind::Checkpoint);
    assert!(
        message.starts_with(
            "M: tensor `embeddings.word_embeddings.weight` has shape [200, 64], expected [150, 64]; \
             tensor `encoder.layer.1.attention.output.LayerNorm.bias` is not expected; "
        ),
        "{message}"
    );
    assert!(message.ends_with("; and 9 more"), "{message}");

    let (_place, folder) = copy();
    edit_config(&folder, |c| c["num_hidden_layers"] = json!(3));
    let (_, message) = refusal(&folder);
    assert!(
        message.contains("tensor `encoder.layer.2.attention.self.query.weight` of shape [64, 64] is missing"),
        "{message}"
    );
}

#[test]
fn a_file_that_was_cut_off_is_noticed() {
    let (_place, folder) = copy();
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for (kept, message) in [
        (bytes.len() - 10, format!("{} bytes where {} are announced", bytes.len() - 10, bytes.len())),
        (100, format!("a header of {} bytes in a file of 100", header(&bytes))),
        (3, "3 bytes".to_owned()),
    ] {
        fs::write(&path, &bytes[..kept]).unwrap();
        let expected = format!("M/model.safetensors: not a complete safetensors file: {message}");
        assert_eq!(refusal(&folder), (ErrorKind::Format, expected));
    }
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let (_place, folder) = copy();
    let path = folder.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    // The first tensor, in the order of names, is one that the network uses.
    let start = 8 + header(&bytes);
    bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let (kind, message) = refusal(&folder);
    assert_eq!(kind, ErrorKind::NonFinite);
    assert!(
        message.starts_with("M/model.safetensors: tensor `") && message.ends_with("` holds a value that is not finite")
    );
}

#[test]
fn options_outside_their_range_are_refused() {
    let (_place, folder) = copy();
    let with_length = |max_length| EncoderOptions { max_length: Some(max_length), ..Default::default() };
    assert_eq!(
        tower_refusal(&folder, with_length(0)),
        "`max_length` is 0, allowed: at least 3, since the tokenizer adds 2 special tokens"
    );
    assert_eq!(
        tower_refusal(&folder, with_length(65)),
        "`max_length` is 65, allowed: at most 64, the positions of the query tower"
    );
    assert_eq!(
        tower_refusal(&folder, EncoderOptions { dim: Some(65), ..Default::default() }),
        "an embedding of 65 dimensions cannot be cut from the tower's 64"
    );
    fs::write(folder.join("tokenizer.json"), "{}").unwrap();
    let message = tower_refusal(&folder, EncoderOptions::default());
    assert!(message.starts_with("M/tokenizer.json: not a tokenizer: "), "{message}");
}

#[test]
fn a_tokenizer_with_more_ids_than_the_embedding_table_is_refused() {
    let (_place, folder) = copy();
    let qwen = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/qwen3/tokenizer.json");
    fs::copy(qwen, folder.join("tokenizer.json")).unwrap();
    assert_eq!(
        tower_refusal(&folder, EncoderOptions::default()),
        "the query tower's tokenizer has 320 ids but the embedding table 200 rows"
    );
}

#[test]
fn a_padding_id_outside_the_embedding_table_is_refused() {
    let (_place, folder) = copy();
    edit_config(&folder, |c| c["pad_token_id"] = json!(200));
    assert_eq!(
        tower_refusal(&folder, EncoderOptions::default()),
        "the query tower's padding id is 200 but the embedding table has 200 rows"
    );
}

#[test]
fn a_half_written_pair_and_a_foreign_folder_are_refused() {
    let (place, folder) = copy();
    let device = Device::Cpu.open().unwrap();
    let options = EncoderOptions::default();
    let pair = AsymmetricEncoder::open(&folder, &options, &options, &device).unwrap();
    let error = pair.save(&folder).unwrap_err().to_string();
    assert!(error.ends_with("which is no part of a saved pair"), "{error}");
    assert!(folder.join("config.json").exists(), "what was there stays");
    let error = AsymmetricEncoder::load(&folder, &device).unwrap_err().to_string();
    assert!(error.ends_with("model: no saved pair; a single encoder is read as one tower at a time"), "{error}");

    let target = place.path().join("pair");
    pair.save(&target).unwrap();
    let load = || AsymmetricEncoder::load(&target, &device).unwrap_err().to_string();
    fs::remove_file(target.join("document_0_Transformer/model.safetensors")).unwrap();
    assert!(load().contains("document_0_Transformer: no model.safetensors"), "{}", load());
    fs::remove_file(target.join("care.json")).unwrap();
    assert!(load().ends_with("pair: half written: it has a tower but no care.json"), "{}", load());
}

#[test]
fn a_pair_whose_tokenizer_ends_texts_otherwise_is_refused() {
    let (place, folder) = copy();
    let device = Device::Cpu.open().unwrap();
    let options = EncoderOptions::default();
    let target = place.path().join("pair");
    AsymmetricEncoder::open(&folder, &options, &options, &device).unwrap().save(&target).unwrap();
    let manifest = target.join("care.json");
    let text = fs::read_to_string(&manifest).unwrap().replace("\"terminal_token\": 3", "\"terminal_token\": 4");
    fs::write(&manifest, text).unwrap();
    let error = AsymmetricEncoder::load(&target, &device).unwrap_err().to_string();
    assert!(
        error.ends_with("the query tower was saved with terminal token Some(4) but its tokenizer adds Some(3)"),
        "{error}"
    );
}
