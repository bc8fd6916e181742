//! The rows of an index without their vectors.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, Result};

/// A row of an index without its vector: id, text and metadata.
///
/// A field of the metadata is a string, a number, a boolean, null or a list of strings, and a
/// [`Filter`](super::Filter) may ask for each. Null means that the field is absent.
///
/// ```
/// use care_core::index::Record;
/// let record = Record::new("d7").with_text("头痛先休息").with_field("department", "内科").with_field("year", 2024);
/// assert_eq!(record.metadata["year"], 2024);
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Identifies the row in its index; not empty.
    pub id: String,
    /// The text of the row, if it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Fields by name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

impl Record {
    /// A row with this id, without text and metadata.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), ..Self::default() }
    }

    /// Sets the text.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Sets a field of the metadata.
    #[must_use]
    pub fn with_field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Refuses what an index refuses, so that a bad row is found before its vector is computed.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the id is empty or a field has a type that no filter could ask for.
    pub fn check(&self) -> Result<()> {
        if self.id.is_empty() {
            return Err(Error::new(ErrorKind::Config, "the id of a row is empty"));
        }
        let is_supported = |value: &Value| match value {
            Value::Object(_) => false,
            Value::Array(items) => items.iter().all(Value::is_string),
            _ => true,
        };
        match self.metadata.iter().find(|(_, value)| !is_supported(value)) {
            None => Ok(()),
            Some((name, _)) => {
                let allowed = "a string, a number, a boolean, null or a list of strings";
                let message = format!("row {:?}: the field `{name}` must be {allowed}", self.id);
                Err(Error::new(ErrorKind::Config, message))
            }
        }
    }
}
