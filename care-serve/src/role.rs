//! Query or document, in the words of every API.

use care_core::Role;
use serde::Deserialize;

use crate::failure::{Failure, Kind};

/// The words of a role, in lower case.
///
/// # Reference
/// `input_type` of Cohere, Voyage and NVIDIA NIM, `task` of Jina, `task_type` of Gemini, keys of `prompts` in
/// `config_sentence_transformers.json`.
const QUERY: [&str; 6] =
    ["query", "search_query", "retrieval.query", "retrieval_query", "s2p_query", "web_search_query"];
const DOCUMENT: [&str; 7] = [
    "document",
    "passage",
    "search_document",
    "retrieval.document",
    "retrieval.passage",
    "retrieval_document",
    "retrieval_passage",
];

/// All places of a request that may state the role of its texts: the path, and fields of the body.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct RoleWords {
    /// The prefix of the path.
    #[serde(skip)]
    pub(crate) path: Option<Role>,
    pub(crate) model: Option<String>,
    pub(crate) input_type: Option<String>,
    pub(crate) prompt_name: Option<String>,
    pub(crate) task: Option<String>,
}

impl RoleWords {
    /// The role of the request, of a pair of this name.
    ///
    /// # Errors
    /// [`Kind::UnknownModel`]; [`Kind::Invalid`] if a word is unknown, two contradict each other, or there is none and no
    /// default.
    pub(crate) fn role(&self, name: &str, default: Option<Role>) -> Result<Role, Failure> {
        self.stated(name)?.or(default).ok_or_else(|| {
            let message = format!(
                "the request does not say whether its texts are queries or documents. Say it by one of: the model \
                 `{name}/query` or `{name}/document`; `input_type`, `prompt_name` or `task`, each `query` or `document` (or \
                 `search_query`, `search_document`, `retrieval.query`, `retrieval.passage`); the path /query/... or \
                 /document/..., e.g. the base URL http://HOST/query/v1. Or start the server with a default role"
            );
            Failure { field: Some("model".into()), ..Failure::new(Kind::Invalid, message) }
        })
    }

    /// The role that the request states, if it states one.
    pub(crate) fn stated(&self, name: &str) -> Result<Option<Role>, Failure> {
        let of_model = self.model.as_deref().map(|model| role_of_model(model, name)).transpose()?.flatten();
        let mut stated = self.path.map(|role| ("the path", role));
        let fields = [("input_type", &self.input_type), ("prompt_name", &self.prompt_name), ("task", &self.task)];
        let of_fields = fields.into_iter().filter_map(|(field, word)| Some((field, word.as_deref()?)));
        let of_fields = of_fields.map(|(field, word)| role_of_word(field, word).map(|role| (field, role)));
        for place in of_model.map(|role| Ok(("model", role))).into_iter().chain(of_fields) {
            let (place, role) = place?;
            match stated {
                Some((other, said)) if said != role => {
                    let (said, role) = (said.as_str(), role.as_str());
                    let message = format!("{other} says that the texts are of the role {said}, {place} says {role}");
                    return Err(Failure::field(place, message));
                }
                _ => stated = stated.or(Some((place, role))),
            }
        }
        Ok(stated.map(|(_, role)| role))
    }
}

/// The role in a model's name, if it has one.
pub(crate) fn role_of_model(model: &str, name: &str) -> Result<Option<Role>, Failure> {
    match model.strip_prefix(name) {
        Some("") => Ok(None),
        Some("/query") => Ok(Some(Role::Query)),
        Some("/document") => Ok(Some(Role::Document)),
        _ => {
            let message = format!("the model `{model}` is not served; served are `{name}/query` and `{name}/document`");
            Err(Failure { field: Some("model".into()), ..Failure::new(Kind::UnknownModel, message) })
        }
    }
}

fn role_of_word(field: &str, word: &str) -> Result<Role, Failure> {
    let lower = word.to_lowercase();
    if QUERY.contains(&lower.as_str()) {
        return Ok(Role::Query);
    }
    if DOCUMENT.contains(&lower.as_str()) {
        return Ok(Role::Document);
    }
    let (query, document) = (QUERY.join(", "), DOCUMENT.join(", "));
    let message =
        format!("`{field}` is {word:?}, allowed: for the query tower {query}; for the document tower {document}");
    Err(Failure::field(field, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_may_state_the_role() {
        let none = RoleWords::default;
        for (words, role) in [
            (RoleWords { path: Some(Role::Query), ..none() }, Role::Query),
            (RoleWords { model: Some("a/b/document".into()), ..none() }, Role::Document),
            (RoleWords { input_type: Some("search_query".into()), ..none() }, Role::Query),
            (RoleWords { input_type: Some("PASSAGE".into()), model: Some("a/b".into()), ..none() }, Role::Document),
            (RoleWords { prompt_name: Some("query".into()), path: Some(Role::Query), ..none() }, Role::Query),
            (
                RoleWords { task: Some("retrieval.passage".into()), model: Some("a/b/document".into()), ..none() },
                Role::Document,
            ),
        ] {
            assert_eq!(words.role("a/b", None).expect("stated"), role, "{words:?}");
        }
        assert_eq!(none().role("a", Some(Role::Document)).expect("default"), Role::Document);
    }

    #[test]
    fn silence_contradiction_and_unknown_words_are_refused() {
        let refused = |words: RoleWords| words.role("m", None).expect_err("refused");
        let silent = refused(RoleWords { model: Some("m".into()), ..Default::default() });
        for way in ["`m/query`", "`m/document`", "`input_type`", "`prompt_name`", "`task`", "/query/..."] {
            assert!(silent.message.contains(way), "{way} in {}", silent.message);
        }
        let words = RoleWords { path: Some(Role::Query), input_type: Some("passage".into()), ..Default::default() };
        let said = "the path says that the texts are of the role query, input_type says document";
        assert_eq!(refused(words).message, said);
        let words = RoleWords { model: Some("m/query".into()), task: Some("document".into()), ..Default::default() };
        let said = "model says that the texts are of the role query, task says document";
        assert_eq!(refused(words).message, said);
        let words = RoleWords { input_type: Some("clustering".into()), ..Default::default() };
        assert!(
            refused(words).message.starts_with("`input_type` is \"clustering\", allowed: for the query tower query,")
        );
        let unknown = refused(RoleWords { model: Some("other".into()), ..Default::default() });
        assert_eq!(unknown.kind, Kind::UnknownModel);
        assert_eq!(unknown.message, "the model `other` is not served; served are `m/query` and `m/document`");
        // A longer name that begins alike.
        assert_eq!(refused(RoleWords { model: Some("m2".into()), ..Default::default() }).kind, Kind::UnknownModel);
    }
}
