//! The choices that a protocol leaves open.

use care_core::index::VectorFormat;
use care_eval::Ties;

use crate::task::StsMode;

/// What a protocol leaves open; by default what the field does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Protocol {
    /// Which towers read the sentences of an STS task for its main score. The other ways are reported too.
    pub sts: StsMode,
    /// What counts among documents of equal scores. A retrieval task ranks 100 documents a query; which of those that
    /// tie with the hundredth are among them, the order of the corpus decides.
    pub ties: Ties,
    /// The number format of document vectors in the index of a retrieval task.
    pub index: VectorFormat,
}

impl Protocol {
    /// The same protocol with another [`Protocol::sts`].
    #[must_use]
    pub fn with_sts(self, sts: StsMode) -> Self {
        Self { sts, ..self }
    }

    /// The same protocol with another [`Protocol::ties`].
    #[must_use]
    pub fn with_ties(self, ties: Ties) -> Self {
        Self { ties, ..self }
    }

    /// The same protocol with another [`Protocol::index`].
    #[must_use]
    pub fn with_index(self, index: VectorFormat) -> Self {
        Self { index, ..self }
    }
}
