//! Two towers that share a vector space.

use std::path::Path;

use burn::tensor::Device;
use care_core::{
    Document, DocumentTower, Embedder, Embeddings, Error, ErrorKind, Precision, Query, QueryTower, Result,
};

use crate::AnyEncoder;
use crate::pretrained::{
    EncoderOptions, check_target, is_pair, load_encoder, load_pair, open_tower, save_pair, tower_of,
};

/// Tokens that one forward pass computes at most, padding included, unless one text is longer.
pub const DEFAULT_TOKEN_BUDGET: usize = 4096;

/// A query tower and a document tower whose vectors are comparable.
#[derive(Debug, Clone)]
pub struct AsymmetricEncoder {
    query: QueryTower<AnyEncoder>,
    document: DocumentTower<AnyEncoder>,
    token_budget: usize,
}

impl AsymmetricEncoder {
    /// Joins two towers.
    ///
    /// # Errors
    /// [`ErrorKind::Dimension`] when their vectors differ in width.
    pub fn new(query: QueryTower<AnyEncoder>, document: DocumentTower<AnyEncoder>) -> Result<Self> {
        let (left, right) = (query.embedding_dim(), document.embedding_dim());
        if left != right {
            return Err(Error::new(
                ErrorKind::Dimension,
                format!(
                    "the query tower gives {left} dimensions and the document tower {right}: set `dim` of the wider one"
                ),
            ));
        }
        Ok(Self { query, document, token_budget: DEFAULT_TOKEN_BUDGET })
    }

    /// Loads a saved pair.
    ///
    /// # Errors
    /// When the folder is missing, half written, or one of its towers does not load.
    pub fn load(folder: &Path, device: &Device) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::new(ErrorKind::Io, format!("{}: no such model folder", folder.display())));
        }
        let (query, document) = load_pair(folder, device)?;
        Self::new(query, document)
    }

    /// Loads a saved pair, or a single encoder folder that serves both roles with its weights in
    /// memory once. Options that are set replace the saved settings.
    ///
    /// # Errors
    /// As [`open_tower`](crate::open_tower), and when the vectors differ in width.
    pub fn open(folder: &Path, query: &EncoderOptions, document: &EncoderOptions, device: &Device) -> Result<Self> {
        if is_pair(folder) {
            return Self::new(open_tower(folder, query, device)?, open_tower(folder, document, device)?);
        }
        let encoder = load_encoder(folder, device)?;
        let document = tower_of::<Document>(encoder.clone(), folder, document, device)?;
        let query = tower_of::<Query>(encoder, folder, query, device)?;
        Self::new(query, document)
    }

    /// Whether a folder holds a saved pair, whole or half written, rather than a single encoder.
    pub fn is_pair(folder: &Path) -> bool {
        is_pair(folder)
    }

    /// Refuses a folder that [`AsymmetricEncoder::save`] would refuse, before any work is done.
    ///
    /// # Errors
    /// When the folder holds something else than a saved pair.
    pub fn check_target(folder: &Path) -> Result<()> {
        check_target(folder)
    }

    /// Writes both towers as one folder that [`AsymmetricEncoder::load`] reads. It is written beside
    /// its place and moved there, so a crash while writing leaves the old folder as it was.
    ///
    /// # Errors
    /// When a file cannot be written, or the folder holds something else.
    pub fn save(&self, folder: &Path) -> Result<()> {
        save_pair(folder, &self.query, &self.document)
    }

    /// The same towers with at most this many tokens in a forward pass.
    ///
    /// # Errors
    /// When the budget is 0.
    pub fn with_token_budget(self, token_budget: usize) -> Result<Self> {
        if token_budget == 0 {
            return Err(Error::setting("batch_tokens", token_budget, "at least 1"));
        }
        Ok(Self { token_budget, ..self })
    }

    /// The same towers with weights in another number format.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self {
            query: self.query.map_network(|network| network.with_precision(precision)),
            document: self.document.map_network(|network| network.with_precision(precision)),
            token_budget: self.token_budget,
        }
    }

    /// The query tower.
    pub fn query(&self) -> &QueryTower<AnyEncoder> {
        &self.query
    }

    /// The document tower.
    pub fn document(&self) -> &DocumentTower<AnyEncoder> {
        &self.document
    }

    /// The two towers.
    pub fn into_towers(self) -> (QueryTower<AnyEncoder>, DocumentTower<AnyEncoder>) {
        (self.query, self.document)
    }
}

impl Embedder for AsymmetricEncoder {
    fn embedding_dim(&self) -> usize {
        self.query.embedding_dim()
    }

    fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
        self.query.embed(queries, self.token_budget)
    }

    fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
        self.document.embed(documents, self.token_budget)
    }
}
