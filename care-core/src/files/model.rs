//! The files of a model that are downloaded and read.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use crate::error::{Error, Result};

/// Folders with the same weights in other formats.
const OTHER_FORMATS: [&str; 4] = ["onnx", "openvino", "original", "coreml"];
/// The vocabulary of BERT, and that of a byte-level BPE, which can take the place of a `tokenizer.json`.
pub(crate) const VOCABULARIES: [&[&str]; 2] = [&["vocab.txt"], &["vocab.json", "merges.txt"]];

/// The files of a model's folder that loaders read, by their paths in it, with slashes, sorted: neither cards nor hidden files
/// nor weights in other formats.
///
/// # Errors
/// If a folder cannot be read.
pub fn model_files(folder: impl AsRef<Path>) -> Result<Vec<String>> {
    let folder = folder.as_ref();
    let mut files = BTreeSet::new();
    list_files(folder, "", &mut files).map_err(|e| Error::io("read", folder, e))?;
    let files: Vec<String> = files.into_iter().collect();
    Ok(files.iter().filter(|file| is_model_file(file, &files)).cloned().collect())
}

/// Whether a file of a model is read, and so downloaded: JSON, safetensors and vocabularies, and PyTorch's files where there are no
/// safetensors, in the root and in the folders of a model's modules.
pub(crate) fn is_model_file(file: &str, all: &[String]) -> bool {
    let (beside, name) = split(file);
    let wanted = name.ends_with(".json")
        || name.ends_with(".safetensors")
        || VOCABULARIES.iter().any(|files| files.contains(&name))
        || is_needed_pickle(beside, name, all);
    wanted && !beside.split('/').any(|folder| OTHER_FORMATS.contains(&folder))
}

/// Whether a file is one of PyTorch's weights, and there are none as safetensors in the same folder.
fn is_needed_pickle(beside: &str, name: &str, all: &[String]) -> bool {
    let safe = match name.strip_suffix(".bin") {
        Some("adapter_model") => "adapter_model",
        Some(stem) if stem.starts_with("pytorch_model") => "model",
        _ => return false,
    };
    // Not `model_fp16.safetensors`, which no loader looks for.
    let is_safe = |name: &str| {
        let rest = name.strip_prefix(safe).and_then(|rest| rest.strip_suffix(".safetensors"));
        rest.is_some_and(|part| part.is_empty() || part.starts_with('-'))
    };
    !all.iter().map(|file| split(file)).any(|(folder, name)| folder == beside && is_safe(name))
}

/// Collects every file below a folder but hidden ones, by its path with slashes. Dangling links and links to folders do not count.
///
/// # Errors
/// If a folder cannot be read; all that can are collected.
pub(crate) fn list_files(folder: &Path, beside: &str, files: &mut BTreeSet<String>) -> io::Result<()> {
    let mut failed = None;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if name.starts_with('.') {
            continue;
        }
        if path.is_file() {
            files.insert(format!("{beside}{name}"));
        } else if entry.file_type()?.is_dir()
            && let Err(e) = list_files(&path, &format!("{beside}{name}/"), files)
        {
            failed.get_or_insert(e);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Splits a path into its folder, with the final slash (empty for the root), and the file name.
pub(crate) fn split(file: &str) -> (&str, &str) {
    file.split_at(file.rfind('/').map_or(0, |slash| slash + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_weights_are_wanted_outside_of_other_formats() {
        let list = |files: &[&str]| files.iter().map(|file| (*file).to_string()).collect::<Vec<_>>();
        let safe = list(&["model.safetensors", "2_Dense/pytorch_model.bin", "adapter_model.safetensors"]);
        for file in [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "1_Pooling/config.json",
            "2_Dense/model.safetensors",
            "query_0_Transformer/tokenizer.json",
            "vocab.txt",
            "merges.txt",
            // There are no safetensors in its folder.
            "2_Dense/pytorch_model.bin",
        ] {
            assert!(is_model_file(file, &safe), "{file}");
        }
        assert!(is_model_file("pytorch_model.bin", &list(&["pytorch_model.bin", "model_fp16.safetensors"])));
        let pickled = list(&["pytorch_model-00001-of-00002.bin", "adapter_model.bin", "1_Dense/model.safetensors"]);
        for file in &pickled {
            assert!(is_model_file(file, &pickled), "{file}");
        }
        assert!(!is_model_file("onnx/pytorch_model.bin", &pickled) && !is_model_file("training_args.bin", &pickled));
        for file in [
            "pytorch_model.bin",
            "pytorch_model-00001-of-00002.bin",
            "adapter_model.bin",
            "README.md",
            "model.gguf",
            "tf_model.h5",
            "flax_model.msgpack",
            "onnx/config.json",
            "onnx/model.onnx",
            "openvino/a/config.json",
            "original/params.json",
            "coreml/model.safetensors",
        ] {
            assert!(!is_model_file(file, &safe), "{file}");
        }
    }

    #[test]
    fn of_a_folder_only_what_loaders_read_is_listed() {
        let folder = tempfile::tempdir().expect("a folder");
        for file in [
            "README.md",
            ".DS_Store",
            ".cache/huggingface/config.json",
            "1_Pooling/config.json",
            "config.json",
            "model.safetensors",
            "onnx/config.json",
            "pytorch_model.bin",
        ] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, "").expect("written");
        }
        assert_eq!(
            model_files(folder.path()).expect("read"),
            ["1_Pooling/config.json", "config.json", "model.safetensors"]
        );
        let missing = folder.path().join("missing");
        let error = model_files(&missing).expect_err("no folder").to_string();
        assert!(error.starts_with(&format!("cannot read {}", missing.display())), "{error}");
    }
}
