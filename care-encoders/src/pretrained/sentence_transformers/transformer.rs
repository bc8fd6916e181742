//! Reads a `Transformer` module: a Hugging Face folder, with settings of how it reads texts.

use std::collections::BTreeMap;
use std::path::Path;

use care_core::{Error, Result, Role};
use serde::Deserialize;
use serde_json::Value;

use super::form::{TRANSFORMER_SETTINGS, inside};
use crate::pretrained::folder::{CONFIG, read_json, require_folder};
use crate::pretrained::recipe::{Recipe, hugging_face};
use crate::pretrained::tokenizer::{TOKENIZER_CONFIG, TokenizerConfig};
use crate::summary::Source;

/// Arguments of transformers' loaders, and fields of `config.json`, that change where or how fast a network is computed,
/// or what else it could return, but not its hidden states beyond rounding. sentence-transformers itself drops
/// `trust_remote_code`.
const WITHOUT_EFFECT: [&str; 22] = [
    "trust_remote_code",
    "token",
    "cache_dir",
    "revision",
    "code_revision",
    "subfolder",
    "local_files_only",
    "use_safetensors",
    "low_cpu_mem_usage",
    "device_map",
    "torch_dtype",
    "dtype",
    "attn_implementation",
    "use_memory_efficient_attention",
    "unpad_inputs",
    "use_cache",
    "add_pooling_layer",
    "output_hidden_states",
    "output_attentions",
    "padding_side",
    "use_fast",
    "clean_up_tokenization_spaces",
];

/// `sentence_bert_config.json`. A field that is not here is refused, as Python does.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct TransformerSettings {
    max_seq_length: Option<usize>,
    query_length: Option<usize>,
    document_length: Option<usize>,
    do_lower_case: Option<bool>,
    transformer_task: Option<String>,
    module_output_name: Option<String>,
    modality_config: Option<BTreeMap<String, Value>>,
    query_expansion: Option<Value>,
    processing_kwargs: Option<BTreeMap<String, BTreeMap<String, Value>>>,
    #[serde(alias = "model_args")]
    model_kwargs: Option<BTreeMap<String, Value>>,
    #[serde(alias = "tokenizer_args")]
    processor_kwargs: Option<BTreeMap<String, Value>>,
    #[serde(alias = "config_args")]
    config_kwargs: Option<BTreeMap<String, Value>>,
    tokenizer_name_or_path: Option<Value>,
    /// How Python computes; no effect here.
    #[serde(rename = "unpad_inputs")]
    _unpad_inputs: Option<Value>,
    #[serde(rename = "backend")]
    _backend: Option<Value>,
}

/// The network and tokenizer of a `Transformer` module in the model's folder, for the texts of a role.
///
/// # Errors
/// If a file is missing or broken, or a setting that changes vectors is not computed.
///
/// # Reference
/// sentence-transformers 6.2, `base/modules/transformer.py`.
pub(super) fn transformer(model: &Path, folder: &Path, role: Role) -> Result<Recipe> {
    require_folder(folder)?;
    let path = TRANSFORMER_SETTINGS.iter().map(|name| folder.join(name)).find(|path| path.exists());
    let settings: TransformerSettings = path.as_deref().map(read_json).transpose()?.unwrap_or_default();
    let path = path.unwrap_or_default();
    settings.check(folder).map_err(|problem| Error::format(&path, problem))?;
    let mut recipe = hugging_face(folder)?;
    recipe.lower_case = settings.do_lower_case.unwrap_or(false);
    let by_role = match role {
        Role::Query => settings.query_length,
        Role::Document => settings.document_length,
    };
    let tokenizer = folder.join(TOKENIZER_CONFIG);
    let announced = TokenizerConfig::read(folder)?.model_max_length()?;
    let given = settings.processor_kwargs.as_ref().and_then(|given| given.get("model_max_length")?.as_u64());
    let limit = by_role.or(given.map(|limit| limit as usize)).or(settings.max_seq_length);
    // Without a limit, the network's positions apply.
    let (limit, source) = match (limit, announced) {
        (Some(limit), _) => (limit, Source::File(inside(model, &path))),
        (None, Some(limit)) => (limit, Source::File(inside(model, &tokenizer))),
        (None, None) => (usize::MAX, Source::Network),
    };
    recipe.max_length = Some(limit);
    recipe.sources.max_length = source;
    Ok(recipe)
}

impl TransformerSettings {
    /// Returns a problem if a setting that changes vectors is not computed.
    fn check(&self, folder: &Path) -> std::result::Result<(), String> {
        let refuse = |field: &str, value: &dyn std::fmt::Display, allowed: &str| {
            Err(format!("`{field}` {value} is not supported, only {allowed}"))
        };
        if let Some(task) = self.transformer_task.as_ref().filter(|task| *task != "feature-extraction") {
            return refuse("transformer_task", task, "feature-extraction");
        }
        if let Some(name) = self.module_output_name.as_ref().filter(|name| *name != "token_embeddings") {
            return refuse("module_output_name", name, "token_embeddings");
        }
        if let Some(modalities) = &self.modality_config {
            let text = modalities.get("text").unwrap_or(&Value::Null);
            if text["method"] != "forward" || text["method_output_name"] != "last_hidden_state" {
                let allowed = "`forward` and its `last_hidden_state`";
                return refuse("modality_config.text", text, allowed);
            }
            if let Some(message) = modalities.get("message") {
                return refuse("modality_config.message", message, "texts without a chat template");
            }
        }
        if let Some(expansion) = self.query_expansion.as_ref().filter(|value| !value.is_null()) {
            return refuse("query_expansion", expansion, "null");
        }
        if let Some(path) = self.tokenizer_name_or_path.as_ref().filter(|value| !value.is_null()) {
            return refuse("tokenizer_name_or_path", path, "null: the tokenizer of the same folder");
        }
        // Other modalities, and chat templates, are not used for texts.
        for bucket in ["common", "text"] {
            let given = self.processing_kwargs.iter().filter_map(|kwargs| kwargs.get(bucket)).flatten();
            for (field, value) in given {
                let cuts = field == "truncation" && *value != Value::Bool(true);
                if cuts || !["truncation", "padding", "pad_to_multiple_of", "return_tensors"].contains(&field.as_str())
                {
                    return refuse(&format!("processing_kwargs.{bucket}.{field}"), value, "its default");
                }
            }
        }
        let config = folder.join(CONFIG);
        let config: Value = if config.exists() { read_json(&config).unwrap_or_default() } else { Value::Null };
        let kwargs = [
            ("model_kwargs", &self.model_kwargs),
            ("processor_kwargs", &self.processor_kwargs),
            ("config_kwargs", &self.config_kwargs),
        ];
        for (name, kwargs) in kwargs {
            for (field, value) in kwargs.iter().flatten() {
                let computed = name == "processor_kwargs" && field == "model_max_length" && value.as_u64().is_some()
                    || name == "processor_kwargs" && field == "truncation_side" && value == "right"
                    || name == "config_kwargs" && config.get(field) == Some(value);
                if !computed && !WITHOUT_EFFECT.contains(&field.as_str()) {
                    return refuse(
                        &format!("{name}.{field}"),
                        value,
                        if name == "config_kwargs" { "the value in config.json: set it there" } else { "its default" },
                    );
                }
            }
        }
        Ok(())
    }
}
