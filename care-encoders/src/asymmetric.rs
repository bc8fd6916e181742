//! The pair of query tower and document tower.

use std::path::Path;

use burn::tensor::Device;
use care_core::{Document, Embedder, Embeddings, Error, ErrorKind, Query, Result, Role};
use serde_json::Value;

use crate::card::card_head;
use crate::fingerprint::tower_fingerprint;
use crate::pretrained::{EncoderOptions, check_target, read_layout, save_pair};
use crate::registry::AnyEncoder;
use crate::tower::{DocumentTower, QueryTower};

/// Largest number of tokens per forward pass, padding included, unless one text is longer.
pub const DEFAULT_TOKEN_BUDGET: usize = 4096;

/// A query tower and a document tower whose vectors are comparable.
#[derive(Debug, Clone)]
pub struct AsymmetricEncoder {
    query: QueryTower<AnyEncoder>,
    document: DocumentTower<AnyEncoder>,
    token_budget: usize,
    provenance: Value,
    card: String,
}

impl AsymmetricEncoder {
    /// Joins two towers.
    ///
    /// # Errors
    /// [`ErrorKind::Dimension`] if their embeddings differ in dimensions.
    pub fn new(query: QueryTower<AnyEncoder>, document: DocumentTower<AnyEncoder>) -> Result<Self> {
        let (left, right) = (query.embedding_dim(), document.embedding_dim());
        if left != right {
            return Err(Error::new(
                ErrorKind::Dimension,
                format!(
                    "the query tower has {left} dimensions and the document tower {right}; set `dim` of the wider one"
                ),
            ));
        }
        Ok(Self { query, document, token_budget: DEFAULT_TOKEN_BUDGET, provenance: Value::Null, card: String::new() })
    }

    /// Loads both towers of a folder with the settings saved there.
    ///
    /// # Errors
    /// As [`load_tower`](crate::load_tower), and if the embeddings differ in dimensions.
    pub fn load(folder: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let options = EncoderOptions::default();
        Self::open(folder, &options, &options, device)
    }

    /// Loads both towers of a folder in any layout that [`load_tower`](crate::load_tower) reads. A network that serves
    /// both roles is loaded once. Options that are set override the folder's settings.
    ///
    /// On the CPU, f32 weights are prepacked for inference: see [`Network::prepacked`](crate::Network::prepacked).
    ///
    /// ```no_run
    /// use care_core::{Embedder, Query};
    /// use care_encoders::head::Pooling;
    /// use care_encoders::{AsymmetricEncoder, Device, EncoderOptions, Precision};
    ///
    /// let device = Device::Cpu.open()?;
    ///
    /// // A saved pair, as it was saved, but with int8 queries.
    /// let query = EncoderOptions::default().with_precision(Precision::Int8);
    /// let pair = AsymmetricEncoder::open("runs/first/model", &query, &EncoderOptions::default(), &device)?;
    ///
    /// // One encoder in both roles. Its folder specifies neither pooling nor prefixes, so the options do.
    /// let e5 = |prefix| EncoderOptions::default().with_pooling(Pooling::Mean).with_instruction(prefix);
    /// let model = AsymmetricEncoder::open("multilingual-e5-small", &e5("query: "), &e5("passage: "), &device)?;
    /// assert_eq!(model.embed_queries(&[Query::new("头痛怎么办")])?.dim(), 384);
    /// # Ok::<(), care_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`load_tower`](crate::load_tower), and if the embeddings differ in dimensions.
    pub fn open(
        folder: impl AsRef<Path>,
        query: &EncoderOptions,
        document: &EncoderOptions,
        device: &Device,
    ) -> Result<Self> {
        let recipes = read_layout(folder.as_ref())?;
        let (query, document) = recipes.load(query, document, device)?;
        Ok(Self::new(query, document)?.with_provenance(recipes.provenance))
    }

