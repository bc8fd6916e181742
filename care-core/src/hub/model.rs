//! Checks whether a folder has all files of a model, and whether a repository has weights that can be read.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::files::{VOCABULARIES, list_files, split};

/// A model's folder has at least one of these.
const ENTRIES: [&str; 3] = ["config.json", "modules.json", "router_config.json"];
const WEIGHTS: &str = "model.safetensors";
/// Weights in other files than [`WEIGHTS`], the first that exists.
const OTHER_WEIGHTS: [&str; 3] = ["model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
/// Weights of other frameworks, by the beginnings and ends of their names.
const FOREIGN: [(&str, &str); 3] = [("tf_model", ".h5"), ("flax_model", ".msgpack"), ("", ".gguf")];

/// If a repository has weights of other frameworks only: a message with what to do.
pub(super) fn foreign_weights(files: &[String]) -> Option<String> {
    let weights = |file: &String| file.ends_with(".safetensors") || file.ends_with(".bin");
    let foreign = |file: &&String| {
        let name = split(file).1;
        FOREIGN.iter().any(|(begin, end)| name.starts_with(begin) && name.ends_with(end))
    };
    let file = files.iter().find(foreign).filter(|_| !files.iter().any(weights))?;
    Some(format!(
        "has {file} but neither safetensors nor pytorch_model.bin: save the model in Python with PyTorch or safetensors"
    ))
}

/// The first file that a model's folder lacks, judged by the folder's own content.
///
/// For folders whose full list of files is unknown, because another program downloaded them.
pub(super) fn lacking_file(folder: &Path) -> Option<String> {
    let mut files = BTreeSet::new();
    // What cannot be read is lacking.
    let _ = list_files(folder, "", &mut files);
    if !files.iter().any(|file| ENTRIES.contains(&split(file).1)) {
        return Some(ENTRIES[0].to_string());
    }
    let named = files.iter().flat_map(|file| files_named_by(folder, file, &files)).find(|file| !files.contains(file));
    named.or_else(|| lacking_part(folder, &files))
}

/// The files in the same folder that `file` requires.
fn files_named_by(folder: &Path, file: &str, files: &BTreeSet<String>) -> Vec<String> {
    let (beside, name) = split(file);
    let required: Vec<String> = if name == "config.json" {
        let config = read_json(&folder.join(file));
        let has = |field| config.get(field).is_some();
        let has_file = |name: &&str| files.contains(&format!("{beside}{name}"));
        let others = OTHER_WEIGHTS.into_iter().find(has_file);
        let weights = others.filter(|_| !has_file(&WEIGHTS)).unwrap_or(WEIGHTS);
        match (has("model_type"), has("in_features")) {
            (true, _) if VOCABULARIES.iter().any(|names| names.iter().all(has_file)) => vec![weights.into()],
            (true, _) => vec![weights.into(), "tokenizer.json".into()],
            (_, true) => vec![weights.into()],
            _ => Vec::new(),
        }
    } else if name.ends_with(".safetensors.index.json")
        || name.ends_with(".bin.index.json") && !files.iter().any(|file| is_safetensors_of(beside, file))
    {
        let index = read_json(&folder.join(file));
        let shards = index.get("weight_map").and_then(Value::as_object);
        let shards: BTreeSet<&str> =
            shards.into_iter().flat_map(|map| map.values()).filter_map(Value::as_str).collect();
        shards.into_iter().map(str::to_string).collect()
    } else {
        Vec::new()
    };
    required.into_iter().map(|name| format!("{beside}{name}")).collect()
}

fn is_safetensors_of(beside: &str, file: &str) -> bool {
    let (folder, name) = split(file);
    folder == beside && name.starts_with("model") && name.ends_with(".safetensors")
}

/// The configuration of the first module that `modules.json` or `router_config.json` lists and that has no files.
fn lacking_part(folder: &Path, files: &BTreeSet<String>) -> Option<String> {
    let parts = files.iter().flat_map(|file| {
        let (beside, name) = split(file);
        let parts = match name {
            "modules.json" => modules(&read_json(&folder.join(file))),
            "router_config.json" => router_parts(&read_json(&folder.join(file))),
            _ => Vec::new(),
        };
        parts.into_iter().map(move |part| format!("{beside}{part}/"))
    });
    let mut parts = parts.filter(|part| !files.iter().any(|file| file.starts_with(part.as_str())));
    parts.next().map(|part| format!("{part}config.json"))
}

/// Paths of the modules that have files of their own, except the root's empty path.
fn modules(json: &Value) -> Vec<String> {
    let modules = json.as_array().into_iter().flatten();
    let modules = modules.filter_map(|module| Some((module.get("path")?.as_str()?, module.get("type")?.as_str()?)));
    modules.filter(|(path, kind)| !path.is_empty() && has_files(kind)).map(|(path, _)| path.to_string()).collect()
}

fn router_parts(json: &Value) -> Vec<String> {
    let types = json.get("types").and_then(Value::as_object);
    let types = types.into_iter().flatten().filter_map(|(path, kind)| Some((path, kind.as_str()?)));
    types.filter(|(_, kind)| has_files(kind)).map(|(path, _)| path.clone()).collect()
}

/// `Normalize` has no settings: its folder is empty, and git does not keep empty folders.
fn has_files(module_type: &str) -> bool {
    module_type.rsplit('.').next() != Some("Normalize")
}

/// A file's JSON, or null: errors are left to the loader, whose message is better.
fn read_json(path: &Path) -> Value {
    std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first file that a folder of these files lacks.
    fn lacking(files: &[(&str, &str)]) -> Option<String> {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, content).expect("written");
        }
        lacking_file(folder.path())
    }

    #[test]
    fn a_network_needs_its_weights_and_its_tokenizer() {
        let config = ("config.json", r#"{"model_type": "bert"}"#);
        let (weights, tokenizer) = (("model.safetensors", ""), ("tokenizer.json", "{}"));
        assert_eq!(lacking(&[weights, tokenizer]).as_deref(), Some("config.json"));
        assert_eq!(lacking(&[config, tokenizer]).as_deref(), Some("model.safetensors"));
        assert_eq!(lacking(&[config, weights]).as_deref(), Some("tokenizer.json"));
        assert_eq!(lacking(&[config, weights, tokenizer]), None);
        assert_eq!(lacking(&[config, weights, ("vocab.txt", "[UNK]")]), None);
        let (vocab, merges) = (("vocab.json", "{}"), ("merges.txt", ""));
        assert_eq!(lacking(&[config, weights, vocab]).as_deref(), Some("tokenizer.json"));
        assert_eq!(lacking(&[config, weights, vocab, merges]), None);
        assert_eq!(lacking(&[config, ("pytorch_model.bin", ""), tokenizer]), None);
        let part = ("query_0_Transformer/config.json", r#"{"model_type": "bert"}"#);
        assert_eq!(lacking(&[part]).as_deref(), Some("query_0_Transformer/model.safetensors"));
    }

    #[test]
    fn an_index_needs_every_shard() {
        let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
        let mut files = vec![
            ("config.json", r#"{"model_type": "qwen3"}"#),
            ("tokenizer.json", "{}"),
            ("model.safetensors.index.json", index),
            ("model-1.safetensors", ""),
        ];
        assert_eq!(lacking(&files).as_deref(), Some("model-2.safetensors"));
        files.push(("model-2.safetensors", ""));
        assert_eq!(lacking(&files), None);
        // An index of PyTorch's shards counts where there are no safetensors.
        let pickled = ("pytorch_model.bin.index.json", r#"{"weight_map": {"a": "pytorch_model-1.bin"}}"#);
        files.push(pickled);
        assert_eq!(lacking(&files), None);
        let files = [files[0], files[1], pickled];
        assert_eq!(lacking(&files).as_deref(), Some("pytorch_model-1.bin"));
    }

    #[test]
    fn named_modules_need_their_folders_unless_they_have_no_settings() {
        let modules = r#"[
            {"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"path": "2_Dense", "type": "sentence_transformers.models.Dense"},
            {"path": "3_Normalize", "type": "sentence_transformers.models.Normalize"}
        ]"#;
        let mut files = vec![("modules.json", modules), ("1_Pooling/config.json", "{}")];
        assert_eq!(lacking(&files).as_deref(), Some("2_Dense/config.json"));
        files.push(("2_Dense/config.json", r#"{"in_features": 4}"#));
        assert_eq!(lacking(&files).as_deref(), Some("2_Dense/model.safetensors"));
        files.push(("2_Dense/model.safetensors", ""));
        assert_eq!(lacking(&files), None);

        let router = r#"{"types": {"query_0_Transformer": "a.Transformer", "query_1_Normalize": "a.Normalize"}}"#;
        assert_eq!(lacking(&[("router_config.json", router)]).as_deref(), Some("query_0_Transformer/config.json"));
    }
}
