//! Weights in files of torch.save (made by `tests/data/make_torch.py`): the same as those of safetensors, and errors.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use care_core::{ErrorKind, Query};
use care_encoders::batch::{PaddingSide, TokenBatch};
use care_encoders::{AnyEncoder, Encoder, EncoderOptions, Precision, load_encoder, load_tower};
use common::{cpu, fixture, rows};

/// An empty folder with the configuration of the minute BERT.
fn place() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("model");
    fs::create_dir(&folder).unwrap();
    fs::copy(torch("config.json"), folder.join("config.json")).unwrap();
    (place, folder)
}

fn torch(name: &str) -> PathBuf {
    fixture("torch").join(name)
}

fn states(encoder: &AnyEncoder) -> Vec<f32> {
    let batch = TokenBatch::pad(&[vec![1, 5, 19], vec![7]], 0, PaddingSide::Right);
    encoder.forward(&batch).into_data().try_to_vec::<f32>().unwrap()
}

fn load(folder: &Path) -> AnyEncoder {
    load_encoder(folder, &EncoderOptions::default(), &cpu()).unwrap()
}

/// The error of loading `bytes` as `pytorch_model.bin`.
fn refusal(bytes: &[u8]) -> (ErrorKind, String) {
    let (_place, folder) = place();
    fs::write(folder.join("pytorch_model.bin"), bytes).unwrap();
    let error = load_encoder(&folder, &EncoderOptions::default(), &cpu()).unwrap_err();
    (error.kind(), error.to_string().replace(&folder.display().to_string(), "M"))
}

/// What the message of a file that cannot be read begins with.
const UNREADABLE: &str = "M/pytorch_model.bin: not a readable file of torch.save: ";

#[test]
fn every_form_of_torch_save_gives_the_weights_of_safetensors() {
    let (_place, folder) = place();
    fs::copy(torch("model.safetensors"), folder.join("model.safetensors")).unwrap();
    let expected = states(&load(&folder));
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    for name in ["f32", "f16", "bf16", "views"].map(|kind| [format!("zip_{kind}"), format!("old_{kind}")]).concat() {
        fs::copy(torch(&format!("{name}.bin")), folder.join("pytorch_model.bin")).unwrap();
        assert_eq!(states(&load(&folder)), expected, "{name}");
    }
    fs::copy(torch("zip_protocol4.bin"), folder.join("pytorch_model.bin")).unwrap();
    assert_eq!(states(&load(&folder)), expected);
    let narrow = EncoderOptions::default().with_precision(Precision::Bf16);
    let narrow = load_encoder(&folder, &narrow, &cpu()).unwrap();
    assert_eq!(Precision::of(&narrow), Precision::Bf16);

    // safetensors are read where there are both.
    fs::write(folder.join("pytorch_model.bin"), "broken").unwrap();
    fs::copy(torch("model.safetensors"), folder.join("model.safetensors")).unwrap();
    assert_eq!(states(&load(&folder)), expected);
}