    /// Loads the query tower of one folder and the document tower of another, each in any layout that
    /// [`load_tower`](crate::load_tower) reads, e.g. two towers that were published apart. Options that are set override
    /// the folders' settings.
    ///
    /// ```no_run
    /// use care_encoders::head::Pooling;
    /// use care_encoders::{AsymmetricEncoder, Device, EncoderOptions};
    ///
    /// // CLS pooling, compared by inner product, queries of at most 64 tokens.
    /// let document = EncoderOptions::default().with_pooling(Pooling::Cls).with_normalize(false);
    /// let query = document.clone().with_max_length(64);
    /// let device = Device::Cpu.open()?;
    /// let pair =
    ///     AsymmetricEncoder::open_two("MedCPT-Query-Encoder", "MedCPT-Article-Encoder", &query, &document, &device)?;
    /// # Ok::<(), care_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`AsymmetricEncoder::open`].
    pub fn open_two(
        query_folder: impl AsRef<Path>,
        document_folder: impl AsRef<Path>,
        query: &EncoderOptions,
        document: &EncoderOptions,
        device: &Device,
    ) -> Result<Self> {
        let recipes = read_layout(query_folder.as_ref())?.with_document(read_layout(document_folder.as_ref())?);
        let (query, document) = recipes.load(query, document, device)?;
        Self::new(query, document)
    }

    /// Whether a folder contains two towers rather than one encoder for both roles.
    ///
    /// # Errors
    /// If the folder is missing, half written or not a model, or one of its files is broken.
    pub fn is_pair(folder: impl AsRef<Path>) -> Result<bool> {
        let recipes = read_layout(folder.as_ref())?;
        Ok(recipes.query.transformer != recipes.document.transformer)
    }

    /// Checks that [`AsymmetricEncoder::save`] would accept a folder, before any work is done.
    ///
    /// # Errors
    /// If the folder contains anything other than a saved pair.
    pub fn check_target(folder: impl AsRef<Path>) -> Result<()> {
        check_target(folder.as_ref())
    }

    /// Writes both towers as one folder, a `Router` model that sentence-transformers loads too. LoRA adapters are
    /// merged, and a network that serves both roles is written once. int8-quantized weights are written as they are, with their
    /// scales. The folder is written under a temporary name and then moved, so a crash while writing leaves an older one intact.
    ///
    /// sentence-transformers has prefixes but no templates: an instruction with text after `{text}` is omitted from its
    /// settings.
    ///
    /// # Errors
    /// If a file cannot be written, the folder contains anything other than a saved pair, or a tower is quantized to 4 bits.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        save_pair(folder.as_ref(), &self.query, &self.document, &self.provenance, &self.card)
    }

    /// Sets the largest number of tokens per forward pass, >= 1. Default [`DEFAULT_TOKEN_BUDGET`].
    ///
    /// # Errors
    /// If the budget is 0.
    pub fn with_token_budget(self, token_budget: usize) -> Result<Self> {
        if token_budget == 0 {
            return Err(Error::setting("batch_tokens", token_budget, "at least 1"));
        }
        Ok(Self { token_budget, ..self })
    }

    /// Sets a note of the weights' origin, in any form, which is saved with the towers.
    #[must_use]
    pub fn with_provenance(self, provenance: Value) -> Self {
        Self { provenance, ..self }
    }

    /// The beginning of a model card: what the towers are, and how programs load a pair that is saved.
    pub fn card_head(&self) -> String {
        card_head(&self.query, &self.document)
    }

    /// Sets a model card, which is saved as `README.md`. It is not loaded.
    #[must_use]
    pub fn with_card(self, card: String) -> Self {
        Self { card, ..self }
    }

    /// The note of the weights' origin; null if there is none.
    pub fn provenance(&self) -> &Value {
        &self.provenance
    }

    /// Largest number of tokens per forward pass, padding included, unless one text is longer.
    pub fn token_budget(&self) -> usize {
        self.token_budget
    }

    /// The query tower.
    pub fn query(&self) -> &QueryTower<AnyEncoder> {
        &self.query
    }

    /// The document tower.
    pub fn document(&self) -> &DocumentTower<AnyEncoder> {
        &self.document
    }

    /// The two towers with unpacked weights, for any device and for training.
    pub fn into_towers(self) -> (QueryTower<AnyEncoder>, DocumentTower<AnyEncoder>) {
        (self.query.map_network(|network| network.unpacked()), self.document.map_network(|network| network.unpacked()))
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

    fn fingerprint(&self, role: Role) -> Result<Option<String>> {
        match role {
            Role::Query => tower_fingerprint(&self.query),
            Role::Document => tower_fingerprint(&self.document),
        }
        .map(Some)
    }

    fn query_key(&self, query: &Query) -> String {
        self.query.instruction().apply(query)
    }

    fn document_key(&self, document: &Document) -> String {
        self.document.instruction().apply(document)
    }
}
