//! Families of models that were trained with instructions which their published files do not state.

use std::path::Path;

use care_core::Role;
use care_encoders::{Source, TowerSummary};
use serde_json::Value;

use crate::stderr::note;

/// The models of a family, and the instructions for retrieval that their model card demands.
struct Family {
    name: &'static str,
    /// How the names of its models begin, or continue after another word; in lower case, with `-` for `_`.
    models: &'static [&'static str],
    /// Prefix of queries.
    query: &'static str,
    /// Prefix of documents; empty for none.
    document: &'static str,
    /// The model card that states them, on the hub.
    card: &'static str,
}

const WEB_SEARCH: &str =
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ";

/// The first that applies is a model's.
const FAMILIES: [Family; 7] = [
    Family {
        name: "e5-instruct",
        models: &["e5-large-instruct", "e5-mistral"],
        query: WEB_SEARCH,
        document: "",
        card: "intfloat/multilingual-e5-large-instruct",
    },
    Family {
        name: "e5",
        models: &["e5-small", "e5-base", "e5-large"],
        query: "query: ",
        document: "passage: ",
        card: "intfloat/multilingual-e5-base",
    },
    Family {
        name: "bge-zh",
        models: &["bge-small-zh", "bge-base-zh", "bge-large-zh"],
        query: "为这个句子生成表示以用于检索相关文章：",
        document: "",
        card: "BAAI/bge-large-zh-v1.5",
    },
    Family {
        name: "bge-en",
        models: &["bge-small-en", "bge-base-en", "bge-large-en"],
        query: "Represent this sentence for searching relevant passages: ",
        document: "",
        card: "BAAI/bge-large-en-v1.5",
    },
    Family {
        name: "gte-Qwen2",
        models: &["gte-qwen2", "gte-qwen1.5"],
        query: WEB_SEARCH,
        document: "",
        card: "Alibaba-NLP/gte-Qwen2-1.5B-instruct",
    },
    Family {
        name: "Qwen3-Embedding",
        models: &["qwen3-embedding"],
        // Without a space at its end.
        query: "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:",
        document: "",
        card: "Qwen/Qwen3-Embedding-0.6B",
    },
    Family {
        name: "stella-v5",
        models: &["stella-en-400m-v5", "stella-en-1.5b-v5"],
        // With a full stop. Its settings call it `s2p_query`, which is no name that a role has.
        query: "Instruct: Given a web search query, retrieve relevant passages that answer the query.\nQuery: ",
        document: "",
        card: "NovaSearch/stella_en_1.5B_v5",
    },
];

impl Family {
    /// The instruction of a role; empty for none.
    fn instruction(&self, role: Role) -> &'static str {
        match role {
            Role::Query => self.query,
            Role::Document => self.document,
        }
    }

    /// The family of the model of this name, if it has one.
    fn of(name: &str) -> Option<&'static Self> {
        let name = name.to_lowercase().replace('_', "-");
        let begins = |at: usize| !name[..at].ends_with(char::is_alphanumeric);
        FAMILIES
            .iter()
            .find(|family| family.models.iter().any(|model| name.match_indices(model).any(|(at, _)| begins(at))))
    }
}

/// Warns, in one line, of a model of a known family whose texts have no instruction, neither by its files nor by an
/// option. Each tower is given with the option that sets its instruction.
pub(crate) fn warn_without_instruction(model: &str, folder: &Path, towers: &[(&str, TowerSummary)]) {
    // What an option or a saved pair states is meant.
    let stated = |source: &Source| matches!(source, Source::Option) || *source == Source::File("care.json".to_owned());
    let bare: Vec<_> = towers
        .iter()
        .filter(|(_, tower)| tower.instruction.value.is_empty() && !stated(&tower.instruction.source))
        .collect();
    if bare.is_empty() {
        return;
    }
    let found = names(model, folder).into_iter().find_map(|(stated, name)| Some((stated, Family::of(&name)?)));
    let Some((stated, family)) = found else { return };
    let options: Vec<String> = bare
        .iter()
        .map(|(option, tower)| (option, family.instruction(tower.role)))
        .filter(|(_, instruction)| !instruction.is_empty())
        .map(|(option, instruction)| format!("{option} {}", quoted(instruction)))
        .collect();
    if options.is_empty() {
        return;
    }
    note!(
        "warning: {model} is a model of the family {} (by {stated}), trained with instructions that its files do not \
         state; without them its vectors are not the published ones; use {} (or '' to have none), see \
         https://huggingface.co/{}",
        family.name,
        options.join(" "),
        family.card
    );
}

