//! The settings of an evaluation.

use care_core::index::VectorFormat;
use care_eval::Ties;

use crate::task::StsMode;

/// The settings of an evaluation. The defaults are those of mteb and trec_eval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Protocol {
    /// The towers that encode the sentences of an STS task for its main score. All modes are reported. Default
    /// [`StsMode::QueryQuery`].
    pub sts: StsMode,
    /// The order of documents with equal scores. Default [`Ties::TrecEval`]. Among the documents tied with the last
    /// of a retrieval task's ranking, the first in the corpus are ranked.
    pub ties: Ties,
    /// Number of documents in the ranking of a query of a retrieval task, at least 100, the deepest cut-off of the
    /// reported measures. Default 1000, so that deeper ones can be computed from the ranking.
    pub depth: usize,
    /// The dtype of document vectors in the index of a retrieval task. Default f32.
    pub index: VectorFormat,
}

impl Default for Protocol {
    fn default() -> Self {
        Self { sts: StsMode::default(), ties: Ties::default(), depth: 1000, index: VectorFormat::default() }
    }
}

impl Protocol {
    /// Sets [`Protocol::sts`].
    #[must_use]
    pub fn with_sts(self, sts: StsMode) -> Self {
        Self { sts, ..self }
    }

    /// Sets [`Protocol::ties`].
    #[must_use]
    pub fn with_ties(self, ties: Ties) -> Self {
        Self { ties, ..self }
    }

    /// Sets [`Protocol::depth`].
    #[must_use]
    pub fn with_depth(self, depth: usize) -> Self {
        Self { depth, ..self }
    }

    /// Sets [`Protocol::index`].
    #[must_use]
    pub fn with_index(self, index: VectorFormat) -> Self {
        Self { index, ..self }
    }
}
