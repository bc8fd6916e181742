//! The [`Reranker`] trait: all that benchmark, mining and command line need of a model that reads query and document
//! together.

use crate::error::Result;
use crate::text::{Document, Query};

/// A model that scores how well a document answers a query, reading both together.
///
/// Slower than an [`Embedder`](crate::Embedder), whose document vectors are computed once, and more accurate: it
/// reorders the best documents of a first search. Object-safe. A higher score is a better document; scores of one model
/// are comparable across queries, those of two models are not.
///
/// ```
/// use care_core::{Document, Query, Reranker, Result, Text};
///
/// /// Counts the characters of the query that the document has.
/// struct Overlap;
///
/// impl Reranker for Overlap {
///     fn score(&self, pairs: &[(&Query, &Document)]) -> Result<Vec<f32>> {
///         let overlap = |(query, document): &(&Query, &Document)| {
///             let text = document.content();
///             query.content().chars().filter(|c| text.contains(*c)).count() as f32
///         };
///         Ok(pairs.iter().map(overlap).collect())
///     }
/// }
///
/// let reranker: Box<dyn Reranker> = Box::new(Overlap);
/// let documents = ["发烧超过38.5度应就医".into(), "偏头痛发作时应避光休息".into()];
/// assert_eq!(reranker.score_documents(&"头痛怎么办".into(), &documents)?, [0.0, 2.0]);
/// # Ok::<(), care_core::Error>(())
/// ```
pub trait Reranker: Send + Sync {
    /// Scores pairs of query and document, one score each, in order. Pairs of several queries may share a call, which
    /// fills the passes of a model better than one call per query.
    ///
    /// # Errors
    /// If a text cannot be tokenized or a score is not finite.
    fn score(&self, pairs: &[(&Query, &Document)]) -> Result<Vec<f32>>;

    /// Scores documents for one query, in order.
    ///
    /// # Errors
    /// As [`Reranker::score`].
    fn score_documents(&self, query: &Query, documents: &[Document]) -> Result<Vec<f32>> {
        self.score(&documents.iter().map(|document| (query, document)).collect::<Vec<_>>())
    }

    /// Identifies everything that determines the scores: equal fingerprints mean equal scores. Default `None`: the model
    /// has no fingerprint.
    ///
    /// # Errors
    /// If the fingerprint cannot be computed.
    fn fingerprint(&self) -> Result<Option<String>> {
        Ok(None)
    }
}
