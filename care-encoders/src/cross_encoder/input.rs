//! How a query and a document become token ids.

use care_core::{Error, Result};
use rayon::prelude::*;

use crate::tokenize::{TokenLists, Tokenizer};

/// What stands before the pair in the prompt of Qwen3-Reranker.
///
/// # Reference
/// The model cards of Qwen3-Reranker-0.6B, 4B and 8B, whose scores depend on every character.
const BEFORE: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the \
                      Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n";
/// What stands after it: the beginning of an answer without thoughts.
const AFTER: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
/// The instruction of the model card.
pub(super) const INSTRUCTION: &str = "Given a web search query, retrieve relevant passages that answer the query";

/// The middle of the prompt, with these in the places of instruction, query and document.
fn middle(instruction: &str, query: &str, document: &str) -> String {
    format!("<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}")
}

/// Whether a chat template of Jinja makes this prompt, with this instruction where a chat has none: assignments first,
/// then the text with three expressions. A template that has anything else is not known.
pub(super) fn is_known_template(template: &str) -> bool {
    let mut rest = template.trim_start();
    while let Some(inner) = rest.strip_prefix("{%- set ").or_else(|| rest.strip_prefix("{% set ")) {
        let Some((_, after)) = inner.split_once("%}") else { return false };
        rest = after.trim_start();
    }
    let (mut text, mut expressions) = (String::new(), 0);
    while let Some((before, inner)) = rest.split_once("{{") {
        let Some((_, after)) = inner.split_once("}}") else { return false };
        text += before;
        text.push(PLACE);
        expressions += 1;
        rest = after;
    }
    text += rest;
    let place = PLACE.to_string();
    // Jinja takes away the last line break.
    let known = format!("{BEFORE}{}{AFTER}\n", middle(&place, &place, &place));
    expressions == 3 && text == known && template.contains(INSTRUCTION)
}

/// Stands for an expression of a template.
const PLACE: char = '\u{1}';

/// The form in which a network reads a pair.
#[derive(Debug, Clone)]
pub(super) enum Input {
    /// Two segments with special tokens between them, with the type of each token or without.
    Pair { types: bool },
    /// One text: the prompt of a chat, of whose middle the end is cut off if it is too long.
    Prompt(Prompt),
}

/// The prompt of Qwen3-Reranker.
#[derive(Debug, Clone)]
pub(super) struct Prompt {
    instruction: String,
    before: Vec<u32>,
    after: Vec<u32>,
    /// Length limit of the whole prompt in tokens.
    max_length: usize,
}

impl Prompt {
    /// The prompt with its ids; also returns the tokenizer of its middle, which has the tokens that are left.
    ///
    /// # Errors
    /// If the length limit leaves no room for a pair.
    pub(super) fn new(tokenizer: &Tokenizer, instruction: String) -> Result<(Self, Tokenizer)> {
        let (before, after) = (tokenizer.encode_bare(BEFORE)?, tokenizer.encode_bare(AFTER)?);
        let (max_length, taken) = (tokenizer.max_length(), before.len() + after.len());
        if max_length <= taken {
            let allowed = format!("at least {}, since the prompt has {taken} tokens beside the pair", taken + 1);
            return Err(Error::setting("max_length", max_length, &allowed));
        }
        let middle = tokenizer.with_max_length(max_length - taken)?;
        Ok((Self { instruction, before, after, max_length }, middle))
    }

    /// The instruction.
    pub(super) fn instruction(&self) -> &str {
        &self.instruction
    }
}

impl Input {
    /// Token ids of each pair and, if the network reads them, their types.
    ///
    /// # Errors
    /// If the tokenizer rejects a text.
    pub(super) fn encode<S: AsRef<str> + Sync>(
        &self,
        tokenizer: &Tokenizer,
        pairs: &[(S, S)],
    ) -> Result<(TokenLists, Option<TokenLists>)> {
        match self {
            Input::Pair { types } => {
                let (ids, of_tokens) = tokenizer.encode_pairs(pairs)?;
                Ok((ids, types.then_some(of_tokens)))
            }
            Input::Prompt(Prompt { instruction, before, after, .. }) => {
                let text = |(query, document): &(S, S)| middle(instruction, query.as_ref(), document.as_ref());
                let texts: Vec<String> = pairs.par_iter().map(text).collect();
                let whole = |middle: Vec<u32>| [before.as_slice(), &middle, after].concat();
                Ok((tokenizer.encode(&texts)?.into_iter().map(whole).collect(), None))
            }
        }
    }

    /// Length limit of a pair in tokens; `tokenizer` is that with which this form encodes.
    pub(super) fn max_length(&self, tokenizer: &Tokenizer) -> usize {
        match self {
            Input::Pair { .. } => tokenizer.max_length(),
            Input::Prompt(prompt) => prompt.max_length,
        }
    }

    /// What the network reads beside the texts, for a fingerprint.
    pub(super) fn form(&self) -> String {
        match self {
            Input::Pair { types } => format!("pair, types {types}"),
            Input::Prompt(Prompt { instruction, before, after, .. }) => format!("{instruction}\n{before:?}{after:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_templates_of_the_known_prompt_are_known() {
        let (set, first) =
            ("{%- set text = messages | first -%}", format!("{{{{ role | default(\"{INSTRUCTION}\") }}}}"));
        let body = format!("{BEFORE}{}{AFTER}\n", middle(&first, "{{ query }}", "{{ document }}"));
        for template in [body.clone(), format!("{set}\n{set}\n{body}")] {
            assert!(is_known_template(&template), "{template}");
        }
        for template in [
            body.trim_end().to_owned(),
            body.replace("Judge", "Decide"),
            body.replace(INSTRUCTION, "Find it"),
            body.replace("{{ query }}", "query"),
            format!("{{% if query %}}{body}{{% endif %}}"),
            "{%- set text".to_owned(),
            "{{ query".to_owned(),
        ] {
            assert!(!is_known_template(&template), "{template}");
        }
    }
}
