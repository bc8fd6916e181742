//! Where candidates come from.

use std::collections::HashMap;

use care_core::index::{FlatIndex, Hit, VectorFormat};
use care_core::{Document, Embedder, Embeddings, Error, ErrorKind, Query, Result, Text};

use super::documents::Documents;
use super::queries::MiningQuery;
use crate::bm25::Bm25;

/// Documents whose vectors are computed at a time.
const GROUP: usize = 1024;

/// A search that ranks the documents of a corpus for queries.
pub trait Source: Sync {
    /// Its name in reports.
    fn name(&self) -> &str;

    /// Prepares a group of queries.
    ///
    /// # Errors
    /// If the queries cannot be encoded.
    fn ask(&self, queries: &[MiningQuery]) -> Result<Box<dyn Answers + '_>>;
}

/// What a [`Source`] answers to a group of queries.
pub trait Answers: Sync {
    /// The `depth` best documents of the corpus for each query: score descending, then document ascending.
    ///
    /// # Errors
    /// If the search fails.
    fn search(&self, depth: usize) -> Result<Vec<Vec<Hit>>>;

    /// The scores of any documents, positives outside of the corpus included, for the query at this place of the group;
    /// `None` for one that the source cannot score.
    ///
    /// # Errors
    /// If a score cannot be computed.
    fn scores(&self, query: usize, documents: &[usize]) -> Result<Vec<Option<f32>>>;
}

/// Documents encoded by a pair's document tower, searched with the vectors of its query tower.
pub struct VectorSource<'m> {
    name: String,
    embedder: &'m dyn Embedder,
    corpus: FlatIndex,
    /// Positives that are not in the corpus.
    outside: FlatIndex,
}

impl<'m> VectorSource<'m> {
    /// Encodes all documents; `progress` is told how many are done. Vectors of a
    /// [`StoredEmbedder`](care_core::embedder::StoredEmbedder) are computed once, by whichever process.
    ///
    /// # Errors
    /// If a document cannot be encoded or its vector is not finite.
    pub fn new(
        name: impl Into<String>,
        embedder: &'m dyn Embedder,
        documents: &Documents,
        format: VectorFormat,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self> {
        let (dim, mut done) = (embedder.embedding_dim(), 0);
        let mut index = |from: usize, to: usize| {
            let mut index = FlatIndex::with_capacity(dim, to - from, format);
            documents.visit((from, to), GROUP, &mut |group| {
                let vectors = checked("document", done, group, embedder.embed_documents(group), dim)?;
                index.add(&vectors)?;
                done += group.len();
                progress(done);
                Ok(())
            })?;
            Ok(index)
        };
        let corpus = index(0, documents.corpus())?;
        let outside = index(documents.corpus(), documents.len())?;
        Ok(Self { name: name.into(), embedder, corpus, outside })
    }
}

/// The vectors of texts, of which the first has the number `first`, if there is a finite one for each.
fn checked<T: Text>(
    what: &str,
    first: usize,
    texts: &[T],
    vectors: Result<Embeddings>,
    dim: usize,
) -> Result<Embeddings> {
    let place =
        |row: usize| format!("{what} {}, {:?}", first + row, care_core::clip(texts[row].content().into_owned(), 80));
    let vectors = vectors.map_err(|e| {
        let message = format!("{what} {first} to {}: {e}", first + texts.len().saturating_sub(1));
        Error::new(e.kind(), message).with_source(e)
    })?;
    if (vectors.len(), vectors.dim()) != (texts.len(), dim) {
        let (rows, found, wanted) = (vectors.len(), vectors.dim(), texts.len());
        let message = format!("the model returned {rows} vectors of {found} dimensions, expected {wanted} of {dim}");
        return Err(Error::new(ErrorKind::Dimension, message));
    }
    match vectors.first_not_finite() {
        Some(row) => Err(Error::new(ErrorKind::NonFinite, format!("the vector of {} is not finite", place(row)))),
        None => Ok(vectors),
    }
}

impl Source for VectorSource<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn ask(&self, queries: &[MiningQuery]) -> Result<Box<dyn Answers + '_>> {
        let texts: Vec<Query> = queries.iter().map(|query| query.query.clone()).collect();
        let vectors = self.embedder.embed_queries(&texts);
        let vectors = checked("query of the group", 0, &texts, vectors, self.embedder.embedding_dim())?;
        Ok(Box::new(Vectors { source: self, vectors }))
    }
}

