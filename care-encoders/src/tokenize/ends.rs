//! Special tokens that are added around texts where the post-processor of a `tokenizer.json` adds none.

use serde_json::{Value, json};
use tokenizers::Result;
use tokenizers::processors::PostProcessorWrapper;

/// A special token: its text and its id.
pub(super) type Special<'a> = (&'a str, u32);

/// A post-processor that also puts `first` before and `last` after each text, or after each of two texts.
///
/// The pieces go into the template of `post`, or into a new template after it.
pub(super) fn with_ends(
    post: Option<&PostProcessorWrapper>,
    first: Option<Special<'_>>,
    last: Option<Special<'_>>,
) -> Result<PostProcessorWrapper> {
    let mut json = serde_json::to_value(post)?;
    if template(&mut json).is_none() {
        let sequence = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
        let new = json!({
            "type": "TemplateProcessing",
            "single": [sequence("A", 0)],
            "pair": [sequence("A", 0), sequence("B", 1)],
            "special_tokens": {},
        });
        json = match json {
            Value::Null => new,
            other => json!({"type": "Sequence", "processors": [other, new]}),
        };
    }
    if let Some(template) = template(&mut json) {
        for (token, id) in first.into_iter().chain(last) {
            template["special_tokens"][token] = json!({"id": token, "ids": [id], "tokens": [token]});
        }
        for form in ["single", "pair"] {
            let pieces = template[form].as_array().into_iter().flatten();
            template[form] = pieces.flat_map(|piece| surround(piece, first, last)).collect();
        }
    }
    Ok(serde_json::from_value(json)?)
}

/// The template of a post-processor, or the last one of several.
fn template(post: &mut Value) -> Option<&mut Value> {
    match post["type"].as_str() {
        Some("TemplateProcessing") => Some(post),
        Some("Sequence") => post["processors"].as_array_mut()?.iter_mut().rev().find_map(template),
        _ => None,
    }
}

/// A piece of a template; the place of a text gets the tokens before and after it.
fn surround(piece: &Value, first: Option<Special<'_>>, last: Option<Special<'_>>) -> Vec<Value> {
    let Some(text) = piece.get("Sequence") else { return vec![piece.clone()] };
    let special = |token: Special<'_>| json!({"SpecialToken": {"id": token.0, "type_id": text["type_id"]}});
    first.map(special).into_iter().chain([piece.clone()]).chain(last.map(special)).collect()
}
