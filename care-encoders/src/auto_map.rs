//! Networks with custom code: what the `auto_map` of a `config.json` means for the vectors.

use care_core::{Error, Result};
use serde_json::Value;

/// What the custom code of a network computes.
enum Code {
    /// What transformers' network of the same `model_type` does.
    Same,
    /// The same without the causal mask, unless the file sets `is_causal`.
    Bidirectional,
}

/// Known custom code: `model_type`, file and class as `auto_map` names them, and what they compute.
///
/// # Reference
/// `modeling.NewModel` is the GTE authors' form (gte-multilingual-base, gte-*-en-v1.5, stella_en_400M_v5).
/// `modeling_qwen.Qwen2Model` is in gte-Qwen2-1.5B-instruct and gte-Qwen2-7B-instruct, whose `config.json` has
/// `is_causal: false`, and in stella_en_1.5B_v5, whose `config.json` lacks the field while its code has no causal mask.
/// `modeling.Qwen2Model` is in KaLM-embedding-multilingual-mini-instruct-v2 and v2.5, with `is_causal: false`.
/// `modeling_eurobert.EuroBertModel` is what EuroBERT and jina-embeddings-v5-text-nano-retrieval had before transformers
/// had the network.
const KNOWN: [(&str, &str, Code); 4] = [
    ("new", "modeling.NewModel", Code::Same),
    ("qwen2", "modeling_qwen.Qwen2Model", Code::Bidirectional),
    ("qwen2", "modeling.Qwen2Model", Code::Bidirectional),
    ("eurobert", "modeling_eurobert.EuroBertModel", Code::Same),
];

/// Replaces `auto_map` by the settings that its code implies.
///
/// # Errors
/// If the code is unknown: the vectors of the network could then be other than those of its `model_type`.
pub(crate) fn resolve(config: &mut Value) -> Result<()> {
    let Some((field, code)) = custom_code(config) else { return Ok(()) };
    let class = code.as_str().unwrap_or_default();
    // `REPOSITORY--` precedes code that another repository keeps.
    let class = class.rsplit_once("--").map_or(class, |(_, class)| class);
    let model_type = &config["model_type"];
    match KNOWN.iter().find(|(of, name, _)| *model_type == *of && *name == class) {
        Some((_, _, Code::Same)) => {}
        Some((_, _, Code::Bidirectional)) => {
            if config.get("is_causal").is_none() {
                config["is_causal"] = false.into();
            }
        }
        None => {
            let known: Vec<String> = KNOWN.iter().map(|(of, name, _)| format!("{name} for {of}")).collect();
            let allowed = format!(
                "{}; what other code computes is not known, unless you set `ignore_custom_code` because it computes \
                 what transformers does for {model_type}",
                known.join(", ")
            );
            return Err(Error::setting(field, code, &allowed));
        }
    }
    Ok(())
}

/// The entry of `auto_map` by which `AutoModel` loads custom code. Entries for tokenizers and for models with another
/// head do not matter to it.
fn custom_code(config: &Value) -> Option<(&'static str, &Value)> {
    let entries = config.get("auto_map").filter(|entries| !entries.is_null())?;
    if !entries.is_object() {
        return Some(("auto_map", entries));
    }
    // A configuration class without a network cannot be loaded as one.
    [("AutoModel", "auto_map.AutoModel"), ("AutoConfig", "auto_map.AutoConfig")]
        .into_iter()
        .find_map(|(entry, field)| Some((field, entries.get(entry)?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn known_code_sets_what_it_implies() {
        let qwen = "modeling_qwen.Qwen2Model";
        for (model_type, auto_map, before, after) in [
            ("qwen2", json!({"AutoModel": qwen, "AutoModelForCausalLM": "a.B"}), json!(null), json!(false)),
            ("qwen2", json!({"AutoModel": format!("org/other--{qwen}")}), json!(null), json!(false)),
            ("qwen2", json!({"AutoModel": qwen}), json!(true), json!(true)),
            ("qwen2", json!({"AutoModel": "modeling.Qwen2Model"}), json!(null), json!(false)),
            ("eurobert", json!({"AutoModel": "modeling_eurobert.EuroBertModel"}), json!(null), json!(null)),
            ("new", json!({"AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel"}), json!(null), json!(null)),
            (
                "new",
                json!({"AutoConfig": "configuration.NewConfig", "AutoModel": "modeling.NewModel"}),
                json!(1),
                json!(1),
            ),
            // `AutoModel` loads transformers' own network.
            ("bert", json!({"AutoTokenizer": ["a.B", null]}), json!(null), json!(null)),
            ("qwen3", json!({}), json!(null), json!(null)),
            ("qwen3", json!(null), json!(null), json!(null)),
        ] {
            let mut config = json!({"model_type": model_type, "auto_map": auto_map});
            if !before.is_null() {
                config["is_causal"] = before;
            }
            resolve(&mut config).expect("known");
            assert_eq!(config.get("is_causal").unwrap_or(&Value::Null), &after, "{config}");
        }
    }

    #[test]
    fn unknown_code_is_named() {
        for (model_type, auto_map, named) in [
            (
                "bert",
                json!({"AutoModel": "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel"}),
                "`auto_map.AutoModel` is \"jinaai/jina-bert-implementation--modeling_bert.JinaBertModel\", ",
            ),
            // Known for another `model_type` only.
            ("qwen3", json!({"AutoModel": "modeling_qwen.Qwen2Model"}), "`auto_map.AutoModel` is \"modeling_qwen"),
            (
                "qwen2",
                json!({"AutoConfig": "a.B", "AutoModelForCausalLM": "a.C"}),
                "`auto_map.AutoConfig` is \"a.B\", ",
            ),
            ("llama", json!({"AutoModel": ["a.B"]}), "`auto_map.AutoModel` is [\"a.B\"], "),
            ("llama", json!("a.B"), "`auto_map` is \"a.B\", "),
        ] {
            let error = resolve(&mut json!({"model_type": model_type, "auto_map": auto_map})).expect_err("unknown");
            let message = error.to_string();
            assert!(message.starts_with(named), "{message}");
            assert!(
                message.contains("allowed: modeling.NewModel for new, modeling_qwen.Qwen2Model for qwen2, "),
                "{message}"
            );
            assert!(message.contains("`ignore_custom_code`"), "{message}");
        }
    }
}