struct Vectors<'a> {
    source: &'a VectorSource<'a>,
    vectors: Embeddings,
}

impl Answers for Vectors<'_> {
    fn search(&self, depth: usize) -> Result<Vec<Vec<Hit>>> {
        self.source.corpus.search(&self.vectors, depth)
    }

    fn scores(&self, query: usize, documents: &[usize]) -> Result<Vec<Option<f32>>> {
        let (corpus, outside) = (&self.source.corpus, &self.source.outside);
        let query = self.vectors.row(query);
        let score = |&document: &usize| match document.checked_sub(corpus.len()) {
            None => corpus.score(query, document),
            Some(document) => outside.score(query, document),
        };
        documents.iter().map(|document| score(document).map(Some)).collect()
    }
}

/// BM25 over character bigrams.
pub struct Bm25Source<'m> {
    index: Bm25,
    documents: &'m Documents,
}

impl<'m> Bm25Source<'m> {
    /// Indexes the documents of the corpus. A positive outside of it is scored with the corpus' frequencies of tokens.
    ///
    /// # Errors
    /// If a document cannot be read.
    pub fn new(documents: &'m Documents) -> Result<Self> {
        let mut index = Bm25::default();
        documents.visit((0, documents.corpus()), GROUP, &mut |group: &[Document]| {
            index.add(&group.iter().map(Text::content).collect::<Vec<_>>());
            Ok(())
        })?;
        Ok(Self { index, documents })
    }
}

impl Source for Bm25Source<'_> {
    fn name(&self) -> &str {
        "bm25"
    }

    fn ask(&self, queries: &[MiningQuery]) -> Result<Box<dyn Answers + '_>> {
        let texts = queries.iter().map(|query| query.query.content().into_owned()).collect();
        Ok(Box::new(Words { source: self, texts }))
    }
}

struct Words<'a> {
    source: &'a Bm25Source<'a>,
    texts: Vec<String>,
}

impl Answers for Words<'_> {
    fn search(&self, depth: usize) -> Result<Vec<Vec<Hit>>> {
        Ok(self.source.index.search_all(&self.texts, depth))
    }

    fn scores(&self, query: usize, documents: &[usize]) -> Result<Vec<Option<f32>>> {
        let Bm25Source { index, documents: texts } = self.source;
        let query = &self.texts[query];
        let (inside, outside): (Vec<usize>, Vec<usize>) = documents.iter().partition(|number| **number < index.len());
        let mut scores: HashMap<usize, f32> = inside.iter().copied().zip(index.scores(query, &inside)).collect();
        for number in outside {
            scores.insert(number, index.score(query, &texts.get(number)?.1.content()));
        }
        Ok(documents.iter().map(|number| scores.get(number).copied()).collect())
    }
}

/// Rankings that another program made, by query id.
pub struct RunSource {
    name: String,
    /// Documents by their numbers, best first.
    rankings: HashMap<String, Vec<Hit>>,
}

impl RunSource {
    /// Rankings by query id. Hits are sorted: score descending, then document ascending.
    pub fn new(name: impl Into<String>, mut rankings: HashMap<String, Vec<Hit>>) -> Self {
        for hits in rankings.values_mut() {
            hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
        }
        Self { name: name.into(), rankings }
    }
}

impl Source for RunSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn ask(&self, queries: &[MiningQuery]) -> Result<Box<dyn Answers + '_>> {
        let of = |query: &MiningQuery| self.rankings.get(&query.id).map(Vec::as_slice).unwrap_or_default();
        Ok(Box::new(Ranked(queries.iter().map(of).collect())))
    }
}

struct Ranked<'a>(Vec<&'a [Hit]>);

impl Answers for Ranked<'_> {
    fn search(&self, depth: usize) -> Result<Vec<Vec<Hit>>> {
        Ok(self.0.iter().map(|hits| hits[..depth.min(hits.len())].to_vec()).collect())
    }

    fn scores(&self, query: usize, documents: &[usize]) -> Result<Vec<Option<f32>>> {
        let found = |document: &usize| self.0[query].iter().find(|hit| hit.index == *document).map(|hit| hit.score);
        Ok(documents.iter().map(found).collect())
    }
}