#[test]
fn shards_of_pytorch_are_read_by_their_index() {
    let (_place, folder) = place();
    fs::copy(torch("model.safetensors"), folder.join("model.safetensors")).unwrap();
    let expected = states(&load(&folder));
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let shards = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"];
    for name in shards.iter().chain(&["pytorch_model.bin.index.json"]) {
        fs::copy(torch(name), folder.join(name)).unwrap();
    }
    assert_eq!(states(&load(&folder)), expected);
    fs::remove_file(folder.join(shards[1])).unwrap();
    let error = load_encoder(&folder, &EncoderOptions::default(), &cpu()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot open {}", folder.join(shards[1]).display()));
}

#[test]
fn a_dense_module_and_an_adapter_may_be_files_of_pytorch() {
    let (_place, folder) = common::copy("bert");
    for (name, content) in [
        (
            "modules.json",
            r#"[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
                {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}]"#,
        ),
        ("1_Pooling/config.json", r#"{"word_embedding_dimension": 64, "pooling_mode": "mean"}"#),
        (
            "2_Dense/config.json",
            r#"{"in_features": 64, "out_features": 3, "bias": true,
                "activation_function": "torch.nn.modules.linear.Identity"}"#,
        ),
    ] {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let tower = || load_tower::<Query>(&folder, &EncoderOptions::default(), &cpu());
    let problem = "2_Dense: no model.safetensors, no model.safetensors.index.json, no pytorch_model.bin, no \
                   pytorch_model.bin.index.json; save the whole model anew in Python with \
                   SentenceTransformer(FOLDER).save_pretrained(OTHER)";
    assert!(tower().unwrap_err().to_string().ends_with(problem), "{}", tower().unwrap_err());
    fs::copy(torch("dense.bin"), folder.join("2_Dense/pytorch_model.bin")).unwrap();
    let vectors = rows(&tower().unwrap().embed(&["头痛".into(), "发热".into()], 4096).unwrap());
    assert!(vectors.iter().all(|vector| vector.len() == 3) && vectors[0] != vectors[1], "{vectors:?}");

    let adapter = tempfile::tempdir().unwrap();
    fs::copy(fixture("adapters/bert_rs/adapter_config.json"), adapter.path().join("adapter_config.json")).unwrap();
    fs::copy(torch("dense.bin"), adapter.path().join("adapter_model.bin")).unwrap();
    let error = load(&fixture("bert")).with_adapter(adapter.path()).unwrap_err().to_string();
    let problem = "adapter_model.bin: the adapter does not fit this model: tensor `linear.bias` does not start with \
                   base_model.model.";
    assert!(error.ends_with(problem), "{error}");
}

#[test]
fn damaged_files_are_refused() {
    for name in ["zip_f32", "zip_views"] {
        let bytes = fs::read(torch(&format!("{name}.bin"))).unwrap();
        for kept in [bytes.len() - 1, bytes.len() / 2, 300, 3] {
            let (kind, message) = refusal(&bytes[..kept]);
            assert_eq!(kind, ErrorKind::Format);
            assert!(message.starts_with(UNREADABLE), "{name}, {kept}: {message}");
        }
    }
    for name in ["old_f32", "old_views"] {
        let bytes = fs::read(torch(&format!("{name}.bin"))).unwrap();
        for kept in [bytes.len() - 1, bytes.len() / 2, 300, 3] {
            let (kind, message) = refusal(&bytes[..kept]);
            assert_eq!(kind, ErrorKind::Format);
            assert!(message.starts_with(UNREADABLE) && message.contains("cut off"), "{name}, {kept}: {message}");
        }
    }
}

/// The error of a file with a changed byte, if there is one.
fn load_flipped(bytes: &[u8]) -> Option<String> {
    let (_place, folder) = place();
    fs::write(folder.join("pytorch_model.bin"), bytes).unwrap();
    load_encoder(&folder, &EncoderOptions::default(), &cpu()).err().map(|error| error.to_string())
}

#[test]
fn a_changed_byte_of_a_weight_or_of_the_pickle_is_noticed() {
    let bytes = fs::read(torch("zip_f32.bin")).unwrap();
    let weights = fs::read(torch("model.safetensors")).unwrap();
    // The last 32 bytes of the largest tensor are in both files.
    let value = &weights[weights.len() - 32..];
    let weight = bytes.windows(32).position(|window| window == value).unwrap();
    for (at, problem) in
        [(weight, "is damaged: its checksum is another"), (100, "the entry \"zip_f32/data.pkl\" is damaged")]
    {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        let message = load_flipped(&flipped).unwrap();
        assert!(message.ends_with(problem), "{at}: {message}");
    }
}

#[test]
fn what_is_no_dictionary_of_tensors_is_refused() {
    let checkpoint = fs::read(torch("checkpoint.bin")).unwrap();
    assert_eq!(
        refusal(&checkpoint),
        (ErrorKind::Format, format!("{UNREADABLE}`epoch` is no tensor; save model.state_dict()"))
    );
    let mut tar = vec![0; 600];
    tar[257..262].copy_from_slice(b"ustar");
    for (bytes, problem) in [
        (&b"neither"[..], "it does not begin as one"),
        (b"", "it does not begin as one"),
        (&tar, "it is a tar archive of PyTorch before 0.4; save it again with a newer version"),
        (b"\x80\x02K\x01.", "it is a pickle of something else"),
    ] {
        assert_eq!(refusal(bytes), (ErrorKind::Format, format!("{UNREADABLE}{problem}")));
    }
}

/// A file of the older format with this pickle of tensors and these keys of storages, without the storages.
fn old_file(tensors: &[u8], keys: &[u8]) -> Vec<u8> {
    let magic = &b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."[..];
    [magic, b"\x80\x02M\xe9\x03.", b"\x80\x02}.", b"\x80\x02", tensors, b".\x80\x02", keys, b"."].concat()
}

/// The pickle of a dictionary with one tensor: its storage's values, and the pickles of offset, shape and strides.
fn one_tensor(values: &[u8], view: &[&[u8]; 3]) -> Vec<u8> {
    let storage =
        [&b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0\x30X\x03\0\0\0cpu"[..], values, b"NtQ"].concat();
    let rebuild = &b"ctorch._utils\n_rebuild_tensor_v2\n("[..];
    [&b"}X\x01\0\0\0w"[..], rebuild, &storage, view[0], view[1], view[2], b"\x89NtRs"].concat()
}

#[test]
fn names_that_weights_do_not_need_are_refused_and_nothing_is_executed() {
    for (pickle, name) in [
        (&b"cbuiltins\nprint\n(X\x02\0\0\0hitR"[..], "builtins.print"),
        (b"}X\x01\0\0\0wcposixpath\njoin\n)Rs", "posixpath.join"),
        (b"\x8c\x08builtins\x8c\x05print\x93", "builtins.print"),
        (b"ctorch\nload\n)R", "torch.load"),
        (b"ctorch._utils\n_rebuild_device_tensor_from_numpy\n)R", "torch._utils._rebuild_device_tensor_from_numpy"),
    ] {
        let problem =
            format!("in its pickle: the name `{name}`: it is none of those that weights need, and nothing is executed");
        assert_eq!(refusal(&old_file(pickle, b"]")), (ErrorKind::Format, format!("{UNREADABLE}{problem}")));
    }
}

#[test]
fn absurd_sizes_are_refused() {
    let good = one_tensor(b"K\x04", &[b"K\x00", b"K\x02K\x02\x86", b"K\x02K\x01\x86"]);
    let keys = b"]X\x01\0\0\0\x30a";
    // The storage itself: as many values as announced.
    let whole = [&old_file(&good, keys)[..], &4_u64.to_le_bytes(), &[0; 16]].concat();
    let (kind, message) = refusal(&whole);
    assert!(kind == ErrorKind::Checkpoint && message.ends_with(" more"), "{message}");
    let large = [0xff, 0xff, 0xff, 0x7f];
    let number = [&b"J"[..], &large].concat();
    let tensor = |view: &[&[u8]; 3]| old_file(&one_tensor(b"K\x04", view), keys);
    let cases: [(Vec<u8>, &str); 9] = [
        (tensor(&[b"K\x01", b"K\x02K\x02\x86", b"K\x02K\x01\x86"]), "in a storage of 4"),
        (tensor(&[b"K\x00", b"K\x02K\x02\x86", b"K\x03K\x01\x86"]), "in a storage of 4"),
        (
            tensor(&[b"K\x00", &[&number[..], &number, &number, b"\x87"].concat(), b"K\x00K\x00K\x00\x87"]),
            "in a storage of 4",
        ),
        (
            tensor(&[b"K\x00", b"J\xff\xff\xff\xff\x85", b"K\x01\x85"]),
            "in its pickle: a tensor that is described in an unknown way",
        ),
        (tensor(&[b"K\x00", b"K\x02\x85", b"K\x01K\x01\x86"]), "in a storage of 4"),
        ([&old_file(&good, keys)[..], &u64::MAX.to_le_bytes(), &[0; 16]].concat(), "it is cut off"),
        ([&old_file(&good, keys)[..], &2_u64.to_le_bytes(), &[0; 16]].concat(), "a storage of 2 values instead of 4"),
        (old_file(&[&b"X"[..], &large].concat(), b"]"), "in its pickle: it is cut off"),
        (old_file(&[&b"]"[..], &b"2".repeat(4_100_000)].concat(), b"]"), "in its pickle: more than 4000000 objects"),
    ];
    for (bytes, problem) in cases {
        let (kind, message) = refusal(&bytes);
        assert_eq!(kind, ErrorKind::Format, "{message}");
        assert!(message.starts_with(UNREADABLE) && message.ends_with(problem), "{message}: {problem}");
    }
    // Deep nesting needs no recursion.
    let nested = old_file(&[&b")"[..], &b"\x85".repeat(1_000_000)].concat(), b"]");
    assert!(refusal(&nested).1.ends_with("it is no dictionary of tensors; save model.state_dict()"));
}
