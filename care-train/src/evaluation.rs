//! Evaluation during training.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use care_core::{Document, Embedder, Embeddings, Query, Result, Text};
use care_encoders::DEFAULT_TOKEN_BUDGET;
use cmedteb::{Protocol, Task, evaluate, load};

use crate::stage::StageKind;
use crate::towers::Towers;

/// The tasks that are evaluated.
pub(crate) struct DevSet {
    tasks: Vec<Task>,
}

impl DevSet {
    /// Reads a task folder.
    ///
    /// # Errors
    /// As [`cmedteb::load`].
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        Ok(Self { tasks: load(folder, None)? })
    }

    /// The main score of each task.
    ///
    /// # Errors
    /// Returns an error if a text cannot be encoded or a score is undefined.
    pub(crate) fn scores(&self, towers: &Towers) -> Result<BTreeMap<String, f64>> {
        let score = |task: &Task| {
            let outcome = evaluate(task, towers, &Protocol::default(), &mut |_| {})?;
            Ok((task.name().to_owned(), outcome.main_score()))
        };
        self.tasks.iter().map(score).collect()
    }
}

/// The towers in their current state during a stage, without graphs or dropout.
impl Embedder for Towers {
    fn embedding_dim(&self) -> usize {
        self.document.embedding_dim()
    }

    fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
        let network = match self.kind {
            // This stage does not use the query tower.
            StageKind::SymmetricDocument => {
                let texts: Vec<Document> = queries.iter().map(|query| Document::new(query.content())).collect();
                return self.embed_documents(&texts);
            }
            StageKind::Symmetric => self.document.network(),
            StageKind::QueryAlignment | StageKind::JointFinetuning => self.query.network(),
        };
        self.query.clone().map_network(|_| network.valid()).embed(queries, DEFAULT_TOKEN_BUDGET)
    }

    fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
        match &self.teacher {
            Some(store) => self.known_vectors(store, &self.document.prepare(documents)),
            None => self.document.clone().map_network(|network| network.valid()).embed(documents, DEFAULT_TOKEN_BUDGET),
        }
    }
}
