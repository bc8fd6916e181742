//! File names, module names and JSON formats of sentence-transformers folders.

use std::collections::BTreeMap;
use std::path::Path;

use care_core::Role;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) const MODULES: &str = "modules.json";
pub(crate) const ROUTER: &str = "router_config.json";
pub(crate) const SETTINGS: &str = "config_sentence_transformers.json";
/// The files of a `Router` model, beside the folders of its modules.
pub(crate) const ROUTER_FILES: [&str; 3] = [MODULES, ROUTER, SETTINGS];

/// Possible names of the settings of a `Transformer` module, which depend on the family of its network.
pub(crate) const TRANSFORMER_SETTINGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

pub(crate) const IDENTITY: &str = "torch.nn.modules.linear.Identity";
pub(crate) const TANH: &str = "torch.nn.modules.activation.Tanh";

#[derive(Serialize, Deserialize)]
pub(crate) struct ModuleRow {
    pub(crate) idx: usize,
    pub(crate) name: String,
    pub(crate) path: String,
    #[serde(rename = "type")]
    pub(crate) class: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RouterConfig {
    pub(crate) types: BTreeMap<String, String>,
    pub(crate) structure: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(crate) parameters: Value,
}

/// The path of a file in the model's folder.
pub(crate) fn inside(model: &Path, file: &Path) -> String {
    file.strip_prefix(model).unwrap_or(file).display().to_string()
}

/// The folder of a module in a `Router` model.
pub(crate) fn module_folder(role: Role, idx: usize, class: &str) -> String {
    format!("{}_{idx}_{class}", role.as_str())
}

/// Whether a folder has a name as [`module_folder`] returns it.
pub(crate) fn is_module_folder(name: &str) -> bool {
    let parts: Vec<&str> = name.split('_').collect();
    let [role, idx, class] = parts.as_slice() else { return false };
    [Role::Query, Role::Document].iter().any(|known| known.as_str() == *role)
        && idx.parse::<usize>().is_ok()
        && ["Transformer", "Pooling", "Dense", "Normalize"].contains(class)
}

/// The folder of a role's projection in a saved pair.
pub(crate) fn projection_folder(role: Role) -> String {
    module_folder(role, 2, "Dense")
}

/// The folder of a role's network in a saved pair.
pub(crate) fn transformer_folder(role: Role) -> String {
    module_folder(role, 0, "Transformer")
}
