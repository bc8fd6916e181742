//! What identifies the vectors of a role.

use std::collections::HashMap;

use care_core::{Document, Embedder, Query, Result, Role};

const PREFIX: &str = "care_embed: ";

/// A tower with its instruction: equal ones give equal vectors.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Tower {
    /// `None` if the embedder has none.
    fingerprint: Option<String>,
    /// How the tower reads a text of the placeholders `{title}` and `{text}`.
    instruction: String,
}

impl Tower {
    pub(crate) fn of(embedder: &dyn Embedder, role: Role) -> Result<Self> {
        let instruction = match role {
            Role::Query => embedder.query_key(&Query::new("{text}")),
            Role::Document => embedder.document_key(&Document::with_title("{title}", "{text}")),
        };
        Ok(Self { fingerprint: embedder.fingerprint(role)?, instruction })
    }

    /// Metadata of a column with vectors of this tower, under the keys of a Parquet file that `care` writes.
    pub(crate) fn metadata(&self) -> HashMap<String, String> {
        let mut metadata = HashMap::from([("care.instruction".to_owned(), self.instruction.clone())]);
        metadata.extend(self.fingerprint.clone().map(|fingerprint| ("care.fingerprint".to_owned(), fingerprint)));
        metadata
    }

    /// The name of a field with vectors of this tower. Ballista sends a field's name to its executors, but not its metadata.
    pub(crate) fn field_name(&self) -> String {
        let fingerprint = self.fingerprint.as_deref().unwrap_or("no fingerprint");
        format!("{PREFIX}{fingerprint} {}", self.instruction)
    }

    /// Whether a field's name is one of another tower.
    pub(crate) fn is_not(&self, field_name: &str) -> bool {
        field_name.starts_with(PREFIX) && field_name != self.field_name()
    }
}
