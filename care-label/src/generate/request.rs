//! What is asked: a pair for each document and kind of questions.

use std::collections::HashSet;

use care_core::{Error, Result};

use crate::pair::Pair;
use crate::prompt::{AnswerForm, Prompt};

/// A document that questions are written for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its id.
    pub id: String,
    /// Its text, with its title.
    pub text: String,
}

/// The requests for all documents, by document and then by kind. In a request, `query_id` is the name of the kind and
/// `query` what is asked for.
///
/// # Errors
/// If the prompt asks for scores, a document has no text, or an id occurs twice.
pub fn requests(documents: &[Source], prompt: &Prompt) -> Result<Vec<Pair>> {
    if prompt.answer != AnswerForm::Questions {
        let problem = format!("`{}`, which asks for scores", prompt.name);
        return Err(Error::setting("prompt", problem, "query-generation, or a file with `answer = \"questions\"`"));
    }
    let mut ids = HashSet::new();
    let mut requests = Vec::with_capacity(documents.len() * prompt.kinds.len());
    for Source { id, text } in documents {
        if text.trim().is_empty() {
            return Err(Error::setting("documents", format!("`{id}`, without a text"), "documents with a text"));
        }
        if !ids.insert(id) {
            return Err(Error::setting("documents", format!("`{id}` twice"), "one document of an id"));
        }
        requests.extend(prompt.kinds.iter().map(|kind| Pair {
            query_id: kind.name.clone(),
            doc_id: id.clone(),
            query: kind.ask.clone(),
            document: text.clone(),
            positive: None,
            group: None,
            grade: None,
            systems: Vec::new(),
        }));
    }
    Ok(requests)
}
