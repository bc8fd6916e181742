//! Test helpers: a model with fixed vectors, and shorthands for data.

use std::collections::HashMap;

use care_core::{Document, Embedder, Embeddings, Query, Result, Text};

use crate::task::{RerankingRow, RetrievalTask, StsPair};

/// Looks vectors up by role and text. Panics on an unknown text.
pub(crate) struct Table {
    dim: usize,
    queries: HashMap<String, Vec<f32>>,
    documents: HashMap<String, Vec<f32>>,
}

impl Table {
    pub(crate) fn new(dim: usize) -> Self {
        Self { dim, queries: HashMap::new(), documents: HashMap::new() }
    }

    pub(crate) fn query(mut self, text: &str, vector: impl Into<Vec<f32>>) -> Self {
        self.queries.insert(text.to_owned(), vector.into());
        self
    }

    pub(crate) fn document(mut self, text: &str, vector: impl Into<Vec<f32>>) -> Self {
        self.documents.insert(text.to_owned(), vector.into());
        self
    }

    /// Gives documents the vectors of queries with the same text.
    pub(crate) fn documents_like_queries(self) -> Self {
        Self { documents: self.queries.clone(), ..self }
    }

    fn embed<T: Text>(&self, vectors: &HashMap<String, Vec<f32>>, texts: &[T]) -> Result<Embeddings> {
        let mut embeddings = Embeddings::zeros(texts.len(), self.dim);
        for (row, text) in texts.iter().enumerate() {
            let content = text.content();
            let vector = vectors.get(&*content);
            embeddings.set(row, vector.unwrap_or_else(|| panic!("no {} vector for {content:?}", T::ROLE.as_str())));
        }
        Ok(embeddings)
    }
}

impl Embedder for Table {
    fn embedding_dim(&self) -> usize {
        self.dim
    }

    fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
        self.embed(&self.queries, queries)
    }

    fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
        self.embed(&self.documents, documents)
    }
}

/// The documents of a task's corpus.
pub(crate) fn documents_of(task: &RetrievalTask) -> Vec<Document> {
    let mut documents = Vec::new();
    task.corpus()
        .visit(7, &mut |group| {
            documents.extend_from_slice(group);
            Ok(())
        })
        .expect("readable");
    documents
}

/// Documents whose text is their id.
pub(crate) fn documents(ids: &[&str]) -> Vec<(String, Document)> {
    ids.iter().map(|id| (id.to_string(), Document::new(*id))).collect()
}

/// Queries whose text is their id.
pub(crate) fn queries(ids: &[&str]) -> Vec<(String, Query)> {
    ids.iter().map(|id| (id.to_string(), Query::new(*id))).collect()
}

pub(crate) fn row(query: &str, positive: &[&str], negative: &[&str]) -> RerankingRow {
    let owned = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect();
    RerankingRow { query: query.to_owned(), positive: owned(positive), negative: owned(negative) }
}

pub(crate) fn pair(sentence1: &str, sentence2: &str, score: f64) -> StsPair {
    StsPair { sentence1: sentence1.to_owned(), sentence2: sentence2.to_owned(), score }
}
