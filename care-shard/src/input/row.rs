//! A document of a row whose fields have names that the user sets.

use std::fmt;
use std::ops::Range;

use care_core::Document;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The names of the fields of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// The id, a string or an integer; default `_id`, which may also be called `id`.
    pub id: String,
    /// The title, which may be absent; default `title`.
    pub title: String,
    /// The text; default `text`.
    pub text: String,
}

/// A document and its id.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) document: Document,
}

/// The documents of a part.
#[derive(Debug, PartialEq)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<Row>,
    /// What they cover. Of JSON Lines, it begins and ends with lines; the parts of a file join without a gap.
    pub(crate) range: Range<u64>,
}

impl Default for Fields {
    fn default() -> Self {
        Self { id: "_id".to_owned(), title: "title".to_owned(), text: "text".to_owned() }
    }
}

impl Fields {
    /// Whether a field is the id.
    pub(super) fn is_id(&self, name: &str) -> bool {
        name == self.id || (self.id == "_id" && name == "id")
    }
}

/// An id: non-empty text, or an integer.
pub(super) fn id_of(value: Value) -> Result<String, String> {
    match value {
        Value::String(id) if id.is_empty() => Err("the id is empty".to_owned()),
        Value::String(id) => Ok(id),
        Value::Number(id) if id.is_i64() || id.is_u64() => Ok(id.to_string()),
        other => Err(format!("the id is {other}, expected a string or an integer")),
    }
}

/// The document of a row. An absent title is an empty one.
pub(super) fn row(id: String, title: Option<String>, text: String) -> Row {
    Row { id, document: Document::with_title(title.unwrap_or_default(), text) }
}

/// Reads a row by the names of its fields.
pub(super) struct RowReader<'a>(pub(super) &'a Fields);

impl<'de> DeserializeSeed<'de> for RowReader<'_> {
    type Value = Row;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Row, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowReader<'_> {
    type Value = Row;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
        let Self(fields) = self;
        let (mut id, mut title, mut text) = (None, None, None);
        while let Some(name) = map.next_key::<String>()? {
            let taken = if fields.is_id(&name) {
                id.replace(id_of(map.next_value()?).map_err(A::Error::custom)?).is_some()
            } else if name == fields.title {
                title.replace(map.next_value::<Option<String>>()?).is_some()
            } else if name == fields.text {
                text.replace(map.next_value::<String>()?).is_some()
            } else {
                map.next_value::<IgnoredAny>()?;
                false
            };
            if taken {
                return Err(A::Error::custom(format!("duplicate field `{name}`")));
            }
        }
        let missing = |name: &str| A::Error::custom(format!("missing field `{name}`"));
        Ok(row(id.ok_or_else(|| missing(&fields.id))?, title.flatten(), text.ok_or_else(|| missing(&fields.text))?))
    }
}
