//! The fields of a row as they are written, and the texts in them.

use std::fmt;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// Ids of objects, as tools name them.
const IDS: [&str; 4] = ["docid", "doc_id", "_id", "id"];

/// A text of a row.
#[derive(Debug, Clone)]
pub struct Item {
    pub(super) raw: Box<RawValue>,
    pub(super) text: String,
    id: Option<String>,
}

impl Item {
    /// The text, after its title if it has one.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The id, if the text is an object with one.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

/// The fields of an object in their order, as they are written.
pub(super) struct Fields(pub(super) Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, _>()? {
                    if fields.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(format!("`{name}` is there twice")));
                    }
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// What is wrong with a line that is no JSON object.
pub(super) fn described(line: &str, error: &serde_json::Error) -> String {
    let text = error.to_string();
    let problem = text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem);
    // As Python writes what JSON does not have.
    let near = &line[line.floor_char_boundary(error.column().saturating_sub(10))..];
    match ["NaN", "Infinity"].into_iter().find(|word| near.chars().take(20).collect::<String>().contains(word)) {
        Some(word) => format!("{word} is no JSON; a score is a finite number, or null if there is none"),
        None => format!("{problem} (column {})", error.column()),
    }
}

/// The place of the field that the row has of several that mean the same.
pub(super) fn only(fields: &[(String, Box<RawValue>)], names: &[&str]) -> Result<Option<usize>, String> {
    let is_one = |(name, raw): &(String, Box<RawValue>)| names.contains(&name.as_str()) && raw.get() != "null";
    let mut found = (0..fields.len()).filter(|at| is_one(&fields[*at]));
    match (found.next(), found.next()) {
        (Some(one), Some(other)) => {
            Err(format!("`{}` and `{}` are both given; keep one of them", fields[one].0, fields[other].0))
        }
        (found, _) => Ok(found),
    }
}

/// One text, or the texts of a list.
pub(super) fn items(field: &str, raw: &RawValue) -> Result<Vec<Item>, String> {
    match values(field, raw) {
        Ok(Some(values)) => {
            values.into_iter().enumerate().map(|(at, raw)| item(&format!("{field}[{at}]"), raw)).collect()
        }
        _ => Ok(vec![item(field, raw)?]),
    }
}

/// The values of a list; `None` for null.
pub(super) fn values<'a>(field: &str, raw: &'a RawValue) -> Result<Option<Vec<&'a RawValue>>, String> {
    serde_json::from_str(raw.get()).map_err(|_| format!("`{field}` is no list"))
}

pub(super) fn score(field: &str, at: usize, raw: &RawValue) -> Result<Option<f64>, String> {
    let parsed: Result<Option<f64>, _> = serde_json::from_str(raw.get());
    match parsed {
        Ok(score) if score.is_none_or(f64::is_finite) => Ok(score),
        _ => {
            let value: String = raw.get().chars().take(40).collect();
            Err(format!("`{field}[{at}]` is {value}; a finite number or null belongs there"))
        }
    }
}

/// A text, a number, or an object with `text` and perhaps `title` and an id.
pub(super) fn item(field: &str, raw: &RawValue) -> Result<Item, String> {
    let value: Value = serde_json::from_str(raw.get()).map_err(|error| format!("`{field}`: {error}"))?;
    let plain = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let text = match &value {
        Value::Object(object) => {
            let text = object.get("text").and_then(plain).ok_or_else(|| format!("`{field}` has no `text`"))?;
            let title = object.get("title").and_then(plain).unwrap_or_default();
            if title.trim().is_empty() { text } else { format!("{title} {text}") }
        }
        value => plain(value).ok_or_else(|| format!("`{field}` is no text, number or object with `text`"))?,
    };
    if text.trim().is_empty() {
        return Err(format!("`{field}` is an empty text"));
    }
    let id = IDS.iter().find_map(|name| value.get(name).and_then(plain));
    Ok(Item { raw: raw.to_owned(), text, id })
}
