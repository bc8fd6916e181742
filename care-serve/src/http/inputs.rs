//! Fields that several APIs have in several forms.

use serde::Deserialize;
use serde_json::Value;

use crate::failure::{Failure, Kind};
use crate::service::{Input, Truncate};
use crate::tower::Side;

/// Texts or token ids: one, or a list.
///
/// # Errors
/// If there is none, one is empty, or the field has another type.
pub(super) fn input(field: &str, value: Value) -> Result<Input, Failure> {
    let empty = |place: String| Failure::field(field, format!("`{place}` is empty")).of_kind(Kind::Empty);
    let input = match value {
        Value::String(text) => Input::Texts(vec![text]),
        Value::Array(items) if items.is_empty() => return Err(empty(field.to_owned())),
        Value::Array(items) => match &items[0] {
            Value::String(_) => Input::Texts(list(field, items)?),
            Value::Number(_) => Input::Ids(vec![list(field, items)?]),
            Value::Array(_) => Input::Ids(list(field, items)?),
            other => return Err(wrong_type(field, other)),
        },
        other => return Err(wrong_type(field, &other)),
    };
    let first_empty = match &input {
        Input::Texts(texts) => texts.iter().position(String::is_empty),
        Input::Ids(ids) => ids.iter().position(Vec::is_empty),
    };
    match first_empty {
        Some(at) => Err(empty(format!("{field}[{at}]"))),
        None => Ok(input),
    }
}

/// Texts: one, or a list.
///
/// # Errors
/// As [`input`], and if there are token ids.
pub(super) fn texts(field: &str, value: Value) -> Result<Vec<String>, Failure> {
    match input(field, value)? {
        Input::Texts(texts) => Ok(texts),
        Input::Ids(_) => Err(Failure::field(field, format!("`{field}` has token ids, allowed: texts"))),
    }
}

fn list<T: serde::de::DeserializeOwned>(field: &str, items: Vec<Value>) -> Result<Vec<T>, Failure> {
    let item = |(at, item): (usize, Value)| serde_json::from_value(item.clone()).map_err(|_| (at, item));
    items
        .into_iter()
        .enumerate()
        .map(item)
        .collect::<Result<_, _>>()
        .map_err(|(at, item)| wrong_type(&format!("{field}[{at}]"), &item))
}

fn wrong_type(field: &str, value: &Value) -> Failure {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Failure::field(field, format!("`{field}` is {kind}, allowed: a string, or a list of strings or of token ids"))
}

/// `truncate` as a boolean (text-embeddings-inference) or as NONE, START, END (Cohere, NVIDIA NIM).
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "allowed: true, false, \"NONE\", \"START\" or \"END\"")]
pub(super) enum TruncateField {
    Switch(bool),
    Named(Named),
}

/// The end that is cut off.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Named {
    None,
    Start,
    End,
}

/// By default texts are cut as their tower was trained.
pub(super) fn truncate(field: Option<TruncateField>, direction: Option<Direction>) -> Truncate {
    match field {
        Some(TruncateField::Switch(false) | TruncateField::Named(Named::None)) => Truncate::Refuse,
        Some(TruncateField::Named(Named::Start)) => Truncate::Cut(Some(Side::Left)),
        Some(TruncateField::Named(Named::End)) => Truncate::Cut(Some(Side::Right)),
        Some(TruncateField::Switch(true)) | None => Truncate::Cut(direction.map(|direction| match direction {
            Direction::Left => Side::Left,
            Direction::Right => Side::Right,
        })),
    }
}

/// `truncation_direction` of text-embeddings-inference.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) enum Direction {
    #[serde(alias = "left")]
    Left,
    #[serde(alias = "right")]
    Right,
}
