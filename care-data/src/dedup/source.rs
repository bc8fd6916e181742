//! Where the vectors of rows come from.

use care_core::{Document, Embedder, Embeddings, Query, Result, Role};

/// Vectors of rows, by their texts or by their numbers.
pub trait TextVectors: Sync {
    /// Number of rows that have vectors, if that is fixed.
    fn rows(&self) -> Option<usize> {
        None
    }

    /// The vectors of rows, which count from 0 through all files, and have these texts.
    ///
    /// # Errors
    /// If there are none.
    fn vectors(&self, rows: &[usize], texts: &[String]) -> Result<Embeddings>;
}

/// A matrix with one vector per row of the files, e.g. from `care embed`.
impl TextVectors for Embeddings {
    fn rows(&self) -> Option<usize> {
        Some(self.len())
    }

    fn vectors(&self, rows: &[usize], _: &[String]) -> Result<Embeddings> {
        Ok(Embeddings::from(self.as_array().select(care_core::ndarray::Axis(0), rows)))
    }
}

/// A model that embeds the texts in a role.
pub struct EmbeddedTexts<'a> {
    embedder: &'a dyn Embedder,
    role: Role,
}

impl<'a> EmbeddedTexts<'a> {
    /// Texts through the tower of a role.
    pub fn new(embedder: &'a dyn Embedder, role: Role) -> Self {
        Self { embedder, role }
    }
}

impl TextVectors for EmbeddedTexts<'_> {
    fn vectors(&self, _: &[usize], texts: &[String]) -> Result<Embeddings> {
        match self.role {
            Role::Query => self.embedder.embed_queries(&texts.iter().cloned().map(Query::from).collect::<Vec<_>>()),
            Role::Document => {
                self.embedder.embed_documents(&texts.iter().cloned().map(Document::from).collect::<Vec<_>>())
            }
        }
    }
}

/// Vectors of the rows of the files, and of the rows of the other files.
#[derive(Clone, Copy)]
pub struct Vectors<'a> {
    pub(super) inputs: &'a dyn TextVectors,
    pub(super) against: &'a dyn TextVectors,
}

impl<'a> Vectors<'a> {
    /// The vectors of the files, and of those that they are compared with; a model serves for both.
    pub fn new(inputs: &'a dyn TextVectors, against: &'a dyn TextVectors) -> Self {
        Self { inputs, against }
    }
}