/// What may name a model, each with where it is stated: most certain first.
fn names(model: &str, folder: &Path) -> Vec<(&'static str, String)> {
    let (model, _) = model.split_once('@').unwrap_or((model, ""));
    let last = model.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let mut names = vec![("its name", last.to_owned())];
    // A link or a snapshot in the hub's cache, whose folder is called `models--ORG--NAME`.
    let whole = folder.canonicalize().unwrap_or_default();
    let parts: Vec<_> = whole.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let cached = parts.iter().filter(|part| part.starts_with("models--"));
    names.extend(cached.chain(parts.last()).map(|part| ("its folder", part.clone())));
    let fields = [
        ("config.json", "config.json", "_name_or_path"),
        ("0_Transformer/config.json", "config.json", "_name_or_path"),
        ("adapter_config.json", "adapter_config.json", "base_model_name_or_path"),
    ];
    for (file, stated, field) in fields {
        let json = std::fs::read(folder.join(file)).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        names.extend(json.and_then(|json| Some((stated, json[field].as_str()?.to_owned()))));
    }
    // What the model card is about: its front matter, which names the model and what it was made of, and its title.
    let card = std::fs::read_to_string(folder.join("README.md")).unwrap_or_default();
    let (front, text) = match card.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---")) {
        Some((front, text)) => (front, text),
        None => ("", card.as_str()),
    };
    let title = text.lines().find(|line| line.starts_with('#'));
    names.extend(front.lines().chain(title).map(|line| ("README.md", line.to_owned())));
    names
}

/// A text as an argument of a shell.
fn quoted(text: &str) -> String {
    match text.contains('\n') {
        true => format!("$'{}'", text.replace('\n', "\\n")),
        false => format!("'{text}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_known_by_the_names_of_its_models_and_by_no_other() {
        let family = |name: &str| Family::of(name).map(|family| family.name);
        for (name, expected) in [
            ("multilingual-e5-small", "e5"),
            ("intfloat/e5-large-v2", "e5"),
            ("multilingual-e5-large-instruct", "e5-instruct"),
            ("e5-mistral-7b-instruct", "e5-instruct"),
            ("cache/sentence_transformers/BAAI_bge-small-zh/", "bge-zh"),
            ("bge-base-en-v1.5", "bge-en"),
            ("gte-Qwen2-7B-instruct", "gte-Qwen2"),
            ("Qwen3-Embedding-8B", "Qwen3-Embedding"),
            ("stella_en_1.5B_v5", "stella-v5"),
        ] {
            assert_eq!(family(name), Some(expected), "{name}");
        }
        for name in ["S-PubMedBert-MS-MARCO", "bge-m3", "all-MiniLM-L6-v2", "Qwen3-0.6B", "some-e5", "le5-small", ""] {
            assert_eq!(family(name), None, "{name}");
        }
    }

    #[test]
    fn every_instruction_can_be_given_as_an_option() {
        for Family { name, models, query, document, .. } in &FAMILIES {
            assert!(models.iter().all(|model| *model == model.to_lowercase().replace('_', "-")), "{name}");
            care_core::Instruction::<care_core::Query>::new(query).expect(name);
            care_core::Instruction::<care_core::Document>::new(document).expect(name);
            assert!(!query.contains('\'') && !document.contains('\''), "{name}: quoting");
        }
        assert_eq!(quoted("query: "), "'query: '");
        assert_eq!(quoted("a\nb: "), "$'a\\nb: '");
    }
}
