//! The settings of an evaluation.

use care_core::index::VectorFormat;
use care_eval::Ties;

use crate::task::StsMode;

/// The settings of an evaluation. The defaults are those of mteb and trec_eval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Protocol {
    /// The towers that encode the sentences of an STS task for its main score. All modes are reported. Default
    /// [`StsMode::QueryQuery`].
    pub sts: StsMode,
    /// The order of documents with equal scores. Default [`Ties::TrecEval`]. A retrieval task ranks 100 documents per
    /// query; among those tied with the hundredth, the first in the corpus are ranked.
    pub ties: Ties,
    /// The dtype of document vectors in the index of a retrieval task. Default f32.
    pub index: VectorFormat,
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

    /// Sets [`Protocol::index`].
    #[must_use]
    pub fn with_index(self, index: VectorFormat) -> Self {
        Self { index, ..self }
    }
}
